//! Extended header records of POSIX.1-2001: `LENGTH KEY=VALUE\n`.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hull_erofs::tree::{Timestamp, Xattrs};

use super::acl;
use super::sparse::PaxSparse;

/// The longest value of an extended attribute (`XATTR_SIZE_MAX` of Linux).
const XATTR_VALUE_MAX: usize = 65536;
/// The longest name of one (`XATTR_NAME_MAX`).
const XATTR_NAME_MAX: usize = 255;

/// What an extended header says about the entry that follows it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) sparse: PaxSparse,
    xattrs: Xattrs,
    libarchive_xattrs: Xattrs,
    acl_access: Option<Vec<u8>>,
    acl_default: Option<Vec<u8>>,
}

/// What is wrong with an extended header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaxProblem {
    /// A record is not `LENGTH KEY=VALUE` with a line feed at its end.
    #[error("record {index} of its extended header is malformed")]
    Record {
        /// Counted from one.
        index: usize,
    },
    /// A value that is not what its key calls for.
    #[error("its extended header has an invalid {key}")]
    Value {
        /// The key.
        key: String,
    },
    /// A global header that would change where entries begin, end or lie.
    #[error("a global extended header sets {key}, which only an entry's own header can")]
    Global {
        /// The key.
        key: String,
    },
    /// An access control list that cannot be kept.
    #[error("its access control list {0}")]
    Acl(#[from] acl::AclProblem),
}

/// Splits the bytes of an extended header into its records.
///
/// The last record of a key is the one that counts: the caller sees them in order.
fn records(
    mut data: &[u8],
    mut record: impl FnMut(&[u8], &[u8]) -> Result<(), PaxProblem>,
) -> Result<(), PaxProblem> {
    let mut index = 0;
    while !data.is_empty() {
        index += 1;
        let malformed = || PaxProblem::Record { index };
        let space = data
            .iter()
            .take(12)
            .position(|&b| b == b' ')
            .ok_or_else(malformed)?;
        let length = decimal(&data[..space])
            .and_then(|length| usize::try_from(length).ok())
            .filter(|&length| length > space + 1 && length <= data.len())
            .ok_or_else(malformed)?;
        let (this, rest) = data.split_at(length);
        let text = this[space + 1..]
            .strip_suffix(b"\n")
            .ok_or_else(malformed)?;
        let equals = text.iter().position(|&b| b == b'=').ok_or_else(malformed)?;
        let (key, value) = (&text[..equals], &text[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err(malformed());
        }
        record(key, value)?;
        data = rest;
    }
    Ok(())
}

/// Checks a global header: it is well-formed, and it sets nothing that would move entries.
///
/// Beyond that global headers have no effect, as in every program that unpacks images.
pub(super) fn check_global(data: &[u8]) -> Result<(), PaxProblem> {
    records(data, |key, _| {
        let moves =
            matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
        if moves {
            return Err(PaxProblem::Global { key: shown(key) });
        }
        Ok(())
    })
}

impl Extended {
    /// Reads the extended header of one entry.
    pub(super) fn parse(data: &[u8]) -> Result<Self, PaxProblem> {
        let mut extended = Self::default();
        records(data, |key, value| extended.set(key, value))?;
        Ok(extended)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), PaxProblem> {
        let invalid = || PaxProblem::Value { key: shown(key) };
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return set_xattr(&mut self.xattrs, name, value).ok_or_else(invalid);
        }
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let name = url_decode(name).ok_or_else(invalid)?;
            let value = BASE64.decode(value).map_err(|_| invalid())?;
            return set_xattr(&mut self.libarchive_xattrs, &name, &value).ok_or_else(invalid);
        }
        if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(name, value).ok_or_else(invalid);
        }
        if value.is_empty() {
            // "Zero length: any header block value shall be used."
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link_path = Some(value.to_vec()),
            b"size" => self.size = Some(file_size(value).ok_or_else(invalid)?),
            b"uid" => self.uid = Some(id(value).ok_or_else(invalid)?),
            b"gid" => self.gid = Some(id(value).ok_or_else(invalid)?),
            b"mtime" => self.mtime = Some(timestamp(value).ok_or_else(invalid)?),
            b"SCHILY.acl.access" => self.acl_access = Some(value.to_vec()),
            b"SCHILY.acl.default" => self.acl_default = Some(value.to_vec()),
            _ => {}
        }
        Ok(())
    }

    /// The extended attributes, in the order of trust: written raw, written by libarchive, made from the text of an access control list.
    pub(super) fn into_xattrs(self) -> Result<Xattrs, PaxProblem> {
        let mut xattrs = self.xattrs;
        for (name, value) in &self.libarchive_xattrs {
            if !xattrs.contains_key(name) {
                xattrs.insert(name.clone(), value.clone());
            }
        }
        let lists = [
            (
                acl::ACCESS,
                self.acl_access.as_deref().map(acl::access_xattr),
            ),
            (
                acl::DEFAULT,
                self.acl_default.as_deref().map(acl::default_xattr),
            ),
        ];
        for (name, list) in lists {
            let Some(list) = list else { continue };
            if xattrs.contains_key(name) {
                continue;
            }
            if let Some(value) = list? {
                xattrs.insert(name.into(), value.into_boxed_slice());
            }
        }
        Ok(xattrs)
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn set_xattr(xattrs: &mut Xattrs, name: &[u8], value: &[u8]) -> Option<()> {
    let valid = (1..=XATTR_NAME_MAX).contains(&name.len()) && value.len() <= XATTR_VALUE_MAX;
    if !valid || name.contains(&0) {
        return None;
    }
    xattrs.insert(name.into(), value.into());
    Some(())
}

fn url_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let mut byte = [0];
        hex::decode_to_slice(after.get(..2)?, &mut byte).ok()?;
        bytes.push(byte[0]);
        rest = &after[2..];
    }
    Some(bytes)
}

