//! Image manifests, indexes and configurations: parsed strictly, once.
//!
//! Read are the OCI image specification 1.1 and Docker's image manifest
//! version 2, schema 2. Both give the same types here.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::{Digest, InvalidDigest};
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
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
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

/// The configuration of an image: what hull reads of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// What the image runs on.
    pub platform: Platform,
    /// When it was made, as its maker wrote it (RFC 3339).
    pub created: Option<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Parses a configuration of at most [`MAX_CONFIG`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_length("the configuration", bytes, MAX_CONFIG)?;
        let raw: RawConfig = from_json("the configuration", bytes)?;
        check_count("layers", raw.rootfs.diff_ids.len(), MAX_LAYERS)?;
        let diff_ids = raw
            .rootfs
            .diff_ids
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant.filter(|variant| !variant.is_empty()),
            },
            created: raw.created,
            labels: raw.config.unwrap_or_default().labels.unwrap_or_default(),
            diff_ids,
        })
    }

    /// Checks that the configuration has one entry for each layer of the manifest.
    pub fn check_against(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        if self.diff_ids.len() == manifest.layers.len() {
            return Ok(());
        }
        Err(ManifestError::LayerCount {
            diff_ids: self.diff_ids.len(),
            layers: manifest.layers.len(),
        })
    }

    /// The version that the image gives itself (label `org.opencontainers.image.version`).
    pub fn version(&self) -> Option<&str> {
        let label = self.labels.get("org.opencontainers.image.version")?;
        Some(label.as_str()).filter(|version| !version.is_empty())
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

#[derive(Deserialize)]
struct RawConfig {
    os: String,
    architecture: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawContainerConfig>,
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
struct RawContainerConfig {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<String>,
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
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(media_type: &str, content: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": Digest::sha256(content), "size": content.len()})
    }

    fn manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, b"config"),
            "layers": [
                descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"one"),
                descriptor("application/vnd.oci.image.layer.v1.tar+zstd", b"two"),
                descriptor("application/vnd.oci.image.layer.v1.tar", b"three"),
            ],
            "annotations": {"a": "b"},
        })
    }

    fn parse(value: &Value, announced: Option<&str>) -> Result<Document, ManifestError> {
        Document::parse(&serde_json::to_vec(value).unwrap(), announced)
    }

    #[test]
    fn an_oci_manifest_gives_layers_with_their_compression() {
        let Document::Manifest(manifest) = parse(&manifest(), None).unwrap() else {
            panic!("a manifest is expected");
        };
        let kinds: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| layer.compression)
            .collect();
        assert_eq!(
            kinds,
            [Compression::Gzip, Compression::Zstd, Compression::None]
        );
        assert_eq!(manifest.config.digest, Digest::sha256(b"config"));
        assert_eq!(manifest.annotations["a"], "b");
    }

    #[test]
    fn a_docker_manifest_gives_the_same() {
        let value = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": descriptor(DOCKER_CONFIG, b"config"),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", b"one")],
        });
        let document = parse(&value, Some(DOCKER_MANIFEST)).unwrap();
        let Document::Manifest(manifest) = document else {
            panic!("a manifest is expected");
        };
        assert_eq!(manifest.layers[0].compression, Compression::Gzip);
    }

    #[test]
    fn manifest_and_index_in_one_document_are_refused() {
        for field in ["layers", "config"] {
            let mut value = manifest();
            value
                .as_object_mut()
                .unwrap()
                .retain(|key, _| key == field || key == "schemaVersion" || key == "mediaType");
            value["manifests"] = json!([]);
            assert_eq!(parse(&value, None), Err(ManifestError::Ambiguous));
        }
    }

    #[test]
    fn the_announced_type_must_agree_with_the_document() {
        let value = manifest();
        for announced in [
            OCI_MANIFEST,
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            "application/json",
        ] {
            parse(&value, Some(announced)).unwrap();
        }
        for announced in [OCI_INDEX, DOCKER_MANIFEST, "text/html"] {
            let error = parse(&value, Some(announced)).unwrap_err();
            assert!(matches!(error, ManifestError::TypeMismatch { .. }));
        }
        let mut silent = manifest();
        silent.as_object_mut().unwrap().remove("mediaType");
        parse(&silent, None).unwrap();
        parse(&silent, Some(OCI_MANIFEST)).unwrap();
        assert!(parse(&silent, Some(OCI_INDEX)).is_err());
        assert!(parse(&silent, Some("text/html")).is_err());
    }

    #[test]
    fn old_and_future_schemas_are_refused() {
        let old = json!({"schemaVersion": 1, "fsLayers": [], "name": "x"});
        assert_eq!(parse(&old, None), Err(ManifestError::SchemaOne));
        let mut future = manifest();
        future["schemaVersion"] = json!(3);
        assert_eq!(parse(&future, None), Err(ManifestError::SchemaVersion(3)));
    }

    #[test]
    fn an_artifact_is_not_taken_for_an_image() {
        let mut value = manifest();
        value["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
        assert!(matches!(
            parse(&value, None),
            Err(ManifestError::NotAnImage(_))
        ));
    }

    #[test]
    fn foreign_and_unknown_layers_are_refused_by_digest() {
        let mut value = manifest();
        value["layers"][1]["urls"] = json!(["https://elsewhere.example/blob"]);
        let digest = Digest::sha256(b"two");
        assert_eq!(
            parse(&value, None),
            Err(ManifestError::ForeignLayer(digest))
        );
        let mut value = manifest();
        value["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+xz");
        assert!(matches!(
            parse(&value, None),
            Err(ManifestError::LayerType { digest: d, .. }) if d == digest
        ));
    }

    #[test]
    fn counts_and_sizes_are_bounded() {
        let mut value = manifest();
        let layer = value["layers"][0].clone();
        value["layers"] = Value::Array(vec![layer; MAX_LAYERS + 1]);
        assert!(matches!(
            parse(&value, None),
            Err(ManifestError::TooMany { .. })
        ));
        let mut value = manifest();
        value["config"]["size"] = json!(MAX_CONFIG + 1);
        assert!(matches!(
            parse(&value, None),
            Err(ManifestError::TooLong { .. })
        ));
        for size in [json!(-1), json!(1.5), json!("3"), json!(u64::MAX)] {
            let mut value = manifest();
            value["layers"][0]["size"] = size.clone();
            assert!(parse(&value, None).is_err(), "{size}");
        }
        let long = vec![b' '; usize::try_from(MAX_MANIFEST).unwrap() + 1];
        assert!(matches!(
            Document::parse(&long, None),
            Err(ManifestError::TooLong { .. })
        ));
    }

    #[test]
    fn an_index_keeps_order_and_platforms() {
        let mut entry = descriptor(OCI_MANIFEST, b"x");
        entry["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
        let value = json!({
            "schemaVersion": 2,
            "manifests": [entry, descriptor(OCI_MANIFEST, b"y")],
        });
        let Document::Index(index) = parse(&value, Some(OCI_INDEX)).unwrap() else {
            panic!("an index is expected");
        };
        let platform = index.manifests[0].platform.as_ref().unwrap();
        assert_eq!(platform.to_string(), "linux/arm64/v8");
        assert_eq!(index.manifests[1].platform, None);
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let text = br#"{"schemaVersion":2,"layers":[],"layers":[]}"#;
        assert!(Document::parse(text, None).is_err());
    }

    #[test]
    fn a_config_must_match_the_layers_of_its_manifest() {
        let config = json!({
            "os": "linux", "architecture": "amd64", "created": "2026-01-01T00:00:00Z",
            "config": {"Labels": {"org.opencontainers.image.version": "1"}},
            "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(b"1")]},
        });
        let config = ImageConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(config.version(), Some("1"));
        assert_eq!(config.platform.to_string(), "linux/amd64");
        let Document::Manifest(manifest) = parse(&manifest(), None).unwrap() else {
            panic!("a manifest is expected");
        };
        assert_eq!(
            config.check_against(&manifest),
            Err(ManifestError::LayerCount {
                diff_ids: 1,
                layers: 3
            })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            drop(Document::parse(&bytes, None));
            drop(ImageConfig::parse(&bytes));
        }

        #[test]
        fn a_manifest_with_one_byte_changed_never_panics(place: prop::sample::Index, byte: u8) {
            let mut bytes = serde_json::to_vec(&manifest()).unwrap();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            drop(Document::parse(&bytes, Some(OCI_MANIFEST)));
        }
    }
}
