//! What the readers of package databases have in common.

use std::error::Error;
use std::ops::Range;

use crate::scan::{FullPath, Scan};

/// The longest file of a database that is text, in MiB.
const FILE_MAX: u64 = 256;

/// A package database that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: the package database cannot be read; repair it, or --exclude it to do without")]
pub struct DatabaseError {
    path: FullPath,
    source: Box<dyn Error + Send + Sync>,
}

impl DatabaseError {
    pub(super) fn new(path: &[u8], source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            path: FullPath::new(path),
            source: source.into(),
        }
    }
}

/// A file of a database; nothing where there is none, or it is not part of the image.
pub(super) fn read_file(scan: &Scan, path: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
    let limit = FILE_MAX << 20;
    let size = scan.find(path).and_then(|place| scan.entries.size(place));
    if size.is_some_and(|size| size > limit) {
        let reason = format!("it is longer than {FILE_MAX} MiB");
        return Err(DatabaseError::new(path, reason));
    }
    scan.read_start(path, limit)
        .map_err(|error| DatabaseError::new(path, error))
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}

/// The places of the entries whose paths begin so.
pub(super) fn beginning(scan: &Scan, prefix: &[u8]) -> Range<usize> {
    scan.entries.beginning(prefix)
}

/// The places of all that is below a directory.
pub(super) fn below(scan: &Scan, directory: &[u8]) -> Range<usize> {
    beginning(scan, &join(directory, b""))
}

/// The names in a directory, in order.
pub(super) fn children<'a>(scan: &'a Scan, directory: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let above = scan.find(directory);
    below(scan, directory)
        .filter(move |&place| scan.entries.parent(place) == above)
        .map(|place| scan.entries.name(place))
}
