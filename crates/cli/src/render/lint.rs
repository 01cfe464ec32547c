//! `container lint`: what was found, by lint.

use std::path::Path;

use hull_lint::{Finding, Lint, Outcome, Severity, Verdict};
use serde_json::{Value, json};

use super::text;

/// So many findings of a lint are shown, unless all are wanted.
const SHOWN: usize = 5;

/// The findings and how many checks passed, for people.
pub(crate) fn report(outcomes: &[Outcome], all: bool) -> String {
    let mut out = String::new();
    let found = |severity| {
        outcomes
            .iter()
            .filter(move |outcome| outcome.failed(severity))
    };
    for outcome in found(Severity::Fatal).chain(found(Severity::Warning)) {
        one(&mut out, outcome, all);
    }
    out.push_str(&summary(outcomes));
    out
}

fn one(out: &mut String, outcome: &Outcome, all: bool) {
    let findings = outcome.findings();
    let shown = if all { findings.len() } else { SHOWN };
    out.push_str(&format!(
        "{} ({})\n",
        outcome.lint.name,
        outcome.lint.severity.name()
    ));
    let mut shown_findings = findings.iter().take(shown).peekable();
    while let Some(finding) = shown_findings.next() {
        out.push_str(&format!(
            "  {}: {}\n",
            text::line(&finding.path),
            text::line(&finding.problem)
        ));
        // What is to do about several in a row is said once.
        let next = shown_findings.peek();
        if next.is_none_or(|next| next.remedy != finding.remedy) {
            out.push_str(&format!("    → {}\n", text::line(&finding.remedy)));
        }
    }
    if findings.len() > shown {
        let more = findings.len() - shown;
        out.push_str(&format!("  and {more} more; --no-truncate shows them\n"));
    }
    out.push('\n');
}

fn summary(outcomes: &[Outcome]) -> String {
    let counts = Counts::of(outcomes);
    let mut out = format!("Checks passed: {}\n", counts.passed);
    if counts.skipped > 0 {
        out.push_str(&format!("Checks skipped: {}\n", counts.skipped));
    }
    if counts.warnings > 0 {
        out.push_str(&format!("Warnings: {}\n", counts.warnings));
    }
    if counts.fatal > 0 {
        out.push_str(&format!("Fatal: {}\n", counts.fatal));
    }
    out
}

/// Numbers of lints, not of findings.
struct Counts {
    passed: usize,
    skipped: usize,
    warnings: usize,
    fatal: usize,
}

impl Counts {
    fn of(outcomes: &[Outcome]) -> Self {
        let count = |wanted: &dyn Fn(&Outcome) -> bool| {
            outcomes.iter().filter(|outcome| wanted(outcome)).count()
        };
        let passed = count(&Outcome::passed);
        let warnings = count(&|outcome| outcome.failed(Severity::Warning));
        let fatal = count(&|outcome| outcome.failed(Severity::Fatal));
        Self {
            passed,
            skipped: outcomes.len() - passed - warnings - fatal,
            warnings,
            fatal,
        }
    }
}

/// The same for programs, with all findings.
pub(crate) fn document(rootfs: &Path, image: Option<&str>, outcomes: &[Outcome]) -> Value {
    let counts = Counts::of(outcomes);
    json!({
        "rootfs": image.is_none().then(|| rootfs.to_string_lossy()),
        "image": image,
        "passed": counts.passed,
        "skipped": counts.skipped,
        "warnings": counts.warnings,
        "fatal": counts.fatal,
        "lints": outcomes.iter().map(outcome).collect::<Vec<_>>(),
    })
}

fn outcome(outcome: &Outcome) -> Value {
    let (result, reason) = match &outcome.verdict {
        None => ("skipped", Some("on request")),
        Some(Verdict::NotApplicable(reason)) => ("skipped", Some(*reason)),
        Some(Verdict::Checked(findings)) if findings.is_empty() => ("passed", None),
        Some(Verdict::Checked(_)) => ("failed", None),
    };
    json!({
        "name": outcome.lint.name,
        "severity": outcome.lint.severity.name(),
        "result": result,
        "reason": reason,
        "findings": outcome.findings().iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "path": finding.path,
        "problem": finding.problem,
        "remedy": finding.remedy,
    })
}

/// What is checked, for people.
pub(crate) fn list(lints: &[Lint]) -> String {
    let width = lints.iter().map(|lint| lint.name.len()).max().unwrap_or(0);
    let line = |lint: &Lint| {
        format!(
            "{:width$}  {:7}  {}\n",
            lint.name,
            lint.severity.name(),
            lint.about
        )
    };
    lints.iter().map(line).collect()
}

/// What is checked, for programs.
pub(crate) fn list_document(lints: &[Lint]) -> Value {
    let one = |lint: &Lint| {
        json!({
            "name": lint.name,
            "severity": lint.severity.name(),
            "about": lint.about,
            "bootc": lint.of_bootc,
        })
    };
    lints.iter().map(one).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_lint::LINTS;

    fn found(name: &str, paths: &[&str]) -> Outcome {
        let finding = |path: &&str| Finding {
            path: (*path).to_owned(),
            problem: "it is wrong".to_owned(),
            remedy: "make it right".to_owned(),
        };
        Outcome {
            lint: LINTS.iter().find(|lint| lint.name == name).unwrap(),
            verdict: Some(Verdict::Checked(paths.iter().map(finding).collect())),
        }
    }

    #[test]
    fn findings_come_by_lint_the_fatal_ones_first_five_of_each() {
        let skipped = Outcome {
            verdict: None,
            ..found("utf8", &[])
        };
        let outcomes = [
            found(
                "var-log",
                &["/a", "/b", "/c", "/d", "/e\u{1b}[2J", "/f", "/g"],
            ),
            found("var-run", &["/var/run"]),
            found("kernel", &[]),
            skipped,
        ];
        let expected = "\
var-run (fatal)
  /var/run: it is wrong
    → make it right

var-log (warning)
  /a: it is wrong
  /b: it is wrong
  /c: it is wrong
  /d: it is wrong
  /e\\u{1b}[2J: it is wrong
    → make it right
  and 2 more; --no-truncate shows them

Checks passed: 1
Checks skipped: 1
Warnings: 1
Fatal: 1
";
        assert_eq!(report(&outcomes, false), expected);
        assert!(report(&outcomes, true).contains("  /g: it is wrong\n"));
    }

    #[test]
    fn programs_are_given_all_findings_and_the_results_of_all_lints() {
        let outcomes = [found("var-log", &["/a"; 7]), found("kernel", &[])];
        let document = document(Path::new("/r"), None, &outcomes);
        assert_eq!(
            document["lints"][0]["findings"].as_array().unwrap().len(),
            7
        );
        assert_eq!(document["lints"][1]["result"], "passed");
        assert_eq!(
            (&document["warnings"], &document["fatal"]),
            (&json!(1), &json!(0))
        );
    }
}
