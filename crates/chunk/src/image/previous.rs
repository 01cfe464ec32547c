//! How an earlier image was packed.

use std::io::{self, Read};

use hull_oci::manifest::{Document, ImageConfig, Manifest};
use hull_oci::source::{self, Source, SourceError, SourceOptions};
use hull_oci::{Digest, Platform, Reference};

use super::COMPONENTS;
use crate::learn::Seen;
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
    #[error("the earlier image cannot be read")]
    Source(#[from] SourceError),
    /// Its configuration did not come whole.
    #[error("the configuration of the earlier image {0} cannot be read")]
    Config(String, #[source] io::Error),
    /// Its manifest or configuration is none.
    #[error("a document of the earlier image {0} cannot be understood")]
    Document(String, #[source] Box<hull_oci::manifest::ManifestError>),
    /// Its indexes lie in each other without end.
    #[error("the earlier image {0} is an index of indexes of indexes")]
    TooDeep(String),
    /// It has no image for the platform.
    #[error("the earlier image {0} has none for {1}")]
    NoPlatform(String, Box<Platform>),
    /// Nothing is known of its layers.
    #[error(
        "the layers of the earlier image {0} do not say which components they hold; it is of no \
         use as --previous or --history"
    )]
    NoComponents(String),
}

/// An earlier image, without its layers.
#[derive(Debug)]
pub struct Earlier {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: ImageConfig,
}

impl Earlier {
    /// Reads an image. No layer is fetched.
    pub fn read(
        reference: &Reference,
        options: &SourceOptions,
        platform: &Platform,
    ) -> Result<Self, PreviousError> {
        let source = source::open(reference, options)?;
        let name = reference.to_string();
        let (_, manifest) = manifest_at(&*source, &name, platform)?;
        let mut bytes = Vec::new();
        source::blob(&*source, &manifest.config)?
            .read_to_end(&mut bytes)
            .map_err(|error| PreviousError::Config(name.clone(), error))?;
        let config = ImageConfig::parse(&bytes)
            .and_then(|config| config.check_against(&manifest).map(|()| config))
            .map_err(|error| PreviousError::Document(name, Box::new(error)))?;
        Ok(Self { manifest, config })
    }

    /// What it tells of its components.
    pub fn seen(&self) -> Option<Seen> {
        let plan = plan_of(&self.manifest)?;
        // Not those of the blobs, which change with the compressor.
        let digests = self.config.diff_ids.iter().copied();
        let created = self.config.created.as_deref();
        let created = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        Some(Seen {
            created: created.map(jiff::Timestamp::as_second),
            layers: plan.layers.into_iter().zip(digests).collect(),
        })
    }
}

/// Reads an earlier image of which is known which components each layer holds.
pub fn read_previous(
    reference: &Reference,
    options: &SourceOptions,
    platform: &Platform,
) -> Result<(Plan, Earlier), PreviousError> {
    let earlier = Earlier::read(reference, options, platform)?;
    let plan = plan_of(&earlier.manifest);
    let plan = plan.ok_or_else(|| PreviousError::NoComponents(reference.to_string()))?;
    Ok((plan, earlier))
}

/// Reads what earlier images tell of their components: the oldest first, where all have a time,
/// else in the order of the references.
pub fn read_history(
    references: &[Reference],
    options: &SourceOptions,
    platform: &Platform,
) -> Result<Vec<Seen>, PreviousError> {
    let read = |reference: &Reference| {
        let seen = Earlier::read(reference, options, platform)?.seen();
        seen.ok_or_else(|| PreviousError::NoComponents(reference.to_string()))
    };
    let mut images: Vec<Seen> = references.iter().map(read).collect::<Result<_, _>>()?;
    if images.iter().all(|image| image.created.is_some()) {
        images.sort_by_key(|image| image.created);
    }
    Ok(images)
}

/// Reads the manifest of an image, with its digest. No layer is fetched.
pub fn read_manifest(
    reference: &Reference,
    options: &SourceOptions,
    platform: &Platform,
) -> Result<(Digest, Manifest), PreviousError> {
    let source = source::open(reference, options)?;
    manifest_at(&*source, &reference.to_string(), platform)
}

fn manifest_at(
    source: &dyn Source,
    name: &str,
    platform: &Platform,
) -> Result<(Digest, Manifest), PreviousError> {
    let mut fetched = source.root()?;
    for _ in 0..NESTING_MAX {
        let document = Document::parse(&fetched.bytes, fetched.media_type.as_deref())
            .map_err(|error| PreviousError::Document(name.to_owned(), Box::new(error)))?;
        let index = match document {
            Document::Manifest(manifest) => return Ok((Digest::sha256(&fetched.bytes), manifest)),
            Document::Index(index) => index,
        };
        let offers: Vec<_> = index
            .manifests
            .iter()
            .map(|entry| entry.platform.clone())
            .collect();
        let chosen = platform.choose(&offers).ok_or_else(|| {
            PreviousError::NoPlatform(name.to_owned(), Box::new(platform.clone()))
        })?;
        fetched = source.document(&index.manifests[chosen].descriptor)?;
    }
    Err(PreviousError::TooDeep(name.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotations_of_each_tool_say_what_a_layer_holds() {
        let digest = Digest::sha256(b"");
        let manifest = |key: &str, text: &str| {
            let layer = serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 0,
                "annotations": {key: text},
            });
            let config = serde_json::json!({
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2,
            });
            let manifest =
                serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
            match Document::parse(manifest.to_string().as_bytes(), None).unwrap() {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => panic!(),
            }
        };
        for (key, text) in [
            (COMPONENTS, "rpm/a,rpm/b"),
            ("ostree.components", "rpm/a,rpm/b"),
            ("org.chunkah.component", "rpm/a rpm/b"),
        ] {
            let plan = plan_of(&manifest(key, text)).unwrap();
            assert_eq!(plan.layers, [["rpm/a", "rpm/b"]], "{key}");
        }
        assert_eq!(plan_of(&manifest("another", "rpm/a")), None);
    }
}
