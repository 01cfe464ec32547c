//! What the merge of /etc at the first boot of a new system will do, found out
//! before it is staged.

use std::io;

use hull_boot::etc_merge::{self, EtcTree, PlanError, Policy, ScanError};
use hull_erofs::{ObjectId, Tree, image};
use hull_store::StoreError;

use crate::machine::{Machine, MachineError};
use crate::seal::Sealed;

/// The largest image that is read, in bytes.
const MAX_IMAGE: u64 = 1 << 30;

/// The merge cannot be foreseen.
#[derive(Debug, thiserror::Error)]
pub enum EtcPreviewError {
    /// The running system's image.
    #[error(transparent)]
    Image(#[from] ReadImageError),
    /// The running system's /etc.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Comparing.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The machine's disks.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// An image of the store that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its bytes are no image.
    #[error("image {image} is damaged ({source}): `hull fsck --repair` pulls it again")]
    Damaged {
        /// The image.
        image: ObjectId,
        /// What is wrong with it.
        #[source]
        source: image::ReadError,
    },
}

/// The tree of an image in the store.
pub fn read_image(machine: &Machine, digest: &ObjectId) -> Result<Tree, ReadImageError> {
    let bytes = machine.store.read_object(digest, MAX_IMAGE)?;
    image::read(&bytes).map_err(|source| ReadImageError::Damaged {
        image: *digest,
        source,
    })
}

/// The conflicts that the running system's /etc has with the new image's, as
/// sentences. None on a machine that is not running.
pub fn conflicts(machine: &Machine, new: &Sealed) -> Result<Vec<String>, EtcPreviewError> {
    let Some(booted) = machine.booted else {
        return Ok(Vec::new());
    };
    let directory = machine.deployment_dir(&booted)?;
    // Transient /etc: nothing is carried over, so nothing can conflict.
    let Ok(mine) = hull_sys::dir::open_dir_beneath(&directory, "etc") else {
        return Ok(Vec::new());
    };
    let old_tree = read_image(machine, &booted.digest)?;
    let open = |id: &ObjectId| machine.store.open_object(id).map_err(io::Error::other);
    let base = EtcTree::from_image(&old_tree, open);
    let theirs = EtcTree::from_image(&new.tree, open);
    let mine = EtcTree::scan(mine)?;
    let plan = etc_merge::plan(Some(&base), &mine, &theirs, Policy::default())?;
    let conflicts = plan.conflicts.iter().map(ToString::to_string);
    let clashes = plan.clashes.iter().map(ToString::to_string);
    Ok(conflicts.chain(clashes).collect())
}
