//! Images in the store: how they are written down, and read again.
//!
//! As composefs-rs does it, manifest and configuration are streams of one
//! object each, `oci-manifest-<digest>` and `oci-config-<digest>`. Named
//! references lead from the manifest to the configuration (`config:<digest>`),
//! and from both to the records of the layers (by diff_id), so that who holds
//! the manifest holds all.

use hull_erofs::{ObjectId, Tree};
use hull_store::stream::Chunk;
use hull_store::{Kind, Session, Store, StoreError};

use crate::digest::{BlobError, Digest};
use crate::layer;
use crate::manifest::{Document, ImageConfig, MAX_CONFIG, MAX_MANIFEST, Manifest, ManifestError};

/// `ocimanif`, as composefs-rs marks the stream of a manifest.
const MANIFEST_CONTENT: u64 = u64::from_le_bytes(*b"ocimanif");
/// `ociconfg`, as composefs-rs marks the stream of a configuration.
const CONFIG_CONTENT: u64 = u64::from_le_bytes(*b"ociconfg");

/// An image that is in the store with all of its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of the manifest: what the image is known by.
    pub manifest_digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration: platform, labels, when it was made.
    pub config: ImageConfig,
    /// The records of the layers, lowest first.
    pub layers: Vec<ObjectId>,
}

/// An image that is not in the store, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It was never pulled, or collected since.
    #[error("the image {0} is not in the store; pull it again")]
    NoImage(Digest),
    /// Its configuration is gone.
    #[error("the configuration of the image {0} is not in the store; pull it again")]
    NoConfig(Digest),
    /// A layer is gone.
    #[error("the layer {layer} of the image {image} is not in the store; pull it again")]
    NoLayer {
        /// The image's manifest.
        image: Digest,
        /// The layer's blob.
        layer: Box<Digest>,
    },
    /// What is stored is something else.
    #[error("what the store holds of the image {image} is damaged; pull it again")]
    Damaged {
        /// The image's manifest.
        image: Digest,
        /// What is wrong.
        source: Box<BlobError>,
    },
    /// A document is malformed.
    #[error("what the store holds of the image {image} cannot be read")]
    Document {
        /// The image's manifest.
        image: Digest,
        /// What is wrong.
        source: Box<ManifestError>,
    },
    /// The store cannot be read.
    #[error("cannot read the image {image} from the store")]
    Store {
        /// The image's manifest.
        image: Digest,
        /// Why.
        source: Box<StoreError>,
    },
}

impl LoadError {
    /// Whether to pull the image is all that is needed.
    pub fn is_incomplete(&self) -> bool {
        !matches!(self, Self::Store { source, .. } if !is_gone(source))
    }
}

fn is_gone(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Missing { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Stream(_)
            | StoreError::BadLink { .. }
    )
}

