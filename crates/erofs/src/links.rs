//! The leaves that several names lead to.

use hull_sys::bits::{Bits, Ranks};
use hull_sys::spill::SpilledVec;

use crate::tree::{LeafId, Node, Tree};

/// How many names lead to each leaf of a tree. Of those with one name it knows no more than that, in two bits.
#[derive(Debug)]
pub struct HardLinks {
    several: Ranks,
    /// By rank, how many more than one.
    more: SpilledVec<u32>,
}

impl HardLinks {
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut named = Bits::none(tree.leaf_count());
        let mut several = Bits::none(tree.leaf_count());
        // The leaves of all names but the first of each.
        let mut again = SpilledVec::default();
        let mut open = vec![tree.root().entries()];
        while let Some(entries) = open.last_mut() {
            match entries.next() {
                Some((_, Node::Directory(inner))) => open.push(inner.entries()),
                Some((_, Node::Leaf(id))) => {
                    if named.set(id.index(), true) {
                        several.set(id.index(), true);
                        again.push(id.0);
                    }
                }
                None => drop(open.pop()),
            }
        }
        let several = Ranks::of(several);
        let mut more: SpilledVec<u32> = std::iter::repeat_n(0, several.len()).collect();
        for id in again.iter() {
            if let Some(rank) = several.rank(LeafId(*id).index()) {
                more.update(rank, |more| *more += 1);
            }
        }
        Self { several, more }
    }

    /// How many leaves have several names.
    pub fn len(&self) -> usize {
        self.several.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a leaf among those with several names, from 0; none if it is not one of them.
    pub fn rank(&self, id: LeafId) -> Option<usize> {
        self.several.rank(id.index())
    }

    /// How many names lead to a leaf: 1 also of one that no name leads to.
    pub fn names(&self, id: LeafId) -> u32 {
        self.rank(id).map_or(1, |rank| 1 + *self.more.get(rank))
    }
}
