//! The `/etc` of a deployment, made at its first boot.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_erofs::fsverity::ObjectId;
use hull_erofs::tree::Tree;
use hull_sys::dir;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::report::{EtcReport, Stopwatch};
use super::store::{BootImage, Store, read_etc};
use super::{DEPLOYMENTS, SetupError};
use crate::etc_merge::{self, EtcTree, Policy};
use crate::record::{self, DeploymentName};

/// Files that an installer adds to the image's `/etc`, beside the record.
const INSTALLED: &str = "etc.install";

/// Makes the deployment's `etc` unless it is there.
///
/// Nothing of the record is needed once it is, so that a deployment that was
/// booted before boots whatever became of the one that it came from.
pub(super) fn ensure(
    store: &Store,
    physical: BorrowedFd<'_>,
    deployment: BorrowedFd<'_>,
    image: &BootImage,
    watch: &mut Stopwatch,
) -> Result<EtcReport, SetupError> {
    match rustix::fs::statat(deployment, "etc", AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => return Ok(EtcReport::default()),
        Err(Errno::NOENT) => {}
        Err(e) => {
            return Err(SetupError::Stage {
                path: "etc of the deployment".to_owned(),
                source: e.into(),
            });
        }
    }
    let record = record::read(deployment)?;
    let tree = read_etc(image.id, &image.file)?;
    let (base, mine) = match record.previous {
        Some(previous) => previous_versions(store, physical, previous, (image.id, tree.as_ref()))?,
        None => (None, installed(deployment)?),
    };
    let theirs = EtcTree::from_image_etc(tree.as_ref(), |id| store.open_object(id));
    drop(tree);
    watch.step("versions of etc");
    let plan = etc_merge::plan(base.as_ref(), &mine, &theirs, Policy::default())?;
    watch.step("merge");
    etc_merge::execute(&plan, &mine, &theirs, deployment)?;
    watch.step("write etc");
    Ok(EtcReport {
        merged: true,
        from: record.previous,
        counts: plan.counts,
        conflicts: plan.conflicts,
        clashes: plan.clashes,
    })
}

/// The old image's `/etc`, and what the machine made of it.
fn previous_versions<'s>(
    store: &'s Store,
    physical: BorrowedFd<'_>,
    previous: DeploymentName,
    booted: (ObjectId, Option<&Tree>),
) -> Result<(Option<EtcTree<'s>>, EtcTree<'s>), SetupError> {
    let gone = |what| {
        move |source| SetupError::NoPrevious {
            previous,
            what,
            source,
        }
    };
    let deployment = dir::open_dir_beneath(physical, format!("{DEPLOYMENTS}/{previous}"))
        .map_err(gone("its directory in /state/deploy"))?;
    let Some(mine) = open_if_there(deployment.as_fd(), "etc").map_err(gone("its /etc"))? else {
        // It never had one of its own: its image has a transient or read-only
        // /etc. So nothing was changed.
        return Ok((None, EtcTree::empty()));
    };
    let open = |id: &ObjectId| store.open_object(id);
    // Other kernel arguments, and the same image.
    let base = if previous.digest == booted.0 {
        EtcTree::from_image_etc(booted.1, open)
    } else {
        let file = store
            .open_image(&previous.digest)
            .map_err(gone("its image in the store"))?;
        EtcTree::from_image_etc(read_etc(previous.digest, &file)?.as_ref(), open)
    };
    Ok((Some(base), EtcTree::scan(mine)?))
}

fn installed(deployment: BorrowedFd<'_>) -> Result<EtcTree<'static>, SetupError> {
    let failed = |source| SetupError::Stage {
        path: format!("{INSTALLED} of the deployment"),
        source,
    };
    match open_if_there(deployment, INSTALLED).map_err(failed)? {
        Some(directory) => Ok(EtcTree::scan(directory)?),
        None => Ok(EtcTree::empty()),
    }
}

fn open_if_there(parent: BorrowedFd<'_>, name: &str) -> io::Result<Option<OwnedFd>> {
    match dir::open_dir_beneath(parent, name) {
        Ok(directory) => Ok(Some(directory)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
