//! What is wrong with a root file system that is to become the image of an operating system.
//!
//! ```text
//! directory or image ─root─▶ names, read once ─lints─▶ findings, each with its path and what to do
//! ```
//!
//! A [`Lint`] is a pure function over a [`Root`]. Those that bootc has keep bootc's names, so that
//! `--skip` of a build that was made for it means the same; [`LINTS`] is the whole list.
//! Nothing is written, no program of the root is started, and no symbolic link leaves it.

#![forbid(unsafe_code)]

mod accounts;
mod boot;
mod bound_images;
mod config;
mod finding;
mod initrd;
mod labels;
mod layout;
mod leftovers;
mod lints;
mod names;
pub mod root;
mod tmpfiles;

#[cfg(test)]
mod testing;

pub use finding::{Finding, Verdict};
pub use lints::{LINTS, Lint, Outcome, Severity, run};
pub use root::{Root, RootError};
