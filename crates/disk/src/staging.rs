//! The directory in which the contents of a disk are put together.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Why there is no staging directory.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// It could not be made or emptied.
    #[error("cannot make the working directory {path}; another one can be given with --workdir")]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process works in it.
    #[error("another installation to the same target works in {path}; wait for it, or end it")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The space that is left could not be seen.
    #[error("cannot see how much space is left in {path}")]
    Space {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A directory of one's own, which is gone when this is dropped.
///
/// What a killed run left in it is removed when the next one starts.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Holds the lock.
    handle: OwnedFd,
}

impl Staging {
    /// Makes, or takes over, the directory for the target `name` below `workdir`.
    pub fn create(workdir: &Path, name: &str) -> Result<Staging, StagingError> {
        let path = workdir.join(format!(".hull-install-{name}"));
        let failed = |source: io::Error| StagingError::Make {
            path: path.clone(),
            source,
        };
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let path = fs::canonicalize(&path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |source: io::Error| StagingError::Make {
            path: path.clone(),
            source,
        };
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StagingError::Busy { path }),
            Err(error) => return Err(failed(error.into())),
        }
        let staging = Staging { path, handle };
        staging.fill().map_err(|source| StagingError::Make {
            path: staging.path.clone(),
            source,
        })?;
        Ok(staging)
    }

    fn fill(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        for (name, mode) in [("root", 0o755), ("esp", 0o755), ("scratch", 0o700)] {
            rustix::fs::mkdirat(&self.handle, name, Mode::RWXU)?;
            // Whatever the umask is.
            rustix::fs::chmodat(
                &self.handle,
                name,
                Mode::from_raw_mode(mode),
                rustix::fs::AtFlags::empty(),
            )?;
        }
        Ok(())
    }

    /// The contents of the root file system.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// The contents of the EFI system partition.
    pub fn esp(&self) -> PathBuf {
        self.path.join("esp")
    }

    /// For files that tools need meanwhile.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Opens one of its directories.
    pub fn open(&self, path: &Path) -> Result<OwnedFd, StagingError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| StagingError::Make {
            path: path.into(),
            source: error.into(),
        })
    }

    /// How much its file system has left, in bytes, and which file system that is.
    pub fn space(&self) -> Result<Space, StagingError> {
        Space::of(&self.handle).map_err(|source| StagingError::Space {
            path: self.path.clone(),
            source,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// The space left on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In bytes.
    pub free: u64,
}

impl Space {
    /// Of the file system that a handle is on.
    pub fn of(handle: impl AsFd) -> io::Result<Space> {
        let stat = rustix::fs::fstatvfs(handle)?;
        Ok(Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_a_killed_run_are_gone_and_nothing_stays_behind() {
        let workdir = tempfile::tempdir().unwrap();
        let left = workdir.path().join(".hull-install-disk/root/old");
        fs::create_dir_all(&left).unwrap();
        let staging = Staging::create(workdir.path(), "disk").unwrap();
        assert!(!left.exists());
        assert!(staging.root().is_dir() && staging.esp().is_dir() && staging.scratch().is_dir());
        drop(staging);
        assert_eq!(fs::read_dir(workdir.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_runs_for_one_target_exclude_each_other() {
        let workdir = tempfile::tempdir().unwrap();
        let first = Staging::create(workdir.path(), "disk").unwrap();
        let error = Staging::create(workdir.path(), "disk").unwrap_err();
        assert!(matches!(error, StagingError::Busy { .. }), "{error}");
        assert!(first.root().is_dir());
        Staging::create(workdir.path(), "other").unwrap();
    }
}
