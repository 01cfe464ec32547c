//! Flags and propagation of a mount (`mount_setattr`, Linux 5.12).

#![allow(
    unsafe_code,
    reason = "rustix has no wrapper for mount_setattr, and mount(2) can't change \
              one flag and keep the others"
)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Where later mounts and unmounts below a mount are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nowhere else.
    Private,
    /// In all copies, and theirs here.
    Shared,
    /// Nowhere else, but those of the original are seen here.
    Downstream,
}

/// What to change of a mount; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether writing through this mount is refused.
    pub read_only: Option<bool>,
    /// Propagation of mounts below it.
    pub propagation: Option<Propagation>,
}

impl Change {
    /// Writing through the mount is refused.
    pub const READ_ONLY: Self = Self {
        read_only: Some(true),
        propagation: None,
    };
    /// Writing through the mount is left to the file system.
    pub const WRITABLE: Self = Self {
        read_only: Some(false),
        propagation: None,
    };
}

pub(super) fn change(mount: BorrowedFd<'_>, change: &Change) -> rustix::io::Result<()> {
    set_attributes(mount, 0, change)
}

pub(super) fn change_recursively(mount: BorrowedFd<'_>, change: &Change) -> rustix::io::Result<()> {
    set_attributes(mount, libc::AT_RECURSIVE, change)
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    flags: libc::c_int,
    change: &Change,
) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: match change.read_only {
            Some(true) => libc::MOUNT_ATTR_RDONLY,
            _ => 0,
        },
        attr_clr: match change.read_only {
            Some(false) => libc::MOUNT_ATTR_RDONLY,
            _ => 0,
        },
        propagation: match change.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Downstream) => libc::MS_SLAVE,
        },
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open for as long as it is borrowed, the path is
    // a C string, and the kernel reads as many bytes of the structure as the
    // last argument says; it keeps none of the pointers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
