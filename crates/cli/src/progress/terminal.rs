//! Progress on a terminal: a bar for the whole, and one for each part at work.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::show::Show;
use super::tracker::{Part, Snapshot, Task};
use crate::render::{quantity, text};

/// Often enough to look alive.
const HZ: u8 = 10;

/// Bars.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    total: Option<ProgressBar>,
    parts: BTreeMap<String, ProgressBar>,
    /// The stage that `total` is for.
    stage: Option<(&'static str, String)>,
    /// What `total` counts.
    unit: Option<Unit>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self::drawn_on(ProgressDrawTarget::stderr_with_hz(HZ))
    }

    fn drawn_on(target: ProgressDrawTarget) -> Self {
        Self {
            all: MultiProgress::with_draw_target(target),
            total: None,
            parts: BTreeMap::new(),
            stage: None,
            unit: None,
        }
    }

    fn update(&mut self, task: &Task) {
        let stage = (task.name, task.id.clone());
        if self.stage.as_ref() != Some(&stage) {
            self.finish();
            self.stage = Some(stage);
        }
        let unit = Unit::of(task);
        let is_new = self.total.is_none();
        let total = self
            .total
            .get_or_insert_with(|| self.all.add(ProgressBar::new(0)));
        if self.unit != Some(unit) {
            total.set_style(unit.style());
            self.unit = Some(unit);
        }
        let amount = task.bytes.unwrap_or(task.steps);
        total.set_length(amount.total);
        total.set_message(message(task));
        total.set_position(amount.done);
        if is_new {
            // Downloads stall; a spinner that turns says that hull does not.
            total.enable_steady_tick(Duration::from_millis(250));
        }
        for part in &task.parts {
            update_part(&self.all, &mut self.parts, part);
        }
    }

    /// Takes the bars away, and leaves a line that says what was done.
    fn finish(&mut self) {
        for (_, bar) in std::mem::take(&mut self.parts) {
            bar.finish_and_clear();
        }
        if let Some(total) = self.total.take() {
            total.disable_steady_tick();
            total.finish();
        }
        self.stage = None;
        self.unit = None;
    }
}

fn update_part(all: &MultiProgress, parts: &mut BTreeMap<String, ProgressBar>, part: &Part) {
    if part.completed {
        if let Some(bar) = parts.remove(&part.id) {
            bar.finish_and_clear();
            all.remove(&bar);
        }
        return;
    }
    let bar = parts.entry(part.id.clone()).or_insert_with(|| {
        let bar = all.add(ProgressBar::new(part.amount.total));
        bar.set_style(Unit::Part.style());
        bar.set_message(text::short_digest(&part.id));
        bar
    });
    bar.set_length(part.amount.total);
    bar.set_position(part.amount.done);
}

/// What is done, to what, and how many of its steps are left.
fn message(task: &Task) -> String {
    let description = text::line(&task.description);
    if task.bytes.is_none() || task.steps.total == 0 {
        return description;
    }
    let left = task.steps.total.saturating_sub(task.steps.done);
    format!(
        "{description}, {} left",
        quantity::count(left, "layer", "layers")
    )
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A task in bytes.
    Bytes,
    /// A task in steps.
    Steps,
    /// A task of which only its beginning and end are known.
    Nothing,
    /// A part of a task.
    Part,
}

impl Unit {
    fn of(task: &Task) -> Self {
        match task.bytes {
            Some(_) => Self::Bytes,
            None if task.steps.total > 0 => Self::Steps,
            None => Self::Nothing,
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Bytes => {
                "{spinner} {wide_msg} {decimal_bytes}/{decimal_total_bytes} [{bar:20}] \
                 {decimal_bytes_per_sec} {eta}"
            }
            Self::Steps => "{spinner} {wide_msg} {pos}/{len} [{bar:20}] {eta}",
            Self::Nothing => "{spinner} {wide_msg}",
            Self::Part => "    {msg:20} {decimal_bytes:>10}/{decimal_total_bytes:10} [{bar:20}]",
        }
    }

    fn style(self) -> ProgressStyle {
        // The templates are right: a test makes each of them.
        ProgressStyle::with_template(self.template())
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ")
            .tick_chars("|/-\\ ")
    }
}

impl Show for Bars {
    fn interval(&self) -> Duration {
        Duration::from_millis(1000 / u64::from(HZ))
    }

    fn show(&mut self, seen: &Snapshot) -> bool {
        for task in &seen.finished {
            self.update(task);
            self.finish();
        }
        match &seen.current {
            Some(task) => self.update(task),
            None => self.finish(),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tracker::Amount;
    use super::*;

    fn layer(id: &str, done: u64, completed: bool) -> Part {
        Part {
            name: "layer",
            description: String::new(),
            id: id.to_owned(),
            amount: Amount {
                cached: 0,
                done,
                total: 100,
            },
            completed,
        }
    }

    fn pulling(parts: Vec<Part>) -> Task {
        Task {
            name: "pulling",
            description: "Pulling".to_owned(),
            bytes: Some(Amount {
                cached: 0,
                done: 10,
                total: 200,
            }),
            steps: Amount {
                cached: 0,
                done: 0,
                total: 2,
            },
            parts,
            ..Task::default()
        }
    }

    #[test]
    fn a_layer_has_a_bar_as_long_as_it_is_at_work() {
        let mut bars = Bars::drawn_on(ProgressDrawTarget::hidden());
        bars.update(&pulling(vec![layer("a", 10, false), layer("b", 0, false)]));
        assert_eq!(bars.parts.len(), 2);
        bars.update(&pulling(vec![layer("a", 100, true), layer("b", 5, false)]));
        assert_eq!(bars.parts.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(bars.parts["b"].position(), 5);
        bars.finish();
        assert!(bars.parts.is_empty() && bars.total.is_none());
    }

    #[test]
    fn the_message_says_what_is_left() {
        assert_eq!(message(&pulling(Vec::new())), "Pulling, 2 layers left");
        let mut steps = pulling(Vec::new());
        steps.bytes = None;
        assert_eq!(message(&steps), "Pulling");
    }

    #[test]
    fn all_templates_are_valid() {
        for unit in [Unit::Bytes, Unit::Steps, Unit::Nothing, Unit::Part] {
            ProgressStyle::with_template(unit.template()).unwrap();
        }
    }
}
