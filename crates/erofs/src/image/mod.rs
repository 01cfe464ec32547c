//! The EROFS image that holds a tree: composefs format V1.
//!
//! Writing goes in three steps: `survey` checks that the tree can be written
//! and counts links, `plan` puts the inodes in order and gives each its place,
//! `encode` writes the bytes. Reading is `read` alone, for all of an image or for one
//! directory of it.
//!
//! The format is that of the kernel's `erofs_fs.h`. What composefs adds: a header
//! before the superblock, content that is somewhere else (the xattrs of overlayfs
//! say where), and 256 character devices in the root that hide the directories of
//! the object store, which overlayfs mounts below the image.

mod directory;
mod encode;
mod error;
mod format;
mod inode;
mod order;
mod plan;
mod read;
mod survey;
mod xattr;
mod xxh32;

pub use error::{ReadError, WriteError};
pub use read::{read, read_top_directory};

use crate::tree::{Metadata, Tree};

/// The image of a tree, byte for byte what `mkcomposefs --min-version=1` writes.
///
/// Leaves of the tree's table that no entry leads to are left out. Its memory is
/// that of the image and a description of each inode.
pub fn write(tree: &Tree) -> Result<Vec<u8>, WriteError> {
    let survey = survey::Survey::new(tree)?;
    let stub = stub_metadata(&tree.root.metadata);
    let plan = plan::Plan::new(tree, &survey, &stub)?;
    Ok(encode::encode(&plan))
}

/// Owner, time and label of the devices `00` to `ff`: those of the root.
fn stub_metadata(root: &Metadata) -> Metadata {
    let label = root.xattrs.get_key_value(&b"security.selinux"[..]);
    Metadata {
        mode: format::STUB_MODE,
        uid: root.uid,
        gid: root.gid,
        mtime: root.mtime,
        xattrs: label
            .map(|(name, value)| (name.clone(), value.clone()))
            .into_iter()
            .collect(),
    }
}
