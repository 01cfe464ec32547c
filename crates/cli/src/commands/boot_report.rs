//! What setup-root noted when this system booted.

use std::fs::File;
use std::io::Read;

use hull_deploy::running::BOOT_REPORT;
use serde::Deserialize;

const MAX_BYTES: u64 = 4 << 20;

/// The part of the report that is told; a report of another version that has
/// not this part is told nothing of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    verity_required: Option<bool>,
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

impl Report {
    /// Whether the kernel was told to refuse files without fs-verity.
    pub(super) fn verity_required(&self) -> Option<bool> {
        self.verity_required
    }

    /// Sentences about what the merge of /etc had to decide.
    pub(super) fn conflicts(&self) -> Vec<String> {
        told(self)
    }
}

/// Reads it; a system that booted without a report has nothing to say.
pub(super) fn read() -> Report {
    try_read().unwrap_or_default()
}

fn try_read() -> Option<Report> {
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
        let report = r#"{"format": 1, "verity_required": true, "milliseconds": 12, "etc": {"merged": true,
            "conflicts": [
                {"path": "/etc/a", "kind": "both-changed", "winner": "mine", "kept_as": "a.hull-new~"},
                {"path": "/etc/b", "kind": "removed-by-them", "winner": "theirs", "kept_as": null}],
            "clashes": [{"file": "passwd", "name": "web", "reason": "line-malformed"}]}}"#;
        let report: Report = serde_json::from_str(report).unwrap();
        assert_eq!(report.verity_required(), Some(true));
        let told = report.conflicts();
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
    fn a_report_of_another_format_says_nothing() {
        let report: Report = serde_json::from_str("{\"format\": 9}").unwrap();
        assert!(report.conflicts().is_empty());
        assert_eq!(report.verity_required(), None);
    }
}
