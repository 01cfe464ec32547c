//! `fsck --repair`: pulling again what is missing or damaged.

use std::collections::BTreeSet;

use hull_boot::record::Record;
use hull_deploy::machine::Machine;
use hull_deploy::seal;
use hull_oci::progress::Progress;
use hull_oci::{PullOptions, Reference};
use hull_store::fsck::{self, Report};

use crate::failure::Failure;

/// Pulls the image of each deployment that needs something damaged, by the
/// digest of its manifest, and seals it again. Objects that are well stay.
///
/// What no deployment needs is left to `gc`.
pub(crate) fn repair(
    machine: &Machine,
    report: &Report,
    pull: &PullOptions,
    progress: &dyn Progress,
) -> Result<usize, Failure> {
    let plan = fsck::repair_plan(report);
    if plan.meta {
        fsck::restore_meta(&machine.store)?;
    }
    let affected: BTreeSet<_> = plan
        .streams
        .values()
        .chain(plan.images.values())
        .flatten()
        .collect();
    let session = machine.store.repair_session()?;
    let mut repaired = 0;
    for deployment in machine.observe()?.deployments {
        // References of a deployment end in its name.
        let name = deployment.name.to_string();
        let Some(reference) = affected.iter().find(|reference| reference.ends_with(&name)) else {
            continue;
        };
        let options = PullOptions {
            ref_name: Some((*reference).clone()),
            ..pull.clone()
        };
        let exact = exact_reference(&deployment.record)?;
        let pulled = hull_oci::pull_in(&session, &exact, &options, progress)?;
        seal::seal(&session, &pulled.image)?;
        repaired += 1;
    }
    Ok(repaired)
}

/// Tags move; what was deployed has a digest.
fn exact_reference(record: &Record) -> Result<Reference, Failure> {
    let image = &record.image;
    let digest = image
        .manifest_digest
        .parse()
        .map_err(Failure::ManifestDigest)?;
    Ok(Reference::parse(&image.reference)?.with_digest(digest))
}
