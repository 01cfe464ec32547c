//! File systems on block devices.

use rustix::mount::MountAttrFlags;

use super::context::Context;
use super::{Mount, MountError};

/// Mounts the FAT file system on the block device at `path`, writable, for its
/// owner root only, and without following symbolic links or running programs.
///
/// A device that is mounted elsewhere too is one file system with two mounts.
pub fn fat(path: &str) -> Result<Mount, MountError> {
    let context = Context::open("vfat")?;
    context.set("source", path)?;
    context.set("umask", "0077")?;
    context.set("shortname", "mixed")?;
    context.mount(
        MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}
