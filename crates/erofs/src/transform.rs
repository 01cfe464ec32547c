//! From the tree that an image's layers merge to, to the tree that boots.
//!
//! The rules are those of composefs-oci and composefs-boot 0.9, so that a digest
//! which somebody else computed for the same image is the same here.

use crate::selinux;
use crate::tree::{Directory, Entry, Timestamp, Tree};

/// Extended attributes that an image may bring along. All others come from the
/// machine that it was built on.
const ALLOWED_XATTRS: [&[u8]; 1] = [b"security.capability"];

/// Directories whose content does not boot: kernels and loaders, which hold the
/// digest of the tree themselves, and what ostree leaves.
const EMPTIED_FOR_BOOT: [&str; 2] = ["/boot", "/sysroot"];

/// Why a tree can't be transformed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransformError {
    /// A directory that every bootable image has is not there.
    #[error("the image has no directory {path}: {hint}")]
    NoDirectory {
        /// The directory.
        path: &'static str,
        /// What it is needed for and what to do.
        hint: &'static str,
    },
    /// A name that must lead to a directory leads to something else.
    #[error("{path} is no directory in the image, as it must be")]
    NotADirectory {
        /// The name.
        path: &'static str,
    },
}

/// Makes a tree merged from layers the tree of the image: `/` has the metadata of
/// `/usr` (layers often say nothing of it), `/run` is empty, and extended
/// attributes other than capabilities are gone. Drops unreferenced leaves.
///
/// The tree is unchanged if this fails.
pub fn oci_root(tree: &mut Tree) -> Result<(), TransformError> {
    let usr = directory(tree, "/usr", USR_HINT)?.metadata.clone();
    if tree.root.entries.contains_key(&b"run"[..]) {
        empty(directory(tree, "/run", "")?, usr.mtime);
    }
    tree.root.metadata = usr;
    tree.for_each_metadata_mut(|metadata| {
        metadata
            .xattrs
            .retain(|name, _| ALLOWED_XATTRS.contains(&name));
    });
    tree.drop_unreferenced_leaves();
    Ok(())
}

/// Makes a tree that went through [`oci_root`] the tree that boots: `/boot` and
/// `/sysroot` are empty, and SELinux labels are gone: they are those of the machine
/// that the image was built on. [`selinux::label`] adds those of its own policy.
/// Drops unreferenced leaves.
///
/// The tree is unchanged if this fails.
pub fn prepare_for_boot(tree: &mut Tree) -> Result<(), TransformError> {
    let mtime = directory(tree, "/usr", USR_HINT)?.metadata.mtime;
    for path in EMPTIED_FOR_BOOT {
        directory(tree, path, MOUNT_POINT_HINT)?;
    }
    for path in EMPTIED_FOR_BOOT {
        empty(directory(tree, path, MOUNT_POINT_HINT)?, mtime);
    }
    tree.for_each_metadata_mut(|metadata| {
        metadata.xattrs.remove(selinux::ATTRIBUTE);
    });
    tree.drop_unreferenced_leaves();
    Ok(())
}

const USR_HINT: &str = "the root takes its owner, permissions and time from there";
const MOUNT_POINT_HINT: &str = "a booted system mounts something there; create it in the image";

fn directory<'a>(
    tree: &'a mut Tree,
    path: &'static str,
    hint: &'static str,
) -> Result<&'a mut Directory, TransformError> {
    if matches!(tree.lookup(path.as_bytes()), Some(Entry::Leaf(..))) {
        return Err(TransformError::NotADirectory { path });
    }
    tree.directory_mut(path.as_bytes())
        .ok_or(TransformError::NoDirectory { path, hint })
}

fn empty(directory: &mut Directory, mtime: Timestamp) {
    directory.entries.clear();
    directory.metadata.mtime = mtime;
}
