//! Extended attributes of names that are not opened.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use hull_erofs::tree::Xattrs;
use rustix::io::Errno;

/// The most bytes that the names of one file's attributes, or one value, can have in Linux.
const MAX: usize = 65536;

/// The path of a name in an open directory; its last component is not followed.
///
/// There is no `listxattrat` in the kernels that hull runs on, and symbolic
/// links and devices cannot be opened.
pub(super) fn of_name(dir: BorrowedFd<'_>, name: &CStr) -> CString {
    let directory = format!("/proc/self/fd/{}/", dir.as_raw_fd());
    let path = [directory.as_bytes(), name.to_bytes()].concat();
    CString::new(path).unwrap_or_default()
}

/// The path of an open directory itself.
pub(super) fn of_directory(dir: BorrowedFd<'_>) -> CString {
    of_name(dir, c".")
}

/// The attributes of the file at `path`, without those that belong to an overlay mount.
pub(super) fn read(path: &CStr) -> io::Result<Xattrs> {
    let mut xattrs = Xattrs::new();
    match rustix::fs::llistxattr_query(path) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(xattrs),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut names = vec![0; MAX];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    names.truncate(length);
    let mut value = vec![0; MAX];
    for name in names.split(|&byte| byte == 0) {
        if name.is_empty() || is_of_a_mount(name) {
            continue;
        }
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        xattrs.insert(name.into(), value[..length].into());
    }
    Ok(xattrs)
}

/// Attributes by which an overlay keeps its books: they mean nothing elsewhere.
fn is_of_a_mount(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}
