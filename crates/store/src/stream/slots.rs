//! Which places of a list may hold a digest, by a fingerprint of it.

use std::io;

use hashbrown::HashTable;
use hull_sys::spill::{Limits, SpilledVec};

/// A place of the list, with the fingerprint of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) fingerprint: u32,
    pub(super) index: u32,
}

/// A table of them: in memory while they are few, then on disk.
#[derive(Debug)]
pub(super) struct Slots {
    few: HashTable<Slot>,
    few_max: usize,
    many: Option<Cells>,
    limits: Limits,
}

impl Slots {
    /// So many are in memory: 2 MiB of them, with the room that a table needs.
    const FEW: usize = 200_000;

    pub(super) fn new(limits: Limits) -> Self {
        Self {
            few: HashTable::new(),
            few_max: Self::FEW,
            many: None,
            limits,
        }
    }

    #[cfg(test)]
    pub(super) fn of_few(limits: Limits) -> Self {
        Self {
            few_max: 5,
            limits: Limits {
                in_memory: 100,
                ..limits
            },
            ..Self::new(Limits::default())
        }
    }

    /// The first place with this fingerprint of which `is_it` says so.
    ///
    /// # Errors
    ///
    /// That of `is_it`.
    pub(super) fn find(
        &self,
        fingerprint: u32,
        mut is_it: impl FnMut(u32) -> io::Result<bool>,
    ) -> io::Result<Option<u32>> {
        if let Some(many) = &self.many {
            return many.find(fingerprint, is_it);
        }
        let mut failure = None;
        let is_same = |other: &Slot| {
            other.fingerprint == fingerprint
                && is_it(other.index).unwrap_or_else(|error| {
                    failure = Some(error);
                    true
                })
        };
        let found = self.few.find(hash(fingerprint), is_same);
        let index = found.map(|slot| slot.index);
        failure.map_or(Ok(index), Err)
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        if self.many.is_none() && self.few.len() == self.few_max {
            let bits = self.few_max.ilog2() + 2;
            let mut cells = Cells::new(bits, &self.limits);
            std::mem::take(&mut self.few)
                .into_iter()
                .for_each(|slot| cells.insert(slot));
            self.many = Some(cells);
        }
        match &mut self.many {
            Some(many) => many.add(slot, &self.limits),
            None => {
                let hash_of = |slot: &Slot| hash(slot.fingerprint);
                self.few
                    .insert_unique(hash(slot.fingerprint), slot, hash_of);
            }
        }
    }
}

/// The table in memory takes a bucket from the low bits, and seven bits from the high ones.
fn hash(fingerprint: u32) -> u64 {
    u64::from(fingerprint) << 32 | u64::from(fingerprint)
}

/// A table on disk: slots in the order of their fingerprints, more or less, with gaps. One is where the first bits of
/// its fingerprint say, or in the next cell that was free.
#[derive(Debug)]
struct Cells {
    /// The fingerprint in the upper half, the index and one in the lower one; 0 where there is none.
    cells: SpilledVec<u64>,
    /// There are 2 to this power.
    bits: u32,
    filled: usize,
}

impl Cells {
    /// How many are read at once: the one that is looked for is seldom farther than that.
    const ROW: usize = 16;

    fn new(bits: u32, limits: &Limits) -> Self {
        let mut cells = SpilledVec::new(limits.clone());
        let empty = [0; 4096];
        let mut left = 1 << bits;
        while left > 0 {
            cells.extend_from_slice(&empty[..empty.len().min(left)]);
            left -= empty.len().min(left);
        }
        Self {
            cells,
            bits,
            filled: 0,
        }
    }

    fn home(&self, fingerprint: u32) -> usize {
        (fingerprint >> (u32::BITS - self.bits)) as usize
    }

