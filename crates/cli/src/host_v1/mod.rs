//! The status of a machine in the schema `org.containers.bootc/v1`.
//!
//! Field names, and which of them are null and which are absent, are as in
//! bootc's `host-v1.schema.json`, so that what reads bootc's status reads
//! hull's. What the schema has no place for is under the key `hull`.

mod convert;

pub(crate) use convert::{Observation, host, image_name};

use serde::Serialize;

/// The document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Host {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) metadata: Metadata,
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

/// There is one object only, and this is its name.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Metadata {
    pub(crate) name: &'static str,
}

/// What the machine is to run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    /// What upgrades follow.
    pub(crate) image: Option<ImageReference>,
    pub(crate) boot_order: BootOrder,
}

/// What the next boot starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BootOrder {
    /// The staged deployment, else the booted one.
    Default,
    /// The rollback deployment.
    Rollback,
}

/// What the machine has.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) staged: Option<BootEntry>,
    pub(crate) booted: Option<BootEntry>,
    pub(crate) rollback: Option<BootEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) other_deployments: Vec<BootEntry>,
    pub(crate) rollback_queued: bool,
    /// `bootcHost`, or null where the running system is not a deployment.
    #[serde(rename = "type")]
    pub(crate) host_type: Option<&'static str>,
    /// An overlay on /usr; hull makes none.
    pub(crate) usr_overlay: Option<()>,
    /// The disks can't be written.
    pub(crate) read_only: bool,
    /// hull's own.
    pub(crate) hull: HullStatus,
}

/// A deployment, or (with `downloadOnly`) an image that waits to become one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BootEntry {
    pub(crate) image: Option<ImageStatus>,
    pub(crate) cached_update: Option<ImageStatus>,
    pub(crate) incompatible: bool,
    pub(crate) pinned: bool,
    pub(crate) soft_reboot_capable: bool,
    pub(crate) download_only: bool,
    /// bootc's container storage; hull's is none of those it names.
    pub(crate) store: Option<()>,
    pub(crate) ostree: Option<()>,
    pub(crate) composefs: Option<Composefs>,
    /// hull's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hull: Option<HullEntry>,
}

/// A container image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageStatus {
    pub(crate) image: ImageReference,
    pub(crate) version: Option<String>,
    /// RFC 3339; null where the image's own is not.
    pub(crate) timestamp: Option<String>,
    pub(crate) image_digest: String,
    pub(crate) architecture: String,
}

/// The name of a container image, and how it is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ImageReference {
    pub(crate) image: String,
    /// `registry`, `oci`, `oci-archive`.
    pub(crate) transport: String,
    /// `containerPolicy` where upgrades must obey a signature policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<&'static str>,
}

/// How a deployment is booted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Composefs {
    /// The digest of the composefs image.
    pub(crate) verity: String,
    pub(crate) boot_type: &'static str,
    pub(crate) bootloader: &'static str,
    /// SHA-256 over kernel and initrd: the name of their directory on the ESP.
    pub(crate) boot_digest: Option<String>,
    pub(crate) missing_verity_allowed: bool,
}

/// What hull knows of a machine beyond the schema.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HullStatus {
    /// The deployment that the next boot starts.
    pub(crate) next_boot: Option<String>,
    /// Sentences for people.
    pub(crate) warnings: Vec<String>,
    /// What the merge of /etc had to decide when the running system first booted.
    pub(crate) etc_conflicts: Vec<String>,
}

/// What hull knows of a deployment beyond the schema.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HullEntry {
    /// The name of its directory.
    pub(crate) deployment: String,
    /// Whether all of its files have fs-verity enabled.
    pub(crate) verity_enabled: bool,
    /// Whether its boot entry makes the kernel refuse files without it; of the running
    /// system, `missingVerityAllowed` tells what the boot before did.
    pub(crate) verity_at_next_boot: bool,
    /// The file name of its boot entry.
    pub(crate) boot_entry: Option<String>,
    /// Tries that the boot loader has left; null for an entry known to be good.
    pub(crate) tries_left: Option<u8>,
    /// The boot loader has given it up.
    pub(crate) bad: bool,
    /// The kernel arguments that are not hull's own.
    pub(crate) kernel_arguments: Vec<String>,
}

impl Status {
    /// Leaves the booted deployment only (`--booted`).
    pub(crate) fn only_booted(&mut self) {
        self.staged = None;
        self.rollback = None;
        self.other_deployments.clear();
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
