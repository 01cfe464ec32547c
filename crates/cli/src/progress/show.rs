//! The thread that shows what the counters say.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::tracker::{Snapshot, Tracker};
use super::{json, plain, terminal};

/// How long the end of the work waits for the last words to be read.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shows snapshots on something. May block: nothing waits for it.
pub(super) trait Show: Send + 'static {
    /// The time between two looks.
    fn interval(&self) -> Duration;

    /// Shows one; `false` when there is no point in showing more.
    fn show(&mut self, seen: &Snapshot) -> bool;
}

/// Work whose progress is shown. Dropping it shows the end.
#[derive(Debug)]
pub(crate) struct Shown {
    tracker: Arc<Tracker>,
    /// Hangs up when the thread is done; `None`: nothing is shown.
    done: Option<Receiver<()>>,
}

impl Shown {
    /// Shows nothing.
    pub(crate) fn nowhere() -> Self {
        Self {
            tracker: Arc::default(),
            done: None,
        }
    }

    /// Bars on standard error.
    pub(crate) fn on_terminal() -> Self {
        Self::on(terminal::Bars::new())
    }

    /// A line for each stage on standard error.
    pub(crate) fn plain() -> Self {
        Self::on(plain::Lines::new(std::io::stderr()))
    }

    /// JSON lines, as bootc writes them.
    pub(crate) fn to_fd(fd: OwnedFd) -> Self {
        Self::on(json::Events::new(fd.into()))
    }

    fn on(mut on: impl Show) -> Self {
        let tracker = Arc::<Tracker>::default();
        let (hang_up, done) = channel();
        let watched = Arc::clone(&tracker);
        let thread = move || {
            run(&watched, &mut on);
            drop(hang_up);
        };
        // Without a thread (the process limit) the work goes on, untold.
        let spawned = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(thread);
        Self {
            tracker,
            done: spawned.is_ok().then_some(done),
        }
    }

    /// The counters to move.
    pub(crate) fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}

fn run(tracker: &Tracker, on: &mut impl Show) {
    loop {
        let seen = tracker.look();
        if !on.show(&seen) || seen.closed {
            return;
        }
        tracker.rest(on.interval());
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.tracker.close();
        if let Some(done) = &self.done {
            // Either it hangs up, or whoever it writes to is stuck: both are an end.
            done.recv_timeout(PATIENCE).ok();
        }
    }
}
