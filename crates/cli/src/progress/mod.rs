//! Telling how far long work is: bars on a terminal, JSON lines for programs,
//! a line for each stage elsewhere.
//!
//! The work only moves counters ([`tracker`]). A thread of its own looks at
//! them a few times a second and shows what it sees, so nothing that is shown
//! on can hold up the work: neither a stopped terminal nor a stuck reader.

mod fd;
mod json;
mod plain;
mod show;
mod terminal;
mod tracker;

pub(crate) use fd::{InvalidFd, open};
pub(crate) use show::Shown;
