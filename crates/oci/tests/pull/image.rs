//! Small images for the tests, made in memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use hull_oci::Digest;
use hull_oci::manifest::Compression;
use serde_json::{Value, json};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Blobs and manifests by digest, and the one that the image is known by.
#[derive(Debug, Clone)]
pub(crate) struct TestImage {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    /// The descriptor of the manifest or index.
    pub(crate) root: Value,
    /// The layers' blobs, lowest first.
    pub(crate) layers: Vec<Digest>,
    pub(crate) config: Digest,
}

/// What an image is made from.
pub(crate) struct Recipe<'a> {
    pub(crate) layers: &'a [(Compression, Vec<u8>)],
    pub(crate) architecture: &'a str,
    pub(crate) version: &'a str,
}

/// The architecture of this machine, in the words of the specification.
pub(crate) fn host_architecture() -> String {
    hull_oci::Platform::host().architecture
}

/// An image of three layers, one of each compression: `usr/one`, `usr/two` and a
/// large `usr/three`; all of them say `version`.
pub(crate) fn three_layers(version: &str) -> TestImage {
    let large: Vec<u8> = (0..700_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ 0x55).to_le_bytes())
        .collect();
    let text = |name: &str| {
        format!(
            "{name} of {version}, in more than the 64 bytes that an image holds itself: an object of the store\n"
        )
    };
    make(&Recipe {
        layers: &[
            (
                Compression::Gzip,
                tar(&[("usr/", b""), ("usr/one", text("one").as_bytes())]),
            ),
            (
                Compression::Zstd,
                tar(&[("usr/two", text("two").as_bytes())]),
            ),
            (
                Compression::None,
                tar(&[("usr/three", &[text("three").as_bytes(), &large].concat())]),
            ),
        ],
        architecture: &host_architecture(),
        version,
    })
}

pub(crate) fn make(recipe: &Recipe<'_>) -> TestImage {
    let mut blobs = BTreeMap::new();
    let mut add = |media_type: &str, bytes: Vec<u8>| {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        blobs.insert(digest, bytes);
        (digest, descriptor)
    };
    let diff_ids: Vec<_> = recipe
        .layers
        .iter()
        .map(|(_, tar)| Digest::sha256(tar))
        .collect();
    let (layers, layer_descriptors): (Vec<_>, Vec<_>) = recipe
        .layers
        .iter()
        .map(|(compression, tar)| {
            let (suffix, bytes) = compress(*compression, tar);
            add(
                &format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                bytes,
            )
        })
        .unzip();
    let config = json!({
        "os": "linux",
        "architecture": recipe.architecture,
        "created": "2026-01-02T03:04:05Z",
        "config": {"Labels": {"org.opencontainers.image.version": recipe.version}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let (config, config_descriptor) = add("application/vnd.oci.image.config.v1+json", config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config_descriptor,
        "layers": layer_descriptors,
    });
    let (_, mut root) = add(OCI_MANIFEST, serde_json::to_vec(&manifest).unwrap());
    root["platform"] = json!({"os": "linux", "architecture": recipe.architecture});
    TestImage {
        blobs,
        root,
        layers,
        config,
    }
}

impl TestImage {
    pub(crate) fn digest(&self) -> Digest {
        self.root["digest"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn media_type(&self) -> &str {
        self.root["mediaType"].as_str().unwrap()
    }

    /// The bytes of the manifest or index.
    pub(crate) fn manifest(&self) -> &[u8] {
        &self.blobs[&self.digest()]
    }

    /// The same image behind an index, with others beside it.
    pub(crate) fn index(images: &[&TestImage]) -> TestImage {
        let manifests: Vec<_> = images.iter().map(|image| image.root.clone()).collect();
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
        let bytes = serde_json::to_vec(&index).unwrap();
        let digest = Digest::sha256(&bytes);
        let mut all = images[0].clone();
        for image in images {
            all.blobs.extend(image.blobs.clone());
        }
        all.root = json!({"mediaType": OCI_INDEX, "digest": digest, "size": bytes.len()});
        all.blobs.insert(digest, bytes);
        all
    }

    /// The same image with its manifest changed.
    pub(crate) fn with_manifest(&self, change: impl FnOnce(&mut Value)) -> TestImage {
        let mut manifest: Value = serde_json::from_slice(self.manifest()).unwrap();
        change(&mut manifest);
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::sha256(&bytes);
        let mut image = self.clone();
        image.root["digest"] = json!(digest);
        image.root["size"] = json!(bytes.len());
        image.blobs.insert(digest, bytes);
        image
    }

    /// Writes an image layout, in which the image has this name.
    pub(crate) fn write_layout(&self, dir: &Path, name: &str) {
        for (digest, bytes) in &self.blobs {
            let path = dir.join(format!("blobs/{}", digest.algorithm().name()));
            std::fs::create_dir_all(&path).unwrap();
            put(&path.join(digest.to_hex()), bytes);
        }
        put(
            &dir.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        );
        let mut root = self.root.clone();
        root["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let index = json!({"schemaVersion": 2, "manifests": [root]});
        put(
            &dir.join("index.json"),
            &serde_json::to_vec(&index).unwrap(),
        );
    }
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

pub(crate) fn compress(compression: Compression, tar: &[u8]) -> (&'static str, Vec<u8>) {
    match compression {
        Compression::None => ("", tar.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(tar).unwrap();
            ("+gzip", encoder.finish().unwrap())
        }
        Compression::Zstd => ("+zstd", zstd::encode_all(tar, 1).unwrap()),
    }
}

/// A tar of directories (names that end in a slash) and files.
pub(crate) fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in entries {
        let is_directory = name.ends_with('/');
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(if is_directory { b"0000755" } else { b"0000644" });
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"14000000000");
        header[148..156].fill(b' ');
        header[156] = if is_directory { b'5' } else { b'0' };
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
