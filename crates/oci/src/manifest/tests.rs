//! What is read of manifests, and what is refused.

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
