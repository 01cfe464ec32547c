//! Headers of a tar archive.

use std::io::{self, Write};

use hull_erofs::tree::{Device, Metadata, Timestamp};
use tar::{EntryType, Header};

use super::sparse::Segments;

/// The unit of an archive, in bytes.
pub(super) const BLOCK: usize = 512;
/// The longest name that a header block holds without another record.
const NAME_MAX: usize = 100;
/// The largest number in the field of an owner: seven octal digits.
const OWNER_MAX: u32 = 0o777_7777;
/// The largest number in the fields of length and time: eleven octal digits.
const NUMBER_MAX: u64 = 0o777_7777_7777;

/// What an entry of the archive is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'a> {
    Directory,
    Regular(u64),
    Sparse(&'a Segments),
    HardLink(&'a [u8]),
    Symlink(&'a [u8]),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
}

impl Item<'_> {
    fn type_(&self) -> EntryType {
        match self {
            Self::Directory => EntryType::Directory,
            Self::Regular(_) | Self::Sparse(_) => EntryType::Regular,
            Self::HardLink(_) => EntryType::Link,
            Self::Symlink(_) => EntryType::Symlink,
            Self::CharacterDevice(_) => EntryType::Char,
            Self::BlockDevice(_) => EntryType::Block,
            Self::Fifo => EntryType::Fifo,
        }
    }

    /// Bytes that follow the header.
    fn stored(&self) -> u64 {
        match self {
            Self::Regular(size) => *size,
            Self::Sparse(segments) => segments.stored(),
            _ => 0,
        }
    }
}

/// Writes what comes before the data of an entry.
///
/// `path` is without slashes at its ends; the root is empty. The metadata of a
/// hard link is that of its target, and written all the same, for programs that look.
pub(super) fn write_header(
    out: &mut impl Write,
    path: &[u8],
    item: Item<'_>,
    metadata: &Metadata,
    mtime: Timestamp,
) -> io::Result<()> {
    let mut records = Records::default();
    let name = match item {
        Item::Directory => [if path.is_empty() { b"." } else { path }, b"/"].concat(),
        _ => path.to_vec(),
    };
    let mut header = Header::new_ustar();
    header.set_entry_type(item.type_());
    header.set_mode(metadata.mode.into());
    header.set_uid(records.owner("uid", metadata.uid).into());
    header.set_gid(records.owner("gid", metadata.gid).into());
    header.set_size(records.size(item.stored()));
    header.set_mtime(records.time(mtime));
    let shown = match item {
        Item::Sparse(segments) => records.sparse(&name, segments),
        _ => records.name("path", &name),
    };
    let target = match item {
        Item::HardLink(target) | Item::Symlink(target) => records.name("linkpath", target),
        _ => &[],
    };
    if let Item::CharacterDevice(device) | Item::BlockDevice(device) = item {
        header.set_device_major(device.major)?;
        header.set_device_minor(device.minor)?;
    }
    if !matches!(item, Item::HardLink(_)) {
        for (name, value) in &metadata.xattrs {
            records.add(&[b"SCHILY.xattr.", &**name].concat(), value);
        }
    }
    let old = header.as_old_mut();
    old.name[..shown.len()].copy_from_slice(shown);
    old.linkname[..target.len()].copy_from_slice(target);
    records.write(out)?;
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Writes the zeros between the end of some data and the next block.
pub(super) fn write_padding(out: &mut impl Write, length: u64) -> io::Result<()> {
    let rest = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    match rest {
        0 => Ok(()),
        rest => out.write_all(&[0; BLOCK][rest..]),
    }
}

/// Writes the end of the archive.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// The records of an extended header, in the order in which they are added.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        self.0.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// The owner's number for the header block.
    fn owner(&mut self, key: &str, id: u32) -> u32 {
        if id > OWNER_MAX {
            self.add(key.as_bytes(), id.to_string().as_bytes());
            return 0;
        }
        id
    }

    fn size(&mut self, size: u64) -> u64 {
        if size > NUMBER_MAX {
            self.add(b"size", size.to_string().as_bytes());
            return 0;
        }
        size
    }

    /// The seconds for the header block.
    fn time(&mut self, time: Timestamp) -> u64 {
        let seconds = u64::try_from(time.seconds).unwrap_or(0);
        if time.nanoseconds > 0 || time.seconds < 0 || seconds > NUMBER_MAX {
            self.add(b"mtime", decimal(time).as_bytes());
        }
        seconds.min(NUMBER_MAX)
    }

    /// The name for the header block.
    fn name<'a>(&mut self, key: &str, name: &'a [u8]) -> &'a [u8] {
        if name.len() <= NAME_MAX && name.is_ascii() {
            return name;
        }
        if std::str::from_utf8(name).is_err() {
            self.add(b"hdrcharset", b"BINARY");
        }
        self.add(key.as_bytes(), name);
        &name[..name.len().min(NAME_MAX)]
    }

    /// A sparse file in GNU's version 1.0: its map is in front of the data.
    fn sparse<'a>(&mut self, name: &'a [u8], segments: &Segments) -> &'a [u8] {
        self.add(b"GNU.sparse.major", b"1");
        self.add(b"GNU.sparse.minor", b"0");
        self.add(b"GNU.sparse.name", name);
        self.add(b"GNU.sparse.realsize", segments.size.to_string().as_bytes());
        &name[..name.len().min(NAME_MAX)]
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let length = u64::try_from(self.0.len()).unwrap_or(0);
        if length == 0 {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(length);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let name = b"././@PaxHeader";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        out.write_all(&self.0)?;
        write_padding(out, length)
    }
}

/// Seconds with a fraction of nine digits, or none.
fn decimal(time: Timestamp) -> String {
    match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds, nanoseconds) if seconds >= 0 => format!("{seconds}.{nanoseconds:09}"),
        // -1.25 is a quarter of a second before -1.
        (seconds, nanoseconds) => {
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
        }
    }
}
