//! The kernel reads the partition table of a disk that was written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::busy::while_busy;
use crate::target::TargetError;

/// For how long the kernel is asked again while something has a partition open: a worker of
/// udev that looks at those that were there before, above all.
const PATIENCE: Duration = Duration::from_secs(10);

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
