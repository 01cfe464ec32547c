//! A pull that failed.

use hull_store::StoreError;

use crate::digest::Digest;
use crate::layer;
use crate::manifest::ManifestError;
use crate::platform::Platform;
use crate::policy::PolicyError;
use crate::source::SourceError;
use crate::space::{Need, Room, shown};

/// How deep indexes may lie in each other.
pub(super) const MAX_NESTING: usize = 3;

/// A pull that failed. The store is as it was, but for objects and layers that no
/// reference leads to: the next try uses them, else a collection takes them.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The source did not give what was asked for.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The policy does not let the image through, or cannot be followed. Nothing was fetched.
    #[error(transparent)]
    Policy(#[from] Box<PolicyError>),
    /// A manifest, an index or a configuration is not one.
    #[error("{place}: {source}")]
    Document {
        /// Where it came from.
        place: String,
        /// What is wrong.
        source: Box<ManifestError>,
    },
    /// No image for this machine.
    #[error("{place}: there is no image for {wanted}; on offer: {offered}")]
    NoPlatform {
        /// Where the index came from.
        place: String,
        /// What was looked for.
        wanted: Box<Platform>,
        /// What there is.
        offered: String,
    },
    /// The image is for another machine.
    #[error("{place}: the image is for {found}, not for {wanted}")]
    WrongPlatform {
        /// Where it came from.
        place: String,
        /// What was looked for.
        wanted: Box<Platform>,
        /// What the image's configuration says.
        found: Box<Platform>,
    },
    /// An index in an index, and so on.
    #[error("{place}: indexes are nested more than {MAX_NESTING} deep")]
    Nested {
        /// Where they came from.
        place: String,
    },
    /// A blob is cut short, too long or another one.
    #[error("{source}; nothing of it was kept")]
    Content {
        /// Where it came from, and what is wrong.
        source: Box<SourceError>,
    },
    /// A blob of an image on this machine cannot be read to its end; a registry's is a [`SourceError`].
    #[error("{place}: layer {layer}: it cannot be read to its end")]
    Transfer {
        /// Where it came from.
        place: String,
        /// The layer's blob.
        layer: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A blob is not compressed as it should be.
    #[error(
        "{place}: layer {layer}: it cannot be decompressed; the image is damaged where it comes from"
    )]
    Decompress {
        /// Where it came from.
        place: String,
        /// The layer's blob.
        layer: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A layer is no tar archive that can be imported, or the store is full.
    #[error("{place}: layer {layer}: it cannot be imported")]
    Layer {
        /// Where it came from.
        place: String,
        /// The layer's blob.
        layer: Digest,
        /// Why.
        source: Box<layer::ImportError>,
    },
    /// The layers of the image do not go together.
    #[error("{}; no name leads to the image", no_tree(place, layer.as_ref()))]
    Merge {
        /// Where the image came from.
        place: String,
        /// The layer that does not go onto those below it, where it is one.
        layer: Option<Digest>,
        /// Why.
        source: Box<layer::MergeError>,
    },
    /// The import stopped before the end of the blob, so its digest is unknown.
    #[error("{place}: layer {layer}: it was not read to its end")]
    NotRead {
        /// Where it came from.
        place: String,
        /// The layer's blob.
        layer: Digest,
    },
    /// The image does not fit on the file system of the store.
    #[error("{}; nothing was downloaded", no_room(place, need, room))]
    NoRoom {
        /// Where the image is.
        place: String,
        /// What it needs.
        need: Need,
        /// What is free.
        room: Room,
    },
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn no_tree(place: &str, layer: Option<&Digest>) -> String {
    match layer {
        Some(layer) => {
            format!("{place}: layer {layer}: it does not go together with the layers below it")
        }
        None => format!("{place}: the layers cannot be put together"),
    }
}

fn no_room(place: &str, need: &Need, room: &Room) -> String {
    let Need {
        content, downloads, ..
    } = need;
    if need.bytes() <= room.bytes {
        return format!(
            "{place}: too little space: the image needs about {} files, and the store's file system has room for {}",
            need.files,
            room.files.unwrap_or(0)
        );
    }
    format!(
        "{place}: too little space: the image needs about {} on the store's file system ({} of files, {} of downloads under way), and {} can be used there",
        shown(need.bytes()),
        shown(*content),
        shown(*downloads),
        shown(room.bytes)
    )
}

impl PullError {
    /// Whether the file system of the store is full.
    pub fn is_no_space(&self) -> bool {
        let store = match self {
            Self::NoRoom { .. } => return true,
            Self::Store(error) => error,
            Self::Layer { source, .. } => match &**source {
                layer::ImportError::Content { source, .. } => source,
                layer::ImportError::Record(source) => source,
                layer::ImportError::Tar(_) => return false,
            },
            _ => return false,
        };
        matches!(store, StoreError::NoSpace { .. })
    }

    /// Whether a blob is not what it should be, so that no part of it is worth keeping.
    pub(super) fn is_about_content(&self) -> bool {
        match self {
            Self::Content { .. } | Self::Decompress { .. } | Self::NotRead { .. } => true,
            Self::Layer { source, .. } => matches!(**source, layer::ImportError::Tar(_)),
            _ => false,
        }
    }
}
