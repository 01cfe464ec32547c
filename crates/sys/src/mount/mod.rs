//! Mounts as handles, with the mount API that takes file descriptors
//! (`fsopen`, `fsmount`, `open_tree`, `move_mount`, `mount_setattr`).
//!
//! A [`Mount`] is made detached: no path leads to it until it is attached,
//! and it is gone with its handle if it never is.

mod attributes;
mod composefs;
mod context;
mod device;

pub use attributes::{Change, Propagation};
pub use composefs::{Backing, Layers, Overlay, Upper, Verity, erofs, overlay};
pub use context::{KernelLog, tmpfs};
pub use device::fat;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsPickFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::path::Arg;

use crate::loopdev::LoopError;

/// Why something could not be mounted, moved or changed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel does not know the file system.
    #[error(
        "the kernel has no {kind} file system ({source}): \
         is the module {kind} missing in the initrd?"
    )]
    NoFileSystem {
        /// The name of the file system.
        kind: &'static str,
        /// The error of `fsopen`.
        source: io::Error,
    },
    /// The kernel refuses to make the file system's mount.
    #[error("cannot mount {kind} ({step}): {source}{log}")]
    FileSystem {
        /// The name of the file system.
        kind: &'static str,
        /// What was asked of the kernel.
        step: String,
        /// The kernel's answer.
        source: io::Error,
        /// What the file system said about it.
        log: KernelLog,
    },
    /// An existing mount can't be copied, changed, moved or removed.
    #[error("cannot {action} {subject}: {source}")]
    Tree {
        /// What was to be done.
        action: &'static str,
        /// What it was to be done with.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no loop device for an image.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

impl MountError {
    /// The kernel's error number, where it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        let source = match self {
            Self::NoFileSystem { source, .. }
            | Self::FileSystem { source, .. }
            | Self::Tree { source, .. } => source,
            Self::Loop(error) => error.source_io()?,
        };
        Errno::from_io_error(source)
    }
}

fn tree_error(action: &'static str, subject: &str, errno: Errno) -> MountError {
    MountError::Tree {
        action,
        subject: subject.to_owned(),
        source: errno.into(),
    }
}

/// A mount, as a handle of its root directory.
#[derive(Debug)]
pub struct Mount {
    fd: OwnedFd,
}

impl AsFd for Mount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Mount {
    /// A detached copy of what is mounted at the directory or file `of`,
    /// without the mounts below it; what is below `of` becomes its root.
    ///
    /// It has the flags of the mount that `of` is on, and is in no peer
    /// group: later mounts in one are not seen in the other. Before Linux
    /// 6.15, `of` must be on a mount that is attached in this namespace.
    pub fn copy(of: impl AsFd) -> Result<Self, MountError> {
        let fd = rustix::mount::open_tree(
            of,
            c"",
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH,
        )
        .map_err(|e| tree_error("copy", "a mount", e))?;
        let copy = Self { fd };
        copy.change(&Change {
            propagation: Some(Propagation::Private),
            ..Change::default()
        })?;
        Ok(copy)
    }

    /// Attaches the mount at `path` below `dir`, on top of what is there.
    ///
    /// An attached mount is moved, with those below it; that needs a parent
    /// mount that is not shared.
    pub fn attach(&self, dir: impl AsFd, path: impl Arg) -> Result<(), MountError> {
        let shown = path.to_string_lossy().into_owned();
        self.move_to(dir.as_fd(), path, MoveMountFlags::empty())
            .map_err(|e| tree_error("attach a mount at", &shown, e))
    }

    /// Puts the mount in place of the topmost one at `path`, which is
    /// detached: it is gone once nothing uses it any more.
    ///
    /// From Linux 6.5 something is mounted at `path` at every instant.
    pub fn replace(&self, dir: impl AsFd, path: impl Arg) -> Result<(), MountError> {
        let dir = dir.as_fd();
        let shown = path.to_string_lossy().into_owned();
        let failed = |e| tree_error("replace the mount at", &shown, e);
        let path = path.into_c_str().map_err(failed)?;
        // The handle keeps naming the old mount whatever comes above or below it.
        let old = open_mount_point(dir, &*path).map_err(failed)?;
        match self.move_to(dir, &*path, MoveMountFlags::MOVE_MOUNT_BENEATH) {
            Ok(()) => detach(&old).map_err(failed),
            // Unknown to the kernel, or refused for the way mounts propagate.
            Err(Errno::INVAL) => {
                detach(&old).map_err(failed)?;
                self.move_to(dir, &*path, MoveMountFlags::empty())
                    .map_err(failed)
            }
            Err(e) => Err(failed(e)),
        }
    }

    fn move_to(
        &self,
        dir: BorrowedFd<'_>,
        path: impl Arg,
        flags: MoveMountFlags,
    ) -> rustix::io::Result<()> {
        rustix::mount::move_mount(
            &self.fd,
            c"",
            dir,
            path,
            flags | MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
    }

    /// Changes flags and propagation of this mount, not of those below it.
    pub fn change(&self, change: &Change) -> Result<(), MountError> {
        attributes::change(self.fd.as_fd(), change)
            .map_err(|e| tree_error("change the flags of", "a mount", e))
    }

    /// The same, with all mounts below it.
    pub fn change_recursively(&self, change: &Change) -> Result<(), MountError> {
        attributes::change_recursively(self.fd.as_fd(), change)
            .map_err(|e| tree_error("change the flags of", "a mount and those below it", e))
    }

    /// Detaches an attached mount and those below it from their paths; the
    /// file systems stay until nothing uses them.
    pub fn detach(self) -> Result<(), MountError> {
        detach(&self.fd).map_err(|e| tree_error("detach", "a mount", e))
    }
}

fn open_mount_point(dir: BorrowedFd<'_>, path: impl Arg) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(dir, path, OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// `umount` has no form that takes a descriptor; the magic link leads to this
/// very mount, not to one that covers it.
fn detach(mount: &OwnedFd) -> rustix::io::Result<()> {
    rustix::mount::unmount(proc_path(mount.as_fd()), UnmountFlags::DETACH)
}

/// Unmounts what is mounted at `path`; `EBUSY` while something uses it.
pub fn unmount(path: impl Arg) -> Result<(), MountError> {
    let shown = path.to_string_lossy().into_owned();
    rustix::mount::unmount(path, UnmountFlags::NOFOLLOW)
        .map_err(|e| tree_error("unmount", &shown, e))
}

/// Detaches what is mounted at `path`, with all that is mounted below it; the
/// file systems stay until nothing uses them.
pub fn unmount_tree(path: impl Arg) -> Result<(), MountError> {
    let shown = path.to_string_lossy().into_owned();
    rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        .map_err(|e| tree_error("detach", &shown, e))
}

/// Makes the file system that `of` is on writable, for all its mounts that
/// are not read-only themselves. Already writable is fine.
pub fn make_writable(of: impl AsFd) -> Result<(), MountError> {
    let of = of.as_fd();
    let failed = |e| tree_error("make writable", "the file system of a mount", e);
    let stat = rustix::fs::fstatvfs(of).map_err(failed)?;
    if !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = rustix::mount::fspick(of, c"", flags).map_err(failed)?;
    rustix::mount::fsconfig_set_flag(&context, c"rw").map_err(failed)?;
    rustix::mount::fsconfig_reconfigure(&context).map_err(failed)
}

/// The path that leads to what a descriptor names, for options that take
/// nothing but text.
fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
