//! Writing tar headers: ustar, with an extended header (POSIX.1-2001, pax) where
//! that is not enough.
//!
//! The same input gives the same bytes.

use super::header::BLOCK;

/// What a header says of an entry.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    /// The path; of a directory with a slash at its end.
    pub path: &'a [u8],
    /// The type flag: `0` file, `1` hard link, `2` symbolic link, `3` and `4` devices,
    /// `5` directory, `6` pipe.
    pub kind: u8,
    /// Permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of data that follow, without padding.
    pub size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a link leads.
    pub link: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Says a size that octal digits cannot hold in base 256 (GNU), and not in an extended
    /// header, so that the header is one block whatever the size.
    pub binary_size: bool,
    /// Extended attributes, sorted by name.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
    /// Further records of the extended header, which come before all others.
    pub records: &'a [(&'a [u8], Vec<u8>)],
}

impl Head<'_> {
    /// The blocks of the header.
    pub fn to_blocks(&self) -> Vec<u8> {
        let extended = self.extended();
        let mut blocks = Vec::new();
        if !extended.is_empty() {
            let before = Head {
                path: b"././@PaxHeader",
                kind: b'x',
                mode: 0o644,
                size: extended.len() as u64,
                ..Head::default()
            };
            blocks.extend(before.ustar());
            blocks.extend(&extended);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        blocks.extend(self.ustar());
        blocks
    }

    /// Records for what does not fit into a header block.
    fn extended(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (key, value) in self.records {
            record(&mut records, key, value);
        }
        if self.path.len() > 100 {
            record(&mut records, b"path", self.path);
        }
        if self.link.len() > 100 {
            record(&mut records, b"linkpath", self.link);
        }
        let number = |records: &mut Vec<u8>, key: &[u8], value: u64, digits: usize| {
            if octal(value, digits).is_none() {
                record(records, key, value.to_string().as_bytes());
            }
        };
        if !self.binary_size {
            number(&mut records, b"size", self.size, 11);
        }
        number(&mut records, b"uid", self.uid.into(), 7);
        number(&mut records, b"gid", self.gid.into(), 7);
        let (seconds, nanoseconds) = self.mtime;
        let fits = u64::try_from(seconds).is_ok_and(|seconds| octal(seconds, 11).is_some());
        if nanoseconds != 0 || !fits {
            record(
                &mut records,
                b"mtime",
                decimal(seconds, nanoseconds).as_bytes(),
            );
        }
        for (name, value) in self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        records
    }

    fn ustar(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block[..100], self.path);
        put_number(&mut block[100..107], u64::from(self.mode & 0o7777));
        put_number(&mut block[108..115], self.uid.into());
        put_number(&mut block[116..123], self.gid.into());
        put_number(&mut block[124..135], self.size);
        if self.binary_size && octal(self.size, 11).is_none() {
            block[124..136].fill(0);
            block[124] = 0x80;
            block[128..136].copy_from_slice(&self.size.to_be_bytes());
        }
        put_number(
            &mut block[136..147],
            u64::try_from(self.mtime.0).unwrap_or(0),
        );
        block[156] = self.kind;
        put(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        put_number(&mut block[329..336], self.device.0.into());
        put_number(&mut block[337..344], self.device.1.into());
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        put_number(&mut block[148..154], sum);
        block[154] = 0;
        block
    }
}

/// A record of an extended header, which begins with its own length.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(length.to_string().as_bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

/// A time in seconds, with the fraction that it has.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    // -1.5 is a second and a half before 1970, and nanoseconds always count forward.
    let (sign, whole, part) = match (seconds, nanoseconds) {
        (0.., _) => ("", seconds.unsigned_abs(), nanoseconds),
        (_, 0) => ("-", seconds.unsigned_abs(), 0),
        _ => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    };
    match part {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part:09}")
            .trim_end_matches('0')
            .to_owned(),
    }
}

fn octal(value: u64, digits: usize) -> Option<String> {
    let text = format!("{value:0digits$o}");
    (text.len() == digits).then_some(text)
}

fn put(field: &mut [u8], text: &[u8]) {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
}

/// Zero where the number does not fit: then the extended header has it.
fn put_number(field: &mut [u8], value: u64) {
    let text = octal(value, field.len()).unwrap_or_else(|| "0".repeat(field.len()));
    field.copy_from_slice(text.as_bytes());
}

/// The zeros that fill up the last block of data.
pub fn padding(size: u64) -> &'static [u8] {
    let used = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    &END[..(BLOCK - used) % BLOCK]
}

/// The end of an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[cfg(test)]
mod tests {
    use std::io;

    use hull_erofs::tree::Timestamp;
    use proptest::prelude::*;

    use super::super::{Input, Kind, Member, Members, Next};
    use super::*;

    struct Bytes(io::Cursor<Vec<u8>>);

    impl Input for Bytes {
        fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<Next> {
            if self.0.position() == self.0.get_ref().len() as u64 {
                return Ok(Next::End);
            }
            self.data(block)?;
            Ok(Next::Block)
        }

        fn data(&mut self, bytes: &mut [u8]) -> io::Result<()> {
            io::Read::read_exact(&mut self.0, bytes)
        }
    }

    fn read(head: &Head<'_>) -> Member {
        let mut members = Members::new(Bytes(io::Cursor::new(head.to_blocks())));
        members.next().unwrap().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            path in "[a-z]{1,60}(/[a-zé]{1,60}){0,3}",
            mode in 0u32..0o10000,
            uid: u32,
            gid: u32,
            size: u64,
            seconds in -10_000_000_000i64..100_000_000_000,
            nanoseconds in 0u32..1_000_000_000,
            binary_size: bool,
            value: Vec<u8>,
        ) {
            let xattrs = [(b"user.x".to_vec(), value.clone())];
            let head = Head {
                path: path.as_bytes(),
                kind: b'0',
                mode,
                uid,
                gid,
                size: size >> 1,
                binary_size,
                mtime: (seconds, nanoseconds),
                xattrs: &xattrs,
                ..Head::default()
            };
            let member = read(&head);
            prop_assert_eq!(member.path.as_bytes(), path.as_bytes());
            prop_assert_eq!(member.stored, size >> 1);
            prop_assert_eq!(&member.kind, &Kind::Regular);
            prop_assert_eq!(u32::from(member.metadata.mode), mode);
            prop_assert_eq!((member.metadata.uid, member.metadata.gid), (uid, gid));
            let time: Timestamp = member.metadata.mtime;
            prop_assert_eq!((time.seconds, time.nanoseconds), (seconds, nanoseconds));
            prop_assert_eq!(member.metadata.xattrs.len(), 1);
        }

        #[test]
        fn links_are_as_long_as_they_are(target in "[a-z/]{1,300}x") {
            let head = Head { path: b"a", kind: b'2', link: target.as_bytes(), ..Head::default() };
            let Kind::Symlink(read) = read(&head).kind else { panic!("a link is expected") };
            prop_assert_eq!(&*read, target.as_bytes());
        }
    }
}
