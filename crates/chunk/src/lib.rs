//! From a root file system to an image whose layers update cheaply.
//!
//! ```text
//! directory ─scan─▶ entries ─components─▶ components ─pack─▶ plan ─layer─▶ blobs ─image─▶ OCI layout
//! ```
//!
//! The same content gives the same bytes, whatever the clock, the number of
//! threads, or the order of directories; see [`components`] for times. What the
//! image holds is compared with its source by [`verify`].

#![forbid(unsafe_code)]

pub mod build;
pub mod components;
mod error;
pub mod frequency;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod image;
pub mod layer;
pub mod learn;
mod members;
pub mod pack;
pub mod plan_file;
pub mod report;
pub mod scan;
pub mod scratch;
pub mod selinux;
pub mod verify;

pub use error::{ChunkError, Refusals};
