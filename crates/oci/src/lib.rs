//! From an image reference to verified blobs, stored layers and one tree.
//!
//! ```text
//! Reference ─source─▶ manifest, config, blobs ─layer─▶ objects and records ─layer─▶ Tree
//! ```
//!
//! [`pull()`] does the whole way into a store; [`Image`] is what is there then.
//! Everything that comes from outside is bounded, and checked by digest while
//! it streams.

#![forbid(unsafe_code)]

mod commit;
mod decompress;
pub mod digest;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod image;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod policy;
pub mod progress;
pub mod pull;
pub mod push;
mod read_ahead;
pub mod reference;
pub mod source;
pub mod space;
pub mod spool;
mod transfer;

pub use decompress::CompressionMismatch;
pub use digest::Digest;
pub use image::{Image, LoadError};
pub use manifest::{ImageConfig, Manifest};
pub use platform::Platform;
pub use policy::{Policy, PolicyError};
pub use progress::Progress;
pub use pull::{
    Available, PullError, PullOptions, Pulled, Unnamed, fetch, look, pull, pull_in, pull_tree,
};
pub use reference::{Reference, ReferenceError};
pub use spool::Spool;
