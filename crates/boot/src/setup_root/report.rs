//! What setup-root did, for the journal and for `hull status`.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Instant;

use hull_erofs::fsverity::ObjectId;
use hull_sys::durable;
use rustix::fs::{CWD, Mode, OFlags};
use serde::{Serialize, Serializer};

use super::SetupError;
use crate::accounts::Clash;
use crate::etc_merge::{Conflict, Counts};
use crate::record::DeploymentName;

/// The format of the report's file.
pub(super) const FORMAT: u32 = 1;

/// Where the report is, below `/run`.
pub const REPORT_FILE: &str = "hull/boot.json";

/// How the running system was booted.
#[derive(Debug, Clone, Serialize)]
pub struct BootReport {
    /// Format of the file.
    pub format: u32,
    /// The deployment; `None`: one that hull did not make.
    pub deployment: Option<DeploymentName>,
    /// The image.
    #[serde(serialize_with = "hex_digits")]
    pub digest: ObjectId,
    /// Whether every content is checked with fs-verity.
    pub verity_required: bool,
    /// How the image is mounted: `file` or `loop`.
    pub image_backing: &'static str,
    /// How the overlay got its layers: `datadir+` or `lowerdir`.
    pub layers: &'static str,
    /// Whether `/` takes changes, until the reboot.
    pub root_transient: bool,
    /// What is at `/etc`: `none`, `bind`, `overlay`, `transient`.
    pub etc_mode: &'static str,
    /// What became of `/etc` in this boot.
    pub etc: EtcReport,
    /// How long it took.
    pub milliseconds: u64,
    /// The same, in parts.
    pub steps: Vec<Step>,
}

/// What became of `/etc`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EtcReport {
    /// Whether it was made in this boot.
    pub merged: bool,
    /// The deployment whose `/etc` went into it.
    pub from: Option<DeploymentName>,
    /// How much came from where.
    pub counts: Counts,
    /// What both sides had changed.
    pub conflicts: Vec<Conflict>,
    /// Lines of account files that were left out.
    pub clashes: Vec<Clash>,
}

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// How long it took.
    pub milliseconds: u64,
}

fn hex_digits<S: Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl BootReport {
    /// Writes the report below the run-time directory, in place of an old one.
    pub(super) fn write(&self, run: &Path) -> Result<(), SetupError> {
        let failed = |source: io::Error| SetupError::Stage {
            path: run.join(REPORT_FILE).display().to_string(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, run.join("hull"), flags, Mode::empty())
            .map_err(|e| failed(e.into()))?;
        let mut json = serde_json::to_vec_pretty(self).map_err(|e| failed(e.into()))?;
        json.push(b'\n');
        durable::replace(directory, "boot.json", 0o644, &json).map_err(failed)
    }
}

impl fmt::Display for BootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hull: root ready in {} ms (", self.milliseconds)?;
        for (i, step) in self.steps.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", step.name, step.milliseconds)?;
        }
        f.write_str(")")?;
        if self.etc.merged {
            f.write_str(", /etc merged")?;
        }
        match self.etc.conflicts.len() + self.etc.clashes.len() {
            0 => Ok(()),
            1 => f.write_str(" with 1 conflict"),
            n => write!(f, " with {n} conflicts"),
        }
    }
}

pub(super) struct Stopwatch {
    start: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            last: now,
            steps: Vec::new(),
        }
    }

    /// Ends a step, and starts the next one.
    pub(super) fn step(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps.push(Step {
            name,
            milliseconds: milliseconds(now - self.last),
        });
        self.last = now;
    }

    pub(super) fn total(&self) -> u64 {
        milliseconds(self.start.elapsed())
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
