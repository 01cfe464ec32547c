//! Why an image could not be written.

use std::io;
use std::path::PathBuf;

use crate::digest::{BlobError, Digest};
use crate::image::LoadError;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::policy::PolicyError;
use crate::source::{SourceError, UploadError};

/// Writing an image that failed. Blobs that were written stay where they are, and are
/// used by the next try; no name leads to the image.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The source did not give what was asked for, or the place cannot be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry did not take it.
    #[error(transparent)]
    Upload(#[from] Box<UploadError>),
    /// The policy does not let the image through, or cannot be followed. Nothing was
    /// written.
    #[error(transparent)]
    Policy(#[from] Box<PolicyError>),
    /// The image is not in hull's store, or not whole.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// No image of that name in hull's store.
    #[error("hull's store has no image {wanted}; it has: {offered}")]
    NoImage {
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// A document is malformed.
    #[error("{place}: {source}")]
    Document {
        /// Where it came from.
        place: String,
        /// What is wrong.
        source: Box<ManifestError>,
    },
    /// No image for the platform.
    #[error(
        "{place}: there is no image for {wanted}; --platform names another one, --all copies all"
    )]
    NoPlatform {
        /// Where the index came from.
        place: String,
        /// What was looked for.
        wanted: Box<Platform>,
    },
    /// The image stands alone, and is for another platform than the one that was named.
    #[error("{place}: the image is for {found}, not for {wanted}")]
    WrongPlatform {
        /// Where it came from.
        place: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What the image's configuration says.
        found: Box<Platform>,
    },
    /// A blob broke off, or is another one.
    #[error("{place}: the blob {digest} could not be read")]
    Read {
        /// Where it came from.
        place: String,
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A blob is cut short, too long or another one.
    #[error("{place}: {source}; nothing was published")]
    Content {
        /// Where it came from.
        place: String,
        /// What is wrong.
        source: Box<BlobError>,
    },
    /// A layer is not what the configuration says.
    #[error(
        "the layer {layer} unpacks to {actual}, and the configuration says {expected}; nothing was published"
    )]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// What the configuration says.
        expected: Box<Digest>,
        /// What it is.
        actual: Box<Digest>,
    },
    /// A file of a layout or an archive cannot be written.
    #[error("{}: {what}", path.display())]
    Write {
        /// The directory or archive.
        path: PathBuf,
        /// What of it.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// What is in the directory is no layout.
    #[error("{}: {reason}; nothing was changed", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The place does not take that.
    #[error("{place}: {reason}")]
    Unsupported {
        /// The place.
        place: String,
        /// Why not.
        reason: &'static str,
    },
    /// The names of hull's images cannot be read.
    #[error(transparent)]
    Store(#[from] hull_store::StoreError),
}

impl PushError {
    /// A blob that could not be read, or is another one.
    pub(super) fn reading(place: String, digest: Digest, source: io::Error) -> Self {
        match BlobError::find(&source) {
            Some(content) => Self::Content {
                place,
                source: Box::new(content.clone()),
            },
            None => Self::Read {
                place,
                digest,
                source,
            },
        }
    }
}
