//! What goes wrong with podman's stores.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::manifest::ManifestError;

/// A store of podman's that does not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The configuration cannot be read.
    #[error("{}: {reason}", path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store of a user is asked for, and who that is is not known.
    #[error(
        "where podman keeps your images cannot be told without a home directory: name the store, as containers-storage:[overlay@/path/to/storage]IMAGE"
    )]
    NoHome,
    /// A storage driver that hull does not read.
    #[error(
        "the storage driver {0:?} is not supported: hull reads overlay's stores; copy the image with `skopeo copy containers-storage:IMAGE oci-archive:FILE`"
    )]
    Driver(String),
    /// There is no store.
    #[error("there is no store of podman's at {}", path.display())]
    NoStore {
        /// Where it should be.
        path: PathBuf,
    },
    /// No image of that name.
    #[error("{}: no image {wanted} in it; it holds: {offered}", store.display())]
    NoImage {
        /// The store.
        store: PathBuf,
        /// The name, ID or digest.
        wanted: String,
        /// Names that it has.
        offered: String,
    },
    /// Several images fit.
    #[error("{}: {wanted} is the name of several images: {offered}", store.display())]
    Ambiguous {
        /// The store.
        store: PathBuf,
        /// The name or ID.
        wanted: String,
        /// What fits.
        offered: String,
    },
    /// podman is at work and does not end.
    #[error("{}: podman has been changing it for two minutes; try again when it is done", .0.display())]
    Busy(PathBuf),
    /// A file of the store cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store's lists are not what podman writes.
    #[error("{}: the store is damaged: {reason}", store.display())]
    Damaged {
        /// The store.
        store: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A document of the image is not one.
    #[error("{}: {source}", store.display())]
    Document {
        /// The store.
        store: PathBuf,
        /// What is wrong.
        source: Box<ManifestError>,
    },
    /// The manifest is another one.
    #[error("{}: the manifest {wanted} is damaged: its digest is {actual}", store.display())]
    Content {
        /// The store.
        store: PathBuf,
        /// What it should be.
        wanted: Box<Digest>,
        /// What it is.
        actual: Box<Digest>,
    },
    /// A layer that is kept as a composefs image.
    #[error("{}: the layer {layer} is kept as a composefs image (use_composefs in storage.conf), of which hull cannot make a layer again; pull the image from its registry", store.display())]
    Composefs {
        /// The store.
        store: PathBuf,
        /// podman's ID of the layer.
        layer: String,
    },
}
