//! The documents of an image: configuration, manifest, and where they are written.

mod layout;
mod previous;
mod settings;

use hull_oci::{Digest, Platform};
use serde_json::{Value, json};

use crate::layer::{Compression, Written};
use crate::pack::Plan;

pub use self::layout::{Layout, LayoutError};
pub use self::previous::{
    Earlier, PreviousError, plan_of, read_history, read_manifest, read_previous,
};
pub use self::settings::{Settings, SettingsError};

/// The annotation of a layer with the names of its components, sorted, with commas between them.
pub const COMPONENTS: &str = "hull.components";
/// The label by which bootc and hull know an operating system.
const BOOTABLE: &str = "containers.bootc";
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// What an image says of itself.
#[derive(Debug, Clone)]
pub struct Description {
    /// What it runs on.
    pub platform: Platform,
    /// When it was made, in seconds since the epoch.
    pub created: i64,
    /// How it is run, its labels and annotations; its time is not looked at.
    pub settings: Settings,
    /// Whether it is an operating system.
    pub bootc: bool,
}

/// The bytes of the two documents.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// Writes the documents of an image of these layers.
pub(crate) fn documents(
    description: &Description,
    plan: &Plan,
    layers: &[Written],
    compression: Compression,
) -> Documents {
    let Settings {
        mut run,
        mut labels,
        mut annotations,
        author,
        ..
    } = description.settings.clone();
    if description.bootc {
        labels.insert(BOOTABLE.to_owned(), "1".to_owned());
    }
    annotations.extend(labels.clone());
    run.insert("Labels".to_owned(), json!(labels));
    let names: Vec<String> = plan.layers.iter().map(|names| names.join(",")).collect();
    let created = rfc3339(description.created);
    let history = |names: &String| {
        json!({
            "created": created,
            "created_by": "hull chunk",
            "comment": names,
        })
    };
    let mut config = json!({
        "created": created,
        "architecture": description.platform.architecture,
        "os": description.platform.os,
        "config": run,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>(),
        },
        "history": names.iter().map(history).collect::<Vec<_>>(),
    });
    if let Some(variant) = &description.platform.variant {
        config["variant"] = json!(variant);
    }
    if let Some(author) = author {
        config["author"] = json!(author);
    }
    let config = bytes(&config);
    let layers: Vec<Value> = layers
        .iter()
        .zip(&names)
        .map(|(layer, names)| {
            let mut annotations = layer.annotations.clone();
            annotations.insert(COMPONENTS.to_owned(), names.clone());
            json!({
                "mediaType": compression.media_type(),
                "digest": layer.digest.to_string(),
                "size": layer.size,
                "annotations": annotations,
            })
        })
        .collect();
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": CONFIG_TYPE,
            "digest": Digest::sha256(&config).to_string(),
            "size": config.len(),
        },
        "layers": layers,
        "annotations": annotations,
    }));
    Documents { config, manifest }
}

fn rfc3339(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Keys are sorted, so the same value always is the same bytes.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers always are JSON")
}
