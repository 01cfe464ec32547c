//! `hull gc` for people.

use hull_deploy::cleanup::Cleanup;

use super::{Style, quantity, text};

/// Whether it was done or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tense {
    /// `--dry-run`.
    Future,
    /// It is done.
    Past,
}

/// What goes, by kind, and what it frees.
pub(crate) fn render(cleanup: &Cleanup, tense: Tense, verbose: bool, style: Style) -> String {
    let (retention, store) = (&cleanup.retention, &cleanup.store);
    let mut lines = Vec::new();
    for deployment in &retention.deployments {
        lines.push(format!("deployment {deployment}"));
    }
    for entry in &retention.entries {
        lines.push(format!("boot entry {entry}"));
    }
    for directory in &retention.boot_directories {
        lines.push(format!("boot files /EFI/hull/{}", text::line(directory)));
    }
    if verbose {
        lines.extend(store.images.iter().map(|image| format!("image {image}")));
        lines.extend(
            store
                .streams
                .iter()
                .map(|stream| format!("stream {stream}")),
        );
        let objects = store.objects.iter();
        lines.extend(
            objects
                .map(|found| format!("object {} ({})", found.object, quantity::bytes(found.size))),
        );
        lines.extend(
            store
                .leftovers
                .iter()
                .map(|path| format!("leftover {path}")),
        );
    } else if !store.is_empty() {
        lines.push(store_line(cleanup));
    }
    if !cleanup.downloads.is_empty() {
        let count = u64::try_from(cleanup.downloads.len()).unwrap_or(u64::MAX);
        let bytes = cleanup.downloads.iter().map(|file| file.bytes);
        lines.push(format!(
            "{} ({})",
            quantity::count(count, "partial download", "partial downloads"),
            quantity::bytes(bytes.fold(0, u64::saturating_add))
        ));
    }
    let mut out = String::new();
    if lines.is_empty() {
        out.push_str("Nothing to remove.\n");
    } else {
        let headline = match tense {
            Tense::Future => "Would remove:",
            Tense::Past => "Removed:",
        };
        out.push_str(&format!("{}\n", style.strong(headline)));
        for line in lines {
            let line = if verbose { line } else { text::shorten(&line) };
            out.push_str(&format!("  {}\n", text::line(&line)));
        }
    }
    if tense == Tense::Future && !retention.deployments.is_empty() {
        out.push_str("and the files that only these deployments use.\n");
    }
    for dangling in &store.dangling {
        let dangling = text::line(&text::shorten(dangling));
        let warning = style.warning("warning:");
        out.push_str(&format!(
            "{warning} {dangling} leads to nothing: run `hull fsck`\n"
        ));
    }
    out
}

fn store_line(cleanup: &Cleanup) -> String {
    let store = &cleanup.store;
    let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    let objects = number(store.objects.len() + store.leftovers.len());
    let size = quantity::bytes(store.bytes());
    parts.push(format!(
        "{} ({size})",
        quantity::count(objects, "file", "files")
    ));
    if !store.images.is_empty() {
        parts.push(quantity::count(
            number(store.images.len()),
            "image",
            "images",
        ));
    }
    if !store.streams.is_empty() {
        parts.push(quantity::count(
            number(store.streams.len()),
            "record",
            "records",
        ));
    }
    format!("in the store: {}", parts.join(", "))
}
