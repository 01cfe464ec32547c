//! Signatures that lie in the registry beside their image: cosign's at the tag
//! `sha256-<digest>.sig`, and bundles that refer to it (OCI distribution 1.1).
//!
//! Nothing of this is trusted: it is bounded, and whatever it says is checked by key.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::bundle::{self, Bundle};
use super::{Candidate, MAX_SIGNATURE, MAX_SIGNATURES, PolicyError};
use crate::digest::{Algorithm, Digest};
use crate::manifest::Descriptor;
use crate::reference::{Reference, RegistryReference};
use crate::source::{self, Fault, Source, SourceError, SourceOptions};

pub(super) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The manifest of signatures, or a list of what refers to an image.
#[derive(Deserialize)]
struct RawDocument {
    #[serde(default)]
    layers: Vec<RawDescriptor>,
    #[serde(default)]
    manifests: Vec<RawDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl RawDescriptor {
    fn to_descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.size,
            annotations: BTreeMap::new(),
        }
    }
}

/// Every signature that is attached to one of the documents of an image.
///
/// One that is malformed is left out. At most [`MAX_SIGNATURES`].
pub(super) fn fetch(
    named: &RegistryReference,
    digests: &[Digest],
    options: &SourceOptions,
) -> Result<Vec<Candidate>, PolicyError> {
    let mut fetching = Fetching {
        named,
        options,
        count: 0,
        found: Vec::new(),
    };
    let mut seen = Vec::new();
    for digest in digests {
        if !seen.contains(digest) {
            seen.push(*digest);
            fetching.signatures_at_tag(digest)?;
            fetching.bundles(digest)?;
        }
    }
    Ok(fetching.found)
}

/// A document, and where what it lists is.
type Listed = (Box<dyn Source>, Vec<u8>);

struct Fetching<'a> {
    named: &'a RegistryReference,
    options: &'a SourceOptions,
    /// How many were fetched, whatever came.
    count: usize,
    found: Vec<Candidate>,
}

impl Fetching<'_> {
    fn signatures_at_tag(&mut self, digest: &Digest) -> Result<(), PolicyError> {
        let Some((source, bytes)) = self.at_tag(digest, ".sig")? else {
            return Ok(());
        };
        let document: RawDocument = self.parse(&bytes)?;
        for layer in &document.layers {
            let signature = layer
                .annotations
                .as_ref()
                .and_then(|annotations| STANDARD.decode(annotations.get(SIGNATURE)?).ok());
            if let (SIMPLE_SIGNING, Some(signature)) = (layer.media_type.as_str(), signature) {
                let payload = self.blob(&*source, layer)?;
                self.found.push(Candidate::Simple { payload, signature });
            }
        }
        Ok(())
    }

    fn bundles(&mut self, digest: &Digest) -> Result<(), PolicyError> {
        let source = self.open(&self.named.to_string())?;
        let listed = match source.referrers(digest) {
            Err(error) if is_not_found(&error) => None,
            answer => answer.map_err(|error| self.failed(error))?,
        };
        let bytes = match listed {
            Some(bytes) => bytes,
            // A registry without the referrers API keeps the list at a tag.
            None => match self.at_tag(digest, "")? {
                Some((_, bytes)) => bytes,
                None => return Ok(()),
            },
        };
        let list: RawDocument = self.parse(&bytes)?;
        for entry in &list.manifests {
            let kind = entry.artifact_type.as_deref().unwrap_or_default();
            if !kind.starts_with(bundle::MEDIA_TYPE) {
                continue;
            }
            self.count_one()?;
            let manifest = source
                .document(&entry.to_descriptor())
                .map_err(|error| self.failed(error))?;
            let manifest: RawDocument = self.parse(&manifest.bytes)?;
            for layer in &manifest.layers {
                if layer.media_type.starts_with(bundle::MEDIA_TYPE) {
                    let bytes = self.blob(&*source, layer)?;
                    if let Ok(bundle) = Bundle::parse(&bytes) {
                        self.found.push(Candidate::Bundle(bundle));
                    }
                }
            }
        }
        Ok(())
    }

    /// The document at the tag that is made of a digest, and where it is.
    fn at_tag(&self, digest: &Digest, suffix: &str) -> Result<Option<Listed>, PolicyError> {
        // A tag has no room for a longer digest.
        if digest.algorithm() != Algorithm::Sha256 {
            return Ok(None);
        }
        let name = format!("{}:sha256-{}{suffix}", self.named.name(), digest.to_hex());
        let source = self.open(&name)?;
        match source.root() {
            Ok(document) => Ok(Some((source, document.bytes))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn open(&self, name: &str) -> Result<Box<dyn Source>, PolicyError> {
        let reference = RegistryReference::parse(name).map_err(|error| self.malformed(&error))?;
        source::open(&Reference::Registry(reference), self.options)
            .map_err(|error| self.failed(error))
    }

    fn blob(&mut self, source: &dyn Source, layer: &RawDescriptor) -> Result<Vec<u8>, PolicyError> {
        self.count_one()?;
        let descriptor = layer.to_descriptor();
        source::small_blob(source, &descriptor, "a signature", MAX_SIGNATURE)
            .map_err(|error| self.failed(error))
    }

    fn count_one(&mut self) -> Result<(), PolicyError> {
        self.count += 1;
        if self.count > MAX_SIGNATURES {
            return Err(PolicyError::TooMany {
                reference: self.named.to_string(),
            });
        }
        Ok(())
    }

    fn parse(&self, bytes: &[u8]) -> Result<RawDocument, PolicyError> {
        serde_json::from_slice(bytes).map_err(|error| self.malformed(&error))
    }

    fn malformed(&self, error: &dyn std::fmt::Display) -> PolicyError {
        PolicyError::Signatures {
            reference: self.named.to_string(),
            reason: error.to_string(),
        }
    }

    fn failed(&self, error: SourceError) -> PolicyError {
        PolicyError::Fetch {
            reference: self.named.to_string(),
            source: Box::new(error),
        }
    }
}

/// Whether the registry itself, which is asked last, does not have it.
fn is_not_found(error: &SourceError) -> bool {
    let SourceError::Registry(error) = error else {
        return false;
    };
    let last = error.attempts.last().map(|attempt| &attempt.fault);
    matches!(last, Some(Fault::Status { status: 404, .. }))
}
