//! The EFI system partition: FAT32, written without the kernel's help.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use fatfs::{Date, DateTime, Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time};
use rustix::fs::{FileType, Mode, OFlags};

use crate::content::{ContentError, Entry, Step, walk};
use crate::plan::{DiskPlan, SectorSize};
use crate::size::MIB;
use crate::window::Window;

/// How much of a file is copied or compared at a time, in bytes.
const CHUNK: usize = 1 << 18;

/// Why the EFI system partition was not written.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// The staged directory could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// FAT has no such entries.
    #[error("{path} cannot go onto the EFI system partition: it is neither a file nor a directory")]
    Kind {
        /// The path on the partition.
        path: PathBuf,
    },
    /// FAT has no such names.
    #[error("{path} cannot go onto the EFI system partition: {reason}")]
    Name {
        /// The path on the partition.
        path: PathBuf,
        /// What is wrong with the name.
        reason: &'static str,
    },
    /// The file system could not be made.
    #[error("cannot make the FAT file system of the EFI system partition")]
    Format(#[source] io::Error),
    /// The partition has a size at which there is no FAT32.
    #[error("an EFI system partition of {0} bytes cannot be FAT32")]
    NotFat32(u64),
    /// A file or directory could not be written.
    #[error("cannot write {path} to the EFI system partition")]
    Write {
        /// The path on the partition.
        path: PathBuf,
        /// What the kernel or the file system said.
        source: io::Error,
    },
    /// A file could not be read back.
    #[error("cannot read {path} back from the EFI system partition")]
    ReadBack {
        /// The path on the partition.
        path: PathBuf,
        /// What the kernel or the file system said.
        source: io::Error,
    },
    /// A file reads back differently.
    #[error("{path} on the EFI system partition reads back differently: the disk is faulty")]
    Differs {
        /// The path on the partition.
        path: PathBuf,
    },
}

/// The time of everything on the partition: the first that FAT knows.
#[derive(Debug)]
struct Epoch;

static EPOCH: Epoch = Epoch;

impl fatfs::TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time {
            hour: 0,
            min: 0,
            sec: 0,
            millis: 0,
        };
        DateTime {
            date: self.get_current_date(),
            time,
        }
    }
}

/// The file system on its part of a disk.
type Fat<'a> = FileSystem<Window<'a>>;

/// Makes the EFI system partition of a plan, with the contents of `source`.
///
/// Its place must read as zeros in the first MiB. Not flushed.
pub fn write(plan: &DiskPlan, disk: &File, source: impl AsFd) -> Result<(), EspError> {
    format(plan, disk)?;
    let fat = open(plan, disk).map_err(EspError::Format)?;
    if fat.fat_type() != FatType::Fat32 {
        return Err(EspError::NotFat32(plan.esp.length));
    }
    let mut seen = HashSet::new();
    walk(source, &mut |step| match step {
        Step::Visit(entry) => {
            if !seen.insert(entry.path.to_string_lossy().to_lowercase()) {
                let reason = "another name differs from it in case only";
                return Err(EspError::Name {
                    path: named(entry.path),
                    reason,
                });
            }
            add(&fat, &entry)
        }
        Step::Leave => Ok(()),
    })?;
    fat.unmount().map_err(EspError::Format)
}

/// Reads all files of `source` back from the disk and compares them.
pub fn verify(plan: &DiskPlan, disk: &File, source: impl AsFd) -> Result<(), EspError> {
    let path = PathBuf::from("/");
    let fat = open(plan, disk).map_err(|source| EspError::ReadBack { path, source })?;
    walk(source, &mut |step| match step {
        Step::Visit(entry) if entry.kind == FileType::RegularFile => compare(&fat, &entry),
        Step::Visit(_) | Step::Leave => Ok(()),
    })
}

fn window<'a>(plan: &DiskPlan, disk: &'a File) -> io::Result<Window<'a>> {
    Window::new(disk, plan.esp.offset, plan.esp.length)
}

fn open<'a>(plan: &DiskPlan, disk: &'a File) -> io::Result<Fat<'a>> {
    let options = FsOptions::new()
        .time_provider(&EPOCH)
        .update_accessed_date(false);
    FileSystem::new(window(plan, disk)?, options)
}

fn format(plan: &DiskPlan, disk: &File) -> Result<(), EspError> {
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(plan.esp.label.bytes()) {
        *to = from;
    }
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_sector(plan.sector_size.bytes())
        .bytes_per_cluster(cluster_size(plan.esp.length, plan.sector_size))
        .volume_id(plan.identity.esp_volume)
        .volume_label(label);
    window(plan, disk)
        .and_then(|window| fatfs::format_volume(window, options))
        .map_err(EspError::Format)
}

/// 4 KiB, or one sector where that would give too few clusters for FAT32.
fn cluster_size(length: u64, sector_size: SectorSize) -> u32 {
    if length >= 260 * MIB {
        4096
    } else {
        sector_size.bytes().into()
    }
}

fn add(fat: &Fat<'_>, entry: &Entry<'_>) -> Result<(), EspError> {
    let name = fat_path(entry.path)?;
    let failed = |source| EspError::Write {
        path: named(entry.path),
        source,
    };
    match entry.kind {
        FileType::Directory => fat.root_dir().create_dir(name).map(drop).map_err(failed),
        FileType::RegularFile => {
            let from = open_file(entry)?;
            let mut to = fat.root_dir().create_file(name).map_err(failed)?;
            copy(from, &mut to).map_err(failed)
        }
        _ => Err(EspError::Kind {
            path: named(entry.path),
        }),
    }
}

fn copy(mut from: File, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.flush(),
            read => to.write_all(&buffer[..read])?,
        }
    }
}

fn compare(fat: &Fat<'_>, entry: &Entry<'_>) -> Result<(), EspError> {
    let name = fat_path(entry.path)?;
    let path = named(entry.path);
    let expected = open_file(entry)?;
    let root: Dir<'_, _> = fat.root_dir();
    let equal = root
        .open_file(name)
        .and_then(|written| same(expected, written));
    match equal {
        Ok(true) => Ok(()),
        Ok(false) => Err(EspError::Differs { path }),
        Err(source) => Err(EspError::ReadBack { path, source }),
    }
}

fn same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (length, other_length) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left[..length] != right[..other_length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn open_file(entry: &Entry<'_>) -> Result<File, ContentError> {
    let name = entry.path.file_name().unwrap_or_default();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: Result<OwnedFd, _> = rustix::fs::openat(entry.parent, name, flags, Mode::empty());
    file.map(File::from).map_err(|error| ContentError::Read {
        path: named(entry.path),
        source: error.into(),
    })
}

/// The path as fatfs takes it, when every name in it is one that FAT can hold.
fn fat_path(path: &Path) -> Result<&str, EspError> {
    let refuse = |reason| EspError::Name {
        path: named(path),
        reason,
    };
    path.file_name()
        .map_or(Ok(()), check_name)
        .map_err(refuse)?;
    path.to_str().ok_or_else(|| refuse("its name is not UTF-8"))
}

fn check_name(name: &OsStr) -> Result<(), &'static str> {
    let name = name.to_str().ok_or("its name is not UTF-8")?;
    if name
        .chars()
        .any(|c| c.is_control() || "\"*:<>?\\|".contains(c))
    {
        return Err("its name has a character that FAT does not allow");
    }
    if name.ends_with(['.', ' ']) {
        return Err("its name ends in a dot or a blank");
    }
    if name.encode_utf16().count() > 255 {
        return Err("its name is longer than 255 characters");
    }
    Ok(())
}

fn named(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}
