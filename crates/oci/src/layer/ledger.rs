//! A record on its way: its parts come in the order of the archive, the names of its
//! objects in any.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

use hull_store::stream::StreamBuilder;
use hull_store::{ObjectId, StoreError};

use super::import::ImportError;
use super::path::EntryName;
use super::workers::Done;

/// Parts behind an object that is on its way; more wait for it.
const PARTS: usize = 4096;
/// The same, by the bytes of the parts.
const BYTES: usize = 2 << 20;

/// Writes a record while its objects are being put into the store.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) record: StreamBuilder,
    /// From the first part on that is not in the record yet.
    parts: VecDeque<Part>,
    /// Parts that are in the record: the ticket of the first one in `parts`.
    written: u64,
    /// Bytes in `parts`.
    bytes: usize,
    done: Receiver<Done>,
    sender: Sender<Done>,
}

#[derive(Debug)]
enum Part {
    Inline(Box<[u8]>),
    Object {
        size: u64,
        entry: EntryName,
        id: Option<ObjectId>,
    },
}

impl Ledger {
    pub(super) fn new(record: StreamBuilder) -> Self {
        let (sender, done) = channel();
        Self {
            record,
            parts: VecDeque::new(),
            written: 0,
            bytes: 0,
            done,
            sender,
        }
    }

    /// Where the names of objects go.
    pub(super) fn sender(&self) -> &Sender<Done> {
        &self.sender
    }

    /// Whether so much waits that nothing should be added before [`Self::settle_some`].
    pub(super) fn is_full(&self) -> bool {
        self.parts.len() > PARTS || self.bytes > BYTES
    }

    /// Adds bytes of the archive.
    pub(super) fn inline(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.parts.is_empty() {
            self.written += 1;
            return Ok(self.record.inline(bytes)?);
        }
        self.bytes += bytes.len();
        self.parts.push_back(Part::Inline(bytes.into()));
        Ok(())
    }

    /// Adds an object whose name will come with this ticket.
    pub(super) fn object(&mut self, size: u64, entry: EntryName) -> u64 {
        let ticket = self.written + self.parts.len() as u64;
        self.parts.push_back(Part::Object {
            size,
            entry,
            id: None,
        });
        ticket
    }

    /// Adds an object that is in the store.
    pub(super) fn known_object(
        &mut self,
        id: ObjectId,
        size: u64,
        entry: EntryName,
    ) -> Result<(), ImportError> {
        let ticket = self.object(size, entry);
        self.settle(vec![(ticket, Ok(id))])
    }

    /// Takes the names that have come.
    pub(super) fn settle_ready(&mut self) -> Result<(), ImportError> {
        while let Ok(done) = self.done.try_recv() {
            self.settle(done)?;
        }
        Ok(())
    }

    /// Waits for a name that must come: the threads have the work for it.
    pub(super) fn settle_some(&mut self) -> Result<(), ImportError> {
        let done = self.done.recv().expect("this ledger has a sender itself");
        self.settle(done)
    }

    /// The record, once all names have come.
    pub(super) fn finish(mut self) -> Result<StreamBuilder, ImportError> {
        while !self.parts.is_empty() {
            self.settle_some()?;
        }
        Ok(self.record)
    }

    fn settle(&mut self, done: Done) -> Result<(), ImportError> {
        for (ticket, result) in done {
            let place = usize::try_from(ticket - self.written).ok();
            let part = place.and_then(|place| self.parts.get_mut(place));
            let Some(Part::Object { entry, id, .. }) = part else {
                unreachable!("a name for part {ticket}, which waits for none");
            };
            match result {
                Ok(found) => *id = Some(found),
                Err(source) => return Err(storing(entry, source)),
            }
        }
        while let Some(part) = self.parts.front() {
            match part {
                Part::Inline(bytes) => {
                    self.bytes -= bytes.len();
                    self.record.inline(bytes)?;
                }
                Part::Object {
                    id: Some(id), size, ..
                } => self.record.object(id, *size)?,
                Part::Object { id: None, .. } => break,
            }
            self.parts.pop_front();
            self.written += 1;
        }
        Ok(())
    }
}

pub(super) fn storing(entry: &EntryName, source: StoreError) -> ImportError {
    ImportError::Content {
        entry: entry.clone(),
        source: Box::new(source),
    }
}
