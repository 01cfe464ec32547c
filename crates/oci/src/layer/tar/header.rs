//! One header block of 512 bytes: its fields and its checksum.

use super::Field;

/// The unit of a tar archive.
pub(crate) const BLOCK: usize = 512;

/// A header block whose checksum was right.
#[derive(Clone, Copy)]
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

/// Which of the historical layouts the second half of a block has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Before POSIX: neither prefix nor device numbers.
    V7,
    /// POSIX.1-1988 and PAX.
    Ustar,
    /// As ustar, with a shorter prefix before two times.
    Star,
    /// GNU: times and a sparse map where the prefix would be.
    Gnu,
}

impl<'a> Header<'a> {
    /// The block as a header, if its checksum is that of its bytes.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Option<Self> {
        let stored = parse_octal(&block[148..156])?;
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let unsigned = i64::from(sum(block) - sum(&block[148..156])) + 8 * i64::from(b' ');
        if stored == unsigned {
            return Some(Self(block));
        }
        // Some old writers summed the bytes as signed numbers.
        let negative = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte >> 7)).sum::<u32>();
        let signed = unsigned - 256 * i64::from(negative(block) - negative(&block[148..156]));
        (stored == signed).then_some(Self(block))
    }

    fn layout(&self) -> Layout {
        match &self.0[257..265] {
            b"ustar  \0" => Layout::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if &self.0[508..512] == b"tar\0" => Layout::Star,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Layout::Ustar,
            _ => Layout::V7,
        }
    }

    /// The name with its prefix, as the block alone gives it.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.layout() {
            Layout::Ustar => text(&self.0[345..500]),
            Layout::Star => text(&self.0[345..476]),
            Layout::Gnu | Layout::V7 => &[],
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link_name(&self) -> &'a [u8] {
        text(&self.0[157..257])
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The number in a field, if it is one.
    pub(super) fn number(&self, field: Field) -> Option<i64> {
        let bytes = match field {
            Field::Mode => &self.0[100..108],
            Field::Uid => &self.0[108..116],
            Field::Gid => &self.0[116..124],
            Field::Size => &self.0[124..136],
            Field::Mtime => &self.0[136..148],
            Field::DeviceMajor | Field::DeviceMinor if self.layout() == Layout::V7 => {
                return Some(0);
            }
            Field::DeviceMajor => &self.0[329..337],
            Field::DeviceMinor => &self.0[337..345],
            Field::SparseSize => &self.0[483..495],
        };
        parse_number(bytes)
    }

    /// Whether this is a GNU header, which alone can be of type `S`.
    pub(super) fn is_gnu(&self) -> bool {
        self.layout() == Layout::Gnu
    }

    /// The four pairs of a GNU sparse header, and whether blocks with more follow.
    pub(super) fn sparse_pairs(&self) -> (&'a [u8], bool) {
        (&self.0[386..482], self.0[482] != 0)
    }
}

/// A field's bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

/// An octal number between spaces or NULs, or a base-256 one (two's complement, high bit of the first byte set).
pub(super) fn parse_number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return parse_octal(field);
    }
    // Bit 6 is the sign, the bits above are not part of the number.
    let mut number: i64 = if first & 0x40 == 0 { 0 } else { -1 };
    let head = if first & 0x40 == 0 {
        first & 0x7f
    } else {
        first
    };
    for byte in std::iter::once(head).chain(field[1..].iter().copied()) {
        number = number.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(number)
}

/// An empty field is zero, as every tar program reads it.
fn parse_octal(field: &[u8]) -> Option<i64> {
    let digits = text(field.trim_ascii_start()).trim_ascii();
    let mut number: i64 = 0;
    for &digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        number = number
            .checked_mul(8)?
            .checked_add(i64::from(digit - b'0'))?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_numbers_end_at_a_nul_or_space() {
        assert_eq!(parse_number(b"0000644\0"), Some(0o644));
        assert_eq!(parse_number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(parse_number(b"0000644 "), Some(0o644));
        assert_eq!(parse_number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(parse_number(b"77777777777 "), Some(0o77_777_777_777));
        assert_eq!(parse_number(b"0000648\0"), None);
        assert_eq!(parse_number(b"-000644\0"), None);
    }

    #[test]
    fn base_256_numbers_are_two_s_complement() {
        assert_eq!(parse_number(&[0x80, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(parse_number(&[0xff; 12]), Some(-1));
        assert_eq!(
            parse_number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
            Some(-2)
        );
        let mut largest = [0; 12];
        largest[0] = 0x80;
        largest[4..].copy_from_slice(&i64::MAX.to_be_bytes());
        assert_eq!(parse_number(&largest), Some(i64::MAX));
        largest[3] = 1;
        assert_eq!(parse_number(&largest), None);
        assert_eq!(parse_number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
