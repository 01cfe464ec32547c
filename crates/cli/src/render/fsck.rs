//! `hull fsck`: for people, and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use hull_store::fsck::{Checked, Finding, Report};
use serde::Serialize;

use super::{Style, quantity, text};

/// How many findings that harm nothing are listed without `--verbose`.
const SHOWN: usize = 3;

/// The report for people.
pub(crate) fn render(report: &Report, verbose: bool, style: Style) -> String {
    let mut out = format!("Checked {}.\n", checked(&report.checked));
    out.push_str(&damage(report, verbose, style));
    out.push_str(&notes(report, verbose, style));
    out.push_str(&verdict(report, style));
    out
}

fn line(text: &str, verbose: bool) -> String {
    if verbose {
        text::line(text)
    } else {
        text::line(&text::shorten(text))
    }
}

fn damage(report: &Report, verbose: bool, style: Style) -> String {
    let mut out = String::new();
    for finding in report.damage() {
        let text = line(&finding.to_string(), verbose);
        out.push_str(&format!("{} {text}\n", style.bad("damaged:")));
    }
    for user in affected(report) {
        out.push_str(&format!("         needed by {}\n", line(&user, verbose)));
    }
    out
}

/// What is unusual and harms nothing.
fn notes(report: &Report, verbose: bool, style: Style) -> String {
    let harmless: Vec<_> = report
        .findings
        .iter()
        .filter(|found| !found.is_damage())
        .collect();
    let shown = if verbose {
        harmless.len()
    } else {
        SHOWN.min(harmless.len())
    };
    let mut out = String::new();
    for finding in &harmless[..shown] {
        let text = line(&finding.to_string(), verbose);
        out.push_str(&format!("{} {text}\n", style.faint("note:")));
    }
    let more = harmless.len() - shown;
    if more > 0 {
        out.push_str(&format!("      and {more} more, which --verbose lists\n"));
    }
    out
}

fn verdict(report: &Report, style: Style) -> String {
    let count = report.damage().count();
    if count == 0 {
        return format!("{}\n", style.good("Everything is as it should be."));
    }
    let damages = quantity::count(number(count), "thing is", "things are");
    if affected(report).is_empty() {
        return format!("{damages} damaged that no deployment needs: `hull gc` removes them.\n");
    }
    format!("{damages} damaged: `hull fsck --repair` downloads the images again.\n")
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn checked(checked: &Checked) -> String {
    let objects = quantity::count(number(checked.objects), "file", "files");
    let images = quantity::count(number(checked.images), "image", "images");
    let streams = quantity::count(number(checked.streams), "record", "records");
    match number(checked.measured) {
        0 => format!("{objects}, {images} and {streams}"),
        measured => {
            let measured =
                quantity::count(measured, "of them by fs-verity", "of them by fs-verity");
            format!("{objects} ({measured}), {images} and {streams}")
        }
    }
}

/// The deployments and other references that lead to something damaged, each once.
fn affected(report: &Report) -> Vec<String> {
    let mut needed = BTreeSet::new();
    for finding in report.damage() {
        let users = match finding {
            Finding::Missing { users, .. } | Finding::Damaged { users, .. } => users.as_slice(),
            Finding::NotWhatItIsLinkedAs { user, .. } => std::slice::from_ref(user),
            _ => &[],
        };
        let references = users
            .iter()
            .filter_map(|user| report.references.get(user))
            .flatten();
        needed.extend(references.map(|reference| named(reference)));
    }
    needed.into_iter().collect()
}

/// A deployment has two references, one to its image and one to its layers.
fn named(reference: &str) -> String {
    match reference.split_once("hull/deployments/") {
        Some((_, deployment)) => format!("deployment {deployment}"),
        None => reference.to_owned(),
    }
}

/// The report for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    sound: bool,
    checked: BTreeMap<&'static str, usize>,
    findings: Vec<Item>,
    /// Deployments and other references that need something damaged.
    affected: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    kind: &'static str,
    damage: bool,
    /// The digest of the object, where it is about one.
    object: Option<String>,
    message: String,
}

/// Describes a report.
pub(crate) fn document(report: &Report) -> Document {
    let checked = &report.checked;
    Document {
        sound: report.is_sound(),
        checked: BTreeMap::from([
            ("objects", checked.objects),
            ("measured", checked.measured),
            ("streams", checked.streams),
            ("images", checked.images),
            ("references", checked.references),
        ]),
        findings: report.findings.iter().map(item).collect(),
        affected: affected(report),
    }
}

fn item(finding: &Finding) -> Item {
    let (kind, object) = match finding {
        Finding::BadMeta { .. } => ("badMeta", None),
        Finding::Missing { object, .. } => ("missing", Some(object)),
        Finding::Damaged { object, .. } => ("damaged", Some(object)),
        Finding::NotWhatItIsLinkedAs { .. } => ("notWhatItIsLinkedAs", None),
        Finding::Dangling { .. } => ("dangling", None),
        Finding::Foreign { .. } => ("foreign", None),
        Finding::Unreferenced { object } => ("unreferenced", Some(object)),
        _ => ("other", None),
    };
    Item {
        kind,
        damage: finding.is_damage(),
        object: object.map(ToString::to_string),
        message: finding.to_string(),
    }
}
