//! A file that is being written under another name.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use hull_sys::durable;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::target::TargetError;

/// The file, which only this process writes. Dropped before it is renamed, it is removed.
#[derive(Debug)]
pub(crate) struct Partial {
    directory: OwnedFd,
    name: String,
    file: File,
    renamed: bool,
}

impl Partial {
    /// Creates it, or takes over what a cut run left of it.
    pub(crate) fn create(
        directory: OwnedFd,
        name: String,
        path: &Path,
    ) -> Result<Partial, TargetError> {
        let failed = |source| TargetError::Write {
            path: path.into(),
            source,
        };
        let partial = partial_name(&name);
        let file = loop {
            let file = open(&directory, &partial).map_err(|error| failed(error.into()))?;
            match lock(&directory, &partial, file).map_err(|error| failed(error.into()))? {
                Locked::Ours(file) => break file,
                Locked::Renamed => {}
                Locked::Busy => {
                    return Err(TargetError::Busy {
                        path: path.with_file_name(partial),
                    });
                }
            }
        };
        file.set_len(0).map_err(failed)?;
        Ok(Partial {
            directory,
            name,
            file,
            renamed: false,
        })
    }

    /// The file, for reads and writes.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, which is `path` for messages; where `replace` says so, also where
    /// a file has it.
    pub(crate) fn rename(mut self, path: &Path, replace: bool) -> Result<(), TargetError> {
        let rename = if replace {
            durable::rename
        } else {
            durable::rename_new
        };
        rename(
            &self.directory,
            &partial_name(&self.name),
            &self.directory,
            &self.name,
        )
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => TargetError::Appeared { path: path.into() },
            _ => TargetError::Write {
                path: path.into(),
                source,
            },
        })?;
        self.renamed = true;
        durable::sync_dir(&self.directory).map_err(|source| TargetError::Write {
            path: path.into(),
            source,
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays is taken over by the next run.
            rustix::fs::unlinkat(&self.directory, partial_name(&self.name), AtFlags::empty()).ok();
        }
    }
}

fn partial_name(name: &str) -> String {
    format!(".{name}.partial")
}

fn open(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
}

/// What came of locking a file.
enum Locked {
    Ours(File),
    /// Another process writes it.
    Busy,
    /// Who wrote it has finished since it was opened, or given it up: it is somebody's disk.
    Renamed,
}

fn lock(directory: &OwnedFd, name: &str, file: OwnedFd) -> Result<Locked, Errno> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Locked::Busy),
        Err(error) => return Err(error),
    }
    let here = rustix::fs::fstat(&file)?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) => {
            Ok(Locked::Ours(File::from(file)))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(Locked::Renamed),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_finished_since_it_was_opened_is_not_taken_for_partial() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("disk.raw");
        let directory = || OwnedFd::from(File::open(temp.path()).unwrap());
        let partial = || Partial::create(directory(), "disk.raw".into(), &path);
        let name = partial_name("disk.raw");
        let first = partial().unwrap();
        let opened = || open(&directory(), &name).unwrap();
        let (early, late) = (opened(), opened());
        let busy = lock(&directory(), &name, early).unwrap();
        assert!(matches!(busy, Locked::Busy));
        first.rename(&path, false).unwrap();
        let renamed = lock(&directory(), &name, late).unwrap();
        assert!(matches!(renamed, Locked::Renamed));
        // The next one has the name, and the one after that does not get it.
        let _second = partial().unwrap();
        assert!(matches!(partial(), Err(TargetError::Busy { .. })));
    }
}
