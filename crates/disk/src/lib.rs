//! Disks: what a target holds, how it is to be divided, and writing it.
//!
//! Everything is staged in two plain directories first, the contents of the
//! root file system and of the EFI system partition. Then a [`plan::DiskPlan`]
//! is made, which is a pure value, and the two directories are packed into
//! the target at its offsets: with no loop device, no mount and no partition
//! device node, so that a raw file and a block device are written alike.
//!
//! Identifiers come from a [`seed::Seed`] and times from the caller: the same
//! input gives the same bytes.

#![forbid(unsafe_code)]

mod busy;
pub mod content;
pub mod esp;
pub mod fat;
pub mod filesystem;
pub mod gpt;
pub mod in_use;
pub mod install;
pub mod install_config;
mod partial;
pub mod plan;
mod reread;
pub mod seed;
pub mod signature;
pub mod size;
mod sparse;
pub mod staging;
pub mod target;
