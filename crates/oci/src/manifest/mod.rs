//! Image manifests, indexes and configurations: parsed strictly, once.
//!
//! Read are the OCI image specification 1.1 and Docker's image manifest
//! version 2, schema 2. Both give the same types here.

mod config;
mod error;
pub(crate) mod write;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use self::config::ImageConfig;
pub use self::error::ManifestError;
use crate::digest::Digest;
use crate::platform::Platform;

/// The longest manifest or index that is read, in bytes (as other clients allow).
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The longest configuration that is read, in bytes.
pub const MAX_CONFIG: u64 = 4 << 20;
/// The most layers that an image may have.
pub const MAX_LAYERS: usize = 1024;
/// The most images that an index may list.
pub const MAX_INDEX: usize = 4096;

/// Media types of a manifest or an index, best first.
pub const MANIFEST_TYPES: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Names a blob: what it is, how long, and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// The digest of the blob.
    pub digest: Digest,
    /// The length of the blob in bytes.
    pub size: u64,
    /// Further facts.
    pub annotations: BTreeMap<String, String>,
}

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// It is a plain tar.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// How the blob is compressed, after its media type.
    pub compression: Compression,
}

/// One image: its configuration and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration's blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// Further facts.
    pub annotations: BTreeMap<String, String>,
}

/// A list of images for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The images, in the order of preference.
    pub manifests: Vec<IndexEntry>,
}

/// One line of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The manifest, or another index.
    pub descriptor: Descriptor,
    /// What it runs on, if the index says so.
    pub platform: Option<Platform>,
}

/// What a reference can lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// A choice of images.
    Index(Index),
}

impl Document {
    /// Parses a manifest or an index.
    ///
    /// `announced` is the Content-Type or the descriptor's media type; where
    /// document and announcement both give the type, they must agree. At most
    /// [`MAX_MANIFEST`] bytes, [`MAX_LAYERS`] layers, [`MAX_INDEX`] manifests.
    pub fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Self, ManifestError> {
        check_length("the manifest", bytes, MAX_MANIFEST)?;
        let raw: RawDocument = from_json("the manifest", bytes)?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(ManifestError::SchemaOne);
        }
        if raw.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(raw.schema_version));
        }
        let is_manifest = raw.layers.is_some() || raw.config.is_some();
        if is_manifest && raw.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        match (raw.kind(announced)?, raw.manifests) {
            (Kind::Index, Some(manifests)) => Index::from_raw(manifests).map(Self::Index),
            (Kind::Manifest, None) => {
                let (Some(config), Some(layers)) = (raw.config, raw.layers) else {
                    return Err(malformed_manifest(
                        "the fields config and layers are missing",
                    ));
                };
                Manifest::from_raw(config, layers, raw.annotations).map(Self::Manifest)
            }
            (Kind::Index, None) => Err(malformed_manifest("the field manifests is missing")),
            (Kind::Manifest, Some(_)) => Err(malformed_manifest(
                "it is announced as one image, but lists several",
            )),
        }
    }
}

impl Manifest {
    fn from_raw(
        config: RawDescriptor,
        layers: Vec<RawDescriptor>,
        annotations: Option<BTreeMap<String, String>>,
    ) -> Result<Self, ManifestError> {
        check_count("layers", layers.len(), MAX_LAYERS)?;
        let config = config.check()?;
        if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            return Err(ManifestError::NotAnImage(shorten(&config.media_type)));
        }
        check_size("the configuration", config.size, MAX_CONFIG)?;
        let layers = layers
            .into_iter()
            .map(Layer::from_raw)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            config,
            layers,
            annotations: annotations.unwrap_or_default(),
        })
    }
}

impl Layer {
    fn from_raw(raw: RawDescriptor) -> Result<Self, ManifestError> {
        let has_urls = raw.urls.as_ref().is_some_and(|urls| !urls.is_empty());
        let descriptor = raw.check()?;
        if has_urls {
            return Err(ManifestError::ForeignLayer(descriptor.digest));
        }
        let compression = match descriptor.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
            other => {
                return Err(ManifestError::LayerType {
                    digest: descriptor.digest,
                    media_type: shorten(other),
                });
            }
        };
        Ok(Self {
            descriptor,
            compression,
        })
    }
}

impl Index {
    fn from_raw(manifests: Vec<RawDescriptor>) -> Result<Self, ManifestError> {
        check_count("manifests", manifests.len(), MAX_INDEX)?;
        let manifests = manifests
            .into_iter()
            .map(|mut raw| {
                let platform = raw.platform.take();
                let descriptor = raw.check()?;
                Ok(IndexEntry {
                    descriptor,
                    platform,
                })
            })
            .collect::<Result<_, ManifestError>>()?;
        Ok(Self { manifests })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Index,
}

impl Kind {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Manifest),
            OCI_INDEX | DOCKER_LIST => Some(Self::Index),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
    annotations: Option<BTreeMap<String, String>>,
}

impl RawDocument {
    /// The kind by `mediaType`, else by announcement, else by the fields.
    fn kind(&self, announced: Option<&str>) -> Result<Kind, ManifestError> {
        let announced = announced.map(essence).filter(|text| !is_generic(text));
        let field = self.media_type.as_deref().filter(|text| !text.is_empty());
        if let (Some(field), Some(announced)) = (field, announced.as_deref())
            && field != announced
        {
            return Err(ManifestError::TypeMismatch {
                field: shorten(field),
                announced: shorten(announced),
            });
        }
        match field.or(announced.as_deref()) {
            Some(text) => Kind::of(text).ok_or_else(|| ManifestError::UnknownType(shorten(text))),
            None if self.manifests.is_some() => Ok(Kind::Index),
            None => Ok(Kind::Manifest),
        }
    }
}

/// A Content-Type without its parameters.
fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn is_generic(media_type: &str) -> bool {
    matches!(
        media_type,
        "" | "application/json" | "application/octet-stream" | "text/plain"
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    urls: Option<Vec<String>>,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor, ManifestError> {
        // Sums of sizes must not overflow, and no blob is an exabyte long.
        check_size("a blob", self.size, 1 << 50)?;
        Ok(Descriptor {
            media_type: self.media_type,
            digest: self.digest,
            size: self.size,
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

fn from_json<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|error| ManifestError::Malformed {
        what,
        reason: shorten(&error.to_string()),
    })
}

fn malformed_manifest(reason: &str) -> ManifestError {
    ManifestError::Malformed {
        what: "the manifest",
        reason: reason.to_owned(),
    }
}

fn check_length(what: &'static str, bytes: &[u8], limit: u64) -> Result<(), ManifestError> {
    check_size(what, u64::try_from(bytes.len()).unwrap_or(u64::MAX), limit)
}

pub(crate) fn check_size(what: &'static str, size: u64, limit: u64) -> Result<(), ManifestError> {
    if size <= limit {
        return Ok(());
    }
    Err(ManifestError::TooLong { what, size, limit })
}

fn check_count(what: &'static str, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count <= limit {
        return Ok(());
    }
    Err(ManifestError::TooMany { what, count, limit })
}

/// Text from outside, bounded for a message.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
