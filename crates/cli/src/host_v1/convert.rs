//! From what a machine has to the document about it. Pure.

use hull_boot::cmdline::BootRequest;
use hull_boot::esp::InstalledEntry;
use hull_boot::record::DeploymentName;
use hull_deploy::state::{Deployment, Downloaded, HostState};
use hull_oci::Reference;

use crate::timestamp;

use super::{
    BootEntry, BootOrder, Composefs, Host, HullEntry, HullStatus, ImageReference, ImageStatus,
    Metadata, Spec, Status,
};

/// What a document is made from.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    /// Deployments and boot entries.
    pub(crate) state: HostState,
    /// What the merge of /etc had to decide at this boot: sentences.
    pub(crate) etc_conflicts: Vec<String>,
    /// Whether the running system was booted with fs-verity required, where it says so.
    pub(crate) booted_verity: Option<bool>,
    /// The physical root can't be written.
    pub(crate) read_only: bool,
}

/// Describes a machine.
pub(crate) fn host(seen: &Observation) -> Host {
    let status = status(seen);
    let followed = [&status.staged, &status.booted].into_iter().flatten();
    let image = followed.filter_map(|entry| entry.image.as_ref()).next();
    let boot_order = if status.rollback_queued {
        BootOrder::Rollback
    } else {
        BootOrder::Default
    };
    Host {
        api_version: "org.containers.bootc/v1",
        kind: "BootcHost",
        metadata: Metadata { name: "host" },
        spec: Spec {
            image: image.map(|image| image.image.clone()),
            boot_order,
        },
        status,
    }
}

fn status(seen: &Observation) -> Status {
    let state = &seen.state;
    let roles = state.roles();
    let entry = |name: &Option<DeploymentName>| {
        let deployment = name.as_ref().and_then(|name| state.deployment(name));
        deployment.map(|deployment| boot_entry(seen, deployment))
    };
    let named = [&roles.booted, &roles.staged, &roles.rollback];
    let others = state
        .deployments
        .iter()
        .filter(|found| !named.contains(&&Some(found.name)));
    Status {
        staged: entry(&roles.staged).or_else(|| waiting(state)),
        booted: entry(&roles.booted),
        rollback: entry(&roles.rollback),
        other_deployments: others.map(|found| boot_entry(seen, found)).collect(),
        rollback_queued: roles.rollback_queued,
        host_type: roles.booted.map(|_| "bootcHost"),
        usr_overlay: None,
        read_only: seen.read_only,
        hull: HullStatus {
            next_boot: state.next().map(|name| name.to_string()),
            warnings: state.warnings.clone(),
            etc_conflicts: seen.etc_conflicts.clone(),
        },
    }
}

fn boot_entry(seen: &Observation, deployment: &Deployment) -> BootEntry {
    let state = &seen.state;
    let record = &deployment.record;
    let loader_entry = state.entries_of(&deployment.name).next();
    let at_next_boot = loader_entry.is_some_and(requires_verity);
    // An entry that was written since says nothing of the boot before it.
    let running = Some(deployment.name) == state.booted;
    let verity_required = seen
        .booted_verity
        .filter(|_| running)
        .unwrap_or(at_next_boot);
    BootEntry {
        image: Some(ImageStatus {
            image: ImageReference {
                signature: record.image.enforce_policy.then_some("containerPolicy"),
                ..image_reference(&record.image.reference)
            },
            version: record.image.version.clone(),
            timestamp: record.image.created.as_deref().and_then(timestamp::checked),
            image_digest: record.image.manifest_digest.clone(),
            architecture: record.image.architecture.clone(),
        }),
        composefs: Some(Composefs {
            verity: record.composefs.digest.to_string(),
            boot_type: "Bls",
            bootloader: "systemd",
            boot_digest: Some(record.boot_files.directory.clone()),
            missing_verity_allowed: !verity_required,
        }),
        pinned: deployment.pinned,
        hull: Some(HullEntry {
            deployment: deployment.name.to_string(),
            verity_enabled: record.composefs.verity,
            verity_at_next_boot: at_next_boot,
            boot_entry: loader_entry.map(|found| found.name.to_string()),
            tries_left: loader_entry
                .and_then(|found| found.name.counter)
                .map(|c| c.left),
            bad: state.is_bad(&deployment.name),
            kernel_arguments: record.kernel_arguments.clone(),
        }),
        ..empty_entry()
    }
}

fn requires_verity(entry: &InstalledEntry) -> bool {
    let request = BootRequest::parse(&entry.entry.options).ok().flatten();
    request
        .and_then(|request| request.images.first().copied())
        .is_some_and(|image| image.verity_required)
}

/// An image that was downloaded and not staged: bootc keeps such a one in the
/// place of the staged deployment, so that is where its readers look for it.
fn waiting(state: &HostState) -> Option<BootEntry> {
    let Downloaded {
        reference,
        manifest_digest,
        ..
    } = state.downloaded.as_ref()?;
    let booted = state
        .booted
        .as_ref()
        .and_then(|name| state.deployment(name));
    // An image for another architecture is refused before it is downloaded.
    let architecture = booted.map(|booted| booted.record.image.architecture.clone());
    Some(BootEntry {
        image: Some(ImageStatus {
            image: image_reference(reference),
            version: None,
            timestamp: None,
            image_digest: manifest_digest.clone(),
            architecture: architecture.unwrap_or_default(),
        }),
        download_only: true,
        ..empty_entry()
    })
}

fn empty_entry() -> BootEntry {
    BootEntry {
        image: None,
        cached_update: None,
        incompatible: false,
        pinned: false,
        soft_reboot_capable: false,
        download_only: false,
        store: None,
        ostree: None,
        composefs: None,
        hull: None,
    }
}

/// A reference as bootc writes it: the transport apart, and a digest instead
/// of a tag where there are both.
pub(super) fn image_reference(text: &str) -> ImageReference {
    let reference = Reference::parse(text);
    let (transport, image) = match &reference {
        Ok(Reference::Registry(registry)) => match registry.digest() {
            Some(digest) => ("registry", format!("{}@{digest}", registry.name())),
            None => ("registry", registry.to_string()),
        },
        Ok(other) => (other.transport(), other.image()),
        // A record of another version: better shown as it is than not at all.
        Err(_) => ("registry", text.to_owned()),
    };
    ImageReference {
        image,
        transport: transport.to_owned(),
        signature: None,
    }
}

/// A reference in one word, as people know it.
pub(crate) fn image_name(reference: &str) -> String {
    crate::render::status::reference(&image_reference(reference))
}
