//! Places by entry, in four bytes each.

/// For each entry of a scan a place in some table, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places(Vec<u32>);

const NONE: u32 = u32::MAX;

impl Places {
    /// None for any of so many entries.
    pub(super) fn none(entries: usize) -> Self {
        Self(vec![NONE; entries])
    }

    /// The place of an entry.
    pub(crate) fn get(&self, entry: usize) -> Option<usize> {
        let place = self.0[entry];
        (place != NONE).then_some(place as usize)
    }

    /// Gives an entry another place. Tables have fewer than 2^32 - 1 rows, as there are no more entries.
    pub(super) fn set(&mut self, entry: usize, place: Option<usize>) {
        self.0[entry] = place.map_or(NONE, |place| {
            u32::try_from(place).expect("a table has no more rows than there are entries")
        });
    }

    /// Replaces each place by what `of` gives for it.
    pub(super) fn replace(&mut self, of: impl Fn(usize) -> usize) {
        for entry in 0..self.0.len() {
            let place = self.get(entry).map(&of);
            self.set(entry, place);
        }
    }

    /// The place of each entry, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<usize>> {
        (0..self.0.len()).map(|entry| self.get(entry))
    }
}

/// A table without duplicates, in the order in which its rows came.
#[derive(Debug)]
pub(super) struct Table<T> {
    pub(super) rows: Vec<T>,
    places: std::collections::HashMap<T, usize>,
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            rows: Vec::new(),
            places: std::collections::HashMap::new(),
        }
    }

    /// The place of a row, which is added where it is new.
    pub(super) fn place<Q>(&mut self, row: &Q) -> usize
    where
        T: std::borrow::Borrow<Q>,
        Q: Eq + std::hash::Hash + ToOwned<Owned = T> + ?Sized,
    {
        if let Some(&place) = self.places.get(row) {
            return place;
        }
        let place = self.rows.len();
        self.rows.push(row.to_owned());
        self.places.insert(row.to_owned(), place);
        place
    }
}
