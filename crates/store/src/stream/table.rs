//! The list of a stream's objects, each once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Write};

use hashbrown::HashTable;
use hull_erofs::ObjectId;

use super::spool::Spool;
use crate::error::StoreError;
use crate::object::ObjectWriter;

/// Digests without duplicates, in the order in which they came.
///
/// In memory are eight bytes for each, and room to grow; the digests themselves go to a
/// file once they are many. That is read only for a digest that has the fingerprint of
/// one in the list: nearly always one that is in the list.
#[derive(Debug)]
pub(super) struct Table<S = RandomState> {
    ids: Spool,
    slots: HashTable<Slot>,
    /// Has a key that nobody knows, so that nobody can make files whose digests share a
    /// fingerprint. What the list is does not depend on it.
    hasher: S,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    fingerprint: u32,
    index: u32,
}

impl Slot {
    /// The table takes a bucket from the low bits, and seven bits from the high ones.
    fn hash(&self) -> u64 {
        u64::from(self.fingerprint) << 32 | u64::from(self.fingerprint)
    }
}

impl Table {
    pub(super) fn new(ids: Spool) -> Self {
        Self::with_hasher(ids, RandomState::new())
    }
}

impl<S: BuildHasher> Table<S> {
    fn with_hasher(ids: Spool, hasher: S) -> Self {
        Self {
            ids,
            slots: HashTable::new(),
            hasher,
        }
    }

    /// The place of the digest in the list; it is added where it is new.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or there are 2^32 digests.
    pub(super) fn index_of(&mut self, id: &ObjectId) -> io::Result<u32> {
        let slot = Slot {
            fingerprint: fingerprint(self.hasher.hash_one(id.as_bytes())),
            index: u32::try_from(self.slots.len()).map_err(|_| io::ErrorKind::FileTooLarge)?,
        };
        if let Some(index) = self.find(slot, id)? {
            return Ok(index);
        }
        self.ids.write_all(id.as_bytes())?;
        self.slots.insert_unique(slot.hash(), slot, Slot::hash);
        Ok(slot.index)
    }

    fn find(&self, slot: Slot, id: &ObjectId) -> io::Result<Option<u32>> {
        let mut failure = None;
        let is_same = |other: &Slot| {
            other.fingerprint == slot.fingerprint
                && self.has(other.index, id).unwrap_or_else(|error| {
                    failure = Some(error);
                    true
                })
        };
        let found = self.slots.find(slot.hash(), is_same);
        let index = found.map(|slot| slot.index);
        failure.map_or(Ok(index), Err)
    }

    /// Whether this digest is at that place of the list.
    fn has(&self, index: u32, id: &ObjectId) -> io::Result<bool> {
        let mut there = [0; ObjectId::LEN];
        let offset = u64::from(index) * ObjectId::LEN as u64;
        self.ids.read_at(&mut there, offset)?;
        Ok(there == *id.as_bytes())
    }

    /// The length of the list in bytes.
    pub(super) fn byte_length(&self) -> u64 {
        self.ids.length()
    }

    /// Writes the list.
    pub(super) fn copy_to(self, out: &mut ObjectWriter<'_>) -> Result<(), StoreError> {
        self.ids.copy_to(out)
    }
}

/// Some bits of a hash.
fn fingerprint(hash: u64) -> u32 {
    let [_, _, _, _, a, b, c, d] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, Hasher};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::Scratch;

    /// Gives all the same hash.
    #[derive(Default)]
    struct Same;

    impl Hasher for Same {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    fn id(number: u32) -> ObjectId {
        hull_erofs::fsverity::digest(&number.to_le_bytes())
    }

    /// Feeds the numbers to a table of little memory, and compares it with a plain list.
    fn compare<S: BuildHasher>(scratch: &Scratch, numbers: &[u32], hasher: S) {
        let spool = Spool::with_limit(scratch.store.clone(), 3 * ObjectId::LEN);
        let mut table = Table::with_hasher(spool, hasher);
        let mut list: Vec<u32> = Vec::new();
        for number in numbers {
            let known = list.iter().position(|other| other == number);
            let expected = known.unwrap_or_else(|| {
                list.push(*number);
                list.len() - 1
            });
            let index = table.index_of(&id(*number)).unwrap();
            assert_eq!(usize::try_from(index).unwrap(), expected);
        }
        let session = scratch.store.session().unwrap();
        let bytes: Vec<u8> = list
            .iter()
            .flat_map(|number| *id(*number).as_bytes())
            .collect();
        assert_eq!(table.byte_length(), bytes.len() as u64);
        let mut out = session.writer();
        table.copy_to(&mut out).unwrap();
        let (object, _) = out.finish().unwrap();
        assert_eq!(object, hull_erofs::fsverity::digest(&bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_digest_keeps_the_place_where_it_first_came(
            numbers in prop::collection::vec(0u32..40, 0..100),
        ) {
            let scratch = Scratch::new();
            compare(&scratch, &numbers, RandomState::new());
            compare(&scratch, &numbers, BuildHasherDefault::<Same>::default());
        }
    }

    #[test]
    fn a_digest_costs_eight_bytes_of_memory() {
        assert_eq!(size_of::<Slot>(), 8);
    }
}
