//! Images in an OCI image layout, wherever its files are kept.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::used_up::UsedUp;
use super::{Fetched, Source, SourceError};
use crate::digest::{BlobError, Digest};
use crate::manifest::{
    Descriptor, Document, Index, IndexEntry, MAX_MANIFEST, ManifestError, OCI_INDEX,
};
use crate::reference::FileReference;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MAX_MARKER: u64 = 4096;

/// The files of a layout.
pub(super) trait Files: Send + Sync + std::fmt::Debug {
    /// Opens the regular file at `path`, and says how long it is; nothing where there is none.
    fn open(&self, path: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>>;
}

/// One image of a layout.
#[derive(Debug)]
pub(super) struct Layout<F> {
    path: PathBuf,
    transport: &'static str,
    name: Option<String>,
    digest: Option<Digest>,
    files: F,
}

impl Layout<Directory> {
    /// The image in a directory.
    pub(super) fn open(reference: &FileReference) -> Result<Self, SourceError> {
        Self::new(reference, "oci", directory(reference)?)
    }
}

impl Layout<UsedUp> {
    /// The same, of a layout that nobody wants afterwards: each layer can be read once.
    pub(super) fn open_used_up(reference: &FileReference) -> Result<Self, SourceError> {
        Self::new(reference, "oci", UsedUp(directory(reference)?))
    }
}

fn directory(reference: &FileReference) -> Result<Directory, SourceError> {
    let path = reference.path();
    Directory::open(path).map_err(|source| SourceError::Read {
        path: path.to_owned(),
        what: "cannot open the directory".to_owned(),
        source,
    })
}

impl<F: Files> Layout<F> {
    /// The image in `files`, which must be a layout of version 1.
    pub(super) fn new(
        reference: &FileReference,
        transport: &'static str,
        files: F,
    ) -> Result<Self, SourceError> {
        let layout = Self {
            path: reference.path().to_owned(),
            transport,
            name: reference.name().map(str::to_owned),
            digest: reference.digest().copied(),
            files,
        };
        layout.check_version()?;
        Ok(layout)
    }

    fn check_version(&self) -> Result<(), SourceError> {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let bytes = self
            .read("oci-layout", MAX_MARKER)?
            .ok_or_else(|| self.not_a_layout("the file oci-layout is missing"))?;
        match serde_json::from_slice::<Marker>(&bytes) {
            Ok(marker) if marker.version.starts_with("1.") => Ok(()),
            Ok(marker) => {
                let version: String = marker.version.chars().take(40).collect();
                Err(self.not_a_layout(&format!("it has version {version:?}; 1.x is expected")))
            }
            Err(error) => Err(self.not_a_layout(&format!("oci-layout: {error}"))),
        }
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let fail = |source| SourceError::Read {
            path: self.path.clone(),
            what: path.to_owned(),
            source,
        };
        let Some((file, _)) = self.files.open(path).map_err(fail)? else {
            return Ok(None);
        };
        let bytes = hull_sys::dir::read_at_most(file, limit).map_err(fail)?;
        Ok(Some(bytes))
    }

    fn index(&self) -> Result<(Vec<u8>, Index), SourceError> {
        let bytes = self
            .read("index.json", MAX_MANIFEST)?
            .ok_or_else(|| self.not_a_layout("the file index.json is missing"))?;
        match Document::parse(&bytes, Some(OCI_INDEX)) {
            Ok(Document::Index(index)) => Ok((bytes, index)),
            Ok(Document::Manifest(_)) => Err(self.not_a_layout("index.json is no index")),
            Err(error) => Err(self.document_error(error)),
        }
    }

