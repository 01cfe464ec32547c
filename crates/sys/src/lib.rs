//! What hull needs of the kernel, of the processor and of other programs, and of memory where there is much of something.
//!
//! The only crate with `unsafe`, and it knows nothing of hull's formats: file
//! descriptors, bytes, paths and program arguments go in, results come out.

pub mod bits;
pub mod dir;
pub mod direct;
pub mod durable;
pub mod lock;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod run;
pub mod sha512;
pub mod spill;
pub mod status;
pub mod user_namespace;
pub mod verity;
