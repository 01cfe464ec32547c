//! Making a file system with the contents of a directory in it.
//!
//! The mkfs tools do it, without a mount. ext4 is made in place, at its offset
//! in the disk; xfs and btrfs know no offsets, so they are made in a sparse
//! file of their own, whose data is then moved to its place.

mod btrfs;
mod ext4;
mod xfs;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hull_sys::run::RunError;
use rustix::fs::{AtFlags, FileType, Timespec, Timestamps};
use serde::Deserialize;
use uuid::Uuid;

use crate::content::{ContentError, Step, walk};
use crate::size::MIB;
use crate::sparse::{self, Holes};

/// A root file system that hull makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// ext4, with the verity feature.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs, one volume without subvolumes.
    Btrfs,
}

/// A name that is none of hull's root file systems.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hull makes no root file system \"{0}\"; choose ext4, xfs or btrfs")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        match name {
            "ext4" => Ok(Kind::Ext4),
            "xfs" => Ok(Kind::Xfs),
            "btrfs" => Ok(Kind::Btrfs),
            name => Err(UnknownKind(name.into())),
        }
    }
}

impl Kind {
    /// Its name, as in mount(8).
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }

    /// Whether it is made in a file of its own first, and then moved.
    pub(crate) fn is_made_aside(self) -> bool {
        self != Kind::Ext4
    }

    /// What it takes for each file and directory besides the contents, in bytes.
    pub(crate) fn bytes_per_entry(self) -> u64 {
        1024
    }

    /// How much file system there must be for each file or directory, in bytes.
    pub(crate) fn bytes_per_inode(self) -> u64 {
        match self {
            Kind::Ext4 => ext4::BYTES_PER_INODE + 1024,
            Kind::Xfs | Kind::Btrfs => 0,
        }
    }

    /// What it takes when it is empty, with its journal, in bytes.
    pub(crate) fn fixed_overhead(self) -> u64 {
        256 * MIB
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where a file system goes.
#[derive(Debug)]
pub struct Place<'a> {
    /// The disk, open for reading and writing.
    pub file: &'a File,
    /// A path by which a program can open the disk.
    pub path: &'a Path,
    /// The first byte of the partition.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether all of it is known to read as zeros.
    pub zeroed: bool,
    /// The unit in which the disk is read and written, in bytes.
    pub sector_size: u16,
}

/// What a file system is made from.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// The file system.
    pub kind: Kind,
    /// The directory whose contents it gets; access times in it are changed,
    /// and modification times after `epoch`.
    pub source: &'a Path,
    /// Its identifier.
    pub uuid: Uuid,
    /// What it takes in place of random numbers.
    pub seed: Uuid,
    /// Its label.
    pub label: &'a str,
    /// The time of its making, in seconds since 1970; no file is younger.
    pub epoch: u64,
    /// A directory for files that are needed meanwhile.
    pub scratch: &'a Path,
}

