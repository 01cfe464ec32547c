//! The kernel reads the partition table of a disk that was written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::target::TargetError;

/// For how long the kernel is asked again while something has a partition open: a worker of
/// udev that looks at those that were there before, above all.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);

/// Lets the kernel see the partitions of the disk.
pub(crate) fn reread(path: &Path, mut claim: File) -> Result<(), TargetError> {
    let result = while_busy(PATIENCE, || {
        // With this lock on the whole disk, workers of udev leave its partitions alone. The
        // one who has it is waited for, but need not be udev: the kernel has the last word.
        rustix::fs::flock(&claim, FlockOperation::NonBlockingLockExclusive).ok();
        attempt(&mut claim)
    });
    match result {
        // A device without partitions, such as a loop device made without -P.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result.map_err(|source| TargetError::Reread {
            path: path.into(),
            source,
        }),
    }
}

fn attempt(disk: &mut File) -> io::Result<()> {
    match gptman::linux::reread_partition_table(disk) {
        Ok(()) => Ok(()),
        Err(gptman::linux::BlockError::RereadTable(error)) => Err(error.into()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Tries again, for so long, while the answer is that the device is busy.
fn while_busy(limit: Duration, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Result<()> {
        Err(errno.into())
    }

    #[test]
    fn a_busy_disk_is_tried_again_until_it_is_free() {
        let mut answers = vec![Ok(()), error(Errno::BUSY), error(Errno::BUSY)];
        while_busy(Duration::from_secs(60), || answers.pop().unwrap()).unwrap();
        assert!(answers.is_empty());
    }

    #[test]
    fn a_disk_that_stays_busy_is_given_up_and_another_error_is_not_tried_again() {
        let busy = while_busy(Duration::ZERO, || error(Errno::BUSY)).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        let mut asked = 0;
        let invalid = while_busy(Duration::from_secs(60), || {
            asked += 1;
            error(Errno::INVAL)
        });
        assert_eq!(invalid.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(asked, 1);
    }
}
