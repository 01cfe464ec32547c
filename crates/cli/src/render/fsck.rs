//! `hull fsck`: for people, and as JSON.

use std::collections::BTreeMap;

use hull_store::fsck::{Checked, Finding, Report};
use serde::Serialize;

use super::{Style, quantity, text};

/// How many findings of no consequence are listed without `--verbose`.
const SHOWN: usize = 3;

/// The report for people.
pub(crate) fn render(report: &Report, verbose: bool, style: Style) -> String {
    let mut out = format!("Checked {}.\n", checked(&report.checked));
    let line = |text: String| {
        let text = if verbose { text } else { text::shorten(&text) };
        text::line(&text)
    };
    let mut damage = 0;
    for finding in report.damage() {
        damage += 1;
        out.push_str(&format!(
            "{} {}\n",
            style.bad("damaged:"),
            line(finding.to_string())
        ));
    }
    let mut harmless: Vec<_> = report
        .findings
        .iter()
        .filter(|found| !found.is_damage())
        .collect();
    let count = harmless.len();
    if !verbose && count > SHOWN {
        harmless.truncate(SHOWN);
    }
    for finding in &harmless {
        out.push_str(&format!(
            "{} {}\n",
            style.faint("note:"),
            line(finding.to_string())
        ));
    }
    if harmless.len() < count {
        out.push_str(&format!(
            "      and {} more; `hull gc` removes what is unused\n",
            count - harmless.len()
        ));
    }
    if damage == 0 {
        out.push_str(&format!(
            "{}\n",
            style.good("Everything is as it should be.")
        ));
    } else {
        let needed = affected(report);
        if needed.is_empty() {
            out.push_str("No deployment needs what is damaged.\n");
        }
        for reference in needed {
            out.push_str(&format!("         needed by {}\n", line(reference)));
        }
    }
    out
}

fn checked(checked: &Checked) -> String {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let objects = quantity::count(number(checked.objects), "file", "files");
    let images = quantity::count(number(checked.images), "image", "images");
    let streams = quantity::count(number(checked.streams), "record", "records");
    match checked.measured {
        0 => format!("{objects}, {images} and {streams}"),
        measured => format!("{objects} ({measured} by fs-verity), {images} and {streams}"),
    }
}

/// The references that lead to something damaged, each once.
fn affected(report: &Report) -> Vec<String> {
    let mut needed = std::collections::BTreeSet::new();
    for finding in report.damage() {
        let users = match finding {
            Finding::Missing { users, .. } | Finding::Damaged { users, .. } => users.as_slice(),
            Finding::NotWhatItIsLinkedAs { user, .. } => std::slice::from_ref(user),
            _ => &[],
        };
        for user in users {
            needed.extend(report.references.get(user).into_iter().flatten().cloned());
        }
    }
    needed.into_iter().collect()
}

/// The report for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    sound: bool,
    checked: BTreeMap<&'static str, usize>,
    findings: Vec<Item>,
    /// The references that lead to something damaged.
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
