//! Images of whole root file systems: made, pulled, and compared with their source.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod bytes;
mod content;
mod databases;
mod layouts;
mod partial;
mod report;
mod selinux;
mod world;