/// A number of at least one decimal digit and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A length in bytes that an offset of Linux (63 bits) can express.
pub(super) fn file_size(text: &[u8]) -> Option<u64> {
    decimal(text).filter(|&size| i64::try_from(size).is_ok())
}

fn id(text: &[u8]) -> Option<u32> {
    decimal(text).and_then(|id| super::member::owner_id(i64::try_from(id).ok()?))
}

/// Decimal seconds with an optional fraction; digits beyond nanoseconds are dropped.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds,
        },
        (true, nanoseconds) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// A key in a message.
fn shown(key: &[u8]) -> String {
    key[..key.len().min(64)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let mut length = body + body.to_string().len();
        if length.to_string().len() + body != length {
            length = body + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    fn parse(records: &[(&str, &[u8])]) -> Result<Extended, PaxProblem> {
        let data: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        Extended::parse(&data)
    }

    #[test]
    fn the_last_record_of_a_key_counts_and_an_empty_one_says_nothing() {
        let extended = parse(&[
            ("path", b"a"),
            ("path", b"b"),
            ("size", b"7"),
            ("size", b""),
        ])
        .unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"b"[..]));
        assert_eq!(extended.size, Some(7));
    }

    #[test]
    fn times_keep_their_nanoseconds_before_and_after_1970() {
        let time = |text: &str| timestamp(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(
            time("1700000000.123456789"),
            Some((1_700_000_000, 123_456_789))
        );
        assert_eq!(time("1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(time("5.1234567899"), Some((5, 123_456_789)));
        assert_eq!(time("5."), Some((5, 0)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("-1"), Some((-1, 0)));
        assert_eq!(time("-0.000000001"), Some((-1, 999_999_999)));
        assert_eq!(time("9223372036854775807"), Some((i64::MAX, 0)));
        for wrong in ["", "-", ".5", "1e3", "+5", "1.x", "9223372036854775808"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn libarchive_s_attributes_are_decoded_and_yield_to_raw_ones() {
        let extended = parse(&[
            ("LIBARCHIVE.xattr.user.a%20b", b"AAH/"),
            ("LIBARCHIVE.xattr.user.both", b"b2xk"),
            ("SCHILY.xattr.user.both", b"raw"),
            ("LIBARCHIVE.xattr.user.unpadded", b"eA"),
        ]);
        let xattrs = extended.unwrap().into_xattrs().unwrap();
        assert_eq!(xattrs[&b"user.a b"[..]].as_ref(), [0, 1, 255]);
        assert_eq!(xattrs[&b"user.both"[..]].as_ref(), b"raw");
        assert_eq!(xattrs[&b"user.unpadded"[..]].as_ref(), b"x");
        assert!(parse(&[("LIBARCHIVE.xattr.user.%zz", b"AAH/")]).is_err());
        assert!(parse(&[("LIBARCHIVE.xattr.user.x", b"*")]).is_err());
    }

    #[test]
    fn attributes_that_linux_could_not_hold_are_refused() {
        assert!(parse(&[("SCHILY.xattr.user.x", &[b'v'; 65536])]).is_ok());
        assert!(parse(&[("SCHILY.xattr.user.x", &[b'v'; 65537])]).is_err());
        assert!(parse(&[("SCHILY.xattr.", b"v")]).is_err());
        assert!(parse(&[(&format!("SCHILY.xattr.user.{}", "n".repeat(251)), b"v")]).is_err());
        assert!(parse(&[("SCHILY.xattr.user.a\0b", b"v")]).is_err());
    }

    #[test]
    fn malformed_records_are_refused() {
        for wrong in [
            &b"5"[..],
            b" a=b\n",
            b"0 a=b\n",
            b"6 a=b",
            b"7 a=b\n",
            b"99 a=b\n",
            b"6 aab\n",
            b"5 =b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"18446744073709551622 a=b\n",
            b"000000000000006 a=b\n",
        ] {
            assert!(Extended::parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
        assert!(Extended::parse(b"6 a=b\n").is_ok());
    }

    #[test]
    fn numbers_that_no_file_can_have_are_refused() {
        for (key, value) in [
            ("size", &b"-1"[..]),
            ("size", b"9223372036854775808"),
            ("uid", b"4294967295"),
            ("uid", b"4294967296"),
            ("gid", b"-2"),
            ("mtime", b"yesterday"),
        ] {
            assert_eq!(
                parse(&[(key, value)]),
                Err(PaxProblem::Value { key: key.into() })
            );
        }
        assert_eq!(
            parse(&[("uid", b"4294967294")]).unwrap().uid,
            Some(4_294_967_294)
        );
    }

    #[test]
    fn a_global_header_must_not_move_entries() {
        assert_eq!(check_global(&record("comment", b"abc")), Ok(()));
        for key in ["path", "linkpath", "size", "GNU.sparse.map"] {
            assert_eq!(
                check_global(&record(key, b"1")),
                Err(PaxProblem::Global { key: key.into() })
            );
        }
    }
}
