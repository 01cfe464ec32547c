//! Progress for programs: JSON lines as bootc's `progress-v0.schema.json` has them.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::show::Show;
use super::tracker::{Amount, Part, Snapshot, Task};

/// The version of bootc's protocol that this is.
const VERSION: &str = "0.1.0";

/// At most five lines a second, as bootc promises its readers.
const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum Event<'a> {
    Start {
        version: &'static str,
    },
    ProgressBytes {
        task: &'a str,
        description: &'a str,
        id: &'a str,
        bytes_cached: u64,
        bytes: u64,
        bytes_total: u64,
        steps_cached: u64,
        steps: u64,
        steps_total: u64,
        subtasks: Vec<BytesPart<'a>>,
    },
    ProgressSteps {
        task: &'a str,
        description: &'a str,
        id: &'a str,
        steps_cached: u64,
        steps: u64,
        steps_total: u64,
        subtasks: Vec<StepPart<'a>>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BytesPart<'a> {
    subtask: &'a str,
    description: &'a str,
    id: &'a str,
    bytes_cached: u64,
    bytes: u64,
    bytes_total: u64,
}

#[derive(Serialize)]
struct StepPart<'a> {
    subtask: &'a str,
    description: &'a str,
    id: &'a str,
    completed: bool,
}

fn event(task: &Task) -> Event<'_> {
    let Amount {
        cached: steps_cached,
        done: steps,
        total: steps_total,
    } = task.steps;
    match task.bytes {
        Some(bytes) => Event::ProgressBytes {
            task: task.name,
            description: &task.description,
            id: &task.id,
            bytes_cached: bytes.cached,
            bytes: bytes.done,
            bytes_total: bytes.total,
            steps_cached,
            steps,
            steps_total,
            subtasks: task.parts.iter().map(bytes_part).collect(),
        },
        None => Event::ProgressSteps {
            task: task.name,
            description: &task.description,
            id: &task.id,
            steps_cached,
            steps,
            steps_total,
            subtasks: task.parts.iter().map(step_part).collect(),
        },
    }
}

fn bytes_part(part: &Part) -> BytesPart<'_> {
    BytesPart {
        subtask: part.name,
        description: &part.description,
        id: &part.id,
        bytes_cached: part.amount.cached,
        bytes: part.amount.done,
        bytes_total: part.amount.total,
    }
}

fn step_part(part: &Part) -> StepPart<'_> {
    StepPart {
        subtask: part.name,
        description: &part.description,
        id: &part.id,
        completed: part.completed,
    }
}

/// Writes events to a descriptor that somebody else reads.
#[derive(Debug)]
pub(super) struct Events {
    out: File,
    started: bool,
}

impl Events {
    pub(super) fn new(out: File) -> Self {
        Self {
            out,
            started: false,
        }
    }

    /// One event in one write, so that a pipe takes a line or nothing of it as
    /// long as the line is no longer than `PIPE_BUF`.
    fn write(&mut self, event: &Event<'_>) -> bool {
        let Ok(mut line) = serde_json::to_vec(event) else {
            return false;
        };
        line.push(b'\n');
        self.out.write_all(&line).is_ok()
    }
}

impl Show for Events {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    /// A reader that has gone away is told nothing more, and that is all.
    fn show(&mut self, seen: &Snapshot) -> bool {
        if !self.started {
            self.started = true;
            if !self.write(&Event::Start { version: VERSION }) {
                return false;
            }
        }
        let tasks = seen.finished.iter().chain(&seen.current);
        tasks.into_iter().all(|task| self.write(&event(task)))
    }
}

#[cfg(test)]
mod tests;
