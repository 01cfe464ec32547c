//! Streams: a file (a layer's tar, a manifest) split into objects, in
//! composefs-rs's format `SplitStream` (its `splitstream_format.rs`), version 0.
//!
//! What is not worth an object (tar headers, padding, small files) is inline,
//! compressed with zstd; the rest is references to objects. The original bytes
//! can be given back. Named references lead to other streams and to images, and
//! keep them from being collected.

mod builder;
mod format;
mod reader;
mod slots;
mod spool;
mod table;

use hull_erofs::ObjectId;

pub use builder::StreamBuilder;
pub(crate) use reader::References;
pub use reader::{Chunk, StreamReader};

/// Why a stream can't be read.
#[derive(Debug, thiserror::Error)]
#[error("stream object {object} is damaged: {fault}")]
pub struct StreamError {
    /// The object that holds the stream.
    pub object: ObjectId,
    /// What is wrong with it.
    pub fault: StreamFault,
}

/// What is wrong with a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamFault {
    /// It begins with other bytes.
    #[error("it is no stream: it does not begin with \"SplitStream\"")]
    NoStream,
    /// It is of a version that this program does not know.
    #[error("its version is {found}, this program knows 0")]
    Version {
        /// The version in the header.
        found: u8,
    },
    /// It names objects in another way.
    #[error("its digests are of algorithm {algorithm} with blocks of 2^{lg_blocksize} bytes")]
    OtherAlgorithm {
        /// The kernel's number of the hash algorithm.
        algorithm: u8,
        /// The binary logarithm of the block size.
        lg_blocksize: u8,
    },
    /// A section is not within the file.
    #[error("its section {section} is at bytes {start} to {end}, the file has {length}")]
    Section {
        /// Which one.
        section: &'static str,
        /// Its first byte.
        start: u64,
        /// The byte after its last one.
        end: u64,
        /// Bytes in the file.
        length: u64,
    },
    /// A section has an impossible length.
    #[error("its section {section} has an impossible length of {length} bytes")]
    SectionLength {
        /// Which one.
        section: &'static str,
        /// Its length in bytes.
        length: u64,
    },
    /// The list of named references is not what the format says.
    #[error("its named references are damaged: {0}")]
    NamedReferences(&'static str),
    /// A chunk refers to an object that the stream does not list.
    #[error("it refers to object number {index}, it lists {count}")]
    ObjectIndex {
        /// The number in the chunk.
        index: u64,
        /// Objects in the list.
        count: usize,
    },
    /// The content is longer or shorter than the header says.
    #[error("its content has {found} bytes, its header says {expected}")]
    Length {
        /// Bytes seen (so far).
        found: u64,
        /// Bytes in the header.
        expected: u64,
    },
    /// It is not of the kind that the reader wanted.
    #[error("its content type is {found:#x}, not {expected:#x}")]
    ContentType {
        /// The type in the header.
        found: u64,
        /// The type that was wanted.
        expected: u64,
    },
    /// It can't be read or decompressed.
    #[error("it can't be read: {0}")]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
mod tests;
