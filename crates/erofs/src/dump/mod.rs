//! The composefs dump file: a tree as text, a line for each name.
//!
//! The format is that of composefs-dump(5), in the spelling of composefs-rs:
//! depth first, names sorted by their bytes, and nanoseconds without leading zeroes.

mod escape;
mod parse;
mod write;

pub use parse::{ParseError, Problem, parse};
pub use write::write;

/// The bits of a mode that hold the type of the inode.
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;
const FIFO: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;
const SYMLINK: u32 = 0o120_000;

/// What stands for an empty field.
const NONE: &[u8] = b"-";
