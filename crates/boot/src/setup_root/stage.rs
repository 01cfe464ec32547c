//! The place where the new root is put together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hull_sys::durable;
use hull_sys::mount::{self, Change, Mount, Propagation};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};

use super::SetupError;

/// A file system in memory below `/run/hull` that is in no peer group, so that
/// what is attached in it can be moved away; it goes with the value. What
/// overlays keep in it lives on with them.
#[derive(Debug)]
pub(super) struct Stage {
    /// Only `None` once it is dropped.
    mount: Option<Mount>,
}

impl Stage {
    pub(super) fn open(run: &Path) -> Result<Self, SetupError> {
        let path = run.join("hull/stage");
        let failed = |source| SetupError::Stage {
            path: path.display().to_string(),
            source,
        };
        let run = open_directory(run).map_err(failed)?;
        let ours = durable::make_dir(run, "hull", 0o755).map_err(failed)?;
        let point = durable::make_dir(ours, "stage", 0o700).map_err(failed)?;
        let mount = mount::tmpfs("hull", 0o700)?;
        mount.attach(point, ".")?;
        let stage = Self { mount: Some(mount) };
        stage.mount()?.change(&Change {
            propagation: Some(Propagation::Private),
            ..Change::default()
        })?;
        Ok(stage)
    }

    fn mount(&self) -> Result<&Mount, SetupError> {
        self.mount.as_ref().ok_or_else(|| SetupError::Stage {
            path: "stage".to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    /// A directory to attach something at.
    pub(super) fn point(&self, name: &str) -> Result<OwnedFd, SetupError> {
        self.directory(self.mount()?.as_fd(), name, 0o755)
    }

    /// A writable mount of the physical root, whatever the initrd made of it.
    pub(super) fn physical_root(&self, sysroot: &Path) -> Result<Mount, SetupError> {
        let root = open_directory(sysroot).map_err(|source| SetupError::Sysroot {
            path: sysroot.display().to_string(),
            source,
        })?;
        let mount = Mount::copy(root)?;
        mount.attach(self.point("physical")?, ".")?;
        mount.change(&Change::WRITABLE)?;
        mount::make_writable(&mount)?;
        Ok(mount)
    }

    /// Empty directories for an overlay's changes; the merged directory has
    /// the metadata of the first one, so those of `lower` are copied.
    pub(super) fn upper(
        &self,
        name: &str,
        lower: BorrowedFd<'_>,
    ) -> Result<(OwnedFd, OwnedFd), SetupError> {
        let parent = self.directory(self.mount()?.as_fd(), &format!("{name}.upper"), 0o700)?;
        let changes = self.directory(parent.as_fd(), "changes", 0o755)?;
        let work = self.directory(parent.as_fd(), "work", 0o700)?;
        copy_metadata(lower, changes.as_fd()).map_err(|source| SetupError::Stage {
            path: format!("{name}.upper/changes"),
            source,
        })?;
        Ok((changes, work))
    }

    fn directory(
        &self,
        parent: BorrowedFd<'_>,
        name: &str,
        mode: u32,
    ) -> Result<OwnedFd, SetupError> {
        durable::make_dir(parent, name, mode).map_err(|source| SetupError::Stage {
            path: format!("stage/{name}"),
            source,
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mount) = self.mount.take() {
            // It can't fail but for a stage that is gone already.
            mount.detach().ok();
        }
    }
}

fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(owner), Some(group))?;
    Ok(rustix::fs::fchmod(
        to,
        Mode::from_raw_mode(stat.st_mode & 0o7777),
    )?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}
