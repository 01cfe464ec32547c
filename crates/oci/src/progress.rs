//! How a pull tells what it is doing.

use crate::digest::Digest;
use crate::reference::Reference;

/// Receives what a pull reports.
///
/// It is called from several threads in the midst of the work, which waits for
/// it: take the event and return. Nothing that it does can fail the pull.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn report(&self, event: Event<'_>);
}

/// What a pull reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The pull goes on to this stage.
    Stage(Stage),
    /// The reference leads to the image with this manifest.
    Resolved {
        /// What was asked for.
        reference: &'a Reference,
        /// The digest of the image's own manifest.
        manifest: &'a Digest,
    },
    /// What people should know about how the image comes: a sentence.
    Remark(&'a str),
    /// The layers of the image, lowest first; comes once, before all that follows.
    Layers(&'a [LayerInfo]),
    /// So many bytes of a layer's blob have been taken, in all. Comes every
    /// few hundred kilobytes.
    LayerBytes {
        /// Its place among the layers.
        layer: usize,
        /// Bytes of the blob.
        bytes: u64,
    },
    /// A layer is in the store.
    LayerDone {
        /// Its place among the layers.
        layer: usize,
    },
}

/// What a pull goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding out which image is meant.
    Resolving,
    /// Fetching and storing layers.
    Fetching,
    /// Writing down the image.
    Recording,
}

/// A layer before it is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerInfo {
    /// The digest of its blob.
    pub digest: Digest,
    /// The length of its blob in bytes.
    pub size: u64,
    /// Whether it needs no fetching: it is in the store, or the same as a layer below.
    pub cached: bool,
}

/// Reports nothing to nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Event<'_>) {}
}
