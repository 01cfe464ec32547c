//! What can be wrong with an archive, and with an entry of it.

use std::io;

use super::EXTENSION_MAX;
use super::pax::PaxProblem;
use super::sparse::SparseProblem;
use crate::layer::path::{EntryName, InvalidPath};
use crate::layer::whiteout::InvalidWhiteout;

/// A number in a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Permissions.
    Mode,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// Length of the data.
    Size,
    /// Time of modification.
    Mtime,
    /// Major number of a device.
    DeviceMajor,
    /// Minor number of a device.
    DeviceMinor,
    /// Length of a sparse file with its holes.
    SparseSize,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive itself could not be read (or decompressed, or downloaded).
    #[error("the layer cannot be read from byte {offset} on")]
    Read {
        /// Bytes of the uncompressed archive before the failure.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The archive ends inside of something.
    #[error("the layer is cut off before byte {offset}, in or after {entry}")]
    Truncated {
        /// How far it should have gone at least.
        offset: u64,
        /// What it ends in.
        entry: EntryName,
    },
    /// A block that should be a header is none.
    #[error("the layer has no tar header at byte {offset}, behind {after}")]
    NoHeader {
        /// Where the block is.
        offset: u64,
        /// The last entry that could be read.
        after: EntryName,
    },
    /// An entry that hull does not take.
    #[error("entry {entry} (byte {offset} of the layer): {problem}")]
    Entry {
        /// Its name, as far as it is known.
        entry: EntryName,
        /// Where its first header is.
        offset: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// More entries or more metadata than a layer may have.
    #[error("the layer has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The most that is taken.
        limit: u64,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its path.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// The path that a hard link leads to.
    #[error("the target {target} of the hard link is refused: {reason}")]
    Target {
        /// The target.
        target: EntryName,
        /// Why.
        reason: InvalidPath,
    },
    /// A symbolic link to nothing, to more than Linux can hold, or with a NUL byte.
    #[error("the target of the symbolic link is empty, too long or has a NUL byte")]
    SymlinkTarget,
    /// A name that begins as a whiteout and is none.
    #[error(transparent)]
    Whiteout(#[from] InvalidWhiteout),
    /// A number in its header block.
    #[error("{0:?} in its header is not a valid number")]
    Number(Field),
    /// A type that images do not hold.
    #[error("type {} is not supported ({meaning})", char::from(*flag).escape_default())]
    Type {
        /// The type flag.
        flag: u8,
        /// What it stands for.
        meaning: &'static str,
    },
    /// The root of the file system is no directory.
    #[error("the root must be a directory")]
    Root,
    /// Its extended header.
    #[error(transparent)]
    Pax(#[from] PaxProblem),
    /// Its sparse map.
    #[error(transparent)]
    Sparse(#[from] SparseProblem),
    /// A header in front of it that is too long.
    #[error("a header in front of it has {0} bytes, more than {EXTENSION_MAX}")]
    ExtensionTooLong(u64),
    /// Two headers of one kind, or very many, in front of it.
    #[error("it has more headers in front of it than one of each kind")]
    TooManyExtensions,
}

pub(super) fn entry_error(name: &[u8], offset: u64, problem: Problem) -> TarError {
    TarError::Entry {
        entry: EntryName::new(name),
        offset,
        problem,
    }
}
