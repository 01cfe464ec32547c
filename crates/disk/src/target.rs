//! What a disk is written to: a block device, or a file that becomes one.
//!
//! A target is opened once and looked at through that handle; nothing is found
//! by name again. A file is written beside its place and renamed into it when
//! it is complete, so no half disk ever has its name.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_sys::durable;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::busy::while_busy;
use crate::filesystem::Place;
use crate::in_use::{self, DeviceNumber, Use};
use crate::partial::Partial;
use crate::plan::{Partition, SectorSize};
use crate::reread::reread;
use crate::signature::{self, Found};
use crate::size::MIB;
use crate::sparse;

/// How long to ask for a device that nothing known uses: a child that another program is
/// starting may have it open until then.
const UNKNOWN_USER: Duration = Duration::from_secs(1);

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The path leads nowhere.
    #[error("{path} is no path of a file or device")]
    NoName {
        /// What was given.
        path: PathBuf,
    },
    /// It could not be opened or looked at.
    #[error("cannot open {path}")]
    Open {
        /// The target.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is a directory, a pipe, a link to a file, or such.
    #[error("{path} is {what}; hull writes disks to block devices and regular files")]
    Kind {
        /// The target.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is a partition.
    #[error("{path} is a partition; name the whole disk")]
    IsPartition {
        /// The target.
        path: PathBuf,
    },
    /// It has sectors that no partition table of hull's fits.
    #[error("{path} has sectors of {bytes} bytes; hull knows 512 and 4096")]
    SectorSize {
        /// The target.
        path: PathBuf,
        /// What it says.
        bytes: u64,
    },
    /// Something uses it.
    #[error("{path} is in use: {}; end that first (hull writes to no disk in use, with --wipe neither)", list(.uses))]
    InUse {
        /// The target.
        path: PathBuf,
        /// By what.
        uses: Vec<Use>,
    },
    /// It holds something.
    #[error("{path} is not empty: it holds {}; --wipe destroys that", list(.holds))]
    Holds {
        /// The target.
        path: PathBuf,
        /// What.
        holds: Vec<Found>,
    },
    /// Another process writes the same file.
    #[error("another process is writing {path}; wait for it, or end it")]
    Busy {
        /// The file that both want to write.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The target.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the name appeared meanwhile.
    #[error(
        "{path} appeared while the disk was made; it was left as it is, and the new disk was removed"
    )]
    Appeared {
        /// The target.
        path: PathBuf,
    },
    /// The disk is complete, but the kernel does not see its partitions.
    #[error(
        "{path} is complete, but the kernel did not read its partition table; run `blockdev --rereadpt {path}` or restart"
    )]
    Reread {
        /// The target.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

pub(crate) fn list<T: fmt::Display>(things: &[T]) -> String {
    things
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// A file that does not exist yet.
    NewFile,
    /// A file that exists, and is going to be replaced.
    File,
    /// A block device.
    Device,
}

/// What was seen of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The target, as it was given.
    pub path: PathBuf,
    /// What it is.
    pub kind: TargetKind,
    /// The size of a device; a file gets the size that it is asked to have.
    pub size: Option<u64>,
    /// The unit in which it is read and written.
    pub sector_size: SectorSize,
    /// What uses it.
    pub uses: Vec<Use>,
    /// What it holds.
    pub holds: Vec<Found>,
}

impl Observation {
    /// Whether it may be written, where `wipe` says that what it holds may go.
    pub fn allow(&self, wipe: bool) -> Result<(), TargetError> {
        let path = self.path.clone();
        if !self.uses.is_empty() {
            return Err(TargetError::InUse {
                path,
                uses: self.uses.clone(),
            });
        }
        if !self.holds.is_empty() && !wipe {
            return Err(TargetError::Holds {
                path,
                holds: self.holds.clone(),
            });
        }
        Ok(())
    }
}

impl fmt::Display for Observation {
    /// What is going to happen to the target, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match (self.kind, self.holds.as_slice()) {
            (TargetKind::NewFile, _) => write!(f, "{path} is made"),
            (TargetKind::File, []) => write!(f, "{path} is replaced; it is empty"),
            (TargetKind::Device, []) => write!(f, "{path} is overwritten; it is empty"),
            (_, holds) => write!(f, "{path}: everything on it is destroyed: {}", list(holds)),
        }
    }
}

/// A target that was opened.
#[derive(Debug)]
pub struct Target {
    observation: Observation,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    File {
        directory: OwnedFd,
        name: String,
    },
    /// `claim` is open exclusively: as long as it is, nobody mounts the device.
    Device {
        shared: File,
        claim: Option<File>,
    },
}

