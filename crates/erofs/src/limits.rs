//! What the kernel and the formats take at most, in bytes.

/// Content of a regular file in an image or a dump file: what composefs takes in.
/// hull itself stops at [`crate::tree::INLINE_MAX`].
pub(crate) const INLINE: usize = 512;
/// `PATH_MAX`, with the final NUL.
pub(crate) const PATH: usize = 4096;
/// Target of a symbolic link: a path without the NUL.
pub(crate) const SYMLINK: usize = PATH - 1;
/// `NAME_MAX`.
pub(crate) const NAME: usize = 255;
/// `XATTR_NAME_MAX`.
pub(crate) const XATTR_NAME: usize = 255;
/// Value of an extended attribute: its length has 16 bits in an image.
pub(crate) const XATTR_VALUE: usize = 65_535;
/// `tv_nsec`.
pub(crate) const NANOSECONDS: u32 = 999_999_999;
