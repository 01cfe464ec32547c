//! `meta.json`: which format a store has.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// The name of the file in the store's directory.
pub(crate) const FILE: &str = "meta.json";

/// The one digest algorithm that this crate names objects by: SHA-512 over
/// blocks of 2^12 bytes.
pub(crate) const ALGORITHM: &str = "fsverity-sha512-12";

/// The highest format version that this crate knows.
const VERSION: u64 = 1;

/// No real one comes near.
const MAX_BYTES: u64 = 64 * 1024;

/// Says that images are of EROFS format V1, to tools that do not know
/// `erofs_formats`: they then only read.
const V1_EROFS: &str = "v1_erofs";

/// The content of `meta.json`, with upstream's names and order of fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    version: u64,
    algorithm: String,
    #[serde(default)]
    features: Features,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erofs_formats: Option<ErofsFormats>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Features {
    #[serde(default)]
    compatible: Vec<String>,
    #[serde(default)]
    read_only_compatible: Vec<String>,
    #[serde(default)]
    incompatible: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ErofsFormats {
    default: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra: Vec<u32>,
}

impl Meta {
    /// What a new store says.
    pub(crate) fn new() -> Self {
        Self {
            version: VERSION,
            algorithm: ALGORITHM.to_owned(),
            features: Features {
                read_only_compatible: vec![V1_EROFS.to_owned()],
                ..Features::default()
            },
            erofs_formats: Some(ErofsFormats {
                default: 1,
                extra: Vec::new(),
            }),
        }
    }

    /// The bytes of the file.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut json =
            serde_json::to_vec_pretty(self).expect("strings and numbers are always valid JSON");
        json.push(b'\n');
        json
    }

    /// Parses the file and refuses what this crate can't work with.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, StoreError> {
        let meta: Self = serde_json::from_slice(json).map_err(|error| StoreError::BadMeta {
            reason: error.to_string(),
        })?;
        if meta.version > VERSION {
            return Err(StoreError::NewerVersion {
                found: meta.version,
                known: VERSION,
            });
        }
        if meta.algorithm != ALGORITHM {
            return Err(StoreError::OtherAlgorithm {
                found: meta.algorithm.chars().take(80).collect(),
            });
        }
        if !meta.features.incompatible.is_empty() {
            return Err(StoreError::UnknownFeatures(meta.features.incompatible));
        }
        Ok(meta)
    }

    /// Refuses to write where somebody newer asks for it.
    pub(crate) fn require_writable(&self) -> Result<(), StoreError> {
        let unknown: Vec<String> = self
            .features
            .read_only_compatible
            .iter()
            .filter(|feature| *feature != V1_EROFS)
            .cloned()
            .collect();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(StoreError::ReadOnlyFeatures(unknown))
        }
    }

    /// Reads the file of the store in `root`, if it has one.
    pub(crate) fn read(root: &OwnedFd) -> Result<Option<Self>, StoreError> {
        match hull_sys::dir::read_file_at_most(root, FILE, MAX_BYTES) {
            Ok(json) => Self::parse(&json).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::BadMeta {
                reason: error.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_store_says_what_upstream_writes() {
        let expected = r#"{
  "version": 1,
  "algorithm": "fsverity-sha512-12",
  "features": {
    "compatible": [],
    "read-only-compatible": [
      "v1_erofs"
    ],
    "incompatible": []
  },
  "erofs_formats": {
    "default": 1
  }
}
"#;
        assert_eq!(String::from_utf8(Meta::new().to_json()).unwrap(), expected);
        assert_eq!(Meta::parse(expected.as_bytes()).unwrap(), Meta::new());
    }

    #[test]
    fn unknown_fields_and_compatible_features_are_ignored() {
        let meta = Meta::parse(
            br#"{"version":1,"algorithm":"fsverity-sha512-12","x":1,
                "features":{"compatible":["future"]}}"#,
        )
        .unwrap();
        meta.require_writable().unwrap();
    }

    #[track_caller]
    fn refused(json: &str, expected: &str) {
        let error = Meta::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_newer_or_other_is_refused_by_name() {
        let with = |version: u32, algorithm: &str, feature: &str| {
            format!(
                r#"{{"version":{version},"algorithm":"{algorithm}",
                    "features":{{"incompatible":[{feature}]}}}}"#
            )
        };
        refused(&with(2, ALGORITHM, ""), "format version 2");
        refused(&with(1, "fsverity-sha256-12", ""), "fsverity-sha256-12");
        refused(&with(1, ALGORITHM, r#""sharded""#), "sharded");
        refused("{", "damaged");
    }

    #[test]
    fn a_feature_that_only_readers_may_ignore_forbids_writing() {
        let json = r#"{"version":1,"algorithm":"fsverity-sha512-12",
            "features":{"read-only-compatible":["v1_erofs","packed"]}}"#;
        let error = Meta::parse(json.as_bytes())
            .unwrap()
            .require_writable()
            .unwrap_err();
        assert!(matches!(error, StoreError::ReadOnlyFeatures(names) if names == ["packed"]));
    }
}
