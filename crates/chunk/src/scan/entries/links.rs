//! The names of inodes that have several.

use std::collections::HashMap;

use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::scan::Inode;

/// The names whose inodes are compared at once. Each takes some 30 bytes for that time.
const AT_ONCE: usize = 100_000;

/// Which entries are names of one inode: roots that others were made from have several names of every file.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// By entry.
    rows: SpilledVec<Link>,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Link {
    number: u64,
    device: [u32; 2],
    entry: u32,
    /// The first entry that is a name of the same inode.
    first: u32,
}

impl Link {
    fn inode(&self) -> Inode {
        Inode {
            device: self.device.into(),
            number: self.number,
        }
    }

    /// Which of so many parts of all inodes it is in.
    fn part(&self, of: u64) -> u64 {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        (self.number.wrapping_mul(SPREAD) >> 32) % of
    }
}

impl Links {
    /// Adds an entry, which comes behind the others.
    pub(super) fn push(&mut self, entry: u32, inode: Inode) {
        self.rows.push(Link {
            number: inode.number,
            device: inode.device.into(),
            entry,
            first: entry,
        });
    }

    pub(super) fn inode(&self, entry: usize) -> Option<Inode> {
        Some(self.rows.get(self.index(entry)?).inode())
    }

    /// Where an entry is among those that are here.
    pub(crate) fn index(&self, entry: usize) -> Option<usize> {
        let entry_of = |index: usize| self.rows.get(index).entry as usize;
        let index = super::partition_point(0..self.rows.len(), |index| entry_of(index) < entry);
        (index < self.rows.len() && entry_of(index) == entry).then_some(index)
    }

    /// Each entry, in order, with the first name of its inode.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (usize, usize)> {
        let rows = self.rows.iter();
        rows.map(|link| (link.entry as usize, link.first as usize))
    }

    /// The first name of the inode of an entry.
    pub(super) fn first(&self, entry: usize) -> Option<usize> {
        Some(self.rows.get(self.index(entry)?).first as usize)
    }

    /// Finds the first name of each inode, in parts of them: all at once might be more than memory should hold.
    pub(super) fn join(&mut self) {
        self.join_by(AT_ONCE);
    }

    fn join_by(&mut self, at_once: usize) {
        let parts = self.rows.len().div_ceil(at_once) as u64;
        for part in 0..parts {
            let mut firsts: HashMap<Inode, u32> = HashMap::new();
            for index in 0..self.rows.len() {
                let link = *self.rows.get(index);
                if link.part(parts) != part {
                    continue;
                }
                let first = *firsts.entry(link.inode()).or_insert(link.entry);
                if first != link.first {
                    self.rows.set(index, Link { first, ..link });
                }
            }
        }
    }

    /// The same of entries that were moved; their order must be as it was.
    pub(super) fn moved(&self, to: impl Fn(u32) -> u32) -> Self {
        let mut links = Self::default();
        for link in self.rows.iter() {
            links.rows.push(Link {
                entry: to(link.entry),
                first: to(link.first),
                ..*link
            });
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_name_is_found_in_however_many_parts(
            numbers in proptest::collection::vec(0u64..20, 0..60),
            at_once in 1usize..70,
        ) {
            let mut links = Links::default();
            for (entry, &number) in (0..).zip(&numbers) {
                // Entries of one name lie between.
                links.push(entry * 2, Inode { device: (0, (number % 2) as u32), number: number / 2 });
            }
            links.join_by(at_once);
            for (index, number) in numbers.iter().enumerate() {
                let first = numbers.iter().position(|other| other == number).unwrap();
                prop_assert_eq!(links.first(index * 2), Some(first * 2));
                prop_assert_eq!(links.first(index * 2 + 1), None);
            }
        }
    }
}