/// Why a file system was not made.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    /// The mkfs tool is missing or failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The staged directory could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The times of a staged file could not be set.
    #[error("cannot set the times of {path} in the staged tree")]
    Times {
        /// The path inside the tree.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The installed tool cannot put this entry in.
    #[error("{tool} cannot put {path} into the file system, because {reason}; {remedy}")]
    Refused {
        /// The tool with its version.
        tool: String,
        /// The path inside the tree.
        path: PathBuf,
        /// Why.
        reason: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A file that is needed meanwhile could not be written.
    #[error("cannot write {path}, which is needed to make the file system")]
    Scratch {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What mke2fs wrote could not be read.
    #[error("cannot read the file system that mke2fs made on {path}")]
    Superblock {
        /// The disk.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The finished file system could not be moved to its place.
    #[error("cannot copy the file system to its place on {path}")]
    Copy {
        /// The disk.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Recipe<'_> {
    /// Makes the file system in `place`.
    ///
    /// What was at its place before is gone whether it succeeds or not. The
    /// caller flushes the disk.
    pub fn make(&self, place: &Place<'_>) -> Result<(), FilesystemError> {
        self.clamp_times()?;
        match self.kind {
            Kind::Ext4 => ext4::make(self, place),
            Kind::Xfs => self.make_aside(place, xfs::make),
            Kind::Btrfs => self.make_aside(place, btrfs::make),
        }
    }

    /// Makes the file system in a sparse file, then moves that to its place.
    fn make_aside(
        &self,
        place: &Place<'_>,
        make: fn(&Self, &Path, u16) -> Result<(), FilesystemError>,
    ) -> Result<(), FilesystemError> {
        let path = self.scratch.join("root.filesystem");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .and_then(|file| file.set_len(place.length).map(|()| file))
            .map_err(|source| FilesystemError::Scratch {
                path: path.clone(),
                source,
            })?;
        make(self, &path, place.sector_size)?;
        let holes = if place.zeroed {
            Holes::Skip
        } else {
            Holes::Zero
        };
        sparse::drain(&file, place.length, place.file, place.offset, holes).map_err(|source| {
            FilesystemError::Copy {
                path: place.path.into(),
                source,
            }
        })?;
        std::fs::remove_file(&path).map_err(|source| FilesystemError::Scratch { path, source })
    }

    /// Makes no time in the source later than the epoch, so that staging at
    /// another time gives the same file system.
    fn clamp_times(&self) -> Result<(), FilesystemError> {
        let source = File::open(self.source).map_err(|source| FilesystemError::Times {
            path: "/".into(),
            source,
        })?;
        let epoch = i64::try_from(self.epoch).unwrap_or(i64::MAX);
        walk(&source, &mut |step| {
            // Reading a directory changes its access time: it comes after.
            let entry = match step {
                Step::Visit(entry) if entry.kind != FileType::Directory => entry,
                Step::Leave(entry) => entry,
                Step::Visit(_) => return Ok(()),
            };
            let modified = (entry.stat.st_mtime, entry.stat.st_mtime_nsec);
            let name = entry.path.file_name().unwrap_or_default();
            set_times(entry.parent, Path::new(name), epoch, modified).map_err(|source| {
                FilesystemError::Times {
                    path: Path::new("/").join(entry.path),
                    source,
                }
            })
        })?;
        set_times(&source, Path::new("."), epoch, (epoch, 0)).map_err(|source| {
            FilesystemError::Times {
                path: "/".into(),
                source,
            }
        })
    }

    fn epoch_text(&self) -> String {
        self.epoch.to_string()
    }
}

fn set_times(
    parent: impl AsFd,
    name: &Path,
    epoch: i64,
    (seconds, nanoseconds): (i64, impl TryInto<i64>),
) -> io::Result<()> {
    let clamped = if seconds < epoch {
        Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.try_into().unwrap_or(0),
        }
    } else {
        Timespec {
            tv_sec: epoch,
            tv_nsec: 0,
        }
    };
    let times = Timestamps {
        last_access: clamped,
        last_modification: clamped,
    };
    Ok(rustix::fs::utimensat(
        parent,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// The numbers in the first word of `text` that looks like a version: `6.1.0` gives `[6, 1, 0]`.
fn version(text: &str) -> Option<Vec<u32>> {
    text.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches('v');
        let numbers: Option<Vec<u32>> = word
            .split('.')
            .map(|number| {
                let digits = number.bytes().take_while(u8::is_ascii_digit).count();
                number[..digits].parse().ok()
            })
            .collect();
        numbers.filter(|numbers| numbers.len() > 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_tools_print() {
        assert_eq!(version("mkfs.xfs version 6.1.0"), Some(vec![6, 1, 0]));
        assert_eq!(
            version("mkfs.btrfs, part of btrfs-progs v6.2"),
            Some(vec![6, 2])
        );
        assert_eq!(version("mke2fs 1.47.0 (5-Feb-2023)"), Some(vec![1, 47, 0]));
        assert_eq!(version("mke2fs 1.47.1-rc1"), Some(vec![1, 47, 1]));
        assert_eq!(version("no version"), None);
    }
}
