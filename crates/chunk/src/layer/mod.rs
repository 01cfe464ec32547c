//! The bytes of a layer: a tar archive that depends on nothing but what is in it.
//!
//! The archive is POSIX.1-2001 (PAX). Entries are in the order of their paths'
//! bytes, so a directory comes before what is in it; the directories above each
//! entry are in every layer, with the same metadata everywhere. Records that
//! ustar can hold are not repeated.

mod contents;
mod cutter;
mod frames;
mod pool;
mod sparse;
mod tar;
mod write;

pub(crate) use self::frames::{Helpers, Job, memory};
pub(crate) use self::write::write;
pub use self::write::{Compression, LayerError, Written};
