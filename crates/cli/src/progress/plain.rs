//! Progress where it goes into a log: a line when a stage begins, and one when
//! something was downloaded.

use std::io::Write;
use std::time::Duration;

use super::show::Show;
use super::tracker::{Snapshot, Task};
use crate::render::{quantity, text};

/// Writes lines.
#[derive(Debug)]
pub(super) struct Lines<W> {
    out: W,
    /// The stage whose beginning was told.
    begun: Option<(&'static str, String)>,
}

impl<W: Write + Send + 'static> Lines<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, begun: None }
    }

    fn begin(&mut self, task: &Task) -> bool {
        let key = (task.name, task.id.clone());
        if self.begun.as_ref() == Some(&key) {
            return true;
        }
        self.begun = Some(key);
        writeln!(self.out, "{}", beginning(task)).is_ok()
    }
}

fn beginning(task: &Task) -> String {
    let mut line = text::line(&task.description);
    if let Some(bytes) = task.bytes.filter(|bytes| bytes.total > 0) {
        let missing = quantity::bytes(bytes.total.saturating_sub(bytes.cached));
        line.push_str(&format!(" ({missing} to download)"));
    }
    line
}

impl<W: Write + Send + 'static> Show for Lines<W> {
    fn interval(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn show(&mut self, seen: &Snapshot) -> bool {
        let tasks = seen.finished.iter().chain(&seen.current);
        tasks.into_iter().all(|task| self.begin(task))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tracker::Amount;
    use super::*;

    #[test]
    fn each_stage_is_one_line() {
        let pulling = Task {
            name: "pulling",
            description: "Pulling example\u{1b}[2J".to_owned(),
            bytes: Some(Amount {
                cached: 1_000_000,
                done: 1_000_000,
                total: 13_000_000,
            }),
            ..Task::default()
        };
        let staging = Task {
            name: "staging",
            description: "Staging".to_owned(),
            ..Task::default()
        };
        let mut lines = Lines::new(Vec::new());
        let mut later = pulling.clone();
        later.steps.done = 3;
        for (finished, current) in [(vec![], pulling), (vec![later], staging)] {
            let seen = Snapshot {
                finished,
                current: Some(current),
                closed: false,
            };
            assert!(lines.show(&seen));
        }
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(
            text,
            "Pulling example\\u{1b}[2J (12 MB to download)\nStaging\n"
        );
    }
}
