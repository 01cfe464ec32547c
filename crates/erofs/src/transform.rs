//! From the tree that an image's layers merge to, to the tree that boots.
//!
//! The rules are those of composefs-oci and composefs-boot 0.9, so that a digest
//! which somebody else computed for the same image is the same here.

use crate::selinux;
use crate::tree::{DirectoryId, Entry, Timestamp, Tree};

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
/// attributes other than capabilities are gone. Leaves the tree compact.
///
/// The tree is unchanged if this fails.
pub fn oci_root(tree: &mut Tree) -> Result<(), TransformError> {
    let usr = directory(tree, "/usr", USR_HINT)?;
    let usr = tree.directory_at(usr).metadata();
    if tree.root().get(b"run").is_some() {
        let run = directory(tree, "/run", "")?;
        empty(tree, run, usr.mtime);
    }
    tree.set_directory_metadata(DirectoryId::ROOT, usr);
    tree.for_each_metadata_mut(|metadata| {
        metadata
            .xattrs
            .retain(|name, _| ALLOWED_XATTRS.contains(&name));
    });
    tree.compact();
    Ok(())
}

/// Makes a tree that went through [`oci_root`] the tree that boots: `/boot` and
/// `/sysroot` are empty, and SELinux labels are gone: they are those of the machine
/// that the image was built on. [`selinux::label`] adds those of its own policy.
/// Leaves the tree compact.
///
/// The tree is unchanged if this fails.
pub fn prepare_for_boot(tree: &mut Tree) -> Result<(), TransformError> {
    let usr = directory(tree, "/usr", USR_HINT)?;
    let mtime = tree.directory_at(usr).metadata().mtime;
    let emptied: Vec<DirectoryId> = EMPTIED_FOR_BOOT
        .iter()
        .map(|path| directory(tree, path, MOUNT_POINT_HINT))
        .collect::<Result<_, _>>()?;
    for directory in emptied {
        empty(tree, directory, mtime);
    }
    tree.for_each_metadata_mut(|metadata| {
        metadata.xattrs.remove(selinux::ATTRIBUTE);
    });
    tree.compact();
    Ok(())
}

const USR_HINT: &str = "the root takes its owner, permissions and time from there";
const MOUNT_POINT_HINT: &str = "a booted system mounts something there; create it in the image";

fn directory(
    tree: &Tree,
    path: &'static str,
    hint: &'static str,
) -> Result<DirectoryId, TransformError> {
    match tree.lookup(path.as_bytes()) {
        Some(Entry::Directory(directory)) => Ok(directory.id()),
        Some(Entry::Leaf(..)) => Err(TransformError::NotADirectory { path }),
        None => Err(TransformError::NoDirectory { path, hint }),
    }
}

fn empty(tree: &mut Tree, directory: DirectoryId, mtime: Timestamp) {
    tree.clear(directory);
    tree.change_directory_metadata(directory, |metadata| metadata.mtime = mtime);
}
