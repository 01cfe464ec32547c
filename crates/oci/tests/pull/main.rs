//! Pulling from real registries and layouts, and from a registry that misbehaves.
//!
//! Needs root (for a small file system that fills up), `docker-registry`,
//! `skopeo`, `podman`, `umoci`, `python3`, `openssl` and `gpg`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "it is that of the crate's own tests")]
#[path = "../../src/layer/tests/archive.rs"]
mod archive;
mod auth;
mod certificates;
mod docker_registry;
mod documented;
mod faults;
mod faulty;
mod files;
mod full_disk;
mod gpg;
mod hostile;
mod image;
mod interop;
mod kill;
mod local_store;
mod matrix;
mod network;
mod podman;
mod push;
mod push_faults;
mod push_interop;
mod read_ahead;
mod repair;
mod resume;
#[path = "../serving/mod.rs"]
mod serving;
mod signatures;
mod signed_by;
mod writable;
