//! What the layers of one pull may take together, looked at while they come: a small
//! blob can stand for hundreds of gigabytes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use hull_store::{Session, StoreError};

use super::tar::TarError;
use crate::space::{Room, shown};

/// The most bytes that all sparse files of a pull may leave out: those are hashed as well.
const HOLES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// What was taken so far.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Once so many bytes were written, the free space is looked at.
    due: AtomicU64,
    /// Bytes of holes in sparse files.
    holes: AtomicU64,
}

impl Guard {
    /// Fails once nothing is left of the store's file system but its margin: what is
    /// written there is missed by everything else that writes to it.
    pub(super) fn check_room(&self, session: &Session) -> Result<(), StoreError> {
        let written = session.written();
        if written <= self.due.load(Ordering::Relaxed) {
            return Ok(());
        }
        let room = Room::on(session.store())
            .map_err(|error| StoreError::io("measuring the free space", error))?;
        let Some(step) = room.step() else {
            return Err(StoreError::NoSpace {
                writing: format!(
                    "the files of layers ({} so far); what is left is kept free",
                    shown(written)
                ),
                source: io::ErrorKind::StorageFull.into(),
            });
        };
        self.due
            .store(written.saturating_add(step), Ordering::Relaxed);
        Ok(())
    }

    /// Counts bytes that a sparse file leaves out.
    pub(super) fn count_holes(&self, count: u64) -> Result<(), TarError> {
        let counted = self
            .holes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |holes| {
                holes.checked_add(count).filter(|sum| *sum <= HOLES_MAX)
            });
        counted.map(drop).map_err(|_| TarError::TooMuch {
            what: "bytes of holes in sparse files, with those of the image's other layers",
            limit: HOLES_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holes_of_all_layers_count_together() {
        let guard = Guard::default();
        guard.count_holes(HOLES_MAX - 1).unwrap();
        guard.count_holes(1).unwrap();
        guard.count_holes(1).unwrap_err();
        Guard::default().count_holes(u64::MAX).unwrap_err();
    }
}
