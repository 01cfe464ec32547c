//! Places by entry, in four bytes each.

use hull_sys::spill::SpilledVec;

/// For each entry of a scan a place in some table, or none. It is on disk, but for some megabytes.
#[derive(Debug, Default)]
pub(crate) struct Places(SpilledVec<u32>);

const NONE: u32 = u32::MAX;

impl Places {
    /// None for any of so many entries.
    pub(crate) fn none(entries: usize) -> Self {
        let mut places = Self::default();
        (0..entries).for_each(|_| places.push(None));
        places
    }

    /// Adds an entry behind the others, with its place.
    pub(super) fn push(&mut self, place: Option<usize>) {
        self.0.push(code(place));
    }

    /// The place of an entry.
    pub(crate) fn get(&self, entry: usize) -> Option<usize> {
        let place = *self.0.get(entry);
        (place != NONE).then_some(place as usize)
    }

    /// Gives an entry another place.
    pub(crate) fn set(&mut self, entry: usize, place: Option<usize>) {
        if self.get(entry) != place {
            self.0.set(entry, code(place));
        }
    }

    /// The same with what `of` gives for each place.
    pub(super) fn map(&self, of: impl Fn(usize) -> usize) -> Self {
        let mut places = Self::default();
        self.iter().for_each(|place| places.push(place.map(&of)));
        places
    }

    /// The place of each entry, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<usize>> {
        (0..self.0.len()).map(|entry| self.get(entry))
    }
}

/// Tables have fewer than 2^32 - 1 rows, as there are no more entries.
fn code(place: Option<usize>) -> u32 {
    place.map_or(NONE, |place| {
        u32::try_from(place).expect("a table has no more rows than there are entries")
    })
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
