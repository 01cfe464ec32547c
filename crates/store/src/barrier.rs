//! Writes to disk that threads share.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What has to be on disk before something else may be, put by several threads.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    /// Something was put since the last write to disk began.
    unsynced: AtomicBool,
    turns: Mutex<Turns>,
    turn_ended: Condvar,
}

/// The writes to disk, by their numbers from 1.
#[derive(Debug, Default)]
struct Turns {
    begun: u64,
    /// The last one that succeeded: all that was put before it began is on disk.
    ended: u64,
    at_work: bool,
    failed: Option<Failure>,
}

/// The kernel tells of what it could not write once only: after that a write to disk
/// succeeds although the content is lost, so the first error stays.
#[derive(Debug, Clone)]
struct Failure {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

impl Barrier {
    /// Something was put, or found that another may have put just before.
    pub(crate) fn mark(&self) {
        self.unsynced.store(true, Ordering::SeqCst);
    }

    /// Waits until all that was marked before this call is on disk; `sync` writes it.
    ///
    /// Threads that wait at the same time share a write. After one failed, all fail.
    pub(crate) fn wait(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Some(number) = self.turn()? else {
            return Ok(());
        };
        let result = sync();
        let mut turns = self.lock();
        turns.at_work = false;
        match &result {
            Ok(()) => turns.ended = number,
            Err(error) => turns.failed = Some(Failure::of(error)),
        }
        drop(turns);
        self.turn_ended.notify_all();
        result
    }

    /// Whether all that was marked is on disk, when no thread waits any more.
    pub(crate) fn is_done(&mut self) -> bool {
        let turns = self.lock();
        let all = turns.ended == turns.begun && !self.unsynced.load(Ordering::SeqCst);
        all && turns.failed.is_none()
    }

    /// The number of the write that is now the caller's to make; none if all is on disk.
    fn turn(&self) -> io::Result<Option<u64>> {
        let mut turns = self.lock();
        // What was put since the last write began needs the next; all else the last.
        let wanted = turns.begun + u64::from(self.unsynced.load(Ordering::SeqCst));
        loop {
            if let Some(failure) = &turns.failed {
                return Err(failure.again());
            }
            if turns.ended >= wanted {
                return Ok(None);
            }
            if !turns.at_work {
                break;
            }
            let waited = self.turn_ended.wait(turns);
            turns = waited.unwrap_or_else(PoisonError::into_inner);
        }
        turns.begun += 1;
        turns.at_work = true;
        // Cleared before: what another thread puts meanwhile needs another write.
        self.unsynced.store(false, Ordering::SeqCst);
        Ok(Some(turns.begun))
    }

    /// A thread that died left nothing half done behind this lock.
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        Self {
            code: error.raw_os_error(),
            kind: error.kind(),
            text: error.to_string(),
        }
    }

    fn again(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc::channel;

    use super::*;

    fn full() -> io::Result<()> {
        Err(rustix::io::Errno::NOSPC.into())
    }

    #[test]
    fn nothing_is_written_when_nothing_was_put() {
        let barrier = Barrier::default();
        let never = || panic!("there is nothing to write");
        barrier.wait(never).unwrap();
        barrier.mark();
        barrier.wait(|| Ok(())).unwrap();
        barrier.wait(never).unwrap();
    }

    #[test]
    fn after_a_write_that_failed_none_succeeds() {
        let barrier = Barrier::default();
        barrier.mark();
        barrier.wait(full).unwrap_err();
        for put in [false, true] {
            if put {
                barrier.mark();
            }
            let error = barrier.wait(|| Ok(())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn one_who_waits_for_a_write_that_fails_fails_as_well() {
        let barrier = Barrier::default();
        let (begun, has_begun) = channel();
        std::thread::scope(|scope| {
            barrier.mark();
            let other = scope.spawn(|| {
                barrier.wait(|| {
                    begun.send(()).unwrap();
                    // Until the other thread is at its place, or nearly.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    full()
                })
            });
            has_begun.recv().unwrap();
            // Nothing was put since: this waits for the other's write.
            barrier.wait(|| Ok(())).unwrap_err();
            other.join().unwrap().unwrap_err();
        });
    }

    #[test]
    fn what_is_put_during_a_write_needs_another() {
        let barrier = Barrier::default();
        barrier.mark();
        let mut writes = 0;
        barrier
            .wait(|| {
                writes += 1;
                barrier.mark();
                Ok(())
            })
            .unwrap();
        barrier
            .wait(|| {
                writes += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(writes, 2);
    }

    #[test]
    fn what_threads_put_is_on_disk_when_their_wait_ends() {
        let barrier = Barrier::default();
        // What was put, and how much of that is on disk.
        let (put, on_disk) = (AtomicU64::new(0), AtomicU64::new(0));
        let writes = AtomicU64::new(0);
        let sync = || {
            let now = put.load(Ordering::SeqCst);
            std::thread::yield_now();
            on_disk.fetch_max(now, Ordering::SeqCst);
            writes.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let mine = 1 + put.fetch_add(1, Ordering::SeqCst);
                        barrier.mark();
                        barrier.wait(sync).unwrap();
                        assert!(on_disk.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        assert!(writes.load(Ordering::SeqCst) <= 4000);
    }
}
