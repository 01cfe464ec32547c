//! What `upgrade` and `switch` found, would do, and did, for people.

use hull_boot::record::DeploymentName;
use hull_deploy::foresee::{Preview, Then};
use hull_deploy::retention::Retention;
use hull_deploy::update::{Outcome, Staged};

use super::{Style, quantity, text};

/// A number of layers and their compressed bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Layers {
    /// How many.
    pub(crate) count: u64,
    /// Their size in bytes, as they are downloaded.
    pub(crate) bytes: u64,
}

/// What a reference leads to at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The reference, with its transport.
    pub(crate) reference: String,
    /// The digest of the manifest.
    pub(crate) manifest_digest: String,
    /// The label `org.opencontainers.image.version`.
    pub(crate) version: Option<String>,
    /// When the image was made.
    pub(crate) created: Option<String>,
    /// All layers of the image.
    pub(crate) all: Layers,
    /// Those that are not here.
    pub(crate) missing: Layers,
    /// The deployment that has it already.
    pub(crate) deployment: Option<DeploymentName>,
    /// The boot loader has given that deployment up.
    pub(crate) known_bad: bool,
}

impl Offer {
    /// Whether an upgrade would change what boots.
    pub(crate) fn is_new(&self) -> bool {
        self.deployment.is_none()
    }
}

/// Registries are the rule, so that transport is not said.
fn shown(reference: &str) -> String {
    text::line(reference.strip_prefix("docker://").unwrap_or(reference))
}

/// `upgrade --check`.
pub(crate) fn offer(offer: &Offer, style: Style) -> String {
    let reference = shown(&offer.reference);
    if offer.known_bad {
        return format!(
            "{} The newest image of {reference} did not come up here before.\n{}",
            style.warning("No update."),
            digest_line(&offer.manifest_digest)
        );
    }
    if !offer.is_new() {
        let digest = digest_line(&offer.manifest_digest);
        return format!("No update: {reference} is what this machine has.\n{digest}");
    }
    let headline = style.strong(&format!("Update available for: {reference}"));
    let mut out = format!("{headline}\n");
    if let Some(version) = &offer.version {
        let created = offer.created.as_deref().map(super::status::whole_seconds);
        let created = created.map(|time| format!(" ({time})")).unwrap_or_default();
        out.push_str(&row(
            "Version",
            &format!("{}{created}", text::line(version)),
        ));
    }
    out.push_str(&digest_line(&offer.manifest_digest));
    out.push_str(&layers_line(offer));
    out
}

fn row(label: &str, value: &str) -> String {
    format!("{label:>10}: {value}\n")
}

fn digest_line(digest: &str) -> String {
    row("Digest", &text::line(digest))
}

fn layers_line(offer: &Offer) -> String {
    let here = offer.all.count.saturating_sub(offer.missing.count);
    let missing = quantity::bytes(offer.missing.bytes);
    let all = quantity::bytes(offer.all.bytes);
    let layers = quantity::count(offer.all.count, "layer", "layers");
    row(
        "Download",
        &format!("{missing} of {all} ({here} of {layers} are here)"),
    )
}

/// `--dry-run`: what the offer would lead to.
pub(crate) fn dry_run(found: &Offer, then: &Then, style: Style) -> String {
    let mut out = offer(found, style);
    if matches!(then, Then::Nothing) {
        out.push_str("Nothing would be done.\n");
        return out;
    }
    let mut steps = Vec::new();
    if found.missing.count > 0 {
        steps.push(format!(
            "download {} ({}), and check every byte of it",
            quantity::count(found.missing.count, "layer", "layers"),
            quantity::bytes(found.missing.bytes)
        ));
    }
    let mut notes = Vec::new();
    match then {
        Then::Nothing => {}
        Then::Keep => steps.push("keep it until `hull upgrade --from-downloaded`".to_owned()),
        Then::Stage {
            order,
            generation,
            removed,
        } => {
            steps.push(format!(
                "seal the image, and make generation {generation} of this machine's deployments"
            ));
            steps.push(format!(
                "write boot entry hull-{order}: the next boot starts it"
            ));
            steps.extend(retention_steps(removed));
        }
        Then::StageThis(preview) => {
            steps.extend(preview_steps(preview));
            notes.extend(preview.notes.iter().chain(&preview.conflicts));
        }
        Then::Relabel(name) => steps.push(format!(
            "note the labels of the image in deployment {}: the system is the same",
            text::shorten(&name.to_string())
        )),
    }
    out.push_str("Would do:\n");
    for step in steps {
        out.push_str(&format!("  {}\n", text::line(&step)));
    }
    for note in notes {
        out.push_str(&format!(
            "{} {}\n",
            style.warning("note:"),
            text::line(note)
        ));
    }
    if matches!(then, Then::Stage { .. }) {
        out.push_str("The rest follows from the image: `hull upgrade --download-only` brings it, then --dry-run knows all.\n");
    }
    out
}

