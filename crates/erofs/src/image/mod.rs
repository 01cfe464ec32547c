//! The EROFS image that holds a tree: composefs format V1.
//!
//! Writing goes in three steps: `survey` checks that the tree can be written
//! and counts links, `plan` puts the inodes in order and gives each its place,
//! `encode` makes the bytes, piece by piece. What a plan keeps of an inode is its place:
//! all else is looked up in the tree when it is wanted. Reading is `read` alone, for all
//! of an image or for one directory of it.
//!
//! The format is that of the kernel's `erofs_fs.h`. What composefs adds: a header
//! before the superblock, content that is somewhere else (the xattrs of overlayfs
//! say where), and 256 character devices in the root that hide the directories of
//! the object store, which overlayfs mounts below the image.

mod attributes;
mod directory;
mod encode;
mod error;
mod format;
mod inode;
mod order;
mod plan;
mod read;
mod sharing;
mod survey;
mod xattr;
mod xxh32;

use std::convert::Infallible;

pub use error::{ReadError, WriteError};
pub use read::{read, read_top_directory};

use crate::fsverity::{Hasher, ObjectId};
use crate::tree::Tree;

/// The image of a tree, byte for byte what `mkcomposefs --min-version=1` writes: planned,
/// and made as often as it is wanted.
///
/// Leaves of the tree's table that no entry leads to are left out. Beside the tree it
/// takes some MiB of memory, and some bytes for each inode; the rest of the plan is on disk.
#[derive(Debug)]
pub struct Image<'a> {
    plan: plan::Plan<'a>,
}

impl<'a> Image<'a> {
    /// Plans the image of a tree.
    pub fn new(tree: &'a Tree) -> Result<Self, WriteError> {
        let survey = survey::Survey::new(tree)?;
        let plan = plan::Plan::new(order::Order::new(tree, survey)?)?;
        Ok(Self { plan })
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.plan.end
    }

    /// Makes its bytes and hands them to `take`, in pieces of whole blocks of 4096 bytes.
    ///
    /// Fails when `take` does.
    pub fn make<E>(&self, take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        encode::encode(&self.plan, take)
    }

    /// Its fs-verity digest, which names the system that it holds.
    pub fn digest(&self) -> ObjectId {
        let mut hasher = Hasher::new();
        let Ok(()) = self.make(|bytes| {
            hasher.update(bytes);
            Ok::<_, Infallible>(())
        });
        hasher.finalize()
    }
}

/// The bytes of the [`Image`] of a tree, for one that is small enough for memory.
pub fn write(tree: &Tree) -> Result<Vec<u8>, WriteError> {
    let image = Image::new(tree)?;
    let mut bytes = Vec::with_capacity(usize::try_from(image.length()).unwrap_or_default());
    let Ok(()) = image.make(|piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, Infallible>(())
    });
    Ok(bytes)
}
