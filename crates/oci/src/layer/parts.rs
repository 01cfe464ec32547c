//! The entries of an image's layers, read in parts of bounded length.
//!
//! Each part can be applied as if it were a layer of its own: the whiteouts of a layer
//! are in its first part, unless nothing is below it that they could hide.

use std::num::NonZero;
use std::sync::mpsc;
use std::{mem, thread};

use hull_erofs::ObjectId;
use hull_store::Store;

use super::entry::{Entry, ImageBudget};
use super::merge::MergeError;
use super::record::{self, Entries};
use super::whiteout::Whiteout;

/// How long parts are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// A layer of fewer entries is read as one part; the record of another is read twice, the
    /// first time for its whiteouts.
    pub(super) whole: usize,
    /// How many entries the parts of the lowest layer have, and those of one that is not read as a whole.
    pub(super) part: usize,
}

/// An entry takes 200 bytes and its names.
pub(super) const LENGTHS: Lengths = Lengths {
    whole: 16 << 10,
    part: 2 << 10,
};

/// Hands the layers to `take`, the lowest first, with the name of their record, part by part.
///
/// Threads read ahead: each a part of every Nth layer. What they read comes off the budget,
/// so that is bounded as well.
pub(super) fn for_each_part(
    store: &Store,
    layers: &[ObjectId],
    budget: &ImageBudget,
    lengths: Lengths,
    mut take: impl FnMut(&ObjectId, Vec<Entry>) -> Result<(), MergeError>,
) -> Result<(), MergeError> {
    let parts = |(index, record)| Parts::new(store, record, index == 0, budget, lengths);
    let layers = || layers.iter().enumerate();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    if threads < 2 {
        for (index, record) in layers() {
            for part in parts((index, record)) {
                take(record, part?)?;
            }
        }
        return Ok(());
    }
    let threads = threads.min(layers().len());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                let (sender, receiver) = mpsc::sync_channel(0);
                let mine = layers().skip(thread).step_by(threads);
                scope.spawn(move || {
                    // Nothing stands for the end of a layer.
                    mine.flat_map(|layer| parts(layer).map(Some).chain([None]))
                        .try_for_each(|part| sender.send(part))
                });
                receiver
            })
            .collect();
        for (index, record) in layers() {
            // One that hangs up early panicked, and so will the scope.
            while let Ok(Some(part)) = threads[index % threads.len()].recv() {
                take(record, part?)?;
            }
        }
        Ok(())
    })
}

/// The parts of a layer. After an error there are no more.
struct Parts<'a> {
    store: &'a Store,
    record: &'a ObjectId,
    budget: &'a ImageBudget,
    lengths: Lengths,
    state: State,
}

enum State {
    /// Nothing was read.
    Unread { is_lowest: bool },
    /// Too many entries to keep, and some whiteouts were. What they hide is below them, so they can come in parts.
    Whiteouts { entries: Box<Entries> },
    /// The whiteouts were, or are of no use.
    Rest {
        entries: Box<Entries>,
        /// Whether these entries came off the budget before.
        spent: bool,
    },
    /// All was read.
    End,
}

impl<'a> Parts<'a> {
    fn new(
        store: &'a Store,
        record: &'a ObjectId,
        is_lowest: bool,
        budget: &'a ImageBudget,
        lengths: Lengths,
    ) -> Self {
        Self {
            store,
            record,
            budget,
            lengths,
            state: State::Unread { is_lowest },
        }
    }

    fn read(&mut self) -> Result<Option<Vec<Entry>>, MergeError> {
        match mem::replace(&mut self.state, State::End) {
            State::Unread { is_lowest: true } => self.rest(self.open()?, false),
            State::Unread { is_lowest: false } => self.whole_or_whiteouts().map(Some),
            State::Whiteouts { entries } => self.whiteouts(entries, Vec::new()).map(Some),
            State::Rest { entries, spent } => self.rest(entries, spent),
            State::End => Ok(None),
        }
    }

    fn open(&self) -> Result<Box<Entries>, MergeError> {
        Ok(Box::new(record::entries(self.store, self.record)?))
    }

    fn whole_or_whiteouts(&mut self) -> Result<Vec<Entry>, MergeError> {
        let mut part = Vec::new();
        let mut entries = self.open()?;
        for entry in entries.by_ref().take(self.lengths.whole) {
            part.push(self.spend(entry?)?);
        }
        if part.len() < self.lengths.whole {
            return Ok(part);
        }
        part.retain(is_whiteout);
        self.whiteouts(entries, part)
    }

    fn whiteouts(
        &mut self,
        mut entries: Box<Entries>,
        mut part: Vec<Entry>,
    ) -> Result<Vec<Entry>, MergeError> {
        for entry in entries.by_ref() {
            part.extend(Some(self.spend(entry?)?).filter(is_whiteout));
            if part.len() >= self.lengths.whole {
                self.state = State::Whiteouts { entries };
                return Ok(part);
            }
        }
        self.state = State::Rest {
            entries: self.open()?,
            spent: true,
        };
        Ok(part)
    }

    fn rest(
        &mut self,
        mut entries: Box<Entries>,
        spent: bool,
    ) -> Result<Option<Vec<Entry>>, MergeError> {
        let mut part = Vec::with_capacity(self.lengths.part);
        for entry in entries.by_ref() {
            let entry = if spent { entry? } else { self.spend(entry?)? };
            if !is_whiteout(&entry) {
                part.push(entry);
            }
            if part.len() == self.lengths.part {
                self.state = State::Rest { entries, spent };
                break;
            }
        }
        Ok((!part.is_empty()).then_some(part))
    }

    fn spend(&self, entry: Entry) -> Result<Entry, MergeError> {
        match self.budget.spend(&entry) {
            Ok(()) => Ok(entry),
            Err(what) => Err(MergeError::TooMuch { what }),
        }
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<Vec<Entry>, MergeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn is_whiteout(entry: &Entry) -> bool {
    Whiteout::at(&entry.path).is_some()
}
