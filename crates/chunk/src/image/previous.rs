//! How an earlier image was packed.

use hull_oci::manifest::{Document, Manifest};
use hull_oci::source::{self, SourceError, SourceOptions};
use hull_oci::{Digest, Platform, Reference};

use super::COMPONENTS;
use crate::pack::Plan;

/// The annotations of other tools that say the same: rpm-ostree's and chunkah's,
/// with what is between the names.
const OTHERS: [(&str, char); 2] = [("ostree.components", ','), ("org.chunkah.component", ' ')];
/// How deep indexes may lie in each other.
const NESTING_MAX: usize = 3;

/// An earlier image that says nothing of its layers.
#[derive(Debug, thiserror::Error)]
pub enum PreviousError {
    /// It cannot be had.
    #[error("the previous image cannot be read")]
    Source(#[from] SourceError),
    /// Its manifest is none.
    #[error("the manifest of the previous image {0} cannot be understood")]
    Document(String, #[source] Box<hull_oci::manifest::ManifestError>),
    /// Its indexes lie in each other without end.
    #[error("the previous image {0} is an index of indexes of indexes")]
    TooDeep(String),
    /// It has no image for the platform.
    #[error("the previous image {0} has none for {1}")]
    NoPlatform(String, Box<Platform>),
    /// Nothing is known of its layers.
    #[error(
        "the layers of the previous image {0} do not say which components they hold; leave \
         --previous out to pack afresh"
    )]
    NoComponents(String),
}

/// Reads which components each layer of an image holds. No layer is fetched.
pub fn read_previous(
    reference: &Reference,
    options: &SourceOptions,
    platform: &Platform,
) -> Result<(Plan, Manifest), PreviousError> {
    let (_, manifest) = read_manifest(reference, options, platform)?;
    let plan = plan_of(&manifest);
    let plan = plan.ok_or_else(|| PreviousError::NoComponents(reference.to_string()))?;
    Ok((plan, manifest))
}

/// Reads the manifest of an image, with its digest. No layer is fetched.
pub fn read_manifest(
    reference: &Reference,
    options: &SourceOptions,
    platform: &Platform,
) -> Result<(Digest, Manifest), PreviousError> {
    let source = source::open(reference, options)?;
    let name = reference.to_string();
    let mut fetched = source.root()?;
    for _ in 0..NESTING_MAX {
        let document = Document::parse(&fetched.bytes, fetched.media_type.as_deref())
            .map_err(|error| PreviousError::Document(name.clone(), Box::new(error)))?;
        let index = match document {
            Document::Manifest(manifest) => return Ok((Digest::sha256(&fetched.bytes), manifest)),
            Document::Index(index) => index,
        };
        let offers: Vec<_> = index
            .manifests
            .iter()
            .map(|entry| entry.platform.clone())
            .collect();
        let chosen = platform
            .choose(&offers)
            .ok_or_else(|| PreviousError::NoPlatform(name.clone(), Box::new(platform.clone())))?;
        fetched = source.document(&index.manifests[chosen].descriptor)?;
    }
    Err(PreviousError::TooDeep(name))
}

/// The plan that a manifest was made by; nothing if no layer says what it holds.
pub fn plan_of(manifest: &Manifest) -> Option<Plan> {
    let layers: Vec<Vec<String>> = manifest
        .layers
        .iter()
        .map(|layer| {
            let annotations = &layer.descriptor.annotations;
            let (text, between) = match annotations.get(COMPONENTS) {
                Some(text) => (text.as_str(), ','),
                None => OTHERS
                    .iter()
                    .find_map(|(key, between)| Some((annotations.get(*key)?.as_str(), *between)))
                    .unwrap_or(("", ',')),
            };
            let names = text.split(between).filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        })
        .collect();
    let known = layers.iter().any(|layer| !layer.is_empty());
    known.then_some(Plan { layers })
}
