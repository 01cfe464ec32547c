//! Which entries each layer has.

use std::cmp::Reverse;
use std::ops::Range;

use hull_sys::spill::SpilledVec;

/// The entries of a layer that are kept in memory until they are put behind those of others.
const AT_ONCE: usize = 1024;

/// The entries of each layer, as places in the scan. They are on disk, but for some megabytes.
#[derive(Debug)]
pub(crate) struct Members {
    entries: SpilledVec<u32>,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone, Default)]
struct Layer {
    /// Where its entries are, but for the last ones.
    pieces: Vec<Range<usize>>,
    last: Vec<u32>,
    /// The bytes of all.
    size: u64,
}

impl Members {
    /// No entries, for so many layers.
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            entries: SpilledVec::default(),
            layers: vec![Layer::default(); layers],
        }
    }

    /// Adds an entry of so many bytes to a layer.
    pub(crate) fn push(&mut self, layer: usize, entry: usize, size: u64) {
        let layer = &mut self.layers[layer];
        let entry = u32::try_from(entry).expect("a root has fewer than 2^32 entries");
        layer.last.push(entry);
        layer.size += size;
        if layer.last.len() == AT_ONCE {
            let start = self.entries.extend_from_slice(&layer.last);
            layer.pieces.push(start..start + AT_ONCE);
            layer.last.clear();
        }
    }

    /// The entries of a layer, in the order in which they were added.
    pub(crate) fn of(&self, layer: usize) -> impl Iterator<Item = usize> {
        let Layer { pieces, last, .. } = &self.layers[layer];
        let pieces = pieces.iter().map(|piece| self.entries.slice(piece.clone()));
        let all = pieces.chain([&**last]).flatten();
        all.map(|&entry| entry as usize)
    }

    /// The layers, the largest first, so that none of them is begun last and waited for.
    pub(crate) fn by_size(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by_key(|&place| Reverse(self.layers[place].size));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_its_entries_in_order_and_the_largest_comes_first() {
        let mut members = Members::new(4);
        let layer_of = |entry: usize| [0, 2, 2, 3][entry % 4];
        for entry in 0..10_000 {
            members.push(layer_of(entry), entry, entry as u64);
        }
        for layer in 0..4 {
            let expected = (0..10_000).filter(|&entry| layer_of(entry) == layer);
            assert!(members.of(layer).eq(expected), "{layer}");
        }
        assert_eq!(members.by_size(), [2, 3, 0, 1]);
    }
}
