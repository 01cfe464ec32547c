//! `hull status` for people: bootc's picture, with what comes next.

use super::{Style, text};
use crate::host_v1::{BootEntry, Composefs, Host, HullEntry, ImageReference, Status};

/// Where all colons stand.
const LABEL: usize = 16;

/// The whole status.
pub(crate) fn render(host: &Host, verbose: bool, style: Style) -> String {
    let status = &host.status;
    let mut out = String::new();
    if status.booted.is_none() {
        out.push_str("This system was not started from an image of hull's.\n");
    }
    let slots = [
        ("  Staged image", status.staged.as_ref()),
        ("● Booted image", status.booted.as_ref()),
        ("Rollback image", status.rollback.as_ref()),
    ];
    let others = status.other_deployments.iter();
    let slots = slots
        .into_iter()
        .filter_map(|(title, entry)| Some((title, entry?)))
        .chain(others.map(|entry| ("   Other image", entry)));
    for (title, entry) in slots {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&slot(title, entry, verbose, style));
    }
    let footer = footer(status, style);
    if !footer.is_empty() {
        out.push('\n');
    }
    out + &footer
}

fn row(label: &str, value: &str) -> String {
    format!("{label:>LABEL$}: {value}\n")
}

fn slot(title: &str, entry: &BootEntry, verbose: bool, style: Style) -> String {
    let mut out = String::new();
    let Some(image) = &entry.image else {
        return row(title, "unknown");
    };
    let title = if entry.download_only {
        "Downloaded"
    } else {
        title
    };
    let title = format!("{title:>LABEL$}");
    let name = text::line(&reference(&image.image));
    out.push_str(&format!(
        "{}: {}\n",
        style.strong(&title),
        style.strong(&name)
    ));
    let digest = text::line(&image.image_digest);
    let architecture = text::line(&image.architecture);
    out.push_str(&row("Digest", &format!("{digest} ({architecture})")));
    if let Some((label, value)) = version(image.version.as_deref(), image.timestamp.as_deref()) {
        out.push_str(&row(label, &value));
    }
    if let (Some(composefs), Some(hull)) = (&entry.composefs, &entry.hull) {
        out.push_str(&row("fs-verity", &verity(composefs, hull, style)));
        if let Some(trial) = trial(hull, style) {
            out.push_str(&row("Boot", &trial));
        }
    }
    if let Some(signature) = image.image.signature {
        out.push_str(&row("Signature", signature));
    }
    if entry.pinned {
        out.push_str(&row("Pinned", "yes"));
    }
    match &entry.hull {
        Some(hull) if verbose => out.push_str(&details(entry, hull)),
        Some(hull) => out.push_str(&row("Deployment", &text::shorten(&hull.deployment))),
        None => {}
    }
    out
}

/// Registries are the rule, so that transport is not said.
pub(crate) fn reference(image: &ImageReference) -> String {
    if image.transport == "registry" {
        image.image.clone()
    } else {
        format!("{}:{}", image.transport, image.image)
    }
}

fn version(version: Option<&str>, timestamp: Option<&str>) -> Option<(&'static str, String)> {
    let timestamp = timestamp.map(whole_seconds);
    match (version.map(text::line), timestamp) {
        (Some(version), Some(time)) => Some(("Version", format!("{version} ({time})"))),
        (Some(version), None) => Some(("Version", version)),
        (None, Some(time)) => Some(("Timestamp", time)),
        (None, None) => None,
    }
}

/// A time as RFC 3339 without fractions of seconds.
pub(crate) fn whole_seconds(time: &str) -> String {
    let Some((whole, rest)) = time.split_once('.') else {
        return text::line(time);
    };
    text::line(&format!(
        "{whole}{}",
        rest.trim_start_matches(|c: char| c.is_ascii_digit())
    ))
}

fn verity(composefs: &Composefs, hull: &HullEntry, style: Style) -> String {
    if !composefs.missing_verity_allowed {
        style.good("enforced")
    } else if hull.verity_at_next_boot {
        style.warning("not enforced yet: the next boot enforces it")
    } else if hull.verity_enabled {
        style.warning("enabled, not enforced")
    } else {
        style.warning("not enforced")
    }
}

/// What the boot loader thinks of a deployment that is not known to be good.
fn trial(hull: &HullEntry, style: Style) -> Option<String> {
    if hull.bad {
        return Some(style.bad("bad: it did not come up, the boot loader passes it over"));
    }
    let left = match hull.tries_left {
        Some(left) => left,
        None if hull.boot_entry.is_none() => {
            return Some("no boot entry: it cannot be started".to_owned());
        }
        None => return None,
    };
    let tries = if left == 1 { "try" } else { "tries" };
    Some(format!("on trial, {left} {tries} left"))
}

fn details(entry: &BootEntry, hull: &HullEntry) -> String {
    let mut out = row("Deployment", &hull.deployment);
    if let Some(composefs) = &entry.composefs {
        out.push_str(&row("Image", &composefs.verity));
        if let Some(directory) = &composefs.boot_digest {
            out.push_str(&row(
                "Boot files",
                &text::line(&format!("/EFI/hull/{directory}")),
            ));
        }
    }
    if let Some(name) = &hull.boot_entry {
        out.push_str(&row("Boot entry", name));
    }
    if !hull.kernel_arguments.is_empty() {
        let arguments = hull.kernel_arguments.join(" ");
        out.push_str(&row("Kernel args", &text::line(&arguments)));
    }
    out
}

fn footer(status: &Status, style: Style) -> String {
    let mut out = String::new();
    if status.booted.is_some() || status.hull.next_boot.is_some() {
        out.push_str(&format!(
            "Next boot: {}\n",
            style.strong(&next_boot(status))
        ));
    }
    if status
        .staged
        .as_ref()
        .is_some_and(|staged| staged.download_only)
    {
        out.push_str("`hull upgrade --from-downloaded` starts the downloaded image instead.\n");
    }
    for warning in status
        .hull
        .warnings
        .iter()
        .chain(&status.hull.etc_conflicts)
    {
        let warning = text::line(&text::shorten(warning));
        out.push_str(&format!("{} {warning}\n", style.warning("warning:")));
    }
    if status.read_only {
        out.push_str("The disk of this system is read-only: it cannot be upgraded.\n");
    }
    out
}

fn next_boot(status: &Status) -> String {
    let Some(next) = &status.hull.next_boot else {
        return "unknown, hull has no boot entry here".to_owned();
    };
    let is_next = |entry: &&BootEntry| {
        entry
            .hull
            .as_ref()
            .is_some_and(|hull| hull.deployment == *next)
    };
    let slots = [
        ("the staged image", &status.staged),
        ("the booted image", &status.booted),
        ("the rollback image", &status.rollback),
    ];
    for (name, entry) in slots {
        if let Some(entry) = entry.as_ref().filter(is_next) {
            return format!("{name}{}", version_of(entry));
        }
    }
    match status.other_deployments.iter().find(is_next) {
        Some(entry) => format!("deployment {}{}", text::shorten(next), version_of(entry)),
        None => format!("deployment {}, which is missing", text::shorten(next)),
    }
}

fn version_of(entry: &BootEntry) -> String {
    let version = entry
        .image
        .as_ref()
        .and_then(|image| image.version.as_deref());
    let version = version.map(|version| format!(", version {}", text::line(version)));
    version.unwrap_or_default()
}
