//! A file system tree, its transforms, and the two forms it is written in: the
//! composefs dump file (text) and the EROFS image (bytes).
//!
//! Bytes in, bytes out: this crate reads no clock, starts no thread, and opens no file
//! but those without a name that a tree of many files goes to in place of memory. What it
//! writes depends on nothing but its arguments.

#![forbid(unsafe_code)]

pub mod dump;
pub mod fsverity;
pub mod image;
mod inodes;
mod limits;
mod links;
mod name;
mod names;
pub mod selinux;
pub mod transform;
pub mod tree;
mod xattrs;

pub use fsverity::ObjectId;
pub use links::HardLinks;
pub use tree::Tree;
