//! The configuration of an image.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    MAX_CONFIG, MAX_LAYERS, Manifest, ManifestError, check_count, check_length, from_json,
};
use crate::digest::Digest;
use crate::platform::Platform;

/// RFC 3339 with nanoseconds has 35, in bytes.
const LONGEST_TIME: usize = 64;

/// A longer version is for no person to read, nor for a boot menu to show; in characters.
const LONGEST_VERSION: usize = 200;

/// The configuration of an image: what hull reads of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// What the image runs on.
    pub platform: Platform,
    /// When it was made, as its maker wrote it (RFC 3339); nothing where that is longer
    /// than any time is.
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
            created: raw.created.filter(|text| text.len() <= LONGEST_TIME),
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

    /// The version that the image gives itself (label `org.opencontainers.image.version`),
    /// cut to 200 characters.
    pub fn version(&self) -> Option<&str> {
        let label = self.labels.get("org.opencontainers.image.version")?;
        let rest = label.char_indices().nth(LONGEST_VERSION);
        let end = rest.map_or(label.len(), |(start, _)| start);
        Some(&label[..end]).filter(|version| !version.is_empty())
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