impl Target {
    /// Opens a target and looks at it. Nothing is written.
    pub fn open(path: &Path) -> Result<Target, TargetError> {
        let opened = |source: io::Error| TargetError::Open {
            path: path.into(),
            source,
        };
        let (parent, name) = split(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(parent, flags, Mode::empty()).map_err(|e| opened(e.into()))?;
        let handle = match open_path(&directory, &name) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(Target::new_file(path, directory, name)),
            Err(error) => return Err(opened(error.into())),
        };
        let stat = rustix::fs::fstat(&handle).map_err(|error| opened(error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Target::existing_file(path, directory, name, &handle),
            FileType::BlockDevice => Target::device(path, &handle, DeviceNumber::of(stat.st_rdev)),
            FileType::Symlink => Target::linked_device(path),
            FileType::Directory => Err(kind(path, "a directory")),
            FileType::CharacterDevice => Err(kind(path, "a character device")),
            _ => Err(kind(path, "a pipe or socket")),
        }
    }

    /// What was seen when it was opened.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    fn new_file(path: &Path, directory: OwnedFd, name: String) -> Target {
        let observation = Observation {
            path: path.into(),
            kind: TargetKind::NewFile,
            size: None,
            sector_size: SectorSize::B512,
            uses: Vec::new(),
            holds: Vec::new(),
        };
        Target {
            observation,
            inner: Inner::File { directory, name },
        }
    }

    fn existing_file(
        path: &Path,
        directory: OwnedFd,
        name: String,
        handle: &OwnedFd,
    ) -> Result<Target, TargetError> {
        let opened = |source| TargetError::Open {
            path: path.into(),
            source,
        };
        let file = reopen(handle, OFlags::RDONLY).map_err(opened)?;
        let size = file.metadata().map_err(opened)?.len();
        let holds = signature::survey(&file, size).map_err(opened)?;
        let mut target = Target::new_file(path, directory, name);
        target.observation.kind = TargetKind::File;
        target.observation.holds = holds;
        Ok(target)
    }

    /// A link may lead to a device, as those of `/dev/disk` do, but not to a
    /// file: its place would be taken by the new disk.
    fn linked_device(path: &Path) -> Result<Target, TargetError> {
        let opened = |error: Errno| TargetError::Open {
            path: path.into(),
            source: error.into(),
        };
        let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(opened)?;
        let stat = rustix::fs::fstat(&handle).map_err(opened)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => Target::device(path, &handle, DeviceNumber::of(stat.st_rdev)),
            _ => Err(kind(
                path,
                "a symbolic link to something that is no block device",
            )),
        }
    }

    fn device(path: &Path, handle: &OwnedFd, number: DeviceNumber) -> Result<Target, TargetError> {
        let opened = |source| TargetError::Open {
            path: path.into(),
            source,
        };
        if in_use::is_partition(number) {
            return Err(TargetError::IsPartition { path: path.into() });
        }
        let mut uses = in_use::of_device(number).map_err(opened)?;
        let patience = match uses.is_empty() {
            true => UNKNOWN_USER,
            false => Duration::ZERO,
        };
        let claim = match while_busy(patience, || reopen(handle, OFlags::RDWR | OFlags::EXCL)) {
            Ok(claim) => Some(claim),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                // It may have been mounted meanwhile.
                uses = in_use::of_device(number).map_err(opened)?;
                if uses.is_empty() {
                    uses.push(Use::Claimed);
                }
                None
            }
            Err(source) => return Err(opened(source)),
        };
        let access = if claim.is_some() {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        let shared = reopen(handle, access).map_err(opened)?;
        let size = rustix::fs::seek(&shared, rustix::fs::SeekFrom::End(0))
            .map_err(|error| opened(error.into()))?;
        let observation = Observation {
            path: path.into(),
            kind: TargetKind::Device,
            size: Some(size),
            sector_size: sector_size(path, &shared)?,
            uses,
            holds: signature::survey(&shared, size).map_err(opened)?,
        };
        Ok(Target {
            observation,
            inner: Inner::Device { shared, claim },
        })
    }

    /// Starts to write the disk: all of it that matters reads as zeros then.
    ///
    /// On a device, what it held is destroyed from here on; a file of the
    /// target's name stays until [`Disk::commit`].
    pub fn begin(self, size: u64) -> Result<Disk, TargetError> {
        let path = self.observation.path;
        let failed = |source| TargetError::Write {
            path: path.clone(),
            source,
        };
        match self.inner {
            Inner::File { directory, name } => {
                let partial = Partial::create(directory, name, &path)?;
                partial.file().set_len(size).map_err(failed)?;
                let replace = self.observation.kind == TargetKind::File;
                Ok(Disk {
                    path,
                    zeroed: true,
                    medium: Medium::File { partial, replace },
                })
            }
            Inner::Device { shared, claim } => {
                let claim = claim.ok_or_else(|| TargetError::InUse {
                    path: path.clone(),
                    uses: vec![Use::Claimed],
                })?;
                let zeroed = sparse::discard(&shared, 0, size).map_err(failed)?;
                if !zeroed {
                    // Tables and signatures at both ends.
                    let end = size.saturating_sub(MIB);
                    sparse::zero(&shared, 0, size.min(MIB)).map_err(failed)?;
                    sparse::zero(&shared, end, size - end).map_err(failed)?;
                }
                shared.sync_all().map_err(failed)?;
                let claim = Some(claim);
                Ok(Disk {
                    path,
                    zeroed,
                    medium: Medium::Device { shared, claim },
                })
            }
        }
    }

    /// The directory that a file target is in.
    pub fn directory(&self) -> Option<&OwnedFd> {
        match &self.inner {
            Inner::File { directory, .. } => Some(directory),
            Inner::Device { .. } => None,
        }
    }
}

