//! Why a document is refused.

use crate::digest::{Digest, InvalidDigest};

/// A document that is no manifest, index or configuration that hull reads.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Longer than allowed.
    #[error("{what} is {size} bytes long; {limit} are allowed")]
    TooLong {
        /// The kind of document.
        what: &'static str,
        /// Its length, or the one announced.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// No JSON, or not of the expected form.
    #[error("{what} cannot be read: {reason}")]
    Malformed {
        /// The kind of document.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// It could be read as two different things (CVE-2021-41190).
    #[error(
        "the document is ambiguous: it has the fields of an image manifest and of an index; ask whoever published it"
    )]
    Ambiguous,
    /// The two places that give the type disagree.
    #[error("the document calls itself {field:?}, but was announced as {announced:?}")]
    TypeMismatch {
        /// Its `mediaType`.
        field: String,
        /// The Content-Type, or the descriptor's media type.
        announced: String,
    },
    /// A kind of document that hull does not read.
    #[error("a document of the type {0:?} is no image that hull reads")]
    UnknownType(String),
    /// The oldest manifest format.
    #[error(
        "the image has a manifest of Docker's schema 1, which hull does not read; push it again with a current tool"
    )]
    SchemaOne,
    /// A format to come.
    #[error("the document has schemaVersion {0}; 2 is expected")]
    SchemaVersion(u64),
    /// It is an artifact.
    #[error(
        "this is no image: its configuration has the type {0:?} (an artifact, such as a signature?)"
    )]
    NotAnImage(String),
    /// A layer in a format that hull does not read.
    #[error("the layer {digest} has the type {media_type:?}, which hull does not read")]
    LayerType {
        /// The layer's blob.
        digest: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A layer that lies elsewhere.
    #[error("the layer {0} is to be fetched from another place than the image; hull refuses that")]
    ForeignLayer(Digest),
    /// Too many of them.
    #[error("the document lists {count} {what}; {limit} are allowed")]
    TooMany {
        /// Layers or manifests.
        what: &'static str,
        /// How many it lists.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// The configuration belongs to another image.
    #[error("the configuration lists {diff_ids} layers, the manifest {layers}")]
    LayerCount {
        /// Entries of `rootfs.diff_ids`.
        diff_ids: usize,
        /// Entries of `layers`.
        layers: usize,
    },
    /// A digest in it is none.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl ManifestError {
    /// Whether it is no manifest or index of any kind: something else may have answered
    /// in place of who was asked. The rest is as it was published.
    pub(crate) fn is_about_the_answer(&self) -> bool {
        matches!(
            self,
            Self::Malformed { .. }
                | Self::Ambiguous
                | Self::TypeMismatch { .. }
                | Self::SchemaVersion(_)
        )
    }
}
