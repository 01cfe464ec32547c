//! Images in a `docker-archive:` file, as `docker save` and `podman save` write it.
//!
//! Such an archive has no manifest of OCI's kind: `manifest.json` lists files with
//! a configuration and plain or compressed tars. One is made here, with the layers
//! as plain tars: their digests are the configuration's diff_ids, which are checked
//! when they are read, so that the same image has the same manifest however its
//! layers are packed.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::Deserialize;

use super::tar_files::{Place, TarFiles};
use super::{Fetched, Source, SourceError, SourceOptions, input};
use crate::decompress::decompress_any;
use crate::digest::{BlobError, Digest};
use crate::manifest::write::generate;
use crate::manifest::{
    Descriptor, ImageConfig, MAX_CONFIG, MAX_INDEX, MAX_LAYERS, MAX_MANIFEST, ManifestError,
    OCI_CONFIG, OCI_MANIFEST,
};
use crate::reference::{DEFAULT_TAG, FileReference};

/// The most bytes that the compressed layers of an image may have when unpacked: all of
/// them are, once, before anything else is known of the archive.
const MAX_UNPACKED: u64 = 256 << 30;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// One image of an archive.
#[derive(Debug)]
pub(super) struct DockerArchive {
    path: PathBuf,
    files: TarFiles,
    manifest: Vec<u8>,
    config: (Digest, Vec<u8>),
    layers: HashMap<Digest, Place>,
}

impl DockerArchive {
    /// Opens an archive and finds the image in it.
    pub(super) fn open(
        reference: &FileReference,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let path = reference.path();
        let files = input::open(reference, options)?;
        let files = TarFiles::scan(files).map_err(|source| SourceError::Read {
            path: path.to_owned(),
            what: "cannot read the archive".to_owned(),
            source,
        })?;
        let archive = Opened {
            path: path.to_owned(),
            files,
        };
        let archive = archive.image(reference)?;
        let digest = Digest::sha256(&archive.manifest);
        match reference.digest() {
            Some(wanted) if *wanted != digest => Err(SourceError::NoSuchImage {
                path: archive.path,
                wanted: format!("has the digest {wanted}"),
                offered: format!("@{digest}"),
            }),
            _ => Ok(archive),
        }
    }

    fn read_error(&self, what: String, source: io::Error) -> SourceError {
        SourceError::Read {
            path: self.path.clone(),
            what,
            source,
        }
    }
}

/// An archive in which the image is not known yet.
struct Opened {
    path: PathBuf,
    files: TarFiles,
}

impl Opened {
    fn image(self, reference: &FileReference) -> Result<DockerArchive, SourceError> {
        let list = self.read("manifest.json", MAX_MANIFEST)?;
        let list: Vec<Listed> = serde_json::from_slice(&list)
            .map_err(|error| self.not_an_archive(&format!("manifest.json: {error}")))?;
        if list.len() > MAX_INDEX {
            return Err(self.not_an_archive("manifest.json lists too many images"));
        }
        let listed = self.choose(&list, reference.name())?;
        let config = self.read(&listed.config, MAX_CONFIG)?;
        let parsed = ImageConfig::parse(&config).map_err(|error| self.document(error))?;
        let count = listed.layers.len();
        if count > MAX_LAYERS || count != parsed.diff_ids.len() {
            return Err(self.document(ManifestError::LayerCount {
                diff_ids: parsed.diff_ids.len(),
                layers: count,
            }));
        }
        let mut layers = HashMap::new();
        let mut described = Vec::new();
        let mut lengths = Lengths::new(MAX_UNPACKED);
        for (path, diff_id) in listed.layers.iter().zip(parsed.diff_ids) {
            let place = self.find(path)?;
            let length = self.length(path, place, &mut lengths)?;
            layers.insert(diff_id, place);
            described.push((diff_id, length));
        }
        let config_descriptor = Descriptor {
            media_type: OCI_CONFIG.to_owned(),
            digest: Digest::sha256(&config),
            size: u64::try_from(config.len()).unwrap_or(u64::MAX),
            annotations: Default::default(),
        };
        Ok(DockerArchive {
            manifest: generate(&config_descriptor, &described),
            config: (config_descriptor.digest, config),
            layers,
            path: self.path,
            files: self.files,
        })
    }