impl Image {
    /// Reads an image from the store, by the digest of its manifest.
    ///
    /// Manifest and configuration are compared with their digests. Layers are
    /// found by their blobs' digests, and not looked into.
    pub fn load(store: &Store, manifest_digest: &Digest) -> Result<Self, LoadError> {
        let image = *manifest_digest;
        let in_store = |source| LoadError::Store {
            image,
            source: Box::new(source),
        };
        let damaged = |source| LoadError::Damaged {
            image,
            source: Box::new(source),
        };
        let unreadable = |source| LoadError::Document {
            image,
            source: Box::new(source),
        };
        let read = |name: &str, content, limit| read_stream(store, name, content, limit);

        let bytes = read(&manifest_stream(&image), MANIFEST_CONTENT, MAX_MANIFEST)
            .map_err(in_store)?
            .ok_or(LoadError::NoImage(image))?;
        check(&bytes, &image).map_err(damaged)?;
        let manifest = match Document::parse(&bytes, None).map_err(unreadable)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(_) => return Err(LoadError::NoImage(image)),
        };
        let config_digest = manifest.config.digest;
        let bytes = read(&config_stream(&config_digest), CONFIG_CONTENT, MAX_CONFIG)
            .map_err(in_store)?
            .ok_or(LoadError::NoConfig(image))?;
        check(&bytes, &config_digest).map_err(damaged)?;
        let config = ImageConfig::parse(&bytes).map_err(unreadable)?;
        config.check_against(&manifest).map_err(unreadable)?;
        let layers = manifest
            .layers
            .iter()
            .map(|layer| {
                let blob = layer.descriptor.digest;
                layer::find(store, &blob)
                    .map_err(in_store)?
                    .ok_or_else(|| LoadError::NoLayer {
                        image,
                        layer: Box::new(blob),
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            manifest_digest: image,
            manifest,
            config,
            layers,
        })
    }

    /// The bytes of the manifest and of the configuration, compared with their digests.
    pub fn documents(&self, store: &Store) -> Result<(Vec<u8>, Vec<u8>), LoadError> {
        let image = self.manifest_digest;
        let config = self.manifest.config.digest;
        let read = |name: &str, content, limit, digest: &Digest, gone| {
            let bytes = read_stream(store, name, content, limit)
                .map_err(|source| LoadError::Store {
                    image,
                    source: Box::new(source),
                })?
                .ok_or(gone)?;
            check(&bytes, digest).map_err(|source| LoadError::Damaged {
                image,
                source: Box::new(source),
            })?;
            Ok::<_, LoadError>(bytes)
        };
        let manifest = read(
            &self.stream(),
            MANIFEST_CONTENT,
            MAX_MANIFEST,
            &image,
            LoadError::NoImage(image),
        )?;
        let config = read(
            &config_stream(&config),
            CONFIG_CONTENT,
            MAX_CONFIG,
            &config,
            LoadError::NoConfig(image),
        )?;
        Ok((manifest, config))
    }

    /// The tree that the layers give, as they give it.
    pub fn tree(&self, store: &Store) -> Result<Tree, layer::MergeError> {
        layer::merge(store, &self.layers)
    }

    /// The name of the stream that holds the image: a root for the store's
    /// collection refers to it.
    pub fn stream(&self) -> String {
        manifest_stream(&self.manifest_digest)
    }

    /// The length of all blobs together, in bytes.
    pub fn size(&self) -> u64 {
        self.manifest
            .layers
            .iter()
            .map(|layer| layer.descriptor.size)
            .sum()
    }
}

/// Where references to pulled images are, as composefs-rs has them.
const NAMED: &str = "oci/";
/// The longest part of a reference's name, in bytes.
const MAX_NAME: usize = 255;

/// The reference in the store that keeps an image under the name it was pulled by, as
/// composefs-rs names it; none for a name that is too long for that.
pub fn name_ref(name: &str) -> Option<String> {
    let encoded = name.replace('%', "%25").replace('/', "%2F");
    (encoded.len() <= MAX_NAME && !encoded.starts_with('.')).then(|| format!("{NAMED}{encoded}"))
}

/// An image that was pulled by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name, or its digest where it was pulled without one.
    pub name: String,
    /// The reference in the store that keeps it.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// The images that were pulled by name, sorted.
pub fn named(store: &Store) -> Result<Vec<Named>, StoreError> {
    let refs = store.refs(Kind::Stream)?;
    let images = refs.into_iter().filter_map(|(reference, stream)| {
        let name = reference.strip_prefix(NAMED)?;
        let digest = stream.strip_prefix("oci-manifest-")?.parse().ok()?;
        let name = name.replace("%2F", "/").replace("%25", "%");
        Some(Named {
            name,
            reference,
            digest,
        })
    });
    Ok(images.collect())
}

/// The stream that holds the image with this manifest.
pub fn manifest_stream(digest: &Digest) -> String {
    format!("oci-manifest-{digest}")
}

fn config_stream(digest: &Digest) -> String {
    format!("oci-config-{digest}")
}

fn check(bytes: &[u8], digest: &Digest) -> Result<(), BlobError> {
    let actual = Digest::compute(digest.algorithm(), bytes);
    if actual == *digest {
        return Ok(());
    }
    Err(BlobError::WrongDigest {
        digest: *digest,
        actual: Box::new(actual),
    })
}

/// Writes down an image whose layers are in the store. The manifest comes last.
pub(crate) fn store(
    session: &Session,
    image: &Image,
    manifest: &[u8],
    config: &[u8],
) -> Result<(), StoreError> {
    let layers = || image.config.diff_ids.iter().zip(&image.layers);
    let mut stream = session.stream(CONFIG_CONTENT);
    for (diff_id, record) in layers() {
        stream.name(&diff_id.to_string(), record)?;
    }
    put_document(session, &mut stream, config)?;
    let config_digest = &image.manifest.config.digest;
    let config_id = session.put_stream(&config_stream(config_digest), stream)?;

    let mut stream = session.stream(MANIFEST_CONTENT);
    stream.name(&format!("config:{config_digest}"), &config_id)?;
    for (diff_id, record) in layers() {
        stream.name(&diff_id.to_string(), record)?;
    }
    put_document(session, &mut stream, manifest)?;
    session.put_stream(&image.stream(), stream)?;
    Ok(())
}

fn put_document(
    session: &Session,
    stream: &mut hull_store::stream::StreamBuilder,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let id = session.put(bytes)?;
    stream.object(&id, u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

/// The one object of a document's stream.
fn read_stream(
    store: &Store,
    name: &str,
    content: u64,
    limit: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(id) = store.find_stream(name)? else {
        return Ok(None);
    };
    let mut reader = match store.open_stream(&id) {
        Ok(reader) => reader,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    reader.require_content_type(content)?;
    let document = match reader.next_chunk()? {
        Some(Chunk::Object(id)) => id,
        // No document of ours: as good as none.
        _ => return Ok(None),
    };
    match store.read_object(&document, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
