//! Objects, images, streams and roots in one directory.
//!
//! The layout is that of composefs-rs (its `repository_format.rs`), so its
//! tools read, check and collect what this crate writes, and the reverse:
//!
//! ```text
//! meta.json                       format version, digest algorithm, features
//! objects/xx/yyy…                 contents, named by fs-verity digest
//! images/<digest>                 -> ../objects/xx/yyy…   EROFS images
//! images/refs/**                  -> ../<digest>          roots
//! streams/<name>                  -> ../objects/xx/yyy…   files split into objects
//! streams/refs/**                 -> ../<name>            roots
//! ```
//!
//! Everything is written through a [`Session`], in this order: objects, a
//! barrier, the link in `streams/` or `images/`, the root in `refs/`. So what a
//! link leads to is whole after a power cut at any moment, and what nothing
//! leads to is collected by [`gc`].

#![forbid(unsafe_code)]

mod assembly;
mod barrier;
mod doubt;
mod error;
pub mod fsck;
pub mod gc;
mod large;
mod meta;
mod names;
mod object;
mod refs;
mod session;
mod store;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod verity;

pub use assembly::{Assembly, SEGMENT};
pub use error::StoreError;
pub use hull_erofs::ObjectId;
pub use names::Kind;
pub use object::ObjectWriter;
pub use refs::Target;
pub use session::{Session, UnlinkedStream};
pub use store::{Store, Verity};
