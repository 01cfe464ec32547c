//! Whole disks, made from small systems and checked with the programs that
//! others wrote: sgdisk, sfdisk, dosfstools, mtools, e2fsprogs, xfsprogs and
//! btrfs-progs. Needs those programs, and root.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and writes files as anybody does"
)]

mod bad_input;
mod check;
mod contents;
mod device;
mod esp;
mod image;
mod system;
