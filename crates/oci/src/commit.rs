//! Naming the records of layers that came: several after one write to disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hull_erofs::ObjectId;
use hull_store::{Session, UnlinkedStream};

use crate::digest::Digest;
use crate::progress::{Event, Progress};
use crate::pull::PullError;
use crate::source::{SourceError, Ticket};

/// How long a layer waits for others: small ones come many a second, and after each
/// write to disk the file system lets nobody make a file for a while.
const TOGETHER: Duration = Duration::from_millis(500);

/// A layer whose blob proved right and whose objects and record are in the store; no
/// name leads to the record yet.
pub(crate) struct Came {
    pub(crate) place: usize,
    pub(crate) blob: Digest,
    pub(crate) record: UnlinkedStream,
    pub(crate) ticket: Ticket,
}

/// The first failure of a pull's layers; it stops the others.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    error: Mutex<Option<PullError>>,
    pub(crate) happened: AtomicBool,
}

impl Failure {
    pub(crate) fn set(&self, error: PullError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.happened.store(true, Ordering::Relaxed);
    }

    pub(crate) fn into_result(self) -> Result<(), PullError> {
        let error = self.error.into_inner();
        error
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

/// What is done with layers that came.
pub(crate) struct Commits<'a> {
    pub(crate) session: &'a Session,
    pub(crate) progress: &'a dyn Progress,
    /// Counts the bytes of blobs that were in the spool.
    pub(crate) resumed: &'a AtomicU64,
}

impl Commits<'_> {
    /// Names the records of all layers that come, and gives them by their blobs; ends
    /// when no more can come. What came before a failure is named nevertheless.
    pub(crate) fn run(
        &self,
        layers: &Receiver<Came>,
    ) -> Result<HashMap<Digest, ObjectId>, PullError> {
        let mut records = HashMap::new();
        while let Ok(first) = layers.recv() {
            let came = together(first, layers);
            self.commit(&came)?;
            records.extend(came.iter().map(|came| (came.blob, came.record.id())));
        }
        Ok(records)
    }

    fn commit(&self, came: &[Came]) -> Result<(), PullError> {
        self.session
            .link_streams(came.iter().map(|came| &came.record))?;
        for Came { place, ticket, .. } in came {
            self.resumed.fetch_add(ticket.resumed(), Ordering::Relaxed);
            ticket.remove_part().map_err(SourceError::Spool)?;
            self.progress.report(Event::LayerDone { layer: *place });
        }
        Ok(())
    }
}

/// The first layer, and what comes within [`TOGETHER`] after it.
fn together(first: Came, layers: &Receiver<Came>) -> Vec<Came> {
    let begin = Instant::now();
    let mut came = vec![first];
    while let Some(left) = TOGETHER.checked_sub(begin.elapsed())
        && let Ok(next) = layers.recv_timeout(left)
    {
        came.push(next);
    }
    came
}