    fn not_a_layout(&self, reason: &str) -> SourceError {
        SourceError::NotALayout {
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    fn document_error(&self, error: ManifestError) -> SourceError {
        SourceError::Document {
            place: self.place(),
            source: Box::new(error),
        }
    }

    /// A manifest or index of known digest but unknown length.
    fn by_digest(&self, digest: &Digest) -> Result<Fetched, SourceError> {
        let bytes = self
            .read(&blob_path(digest), MAX_MANIFEST)?
            .ok_or_else(|| self.missing(digest))?;
        let actual = Digest::compute(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(self.content(BlobError::WrongDigest {
                digest: *digest,
                actual: Box::new(actual),
            }));
        }
        Ok(Fetched::new(bytes, Some(*digest), None))
    }

    fn missing(&self, digest: &Digest) -> SourceError {
        SourceError::MissingBlob {
            path: self.path.clone(),
            digest: *digest,
        }
    }

    fn content(&self, source: BlobError) -> SourceError {
        SourceError::Content {
            place: self.place(),
            source: Box::new(source),
        }
    }

    fn no_such_image(&self, wanted: String, index: &Index) -> SourceError {
        SourceError::NoSuchImage {
            path: self.path.clone(),
            wanted,
            offered: offered(index),
        }
    }
}

impl<F: Files> Source for Layout<F> {
    fn place(&self) -> String {
        format!("{}:{}", self.transport, self.path.display())
    }

    fn root(&self) -> Result<Fetched, SourceError> {
        if let Some(digest) = &self.digest {
            return self.by_digest(digest);
        }
        let (bytes, index) = self.index()?;
        let Some(name) = &self.name else {
            return match &index.manifests[..] {
                [only] => self.document(&only.descriptor),
                [] => Err(self.no_such_image("is".to_owned(), &index)),
                // Images for several platforms without names: the list itself is the choice.
                several if several.iter().all(is_choice_of_platform) => {
                    Ok(Fetched::new(bytes, None, Some(OCI_INDEX.to_owned())))
                }
                _ => Err(SourceError::Ambiguous {
                    path: self.path.clone(),
                    offered: offered(&index),
                }),
            };
        };
        let mut named = index
            .manifests
            .iter()
            .filter(|entry| name_of(entry) == Some(name))
            .map(|entry| &entry.descriptor);
        let first = named
            .next()
            .ok_or_else(|| self.no_such_image(format!("is named {name:?}"), &index))?;
        if named.any(|other| other.digest != first.digest) {
            return Err(SourceError::Ambiguous {
                path: self.path.clone(),
                offered: offered(&index),
            });
        }
        self.document(first)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError> {
        let mut fetched = self.by_digest(&descriptor.digest)?;
        fetched.check_type(descriptor, &self.place())?;
        Ok(fetched)
    }

    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        let path = blob_path(&descriptor.digest);
        let opened = self.files.open(&path).map_err(|source| SourceError::Read {
            path: self.path.clone(),
            what: path,
            source,
        })?;
        let (file, length) = opened.ok_or_else(|| self.missing(&descriptor.digest))?;
        // Known before gigabytes are read for nothing.
        if length < descriptor.size {
            return Err(self.content(BlobError::Truncated {
                digest: descriptor.digest,
                expected: descriptor.size,
                got: length,
            }));
        }
        Ok(file)
    }
}

/// A digest is parsed, so it cannot lead out of `blobs/`.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.to_hex())
}

fn name_of(entry: &IndexEntry) -> Option<&String> {
    entry.descriptor.annotations.get(REF_NAME)
}

fn is_choice_of_platform(entry: &IndexEntry) -> bool {
    name_of(entry).is_none() && entry.platform.is_some()
}

/// The names in an index, for a message.
fn offered(index: &Index) -> String {
    let names: Vec<_> = index
        .manifests
        .iter()
        .take(20)
        .map(|entry| match name_of(entry) {
            Some(name) => name.chars().take(100).collect(),
            None => format!("@{}", entry.descriptor.digest),
        })
        .collect();
    match names.len() {
        0 => "nothing".to_owned(),
        _ => names.join(", "),
    }
}

/// A layout in a directory. Nothing outside of it is opened, whatever links say.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a regular file below, with its length; none where there is none.
    pub(super) fn open_file(&self, path: &str, access: OFlags) -> io::Result<Option<(File, u64)>> {
        // Without NONBLOCK, opening a named pipe would wait for its writer.
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match hull_sys::dir::open_beneath(&self.0, path, flags) {
            Ok(fd) => File::from(fd),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Some((file, metadata.len())))
    }
}

impl Files for Directory {
    fn open(&self, path: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>> {
        let opened = self.open_file(path, OFlags::RDONLY)?;
        Ok(opened.map(|(file, length)| (Box::new(file) as Box<dyn Read + Send>, length)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::manifest::OCI_MANIFEST;
    use crate::reference::Reference;

    /// A layout in memory: paths and contents.
    #[derive(Debug, Default, Clone)]
    pub(in crate::source) struct Memory(pub(in crate::source) BTreeMap<String, Vec<u8>>);

    impl Memory {
        pub(in crate::source) fn add_blob(&mut self, content: &[u8]) -> Value {
            let digest = Digest::sha256(content);
            self.0.insert(blob_path(&digest), content.to_vec());
            json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": content.len()})
        }

        pub(in crate::source) fn put_index(&mut self, manifests: Value) {
            let index = json!({"schemaVersion": 2, "manifests": manifests});
            self.0
                .insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
            let marker = br#"{"imageLayoutVersion": "1.0.0"}"#;
            self.0.insert("oci-layout".to_owned(), marker.to_vec());
        }
    }

    impl Files for Memory {
        fn open(&self, path: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>> {
            Ok(self.0.get(path).map(|content| {
                let length = u64::try_from(content.len()).unwrap();
                let reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(content.clone()));
                (reader, length)
            }))
        }
    }

    fn named(mut descriptor: Value, name: &str) -> Value {
        descriptor["annotations"] = json!({REF_NAME: name});
        descriptor
    }

    fn open(memory: &Memory, selector: &str) -> Result<Layout<Memory>, SourceError> {
        let Reference::Layout(reference) = Reference::parse(&format!("oci:x{selector}")).unwrap()
        else {
            panic!("a layout is expected");
        };
        Layout::new(&reference, "oci", memory.clone())
    }

    fn root(memory: &Memory, selector: &str) -> Result<Vec<u8>, SourceError> {
        open(memory, selector)?.root().map(|fetched| fetched.bytes)
    }

    #[test]
    fn an_image_is_found_by_name_by_digest_or_alone() {
        let mut memory = Memory::default();
        let one = named(memory.add_blob(b"one"), "1");
        let two = named(memory.add_blob(b"two"), "2");
        memory.put_index(json!([one, two]));
        assert_eq!(root(&memory, ":2").unwrap(), b"two");
        let digest = Digest::sha256(b"one");
        assert_eq!(root(&memory, &format!("@{digest}")).unwrap(), b"one");
        let error = root(&memory, "").unwrap_err().to_string();
        assert!(error.contains("name one of: 1, 2"), "{error}");
        let error = root(&memory, ":3").unwrap_err().to_string();
        assert!(error.contains("holds: 1, 2"), "{error}");
        memory.put_index(json!([one]));
        assert_eq!(root(&memory, "").unwrap(), b"one");
    }

    #[test]
    fn unnamed_images_of_several_platforms_are_a_choice() {
        let mut memory = Memory::default();
        let mut one = memory.add_blob(b"one");
        one["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let mut two = memory.add_blob(b"two");
        two["platform"] = json!({"os": "linux", "architecture": "arm64"});
        memory.put_index(json!([one, two]));
        let fetched = open(&memory, "").unwrap().root().unwrap();
        assert_eq!(fetched.bytes, memory.0["index.json"]);
        assert_eq!(fetched.media_type.as_deref(), Some(OCI_INDEX));
    }

    #[test]
    fn a_changed_or_missing_blob_is_named() {
        let mut memory = Memory::default();
        let one = memory.add_blob(b"one");
        memory.put_index(json!([one]));
        let path = blob_path(&Digest::sha256(b"one"));
        memory.0.insert(path.clone(), b"eno".to_vec());
        let error = root(&memory, "").unwrap_err();
        assert!(matches!(error, SourceError::Content { .. }), "{error}");
        memory.0.remove(&path);
        let error = root(&memory, "").unwrap_err();
        assert!(matches!(error, SourceError::MissingBlob { .. }), "{error}");
    }

    #[test]
    fn a_descriptor_with_a_wrong_size_is_refused() {
        let mut memory = Memory::default();
        let mut one = memory.add_blob(b"one");
        one["size"] = json!(4);
        memory.put_index(json!([one]));
        let error = root(&memory, "").unwrap_err();
        assert!(matches!(error, SourceError::Content { .. }), "{error}");
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let mut memory = Memory::default();
        assert!(matches!(
            open(&memory, ""),
            Err(SourceError::NotALayout { .. })
        ));
        memory.put_index(json!([]));
        assert!(matches!(
            root(&memory, ""),
            Err(SourceError::NoSuchImage { .. })
        ));
        memory.0.insert(
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec(),
        );
        assert!(matches!(
            open(&memory, ""),
            Err(SourceError::NotALayout { .. })
        ));
    }

    #[test]
    fn a_directory_gives_nothing_from_outside_and_no_pipes() {
        let temp = tempfile::tempdir().unwrap();
        let inside = temp.path().join("layout");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", inside.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("relative")).unwrap();
        std::fs::File::create(temp.path().join("secret")).unwrap();
        let dir = Directory::open(&inside).unwrap();
        rustix::fs::mknodat(
            &dir.0,
            "pipe",
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for name in ["absolute", "relative", "pipe", "../secret"] {
            assert!(dir.open(name).is_err(), "{name}");
        }
        assert!(dir.open("missing").unwrap().is_none());
    }
}
