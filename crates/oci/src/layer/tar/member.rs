//! An entry of an archive: what its headers say about it.

use hull_erofs::tree::{Device, Metadata, Timestamp};

use super::error::{Field, Problem};
use super::header::Header;
use super::pax::Extended;
use super::sparse::SparseMap;
use crate::layer::path::{EntryName, EntryPath};

/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: usize = 4095;
/// Largest device numbers of Linux: 12 and 20 bits.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;

/// What kind of thing an entry is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Directory,
    /// With [`Member::stored`] bytes.
    Regular,
    /// With holes; [`Member::stored`] bytes are in the archive.
    Sparse(SparseMap),
    /// To another entry, this one's metadata says nothing.
    HardLink(EntryPath),
    Symlink(Box<[u8]>),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// An entry of an archive, without its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) path: EntryPath,
    pub(crate) metadata: Metadata,
    pub(crate) kind: Kind,
    /// Bytes of data that follow in the archive, without their padding.
    pub(crate) stored: u64,
}

pub(super) fn non_negative(header: &Header<'_>, field: Field) -> Result<u64, Problem> {
    let number = header
        .number(field)
        .and_then(|number| u64::try_from(number).ok());
    number.ok_or(Problem::Number(field))
}

/// An owner or a group; the largest number stands for "leave it as it is" in system calls and is none.
pub(super) fn owner_id(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|&id| id != u32::MAX)
}

pub(super) fn kind(header: &Header<'_>, name: &[u8], link: &[u8]) -> Result<Kind, Problem> {
    let flag = header.type_flag();
    Ok(match flag {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::Regular,
        b'S' if header.is_gnu() => Kind::Regular,
        b'1' => Kind::HardLink(EntryPath::parse(link).map_err(|reason| Problem::Target {
            target: EntryName::new(link),
            reason,
        })?),
        b'2' => {
            if link.is_empty() || link.len() > TARGET_MAX || link.contains(&0) {
                return Err(Problem::SymlinkTarget);
            }
            Kind::Symlink(link.into())
        }
        b'3' => Kind::CharacterDevice(device(header)?),
        b'4' => Kind::BlockDevice(device(header)?),
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => {
            return Err(Problem::Type {
                flag,
                meaning: meaning(flag),
            });
        }
    })
}

fn meaning(flag: u8) -> &'static str {
    match flag {
        b'S' => "a sparse file outside of a GNU archive",
        b'D' => "the list of a directory in an incremental backup",
        b'M' => "the continuation of a multi-volume archive",
        b'N' => "old long names",
        b'V' => "the label of a volume",
        b'A' | b'E' | b'I' | b'X' => "an extension of Solaris or star",
        _ => "unknown",
    }
}

fn device(header: &Header<'_>) -> Result<Device, Problem> {
    let number = |field, max| {
        let number = header
            .number(field)
            .and_then(|number| u32::try_from(number).ok());
        number
            .filter(|&number| number <= max)
            .ok_or(Problem::Number(field))
    };
    Ok(Device {
        major: number(Field::DeviceMajor, MAJOR_MAX)?,
        minor: number(Field::DeviceMinor, MINOR_MAX)?,
    })
}

/// The metadata of an entry: what the extended header says wins over the block.
pub(super) fn metadata(header: &Header<'_>, extended: Extended) -> Result<Metadata, Problem> {
    let number = |field| header.number(field).ok_or(Problem::Number(field));
    let id = |field, extended: Option<u32>| match extended {
        Some(id) => Ok(id),
        None => number(field).and_then(|id| owner_id(id).ok_or(Problem::Number(field))),
    };
    // Some writers put the type into the upper bits.
    let mode =
        u16::try_from(number(Field::Mode)? & 0o7777).map_err(|_| Problem::Number(Field::Mode))?;
    let mtime = match extended.mtime {
        Some(mtime) => mtime,
        None => Timestamp {
            seconds: number(Field::Mtime)?,
            nanoseconds: 0,
        },
    };
    Ok(Metadata {
        mode,
        uid: id(Field::Uid, extended.uid)?,
        gid: id(Field::Gid, extended.gid)?,
        mtime,
        xattrs: extended.into_xattrs()?,
    })
}
