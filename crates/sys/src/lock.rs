//! Advisory locks on directories (flock).
//!
//! A lock belongs to the guard that took it: two guards in one process exclude
//! each other as two processes do, and the kernel releases the lock of a
//! process that dies.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// How long to wait for a lock that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Up to this long.
    For(Duration),
    /// Until it is free.
    Forever,
}

/// Whether others may hold the lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Shared,
    Exclusive,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it, and did not let go in the time given.
    #[error("another process holds the lock")]
    Busy,
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A lock on a directory, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// An open file description of its own: the lock is a property of it.
    directory: OwnedFd,
}

/// The time between two attempts while waiting with a limit.
const RETRY: Duration = Duration::from_millis(20);

impl Lock {
    /// Takes the lock together with any number of other shared holders.
    pub fn shared(dir: impl AsFd, wait: Wait) -> Result<Self, LockError> {
        Self::take(dir, Sharing::Shared, wait)
    }

    /// Takes the lock alone.
    ///
    /// Waiting holders are not queued: shared ones can starve this.
    pub fn exclusive(dir: impl AsFd, wait: Wait) -> Result<Self, LockError> {
        Self::take(dir, Sharing::Exclusive, wait)
    }

    fn take(dir: impl AsFd, mode: Sharing, wait: Wait) -> Result<Self, LockError> {
        let directory = rustix::fs::openat(
            dir,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(io::Error::from)?;
        match wait {
            Wait::Forever => block(&directory, mode)?,
            Wait::No => attempt(&directory, mode)?,
            Wait::For(limit) => attempt_until(&directory, mode, Instant::now() + limit)?,
        }
        Ok(Self { directory })
    }
}

impl Drop for Lock {
    /// Unlocks rather than only closing: a child that was forked at this moment
    /// shares the descriptor until it executes its program.
    fn drop(&mut self) {
        // It cannot fail on a descriptor that was locked; closing is the fallback.
        rustix::fs::flock(&self.directory, FlockOperation::Unlock).ok();
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn block(directory: &OwnedFd, mode: Sharing) -> Result<(), LockError> {
    let operation = match mode {
        Sharing::Shared => FlockOperation::LockShared,
        Sharing::Exclusive => FlockOperation::LockExclusive,
    };
    rustix::io::retry_on_intr(|| rustix::fs::flock(directory, operation))
        .map_err(|error| LockError::Io(error.into()))
}

fn attempt(directory: &OwnedFd, mode: Sharing) -> Result<(), LockError> {
    let operation = match mode {
        Sharing::Shared => FlockOperation::NonBlockingLockShared,
        Sharing::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(directory, operation)) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(LockError::Busy),
        Err(error) => Err(LockError::Io(error.into())),
    }
}

fn attempt_until(directory: &OwnedFd, mode: Sharing, deadline: Instant) -> Result<(), LockError> {
    loop {
        match attempt(directory, mode) {
            Err(LockError::Busy) if Instant::now() < deadline => std::thread::sleep(RETRY),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, std::fs::File) {
        let temp = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(temp.path()).unwrap();
        (temp, fd)
    }

    #[test]
    fn shared_holders_do_not_exclude_each_other() {
        let (_temp, dir) = directory();
        let _first = Lock::shared(&dir, Wait::No).unwrap();
        let _second = Lock::shared(&dir, Wait::No).unwrap();
    }

    #[test]
    fn an_exclusive_holder_excludes_all_others_of_the_same_process() {
        let (_temp, dir) = directory();
        let held = Lock::exclusive(&dir, Wait::No).unwrap();
        assert!(matches!(Lock::shared(&dir, Wait::No), Err(LockError::Busy)));
        let limit = Wait::For(Duration::from_millis(50));
        assert!(matches!(Lock::exclusive(&dir, limit), Err(LockError::Busy)));
        drop(held);
        Lock::exclusive(&dir, Wait::No).unwrap();
    }

    #[test]
    fn a_waiter_gets_the_lock_when_it_is_released() {
        let (_temp, dir) = directory();
        let held = Lock::shared(&dir, Wait::No).unwrap();
        let waiter = {
            let dir = dir.try_clone().unwrap();
            std::thread::spawn(move || {
                Lock::exclusive(&dir, Wait::For(Duration::from_secs(20))).map(drop)
            })
        };
        std::thread::sleep(Duration::from_millis(60));
        drop(held);
        waiter.join().unwrap().unwrap();
    }
}
