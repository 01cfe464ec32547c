//! An OCI image layout in a directory as the place to write to.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use hull_sys::durable;
use hull_sys::lock::{Lock, Wait};
use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};

use super::blobs::Blobs;
use super::{Open, PushError, Target, Written};
use crate::digest::Digest;
use crate::manifest::write::to_bytes;
use crate::manifest::{Descriptor, MAX_MANIFEST, OCI_INDEX};
use crate::reference::FileReference;

/// The annotation that names an image of a layout.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The file that says that a directory is a layout.
pub(super) const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout that an image is added to.
pub(super) struct Layout {
    path: PathBuf,
    name: Option<String>,
    dir: OwnedFd,
    blobs: Blobs,
}

impl Layout {
    /// Opens the directory, and makes it a layout if it is missing, or empty but for the blobs of
    /// a copy that did not come to its end.
    pub(super) fn open(reference: &FileReference) -> Result<Self, PushError> {
        let path = reference.path().to_owned();
        let failed = |source: io::Error| PushError::Write {
            path: path.clone(),
            what: "the directory of the layout".to_owned(),
            source,
        };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let is_layout = rustix::fs::accessat(
            &dir,
            "oci-layout",
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::empty(),
        )
        .is_ok();
        let entries = hull_sys::dir::entries(&dir).map_err(failed)?;
        let is_begun = |entry: &hull_sys::dir::Entry| {
            matches!(entry.name.to_bytes(), b"blobs" | b".oci-layout.new")
        };
        if !is_layout && !entries.iter().all(is_begun) {
            return Err(PushError::NotALayout {
                path,
                reason: "there are files in it, and it is no OCI image layout".to_owned(),
            });
        }
        let blobs = Blobs::open(&dir).map_err(failed)?;
        Ok(Self {
            name: reference.name().map(str::to_owned),
            path: path.clone(),
            dir,
            blobs,
        })
    }

    fn failed(&self, what: impl Into<String>) -> impl FnOnce(io::Error) -> PushError + '_ {
        let what = what.into();
        move |source| PushError::Write {
            path: self.path.clone(),
            what,
            source,
        }
    }

    fn check(&self, digest: &Digest) -> Result<(), PushError> {
        match digest {
            Digest::Sha256(_) => Ok(()),
            Digest::Sha512(_) => Err(PushError::Unsupported {
                place: self.place(),
                reason: "hull writes layouts with SHA-256 alone",
            }),
        }
    }

    /// Writes a file without a name, and names it when it is whole and on disk.
    fn write_blob(
        &self,
        digest: &Digest,
        fill: impl FnOnce(&mut File) -> Result<(), PushError>,
    ) -> Result<(), PushError> {
        self.check(digest)?;
        let failed = |source: io::Error| self.failed(format!("the blob {digest}"))(source);
        let mut file = self.blobs.unnamed().map_err(failed)?;
        fill(&mut file)?;
        self.blobs.keep(&file, digest).map_err(failed)
    }
}

impl Target for Layout {
    fn place(&self) -> String {
        format!("oci:{}", self.path.display())
    }

    fn parallel(&self) -> usize {
        2
    }

    /// One that is there is read: a power cut may have left zeros in what another program wrote, and a layout may have been
    /// copied here by half.
    fn has(&self, blob: &Descriptor) -> Result<bool, PushError> {
        self.check(&blob.digest)?;
        let has = || -> io::Result<bool> {
            let same_length = self.blobs.length(&blob.digest)? == Some(blob.size);
            Ok(same_length && self.blobs.is_right(&blob.digest)?)
        };
        has().map_err(|error| self.failed(format!("the blob {}", blob.digest))(error))
    }

    fn put(&self, blob: &Descriptor, open: Open<'_>, sent: &dyn Fn(u64)) -> Result<(), PushError> {
        let reading = |error| PushError::reading("the source".to_owned(), blob.digest, error);
        self.write_blob(&blob.digest, |file| {
            let mut content = open().map_err(reading)?;
            super::tar_file::pour(&mut content, file, sent)
                .map_err(reading)?
                .map_err(self.failed(format!("the blob {}", blob.digest)))
        })
    }

    fn put_document(&self, document: &Written) -> Result<(), PushError> {
        self.write_blob(&document.digest, |file| {
            file.write_all(&document.bytes)
                .map_err(self.failed(format!("the manifest {}", document.digest)))
        })
    }

    /// The commit point is the new index.json.
    fn finish(&self, document: &Written, _: Option<&super::Image<'_>>) -> Result<(), PushError> {
        self.put_document(document)?;
        self.blobs.sync().map_err(self.failed("blobs"))?;
        let lock = Lock::exclusive(&self.dir, Wait::Forever);
        let _lock = lock.map_err(|error| self.failed("locking it")(io::Error::other(error)))?;
        let old = match hull_sys::dir::read_file_at_most(&self.dir, "index.json", MAX_MANIFEST) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed("index.json")(error)),
        };
        let index =
            with_entry(old.as_deref(), document, self.name.as_deref()).map_err(|reason| {
                PushError::NotALayout {
                    path: self.path.clone(),
                    reason,
                }
            })?;
        let marker = durable::replace(&self.dir, "oci-layout", 0o644, MARKER);
        marker.map_err(self.failed("oci-layout"))?;
        durable::replace(&self.dir, "index.json", 0o644, &index).map_err(self.failed("index.json"))
    }
}

