//! What setup-root noted of the merge of /etc, when this system booted.

use std::fs::File;
use std::io::Read;

use hull_deploy::running::BOOT_REPORT;
use serde::Deserialize;

const MAX_BYTES: u64 = 4 << 20;

/// The part of the report that is told; a report of another version that has
/// not this part is told nothing of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    etc: Etc,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Etc {
    conflicts: Vec<Conflict>,
    clashes: Vec<Clash>,
}

#[derive(Debug, Deserialize)]
struct Conflict {
    path: String,
    winner: String,
    kept_as: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Clash {
    file: String,
    name: String,
}

/// Sentences about what the merge had to decide.
///
/// A system that booted without a report has nothing to say.
pub(crate) fn conflicts() -> Vec<String> {
    read().map(|report| told(&report)).unwrap_or_default()
}

fn read() -> Option<Report> {
    let mut text = Vec::new();
    File::open(BOOT_REPORT)
        .ok()?
        .take(MAX_BYTES)
        .read_to_end(&mut text)
        .ok()?;
    serde_json::from_slice(&text).ok()
}

fn told(report: &Report) -> Vec<String> {
    let conflicts = report.etc.conflicts.iter().map(|conflict| {
        let used = match conflict.winner.as_str() {
            "theirs" => "the image's version is used",
            _ => "this machine's version is used",
        };
        let kept = conflict.kept_as.as_ref();
        let kept = kept.map(|name| format!(", the other one is beside it as {name}"));
        let path = &conflict.path;
        let kept = kept.unwrap_or_default();
        format!("{path}: both this machine and the image changed it; {used}{kept}")
    });
    let clashes = report.etc.clashes.iter().map(|clash| {
        let Clash { file, name } = clash;
        format!(
            "/etc/{file}: the image's line for {name} was left out, it clashes with this machine's"
        )
    });
    conflicts.chain(clashes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_become_sentences() {
        let report = r#"{"format": 1, "milliseconds": 12, "etc": {"merged": true,
            "conflicts": [
                {"path": "/etc/a", "kind": "both-changed", "winner": "mine", "kept_as": "a.hull-new~"},
                {"path": "/etc/b", "kind": "removed-by-them", "winner": "theirs", "kept_as": null}],
            "clashes": [{"file": "passwd", "name": "web", "reason": "line-malformed"}]}}"#;
        let told = told(&serde_json::from_str(report).unwrap());
        assert_eq!(
            told,
            [
                "/etc/a: both this machine and the image changed it; this machine's version is used, \
                 the other one is beside it as a.hull-new~",
                "/etc/b: both this machine and the image changed it; the image's version is used",
                "/etc/passwd: the image's line for web was left out, it clashes with this machine's",
            ]
        );
    }

    #[test]
    fn a_report_without_a_merge_has_no_conflicts() {
        assert!(told(&serde_json::from_str("{\"format\": 9}").unwrap()).is_empty());
    }
}
