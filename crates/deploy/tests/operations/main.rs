//! Whole operations on a machine of two directories: what they do, what is
//! left when they are cut at any step, and what bad images do to them.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod bad_images;
mod busy;
mod cuts;
mod dry_run;
mod full_disks;
mod image;
mod in_force;
mod life;
mod policy;
mod repair;
mod world;
