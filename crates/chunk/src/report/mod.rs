//! What the layers of an image are, and what an update from another image costs.

mod compare;
mod html;
mod treemap;

use std::collections::{BTreeMap, HashMap};

use hull_oci::manifest::Manifest;
use serde::Serialize;

pub use self::compare::{ChangedFile, CompareError, Files, Side, compare};
pub use self::html::page;
use crate::image::plan_of;

/// An image, its layers, and what of it is new.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The form of this document: 1.
    pub version: u32,
    /// The earlier image; nothing if there is none to compare with.
    pub old: Option<Summary>,
    /// The image.
    pub new: Summary,
    /// The layers of the new image, lowest first.
    pub layers: Vec<Layer>,
    /// What an update downloads; nothing if there is no earlier image.
    pub download: Option<Download>,
}

/// An image as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What it is called.
    pub name: String,
    /// The digest of its manifest; nothing if it was only planned.
    pub digest: Option<String>,
    /// How many layers it has.
    pub layers: usize,
    /// The bytes of its blobs; of its files if it was only planned.
    pub size: u64,
}

/// A layer of the new image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The digest of its blob; nothing if it was only planned.
    pub digest: Option<String>,
    /// The bytes of its blob; of its files if it was only planned.
    pub size: u64,
    /// Whether the earlier image lacks it.
    pub new: bool,
    /// What it holds, the largest first.
    pub components: Vec<Component>,
}

/// A component in a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// What it is called.
    pub name: String,
    /// The bytes of its files, where they are known.
    pub size: Option<u64>,
    /// How often it is expected to change, in a year, where that is known.
    pub changes_per_year: Option<f64>,
}

/// What a machine with the earlier image downloads, by how it downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    /// How many layers are new.
    pub new_layers: usize,
    /// The bytes of layers that are new: what all clients download.
    pub by_layer: u64,
    /// Of the contents, where both images were looked into.
    pub files: Option<Files>,
}

/// What is known of components, by name.
pub type Known<'a> = HashMap<&'a str, &'a crate::components::Component>;

impl Report {
    /// The report of an image that was made, with what is known of its components.
    pub fn of_image(name: &str, digest: &str, manifest: &Manifest, known: &Known<'_>) -> Self {
        let names = plan_of(manifest)
            .map(|plan| plan.layers)
            .unwrap_or_default();
        let layers: Vec<Layer> = manifest
            .layers
            .iter()
            .enumerate()
            .map(|(place, layer)| Layer {
                digest: Some(layer.descriptor.digest.to_string()),
                size: layer.descriptor.size,
                new: false,
                components: components(names.get(place).map_or(&[], Vec::as_slice), known),
            })
            .collect();
        Self::of(name, Some(digest.to_owned()), layers)
    }

    /// The report of a plan.
    pub fn of_plan(name: &str, plan: &crate::pack::Plan, known: &Known<'_>) -> Self {
        let layers = plan.layers.iter().map(|names| {
            let components = components(names, known);
            Layer {
                digest: None,
                size: components
                    .iter()
                    .filter_map(|component| component.size)
                    .sum(),
                new: false,
                components,
            }
        });
        Self::of(name, None, layers.collect())
    }

    fn of(name: &str, digest: Option<String>, layers: Vec<Layer>) -> Self {
        Self {
            version: 1,
            old: None,
            new: Summary {
                name: name.to_owned(),
                digest,
                layers: layers.len(),
                size: layers.iter().map(|layer| layer.size).sum(),
            },
            layers,
            download: None,
        }
    }

    /// Marks what the earlier image lacks.
    pub fn against(&mut self, name: &str, digest: &str, old: &Manifest, files: Option<Files>) {
        let had: BTreeMap<String, u64> = old
            .layers
            .iter()
            .map(|layer| (layer.descriptor.digest.to_string(), layer.descriptor.size))
            .collect();
        for layer in &mut self.layers {
            layer.new = layer
                .digest
                .as_ref()
                .is_none_or(|digest| !had.contains_key(digest));
        }
        let new: Vec<&Layer> = self.layers.iter().filter(|layer| layer.new).collect();
        self.download = Some(Download {
            new_layers: new.len(),
            by_layer: new.iter().map(|layer| layer.size).sum(),
            files,
        });
        self.old = Some(Summary {
            name: name.to_owned(),
            digest: Some(digest.to_owned()),
            layers: old.layers.len(),
            size: old.layers.iter().map(|layer| layer.descriptor.size).sum(),
        });
    }
}

fn components(names: &[String], known: &Known<'_>) -> Vec<Component> {
    let mut components: Vec<Component> = names
        .iter()
        .map(|name| {
            let known = known.get(name.as_str());
            Component {
                name: name.clone(),
                size: known.map(|component| component.size),
                changes_per_year: known.map(|component| component.frequency.rate),
            }
        })
        .collect();
    components.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    components
}
