//! From an image reference to verified blobs, stored layers and one tree.
//!
//! ```text
//! Reference ─source─▶ manifest, config, blobs ─layer─▶ objects and records ─layer─▶ Tree
//! ```
//!
//! Everything that comes from outside is bounded, and checked by digest while
//! it streams.

#![forbid(unsafe_code)]

pub mod digest;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod source;

pub use digest::Digest;
pub use manifest::{ImageConfig, Manifest};
pub use platform::Platform;
pub use reference::Reference;
