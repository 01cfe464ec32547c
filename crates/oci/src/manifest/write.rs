//! Manifests that hull writes: for images that have none, and for images whose layers
//! it has in another form than their publisher.
//!
//! The same input gives the same bytes: keys are sorted, nothing else gets in.

use serde_json::{Map, Value, json};

use super::{Compression, Descriptor, ManifestError, OCI_CONFIG, OCI_MANIFEST, malformed_manifest};
use crate::digest::Digest;

/// Annotations that are true of the publisher's bytes only.
const OF_THE_BYTES: [&str; 3] = [
    "io.github.containers.zstd-chunked.",
    // The same, from containers/storage before 1.44.
    "io.containers.zstd-chunked.",
    "containerd.io/snapshot/stargz/",
];

/// A blob that takes the place of a layer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) compression: Compression,
}

/// A manifest for an image that came without one: a configuration, and plain tars.
pub(crate) fn generate(config: &Descriptor, layers: &[(Digest, u64)]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|(digest, size)| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest,
                "size": size,
            })
        })
        .collect();
    to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size},
        "layers": layers,
    }))
}

/// The manifest with other blobs in place of those that are given; all else stays.
///
/// `config` is a new digest and length of the configuration.
pub(crate) fn with_blobs(
    manifest: &[u8],
    config: Option<(Digest, u64)>,
    layers: &[Option<NewBlob>],
) -> Result<Vec<u8>, ManifestError> {
    let mut document: Map<String, Value> = super::from_json("the manifest", manifest)?;
    if let Some((digest, size)) = config {
        let entry = document.get_mut("config").and_then(Value::as_object_mut);
        let entry = entry.ok_or_else(|| malformed_manifest("the field config is missing"))?;
        entry.insert("digest".to_owned(), json!(digest));
        entry.insert("size".to_owned(), json!(size));
    }
    let entries = document.get_mut("layers").and_then(Value::as_array_mut);
    let entries = entries.ok_or_else(|| malformed_manifest("the field layers is missing"))?;
    for (entry, new) in entries.iter_mut().zip(layers) {
        if let Some(new) = new {
            replace(entry, new)?;
        }
    }
    Ok(to_bytes(&Value::Object(document)))
}

fn replace(entry: &mut Value, new: &NewBlob) -> Result<(), ManifestError> {
    let entry = entry
        .as_object_mut()
        .ok_or_else(|| malformed_manifest("a layer is no object"))?;
    let old = entry.get("mediaType").and_then(Value::as_str);
    let media_type = media_type_as(old.unwrap_or_default(), new.compression);
    entry.insert("mediaType".to_owned(), json!(media_type));
    entry.insert("digest".to_owned(), json!(new.digest));
    entry.insert("size".to_owned(), json!(new.size));
    if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !OF_THE_BYTES.iter().any(|prefix| key.starts_with(prefix)));
    }
    Ok(())
}

/// The media type of the same layer in another compression.
fn media_type_as(media_type: &str, compression: Compression) -> String {
    let base = media_type
        .split('+')
        .next()
        .unwrap_or(media_type)
        .trim_end_matches(".gzip")
        .trim_end_matches(".zstd");
    // Docker's types end in a word after a dot, OCI's after a plus.
    let separator = match base.starts_with("application/vnd.docker.") {
        true => '.',
        false => '+',
    };
    match compression {
        Compression::None => base.to_owned(),
        Compression::Gzip => format!("{base}{separator}gzip"),
        Compression::Zstd => format!("{base}{separator}zstd"),
    }
}

/// The configuration with other layers; all else stays.
pub(crate) fn with_diff_ids(config: &[u8], diff_ids: &[Digest]) -> Result<Vec<u8>, ManifestError> {
    let mut document: Map<String, Value> = super::from_json("the configuration", config)?;
    document.insert(
        "rootfs".to_owned(),
        json!({"type": "layers", "diff_ids": diff_ids}),
    );
    Ok(to_bytes(&Value::Object(document)))
}

/// An index of these manifests.
pub(crate) fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers always are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Document;

    #[test]
    fn the_media_type_follows_the_compression_in_both_families() {
        for base in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
        ] {
            let types = [Compression::None, Compression::Gzip, Compression::Zstd]
                .map(|compression| media_type_as(base, compression));
            for from in &types {
                assert_eq!(media_type_as(from, Compression::None), base);
                assert_eq!(media_type_as(from, Compression::Gzip), types[1]);
                assert_eq!(media_type_as(from, Compression::Zstd), types[2]);
            }
        }
    }

    #[test]
    fn what_is_true_of_the_old_bytes_only_goes_with_them() {
        let blob = |content: &[u8]| Digest::sha256(content);
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": OCI_CONFIG, "digest": blob(b"c"), "size": 1},
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
                "digest": blob(b"old"), "size": 3,
                "annotations": {
                    "io.github.containers.zstd-chunked.manifest-position": "1:2:3:4",
                    "io.containers.zstd-chunked.manifest-position": "1:2:3:4",
                    "org.example.component": "kernel",
                },
            }, {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": blob(b"kept"), "size": 4,
            }],
            "annotations": {"a": "b"},
        });
        let new = NewBlob {
            digest: blob(b"new"),
            size: 9,
            compression: Compression::None,
        };
        let bytes = with_blobs(&to_bytes(&manifest), None, &[Some(new), None]).unwrap();
        let Document::Manifest(written) = Document::parse(&bytes, None).unwrap() else {
            panic!("a manifest is expected");
        };
        let layer = &written.layers[0];
        assert_eq!(
            (layer.descriptor.digest, layer.descriptor.size),
            (new.digest, 9)
        );
        assert_eq!(layer.compression, Compression::None);
        assert_eq!(
            layer.descriptor.annotations.keys().collect::<Vec<_>>(),
            ["org.example.component"]
        );
        assert_eq!(written.layers[1].descriptor.digest, blob(b"kept"));
        assert_eq!(written.annotations["a"], "b");
    }
}