/// A disk that is being written. Dropped without [`Disk::commit`], a file
/// target leaves nothing behind.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    zeroed: bool,
    medium: Medium,
}

#[derive(Debug)]
enum Medium {
    File { partial: Partial, replace: bool },
    Device { shared: File, claim: Option<File> },
}

impl Disk {
    /// The disk, for positioned reads and writes.
    pub fn file(&self) -> &File {
        match &self.medium {
            Medium::File { partial, .. } => partial.file(),
            Medium::Device { shared, .. } => shared,
        }
    }

    /// Makes the first and last MiB of a partition read as zeros, so that no
    /// signature of what was there before is left.
    pub fn clear(&self, partition: &Partition) -> Result<(), TargetError> {
        if self.zeroed {
            return Ok(());
        }
        let length = partition.length.min(MIB);
        for offset in [partition.offset, partition.end() - length] {
            sparse::zero(self.file(), offset, length).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Lends a partition to a program that opens the disk itself.
    ///
    /// A device is not claimed meanwhile, because the program claims it.
    pub fn lend<T>(
        &mut self,
        partition: &Partition,
        sector_size: SectorSize,
        use_place: impl FnOnce(&Place<'_>) -> T,
    ) -> Result<T, TargetError> {
        if let Medium::Device { claim, .. } = &mut self.medium {
            drop(claim.take());
        }
        // A path to the open file itself, whatever its name leads to by now.
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.file().as_raw_fd()
        ));
        let used = use_place(&Place {
            file: self.file(),
            path: &path,
            offset: partition.offset,
            length: partition.length,
            zeroed: self.zeroed,
            sector_size: sector_size.bytes(),
        });
        if let Medium::Device { shared, claim } = &mut self.medium {
            let again = reopen(&*shared, OFlags::RDWR | OFlags::EXCL);
            *claim = Some(again.map_err(|source| TargetError::Write {
                path: self.path.clone(),
                source,
            })?);
        }
        Ok(used)
    }

    /// Writes to disk what was written to it so far.
    pub fn flush(&self) -> Result<(), TargetError> {
        durable::sync_file(self.file()).map_err(|source| self.failed(source))
    }

    /// Forgets what is cached of it, so that reading shows what is on disk.
    pub fn forget_cache(&self) {
        // Advice: where it is not taken, the check that follows is a weaker one.
        rustix::fs::fadvise(self.file(), 0, None, rustix::fs::Advice::DontNeed).ok();
    }

    /// Makes the disk what its name says: a file gets its name, of a device the
    /// kernel reads the table. Everything must be flushed before.
    pub fn commit(self) -> Result<(), TargetError> {
        let path = self.path;
        match self.medium {
            Medium::File { partial, replace } => partial.rename(&path, replace),
            Medium::Device { claim, .. } => claim.map_or(Ok(()), |claim| reread(&path, claim)),
        }
    }

    fn failed(&self, source: io::Error) -> TargetError {
        TargetError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

fn split(path: &Path) -> Result<(&Path, String), TargetError> {
    let no_name = || TargetError::NoName { path: path.into() };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(no_name)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name.to_owned()))
}

fn open_path(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Opens what a handle stands for, and nothing else.
fn reopen(handle: &impl AsRawFd, flags: OFlags) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(File::from(fd))
}

fn kind(path: &Path, what: &'static str) -> TargetError {
    TargetError::Kind {
        path: path.into(),
        what,
    }
}

fn sector_size(path: &Path, device: &File) -> Result<SectorSize, TargetError> {
    let bytes = rustix::fs::ioctl_blksszget(device).map_err(|error| TargetError::Open {
        path: path.into(),
        source: error.into(),
    })?;
    let bytes = u64::from(bytes);
    SectorSize::new(bytes).ok_or_else(|| TargetError::SectorSize {
        path: path.into(),
        bytes,
    })
}
