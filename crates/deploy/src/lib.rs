//! What a machine has and should have: seal and stage, upgrade, switch, roll
//! back, retain.
//!
//! Each operation observes ([`machine`]), decides (pure functions over
//! [`state::HostState`]), and then acts, all under one lock. Its commit point
//! is one new boot entry; what is old goes afterwards.

#![forbid(unsafe_code)]

pub mod bless;
pub mod boot_options;
pub mod cleanup;
pub mod enable_verity;
pub mod etc_preview;
pub mod foresee;
pub mod given_up;
pub mod history;
pub mod image_files;
pub mod install;
pub mod machine;
pub mod materialize;
pub mod repair;
pub mod retention;
pub mod rollback;
pub mod room;
mod root_keys;
pub mod running;
pub mod seal;
pub mod stage;
pub mod state;
pub mod update;
