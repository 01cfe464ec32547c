//! The two mounts that make up a composefs root: an EROFS image that is a
//! file, and an overlay that takes the files' contents from other directories.
//!
//! What the kernel can do is found out by trying: the version number says
//! nothing of what a distribution has switched off.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::context::Context;
use super::{Mount, MountError, proc_path};
use crate::loopdev;

/// How an image file came to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// As it is (Linux 6.12 and later).
    File,
    /// Through a loop device, which goes away with the mount.
    LoopDevice,
}

impl Backing {
    /// One word for messages and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::LoopDevice => "loop",
        }
    }
}

/// Mounts the EROFS image `image` read-only.
pub fn erofs(image: impl AsFd) -> Result<(Mount, Backing), MountError> {
    let image = image.as_fd();
    match mount_erofs(image) {
        Ok(mount) => Ok((mount, Backing::File)),
        // "Block device required": the kernel mounts no files.
        Err(error) if error.errno() == Some(Errno::NOTBLK) => {
            let device = loopdev::attach_read_only(image)?;
            // The mount holds the device; it detaches itself with the last user.
            Ok((mount_erofs(device.as_fd())?, Backing::LoopDevice))
        }
        Err(error) => Err(error),
    }
}

fn mount_erofs(source: BorrowedFd<'_>) -> Result<Mount, MountError> {
    let context = Context::open("erofs")?;
    context.set_flag("ro")?;
    context.set("source", &proc_path(source))?;
    context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Whether contents are checked against the digests in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verity {
    /// Contents are used as they are.
    Unchecked,
    /// A file whose content has no fs-verity digest, or another one than the
    /// image says, can't be opened (Linux 6.6).
    Required,
}

/// Where changes to an overlay go.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Changed and new files.
    pub changes: BorrowedFd<'a>,
    /// An empty directory on the same file system, for the kernel's use.
    pub work: BorrowedFd<'a>,
}

/// An overlay of directories, all on attached mounts.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// What `/proc/mounts` shows as the source.
    pub name: &'a str,
    /// The names and metadata: a directory of an EROFS image.
    pub lower: BorrowedFd<'a>,
    /// Where the files of `lower` find their contents.
    pub data: BorrowedFd<'a>,
    /// Where changes go; `None` makes the mount read-only.
    pub upper: Option<Upper<'a>>,
    /// Whether contents are checked.
    pub verity: Verity,
}

/// How an overlay's layers were named to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// `lowerdir+=` and `datadir+=` (Linux 6.8).
    OneByOne,
    /// `lowerdir=lower::data`.
    Joined,
}

impl Layers {
    /// The option's name, for messages and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneByOne => "datadir+",
            Self::Joined => "lowerdir",
        }
    }
}

/// Mounts an overlay.
pub fn overlay(overlay: &Overlay<'_>) -> Result<(Mount, Layers), MountError> {
    let context = overlay_context(overlay)?;
    match context.set("lowerdir+", &proc_path(overlay.lower)) {
        Ok(()) => {
            context.set("datadir+", &proc_path(overlay.data))?;
            Ok((finish(context, overlay)?, Layers::OneByOne))
        }
        // An option that this kernel does not have.
        Err(error) if error.errno() == Some(Errno::INVAL) => {
            let context = overlay_context(overlay)?;
            let layers = format!("{}::{}", proc_path(overlay.lower), proc_path(overlay.data));
            context.set("lowerdir", &layers)?;
            Ok((finish(context, overlay)?, Layers::Joined))
        }
        Err(error) => Err(error),
    }
}

fn overlay_context(overlay: &Overlay<'_>) -> Result<Context, MountError> {
    let context = Context::open("overlay")?;
    context.set("source", overlay.name)?;
    context.set("metacopy", "on")?;
    context.set("redirect_dir", "on")?;
    if overlay.verity == Verity::Required {
        context.set("verity", "require")?;
    }
    Ok(context)
}

fn finish(context: Context, overlay: &Overlay<'_>) -> Result<Mount, MountError> {
    match overlay.upper {
        Some(upper) => {
            context.set("upperdir", &proc_path(upper.changes))?;
            context.set("workdir", &proc_path(upper.work))?;
            context.mount(MountAttrFlags::empty())
        }
        None => context.mount(MountAttrFlags::MOUNT_ATTR_RDONLY),
    }
}