    /// Shows the cells to `look`, from the home of a fingerprint on, until it says that it is done.
    fn walk<E>(
        &self,
        fingerprint: u32,
        mut look: impl FnMut(usize, u64) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut row = Vec::with_capacity(Self::ROW);
        let mut start = self.home(fingerprint);
        loop {
            let end = self.cells.len().min(start + Self::ROW);
            row.clear();
            self.cells.copy(start..end, &mut row);
            for (place, cell) in (start..).zip(&row) {
                if look(place, *cell)? {
                    return Ok(());
                }
            }
            // There are always cells that are free.
            start = end % self.cells.len();
        }
    }

    fn find(
        &self,
        fingerprint: u32,
        mut is_it: impl FnMut(u32) -> io::Result<bool>,
    ) -> io::Result<Option<u32>> {
        let mut found = None;
        self.walk(fingerprint, |_, cell| {
            let Some(slot) = unpack(cell) else {
                return Ok(true);
            };
            if slot.fingerprint == fingerprint && is_it(slot.index)? {
                found = Some(slot.index);
            }
            Ok::<_, io::Error>(found.is_some())
        })?;
        Ok(found)
    }

    /// Adds one; when three of four cells are filled, to a table of twice as many.
    fn add(&mut self, slot: Slot, limits: &Limits) {
        if self.filled >= self.cells.len() / 4 * 3 && self.bits < u32::BITS {
            let mut larger = Self::new(self.bits + 1, limits);
            let slots = self.cells.iter().filter_map(|cell| unpack(*cell));
            slots.for_each(|slot| larger.insert(slot));
            *self = larger;
        }
        self.insert(slot);
    }

    fn insert(&mut self, slot: Slot) {
        let mut free = 0;
        let Ok(()) = self.walk(slot.fingerprint, |place, cell| {
            free = place;
            Ok::<_, std::convert::Infallible>(cell == 0)
        });
        self.cells.set(free, pack(slot));
        self.filled += 1;
    }
}

/// The largest index is that of no slot: there are fewer than 2^32.
fn pack(slot: Slot) -> u64 {
    u64::from(slot.fingerprint) << 32 | (u64::from(slot.index) + 1)
}

fn unpack(cell: u64) -> Option<Slot> {
    let half = |bits: u64| u32::try_from(bits).ok();
    Some(Slot {
        fingerprint: half(cell >> 32)?,
        index: half((cell & u64::from(u32::MAX)).checked_sub(1)?)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Fingerprints that are alike, at the very end, or anywhere.
        #[test]
        fn every_slot_is_found_by_its_fingerprint_and_no_other(
            fingerprints in prop::collection::vec(
                prop_oneof![0..4u32, Just(u32::MAX), Just(u32::MAX - 1), any::<u32>()],
                0..200,
            ),
        ) {
            let mut slots = Slots::of_few(Limits::default());
            let mut model: HashMap<u32, Vec<u32>> = HashMap::new();
            for (index, &fingerprint) in (0..).zip(&fingerprints) {
                slots.insert(Slot { fingerprint, index });
                model.entry(fingerprint).or_default().push(index);
            }
            for fingerprint in fingerprints.iter().copied().chain([77, u32::MAX / 2]) {
                let mut shown = Vec::new();
                let found = slots.find(fingerprint, |index| {
                    shown.push(index);
                    Ok(false)
                });
                prop_assert_eq!(found.unwrap(), None);
                shown.sort_unstable();
                prop_assert_eq!(&shown[..], model.get(&fingerprint).map_or(&[][..], Vec::as_slice));
                for index in shown {
                    let found = slots.find(fingerprint, |other| Ok(other == index));
                    prop_assert_eq!(found.unwrap(), Some(index));
                }
            }
        }
    }

    #[test]
    fn what_goes_wrong_with_a_candidate_is_told() {
        let mut slots = Slots::of_few(Limits::default());
        for index in 0..20 {
            let fingerprint = 1;
            slots.insert(Slot { fingerprint, index });
            let failed = slots.find(1, |_| Err(io::ErrorKind::Other.into()));
            assert!(failed.is_err());
        }
    }
}
