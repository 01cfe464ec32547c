//! Disks that somebody else has open for a moment.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(100);

/// Tries again, for so long, while the answer is that the device is busy.
pub(crate) fn while_busy<T>(
    limit: Duration,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
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
    use rustix::io::Errno;

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
