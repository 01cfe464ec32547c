//! The list of a stream's objects, each once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use hull_erofs::ObjectId;
use hull_sys::spill::Limits;

use super::slots::{Slot, Slots};
use super::spool::Spool;
use crate::error::StoreError;
use crate::object::ObjectWriter;
use crate::store::Store;

/// Digests without duplicates, in the order in which they came.
///
/// What is in memory does not grow with them beyond some MiB. The digests are in a file once they are many, which is
/// read only for a digest that has the fingerprint of one in the list: nearly always one that is in the list.
#[derive(Debug)]
pub(super) struct Table<S = RandomState> {
    ids: Spool,
    length: u32,
    slots: Slots,
    /// Has a key that nobody knows, so that nobody can make files whose digests share a
    /// fingerprint. What the list is does not depend on it.
    hasher: S,
}

impl Table {
    pub(super) fn new(store: &Store) -> Self {
        let limits = Limits {
            directory: format!("/proc/self/fd/{}", store.root().as_raw_fd()).into(),
            ..Limits::default()
        };
        Self::with_hasher(
            Spool::new(store.clone()),
            Slots::new(limits),
            RandomState::new(),
        )
    }
}

impl<S: BuildHasher> Table<S> {
    fn with_hasher(ids: Spool, slots: Slots, hasher: S) -> Self {
        Self {
            ids,
            length: 0,
            slots,
            hasher,
        }
    }

    /// The place of the digest in the list; it is added where it is new.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or there are 2^32 digests.
    pub(super) fn index_of(&mut self, id: &ObjectId) -> io::Result<u32> {
        let fingerprint = fingerprint(self.hasher.hash_one(id.as_bytes()));
        let ids = &self.ids;
        let found = self.slots.find(fingerprint, |index| has(ids, index, id))?;
        if let Some(index) = found {
            return Ok(index);
        }
        let index = self.length;
        self.length = index.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        self.ids.write_all(id.as_bytes())?;
        self.slots.insert(Slot { fingerprint, index });
        Ok(index)
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

/// Whether this digest is at that place of the list.
fn has(ids: &Spool, index: u32, id: &ObjectId) -> io::Result<bool> {
    let mut there = [0; ObjectId::LEN];
    let offset = u64::from(index) * ObjectId::LEN as u64;
    ids.read_at(&mut there, offset)?;
    Ok(there == *id.as_bytes())
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
        let slots = Slots::of_few(Limits::default());
        let mut table = Table::with_hasher(spool, slots, hasher);
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
}
