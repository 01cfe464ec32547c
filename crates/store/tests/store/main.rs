//! The store from outside: what it writes, what it refuses, what a cut, a full
//! disk and other users at the same time leave behind.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and tells its children by their environment"
)]

mod assembly;
mod concurrent;
mod crash;
mod direct;
mod full_disk;
mod scratch;
mod write;
