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
    /// Each entry's own.
    pub(super) fn of(scan: &Scan) -> Self {
        Self {
            of_entry: Places::none(scan.entries.len()),
            table: Table::new(),
        }
    }

    pub(super) fn get(&self, scan: &Scan, entry: usize) -> Timestamp {
        match self.of_entry.get(entry) {
            Some(place) => self.table.rows[place],
            None => scan.entries.mtime(entry),
        }
    }

    pub(super) fn set(&mut self, scan: &Scan, entry: usize, time: Timestamp) {
        let own = scan.entries.mtime(entry) == time;
        let place = (!own).then(|| self.table.place(&time));
        self.of_entry.set(entry, place);
    }
}