/// An `index.json` with the image in it: in place of another of the same name, or of the
/// one without name, or beside the others.
pub(super) fn with_entry(
    old: Option<&[u8]>,
    document: &Written,
    name: Option<&str>,
) -> Result<Vec<u8>, String> {
    let mut index: Map<String, Value> = match old {
        Some(bytes) => {
            serde_json::from_slice(bytes).map_err(|error| format!("index.json: {error}"))?
        }
        None => Map::new(),
    };
    index.insert("schemaVersion".to_owned(), json!(2));
    let media_type = index.entry("mediaType").or_insert_with(|| json!(OCI_INDEX));
    if media_type != OCI_INDEX {
        return Err("index.json is no index".to_owned());
    }
    let mut entry = json!({
        "mediaType": document.media_type,
        "digest": document.digest,
        "size": document.bytes.len(),
    });
    if let Some(name) = name {
        entry["annotations"] = json!({REF_NAME: name});
    }
    let manifests = index.entry("manifests").or_insert_with(|| json!([]));
    let manifests = manifests
        .as_array_mut()
        .ok_or("index.json has no list of manifests")?;
    let name_of = |entry: &Value| {
        let name = entry.get("annotations")?.get(REF_NAME)?.as_str()?;
        Some(name.to_owned())
    };
    manifests.retain(|entry| name_of(entry).as_deref() != name);
    manifests.push(entry);
    Ok(to_bytes(&Value::Object(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> Written {
        Written {
            bytes: content.to_vec(),
            digest: Digest::sha256(content),
            media_type: crate::manifest::OCI_MANIFEST.to_owned(),
        }
    }

    #[test]
    fn an_image_replaces_only_the_one_of_its_name() {
        let add = |old: Option<&[u8]>, content: &[u8], name| {
            with_entry(old, &written(content), name).unwrap()
        };
        let one = add(None, b"one", Some("1"));
        let two = add(Some(&one), b"two", Some("2"));
        let three = add(Some(&two), b"three", Some("1"));
        let four = add(Some(&three), b"four", None);
        let index: Value = serde_json::from_slice(&four).unwrap();
        let digests: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["digest"].clone())
            .collect();
        let expected =
            [&b"two"[..], b"three", b"four"].map(|content| json!(Digest::sha256(content)));
        assert_eq!(digests, expected);
        assert!(with_entry(Some(b"[]"), &written(b"x"), None).is_err());
        assert!(with_entry(Some(br#"{"manifests":{}}"#), &written(b"x"), None).is_err());
    }

    /// A layout in a directory, and a way to write into its blobs.
    fn scene() -> (tempfile::TempDir, FileReference) {
        let temp = tempfile::tempdir().unwrap();
        let reference = format!("oci:{}", temp.path().join("out").display());
        match crate::Reference::parse(&reference).unwrap() {
            crate::Reference::Layout(reference) => (temp, reference),
            other => panic!("{other} is no layout"),
        }
    }

    #[test]
    fn a_copy_that_failed_is_begun_again_and_a_directory_of_other_things_refused() {
        let (temp, reference) = scene();
        Layout::open(&reference).unwrap();
        let again = Layout::open(&reference).unwrap();
        again.put_document(&written(b"{}")).unwrap();
        // A power cut may leave the marker half written.
        File::create(temp.path().join("out/.oci-layout.new")).unwrap();
        Layout::open(&reference).unwrap();
        File::create(temp.path().join("out/notes")).unwrap();
        assert!(matches!(
            Layout::open(&reference),
            Err(PushError::NotALayout { .. })
        ));
    }

    #[test]
    fn blobs_are_believed_only_when_they_are_right() {
        let (temp, reference) = scene();
        let document = written(b"{\"a\":1}");
        let descriptor = Descriptor {
            media_type: OCI_INDEX.to_owned(),
            digest: document.digest,
            size: document.bytes.len() as u64,
            annotations: std::collections::BTreeMap::new(),
        };
        let path = temp
            .path()
            .join("out/blobs/sha256")
            .join(document.digest.to_hex());
        let finish = || Layout::open(&reference).unwrap().finish(&document, None);
        for is_begun_only in [true, false] {
            if !is_begun_only {
                finish().unwrap();
            }
            for there in [&b"{\"a\":2}"[..], b"{", &document.bytes] {
                let layout = Layout::open(&reference).unwrap();
                File::create(&path).unwrap().write_all(there).unwrap();
                let has = layout.has(&descriptor).unwrap();
                assert_eq!(has, there == document.bytes);
                layout.put_document(&document).unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), document.bytes);
            }
        }
        let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(names.count(), 1);
    }

    #[test]
    fn what_else_an_index_says_is_kept() {
        let old = br#"{"schemaVersion":2,"annotations":{"a":"b"},"manifests":[]}"#;
        let index = with_entry(Some(old), &written(b"x"), None).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(index["annotations"]["a"], "b");
    }
}