    fn choose<'l>(
        &self,
        list: &'l [Listed],
        name: Option<&str>,
    ) -> Result<&'l Listed, SourceError> {
        let missing = |wanted: String| SourceError::NoSuchImage {
            path: self.path.clone(),
            wanted,
            offered: offered(list),
        };
        match name {
            None => match list {
                [only] => Ok(only),
                [] => Err(missing("is".to_owned())),
                _ => Err(SourceError::Ambiguous {
                    path: self.path.clone(),
                    offered: offered(list),
                }),
            },
            Some(name) => {
                let found = match name.strip_prefix('@') {
                    Some(place) => place.parse().ok().and_then(|place: usize| list.get(place)),
                    None => list.iter().find(|listed| {
                        let mut tags = listed.repo_tags.iter().flatten();
                        tags.any(|tag| whole_name(tag) == whole_name(name))
                    }),
                };
                found.ok_or_else(|| missing(format!("is named {name:?}")))
            }
        }
    }

    /// How long a layer is when unpacked.
    fn length(&self, path: &str, place: Place, lengths: &mut Lengths) -> Result<u64, SourceError> {
        if let Some(length) = lengths.known.get(&place.offset) {
            return Ok(*length);
        }
        let read = |source| SourceError::Read {
            path: self.path.clone(),
            what: path.chars().take(200).collect(),
            source,
        };
        let (compression, tar) = decompress_any(self.files.read(place)).map_err(read)?;
        if compression == crate::manifest::Compression::None {
            return Ok(place.length);
        }
        // Nothing in the archive says it.
        let mut tar = tar.take(lengths.left.saturating_add(1));
        let length = io::copy(&mut tar, &mut io::sink()).map_err(read)?;
        lengths.left = lengths.left.checked_sub(length).ok_or_else(|| {
            self.not_an_archive(&format!(
                "its layers unpack to more than {} GiB",
                MAX_UNPACKED >> 30
            ))
        })?;
        lengths.known.insert(place.offset, length);
        Ok(length)
    }

    fn find(&self, path: &str) -> Result<Place, SourceError> {
        let shown: String = path.chars().take(200).collect();
        let found = self.files.find_through_links(path);
        found.ok_or_else(|| self.not_an_archive(&format!("the file {shown:?} is missing")))
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let place = self.find(path)?;
        hull_sys::dir::read_at_most(self.files.read(place), limit).map_err(|source| {
            SourceError::Read {
                path: self.path.clone(),
                what: path.chars().take(200).collect(),
                source,
            }
        })
    }

    fn not_an_archive(&self, reason: &str) -> SourceError {
        SourceError::NotADockerArchive {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    fn document(&self, source: ManifestError) -> SourceError {
        SourceError::Document {
            place: format!("docker-archive:{}", self.path.display()),
            source: Box::new(source),
        }
    }
}

/// The lengths of unpacked layers, by their places, of which several can be one.
struct Lengths {
    known: HashMap<u64, u64>,
    /// How many more bytes are looked at.
    left: u64,
}

impl Lengths {
    fn new(left: u64) -> Self {
        let known = HashMap::new();
        Self { known, left }
    }
}

/// A name as Docker means it: with a registry and a tag.
pub(crate) fn whole_name(name: &str) -> String {
    let slash = name.rfind('/').unwrap_or(0);
    let tag = match name[slash..].contains(':') {
        true => String::new(),
        false => format!(":{DEFAULT_TAG}"),
    };
    let host = name.split_once('/').map(|(host, _)| host);
    let prefix = match host {
        Some(host) if host.contains(['.', ':']) || host == "localhost" => "",
        Some(_) => "docker.io/",
        None => "docker.io/library/",
    };
    format!("{prefix}{name}{tag}")
}

/// The names in an archive, for a message.
fn offered(list: &[Listed]) -> String {
    let names: Vec<String> = list
        .iter()
        .enumerate()
        .take(20)
        .map(
            |(place, listed)| match listed.repo_tags.iter().flatten().next() {
                Some(tag) => tag.chars().take(100).collect(),
                None => format!("@{place}"),
            },
        )
        .collect();
    match names.len() {
        0 => "nothing".to_owned(),
        _ => names.join(", "),
    }
}

impl Source for DockerArchive {
    fn place(&self) -> String {
        format!("docker-archive:{}", self.path.display())
    }

    fn root(&self) -> Result<Fetched, SourceError> {
        let media_type = Some(OCI_MANIFEST.to_owned());
        Ok(Fetched::new(self.manifest.clone(), None, media_type))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError> {
        // Its manifest is no index, so nothing leads here.
        Err(SourceError::MissingBlob {
            path: self.path.clone(),
            digest: descriptor.digest,
        })
    }

    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        let digest = descriptor.digest;
        if digest == self.config.0 {
            return Ok(Box::new(io::Cursor::new(self.config.1.clone())));
        }
        let place = self
            .layers
            .get(&digest)
            .ok_or_else(|| SourceError::MissingBlob {
                path: self.path.clone(),
                digest,
            })?;
        let (compression, tar) = decompress_any(self.files.read(*place))
            .map_err(|error| self.read_error(format!("the layer {digest}"), error))?;
        if compression == crate::manifest::Compression::None && place.length < descriptor.size {
            return Err(SourceError::Content {
                place: self.place(),
                source: Box::new(BlobError::Truncated {
                    digest,
                    expected: descriptor.size,
                    got: place.length,
                }),
            });
        }
        Ok(tar)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::tar_files::tests::{entry, link};
    use super::*;
    use crate::reference::Reference;

    const LAYER: &[u8] = b"not a tar, which nobody looks at here";

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn config(layers: usize) -> Vec<u8> {
        let diff_ids = vec![Digest::sha256(LAYER); layers];
        serde_json::to_vec(&json!({
            "os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))
        .unwrap()
    }

    fn image(tags: Value, layers: &[&str]) -> Value {
        json!({"Config": "config.json", "RepoTags": tags, "Layers": layers})
    }

    fn archive(list: &Value, layers: &[Vec<u8>], count: usize) -> tempfile::NamedTempFile {
        let mut bytes = entry(b"config.json", &config(count), b'0');
        for layer in layers {
            bytes.extend(layer);
        }
        bytes.extend(entry(
            b"manifest.json",
            &serde_json::to_vec(list).unwrap(),
            b'0',
        ));
        bytes.resize(bytes.len() + 1024, 0);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    fn open(file: &tempfile::NamedTempFile, name: &str) -> Result<DockerArchive, SourceError> {
        let text = format!("docker-archive:{}{name}", file.path().display());
        let Reference::DockerArchive(reference) = Reference::parse(&text).unwrap() else {
            panic!("an archive is expected");
        };
        DockerArchive::open(&reference, &SourceOptions::default())
    }

    #[test]
    fn the_manifest_is_the_same_however_the_layers_are_packed() {
        let list = json!([image(json!(null), &["a/layer.tar"])]);
        let packed = [
            vec![entry(b"a/layer.tar", LAYER, b'0')],
            vec![entry(b"a/layer.tar", &gzip(LAYER), b'0')],
            vec![
                entry(b"b", LAYER, b'0'),
                link(b"a/layer.tar", b"../b", b'2'),
            ],
            vec![entry(b"b", LAYER, b'0'), link(b"a/layer.tar", b"b", b'1')],
        ];
        let mut manifests = Vec::new();
        for layers in &packed {
            let archive = open(&archive(&list, layers, 1), "").unwrap();
            let root = archive.root().unwrap();
            let document = crate::manifest::Document::parse(&root.bytes, None).unwrap();
            let crate::manifest::Document::Manifest(manifest) = document else {
                panic!("a manifest is expected");
            };
            let layer = &manifest.layers[0].descriptor;
            let mut content = Vec::new();
            let mut blob = crate::source::blob(&archive, layer).unwrap();
            blob.read_to_end(&mut content).unwrap();
            assert_eq!(content, LAYER);
            manifests.push(root.bytes);
        }
        manifests.dedup();
        assert_eq!(manifests.len(), 1);
    }

    #[test]
    fn a_layer_that_is_listed_many_times_is_unpacked_once_and_not_beyond_the_limit() {
        let layer = entry(b"layer.tar", &gzip(&[0; 1000]), b'0');
        let other = entry(b"other.tar", &gzip(&[1; 1000]), b'0');
        let file = archive(&json!([]), &[layer, other], 1);
        let file = Arc::new(file.reopen().unwrap());
        let opened = Opened {
            path: PathBuf::from("archive"),
            files: TarFiles::scan(file).unwrap(),
        };
        let mut lengths = Lengths::new(1500);
        let mut length = |path| {
            let place = opened.find(path).unwrap();
            opened.length(path, place, &mut lengths)
        };
        for _ in 0..3 {
            assert_eq!(length("layer.tar").unwrap(), 1000);
        }
        let error = length("other.tar").unwrap_err().to_string();
        assert!(error.contains("unpack to more than"), "{error}");
    }

    #[test]
    fn an_image_is_found_by_tag_by_place_or_alone() {
        let layer = [entry(b"layer.tar", LAYER, b'0')];
        let list = json!([
            image(json!(["debian:12"]), &["layer.tar"]),
            image(json!(["localhost/os:latest"]), &["layer.tar"]),
        ]);
        let file = archive(&list, &layer, 1);
        for name in [
            ":debian:12",
            ":docker.io/library/debian:12",
            ":localhost/os",
            ":@1",
        ] {
            open(&file, name).unwrap();
        }
        for name in [":debian", ":@2", ":@x"] {
            let error = open(&file, name).unwrap_err().to_string();
            assert!(error.contains("debian:12, localhost/os:latest"), "{error}");
        }
        let error = open(&file, "").unwrap_err().to_string();
        assert!(error.contains("name one of: debian:12"), "{error}");
        let wrong = format!("@{}", Digest::sha256(b"other"));
        assert!(matches!(
            open(&file, &format!(":debian:12{wrong}")),
            Err(SourceError::NoSuchImage { .. })
        ));
    }

    #[test]
    fn a_layer_that_is_another_one_is_refused_when_it_is_read() {
        let list = json!([image(json!(null), &["layer.tar"])]);
        let mut other = LAYER.to_vec();
        other[0] ^= 1;
        for bytes in [other.clone(), gzip(&other)] {
            let archive =
                open(&archive(&list, &[entry(b"layer.tar", &bytes, b'0')], 1), "").unwrap();
            let descriptor = Descriptor {
                media_type: String::new(),
                digest: Digest::sha256(LAYER),
                size: u64::try_from(LAYER.len()).unwrap(),
                annotations: Default::default(),
            };
            let mut blob = crate::source::blob(&archive, &descriptor).unwrap();
            let error = io::copy(&mut blob, &mut io::sink()).unwrap_err();
            assert!(
                matches!(BlobError::find(&error), Some(BlobError::WrongDigest { .. })),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_docker_archive_is_refused() {
        let layer = [entry(b"layer.tar", LAYER, b'0')];
        for list in [
            json!({}),
            json!([{"Config": "config.json"}]),
            json!([image(json!(null), &["missing"])]),
            json!([image(json!(null), &["../layer.tar"])]),
        ] {
            let error = open(&archive(&list, &layer, 1), "").unwrap_err();
            assert!(
                matches!(error, SourceError::NotADockerArchive { .. }),
                "{error}"
            );
        }
        let list = json!([image(json!(null), &["layer.tar"])]);
        let error = open(&archive(&list, &layer, 2), "").unwrap_err();
        assert!(matches!(error, SourceError::Document { .. }), "{error}");
    }
}
