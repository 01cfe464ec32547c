//! The times that entries have in the image.

use hull_erofs::tree::Timestamp;

use super::places::{Places, Table};
use crate::scan::Scan;

/// For each entry a time, in four bytes: there are few that are not the entry's own.
#[derive(Debug)]
pub(super) struct Times {
    /// Places in the table; none where an entry keeps its own time.
    of_entry: Places,
    table: Table<Timestamp>,
}

impl Times {
    /// Of no entry.
    pub(super) fn new() -> Self {
        Self {
            of_entry: Places::default(),
            table: Table::new(),
        }
    }

    /// Adds the time of the next entry.
    pub(super) fn push(&mut self, scan: &Scan, entry: usize, time: Timestamp) {
        let place = self.place(scan, entry, time);
        self.of_entry.push(place);
    }

    pub(super) fn get(&self, scan: &Scan, entry: usize) -> Timestamp {
        match self.of_entry.get(entry) {
            Some(place) => self.table.rows[place],
            None => scan.entries.mtime(entry),
        }
    }

    pub(super) fn set(&mut self, scan: &Scan, entry: usize, time: Timestamp) {
        let place = self.place(scan, entry, time);
        self.of_entry.set(entry, place);
    }

    fn place(&mut self, scan: &Scan, entry: usize, time: Timestamp) -> Option<usize> {
        let own = scan.entries.mtime(entry) == time;
        (!own).then(|| self.table.place(&time))
    }
}
