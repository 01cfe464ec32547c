//! Writing images: from any source, or from hull's store, to a registry, a layout or
//! an archive.
//!
//! ```text
//! source ─┐                        ┌─▶ registry
//!         ├─▶ blobs ─▶ manifest ─▶ ┼─▶ oci:, oci-archive:
//! store ──┘                        └─▶ docker-archive:
//! ```
//!
//! Blobs go before the manifest that names them, and what a place has already is not
//! sent. Nothing is changed on the way unless it has to be; then the digest changes, and
//! [`Copied::remarks`] says so.

mod blobs;
mod compress;
mod copy;
mod docker_archive;
mod error;
mod layout;
mod oci_archive;
mod outcome;
mod registry;
mod stored;
mod tar_end;
mod tar_file;

use std::io::{self, Read};

pub use self::blobs::Blobs;
pub use self::copy::{copy, move_into_archive, push};
pub use self::error::PushError;
pub use self::outcome::{Copied, CopyOptions};
use crate::digest::Digest;
use crate::manifest::{Descriptor, Layer};
use crate::reference::Reference;
use crate::source::SourceOptions;

/// Gives a blob from its beginning, checked while it is read.
type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>;

/// What a place does with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It keeps blobs and manifests as they are.
    Blobs,
    /// It keeps plain tars and no manifest.
    PlainTars,
}

/// A document that blobs are named by, and what it is.
#[derive(Debug, Clone)]
struct Written {
    bytes: Vec<u8>,
    digest: Digest,
    media_type: String,
}

/// A place that images are written to. Used by several threads at once.
trait Target: Sync {
    /// Where that is, for messages.
    fn place(&self) -> String;

    fn form(&self) -> Form {
        Form::Blobs
    }

    /// How many blobs may be written at once.
    fn parallel(&self) -> usize {
        1
    }

    /// Whether the blob is there, or can be had without sending it.
    fn has(&self, blob: &Descriptor) -> Result<bool, PushError>;

    /// Writes a blob that is not there; `sent` hears how far it is.
    fn put(&self, blob: &Descriptor, open: Open<'_>, sent: &dyn Fn(u64)) -> Result<(), PushError>;

    /// The tar of a layer, where the place keeps such.
    fn put_tar(&self, _layer: &Layer, _diff_id: &Digest, _open: Open<'_>) -> Result<(), PushError> {
        Err(PushError::Unsupported {
            place: self.place(),
            reason: "it keeps layers as they come",
        })
    }

    /// Writes a manifest or index that another one names.
    fn put_document(&self, document: &Written) -> Result<(), PushError>;

    /// Writes the manifest or index that the reference leads to, and makes the image
    /// visible: the last step. `config` is the image's configuration.
    fn finish(&self, document: &Written, image: Option<&Image<'_>>) -> Result<(), PushError>;
}

/// One image, for places that keep no manifest.
struct Image<'a> {
    config: &'a [u8],
    diff_ids: &'a [Digest],
}

/// Opens the place that a reference names. `having` is an image that may have the blobs.
fn open(
    reference: &Reference,
    having: Option<&Reference>,
    options: &SourceOptions,
) -> Result<Box<dyn Target>, PushError> {
    if reference.digest().is_some() && !matches!(reference, Reference::Registry(_)) {
        return Err(PushError::Unsupported {
            place: reference.to_string(),
            reason: "a digest is what comes of writing, not where to write to",
        });
    }
    Ok(match reference {
        Reference::Registry(reference) => {
            Box::new(registry::Registry::open(reference, having, options)?)
        }
        Reference::Layout(reference) => Box::new(layout::Layout::open(reference)?),
        Reference::Archive(reference) => {
            Box::new(oci_archive::OciArchive::create(reference, options)?)
        }
        Reference::DockerArchive(reference) => {
            Box::new(docker_archive::DockerArchive::create(reference, options)?)
        }
        Reference::Storage(_) => {
            return Err(PushError::Unsupported {
                place: reference.to_string(),
                reason: "hull reads podman's store and does not write it; copy to an oci-archive:FILE, which `podman pull oci-archive:FILE` and `skopeo copy` take in",
            });
        }
    })
}
