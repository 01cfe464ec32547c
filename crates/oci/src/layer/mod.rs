//! Layers: tar entries in, objects, a record and one merged tree out.
//!
//! [`import()`] reads an uncompressed layer once: file contents become objects,
//! all else goes into the layer's record, a stream of the store. From the record
//! come the [`entries`], of which [`merge()`] makes the tree of an image, and
//! the layer's own bytes ([`export`], [`verify_diff_id`]).

mod entry;
mod guard;
mod import;
mod ledger;
mod memory;
mod merge;
mod parts;
pub mod path;
mod record;
pub mod tar;
#[cfg(test)]
mod tests;
mod whiteout;
mod workers;

pub use entry::{Entry, Item};
pub(crate) use import::{Feed, import_with};
pub use import::{ImportError, Imported, import};
pub(crate) use memory::{Memory, Piece};
pub use merge::{MergeError, Merger, Refusal, merge};
pub use path::{EntryName, EntryPath};
pub use record::{
    CONTENT_TYPE, DiffIdError, Entries, RecordError, entries, export, find, record_name,
    verify_diff_id,
};
pub use tar::TarError;
pub use whiteout::InvalidWhiteout;
pub(crate) use workers::{Workers, run as with_workers};
