//! Where the work is. Written by the work, read by who shows it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Finished tasks that nobody has seen yet; older ones are forgotten.
const MAX_FINISHED: usize = 16;
/// Parts of a task that are shown at a time.
const MAX_PARTS: usize = 32;

/// A stage of the work, such as pulling an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Task {
    /// For programs: `pulling`.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) description: String,
    /// What it is done to.
    pub(crate) id: String,
    /// How much of it is bytes; `None`: it is counted in steps alone.
    pub(crate) bytes: Option<Amount>,
    /// Its steps, such as layers.
    pub(crate) steps: Amount,
    /// What is being done at the moment, and what was finished since somebody looked.
    pub(crate) parts: Vec<Part>,
}

/// A part of a task, such as a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// For programs: `layer`.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) description: String,
    /// Which one: a digest.
    pub(crate) id: String,
    /// How far it is, in bytes (or 0 of 1 step).
    pub(crate) amount: Amount,
    /// It is done.
    pub(crate) completed: bool,
}

/// So much of so much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// What was there already, in `done` too.
    pub(crate) cached: u64,
    /// What is done.
    pub(crate) done: u64,
    /// All of it; 0 where that is not known.
    pub(crate) total: u64,
}

/// What somebody sees who looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Tasks that ended since the last look, as they ended.
    pub(crate) finished: Vec<Task>,
    /// The task that is being done.
    pub(crate) current: Option<Task>,
    /// There will be no more.
    pub(crate) closed: bool,
}

#[derive(Debug, Default)]
struct State {
    finished: VecDeque<Task>,
    current: Option<Task>,
    changed: bool,
    closed: bool,
}

/// The counters. Every method returns at once.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    state: Mutex<State>,
    news: Condvar,
}

impl Tracker {
    /// Starts a task; the one before it is over.
    pub(crate) fn begin(&self, task: Task) {
        self.change(|state| {
            retire(state);
            state.current = Some(task);
        });
    }

    /// Ends the task.
    pub(crate) fn end(&self) {
        self.change(retire);
    }

    /// Changes the task that is being done.
    pub(crate) fn update(&self, update: impl FnOnce(&mut Task)) {
        self.change(|state| {
            if let Some(task) = &mut state.current {
                update(task);
            }
        });
    }

    /// Starts a part of the task.
    pub(crate) fn begin_part(&self, part: Part) {
        self.update(|task| task.parts.push(part));
    }

    /// So many bytes of a part are done, in all. They may become fewer, when it
    /// starts anew.
    pub(crate) fn reach(&self, id: &str, bytes: u64) {
        self.update(|task| {
            let Some(part) = task.parts.iter_mut().find(|part| part.id == id) else {
                return;
            };
            let before = std::mem::replace(&mut part.amount.done, bytes);
            if let Some(all) = &mut task.bytes {
                all.done = all.done.saturating_sub(before).saturating_add(bytes);
            }
        });
    }

    /// Ends a part: all of it, one step of the task, is done.
    pub(crate) fn end_part(&self, id: &str) {
        self.update(|task| {
            let running = |part: &&mut Part| part.id == id && !part.completed;
            if let Some(part) = task.parts.iter_mut().find(running) {
                let missing = part.amount.total.saturating_sub(part.amount.done);
                part.completed = true;
                part.amount.done += missing;
                if let Some(all) = &mut task.bytes {
                    all.done += missing;
                }
            }
            task.steps.done += 1;
        });
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.change(|state| {
            retire(state);
            state.closed = true;
        });
    }

    /// Waits until there is news, and takes it.
    pub(super) fn look(&self) -> Snapshot {
        let quiet = |state: &mut State| !state.changed && !state.closed;
        let state = self.news.wait_while(self.lock(), quiet);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.changed = false;
        let mut current = state.current.clone();
        if let Some(task) = &mut current {
            task.parts.truncate(MAX_PARTS);
        }
        if let Some(task) = &mut state.current {
            task.parts.retain(|part| !part.completed);
        }
        Snapshot {
            finished: state.finished.drain(..).collect(),
            current,
            closed: state.closed,
        }
    }

    /// Waits for that long, or until nothing more will come.
    pub(super) fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !state.closed {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            let waited = self.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.changed = true;
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters are never half written: a panic elsewhere changes nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retire(state: &mut State) {
    let Some(mut task) = state.current.take() else {
        return;
    };
    if !state.changed {
        // It was seen as it ended.
        return;
    }
    task.parts.retain(|part| part.completed);
    task.parts.truncate(MAX_PARTS);
    if state.finished.len() == MAX_FINISHED {
        state.finished.pop_front();
    }
    state.finished.push_back(task);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &str, total: u64) -> Part {
        Part {
            name: "layer",
            description: String::new(),
            id: id.to_owned(),
            amount: Amount {
                total,
                ..Amount::default()
            },
            completed: false,
        }
    }

    fn pulling(total: u64) -> Task {
        let all = Amount {
            total,
            ..Amount::default()
        };
        Task {
            name: "pulling",
            bytes: Some(all),
            ..Task::default()
        }
    }

    #[test]
    fn bytes_of_parts_are_bytes_of_the_task() {
        let tracker = Tracker::default();
        tracker.begin(pulling(30));
        tracker.begin_part(part("a", 10));
        tracker.begin_part(part("b", 20));
        tracker.reach("a", 4);
        tracker.reach("b", 9);
        tracker.reach("b", 5);
        tracker.end_part("a");
        let task = tracker.look().current.unwrap();
        assert_eq!(task.bytes.unwrap().done, 15);
        assert_eq!(task.steps.done, 1);
        assert!(task.parts[0].completed);
    }

    #[test]
    fn a_part_that_is_done_is_seen_once() {
        let tracker = Tracker::default();
        tracker.begin(pulling(10));
        tracker.begin_part(part("a", 10));
        tracker.end_part("a");
        assert_eq!(tracker.look().current.unwrap().parts.len(), 1);
        tracker.update(|_| {});
        assert_eq!(tracker.look().current.unwrap().parts.len(), 0);
    }

    #[test]
    fn how_a_task_ended_is_not_missed_when_the_next_one_began() {
        let tracker = Tracker::default();
        tracker.begin(pulling(10));
        tracker.begin_part(part("a", 10));
        tracker.reach("a", 10);
        tracker.begin(Task::default());
        tracker.close();
        let seen = tracker.look();
        assert_eq!(seen.finished[0].bytes.unwrap().done, 10);
        assert!(seen.closed);
    }

    #[test]
    fn what_was_seen_is_not_shown_again() {
        let tracker = Tracker::default();
        tracker.begin(pulling(10));
        assert!(tracker.look().current.is_some());
        tracker.begin(Task::default());
        assert!(tracker.look().finished.is_empty());
    }

    #[test]
    fn what_nobody_looks_at_takes_no_more_and_more_memory() {
        let tracker = Tracker::default();
        for _ in 0..1000 {
            tracker.begin(pulling(1));
        }
        assert_eq!(tracker.look().finished.len(), MAX_FINISHED);
    }
}