fn preview_steps(preview: &Preview) -> Vec<String> {
    let plan = &preview.plan;
    let mut steps: Vec<_> = preview
        .room
        .entries
        .iter()
        .map(|entry| {
            format!("remove boot entry {entry}, for the boot files to fit the EFI system partition")
        })
        .collect();
    let name = text::shorten(&plan.name.to_string());
    steps.push(format!("write deployment {name} to /state/deploy"));
    let directory = text::shorten(&format!("/EFI/hull/{}", plan.record.boot_files.directory));
    if preview.boot_files.is_empty() {
        steps.push(format!(
            "use the boot files that are in {directory} already"
        ));
    }
    for file in &preview.boot_files {
        steps.push(format!(
            "write {directory}/{} ({})",
            file.name,
            quantity::bytes(file.size)
        ));
    }
    let tried = match plan.entry.counter {
        Some(counter) => format!("tries it {} times", counter.left),
        None => "starts it".to_owned(),
    };
    steps.push(format!(
        "write boot entry {} ({}): the next boot {tried}",
        plan.entry, plan.title
    ));
    steps.extend(retention_steps(&preview.removed));
    steps
}

fn retention_steps(removed: &Retention) -> Vec<String> {
    removed.to_string().lines().map(text::shorten).collect()
}

/// What was done.
pub(crate) fn outcome(outcome: &Outcome, style: Style) -> String {
    match outcome {
        Outcome::UpToDate {
            manifest_digest, ..
        } => format!(
            "No changes: this machine has the newest image.\n{}",
            digest_line(manifest_digest)
        ),
        Outcome::Relabelled {
            manifest_digest, ..
        } => format!(
            "No changes to the system: only the labels of its image are new. They are noted.\n{}",
            digest_line(manifest_digest)
        ),
        Outcome::KnownBad {
            deployment,
            manifest_digest,
        } => format!(
            "{} The newest image did not come up here before, so it is not tried again;\n\
             `hull switch` to it does that.\n{}{}",
            style.warning("No changes."),
            digest_line(manifest_digest),
            row("Deployment", &text::shorten(&deployment.to_string())),
        ),
        Outcome::Downloaded(image) => format!(
            "Downloaded {}.\n{}It waits for `hull upgrade --from-downloaded`.\n",
            style.strong(&shown(&image.reference)),
            digest_line(&image.manifest_digest)
        ),
        Outcome::Staged(staged) => staged_text(staged, style),
    }
}

fn staged_text(staged: &Staged, style: Style) -> String {
    let image = &staged.plan.record.image;
    let mut out = format!("Staged {}", style.strong(&shown(&image.reference)));
    if let Some(version) = &image.version {
        out.push_str(&format!(", version {}", text::line(version)));
    }
    out.push_str(&format!(
        ": the next boot starts it.\n{}",
        digest_line(&image.manifest_digest)
    ));
    out.push_str(&row(
        "Deployment",
        &text::shorten(&staged.plan.name.to_string()),
    ));
    out.push_str(&row(
        "Downloaded",
        &quantity::bytes(staged.downloaded_bytes),
    ));
    out.push_str(&removed(&staged.removed));
    for note in staged.notes.iter().chain(&staged.conflicts) {
        out.push_str(&format!(
            "{} {}\n",
            style.warning("note:"),
            text::line(note)
        ));
    }
    out
}

fn removed(removed: &Retention) -> String {
    let names = removed.deployments.iter();
    names
        .map(|name| format!("Removed deployment {}.\n", text::shorten(&name.to_string())))
        .collect()
}
