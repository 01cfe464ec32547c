//! Writing an image into an OCI layout.
//!
//! Blobs get their names when they are whole. A new layout is made beside its
//! final name and renamed; in one that exists already, the new `index.json` is
//! the last thing that is written. So the image is there whole, or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hull_oci::{Digest, Platform};
use hull_sys::{dir, durable};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::{Documents, MANIFEST_TYPE, bytes};
use crate::scratch::{self, Scratch};

const INDEX: &str = "index.json";
const MARKER: &str = "oci-layout";
const TAG: &str = "org.opencontainers.image.ref.name";
/// The longest index that is read, in bytes.
const INDEX_MAX: u64 = 4 << 20;

/// A layout that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file or directory of it.
    #[error("{}: cannot {doing}; the image was not written", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{} exists and is no OCI layout; name another directory", .0.display())]
    NotALayout(PathBuf),
    /// Its index cannot be understood.
    #[error("{}/{INDEX} cannot be understood; name another directory", path.display())]
    Index {
        /// The layout.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// A layout that an image is written into.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    /// Where a new layout is until it is whole.
    temporary: Option<Scratch>,
    root: OwnedFd,
    blobs: OwnedFd,
    index: Value,
}

impl Layout {
    /// Opens the layout at `path`, or begins a new one.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let failed = |doing| {
            move |source: io::Error| LayoutError::Io {
                path: path.to_owned(),
                doing,
                source,
            }
        };
        match std::fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::new(path),
            Err(error) => return Err(failed("look at it")(error)),
        }
        let root = open_dir(path).map_err(failed("open it"))?;
        let is_layout = rustix::fs::statat(&root, MARKER, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        if is_layout.is_err() {
            return Err(LayoutError::NotALayout(path.to_owned()));
        }
        let text = dir::read_file_at_most(&root, INDEX, INDEX_MAX).map_err(failed("read it"))?;
        let index = serde_json::from_slice(&text).map_err(|source| LayoutError::Index {
            path: path.to_owned(),
            source,
        })?;
        let blobs = make_blobs(&root).map_err(failed("make a directory in it"))?;
        Ok(Self {
            path: path.to_owned(),
            temporary: None,
            root,
            blobs,
            index,
        })
    }

    fn new(path: &Path) -> Result<Self, LayoutError> {
        let failed = |doing| {
            move |source: io::Error| LayoutError::Io {
                path: path.to_owned(),
                doing,
                source,
            }
        };
        let temporary = scratch::beside(path).map_err(failed("make a directory beside it"))?;
        let root = open_dir(temporary.path()).map_err(failed("open a directory beside it"))?;
        let blobs = make_blobs(&root).map_err(failed("make a directory in it"))?;
        durable::write_new(&root, MARKER, 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .map_err(failed("write into it"))?;
        Ok(Self {
            path: path.to_owned(),
            temporary: Some(temporary),
            root,
            blobs,
            index: json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [],
            }),
        })
    }

    /// Where it is, or will be when it is whole.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that files without names can be made in, on the file system of the blobs.
    pub fn dir(&self) -> &Path {
        self.temporary.as_ref().map_or(&*self.path, Scratch::path)
    }

    /// A file for a blob whose digest is not known yet; unnamed, so nothing of it stays if this program ends.
    pub fn blob(&self) -> Result<File, LayoutError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.blobs, ".", flags, Mode::from_raw_mode(0o644))
            .map(File::from)
            .map_err(|error| self.failed("make a file in it", error.into()))
    }

    /// Gives a blob its name; if the layout has it already, that one stays.
    pub fn keep(&self, file: &File, digest: &Digest) -> Result<(), LayoutError> {
        match durable::link_unnamed(file, &self.blobs, &digest.to_hex()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.failed("name a file in it", error)),
        }
    }

    /// Adds the image, under a tag that it takes from another image that has it.
    ///
    /// On return all is on disk.
    pub(crate) fn commit(
        mut self,
        documents: &Documents,
        tag: Option<&str>,
        platform: &Platform,
    ) -> Result<Digest, LayoutError> {
        for document in [&documents.config, &documents.manifest] {
            self.document(document)?;
        }
        let manifest = Digest::sha256(&documents.manifest);
        self.list(&manifest, documents.manifest.len(), tag, platform);
        let failed = |doing| {
            let path = self.path.clone();
            move |source| LayoutError::Io {
                path,
                doing,
                source,
            }
        };
        durable::sync_dir(&self.blobs).map_err(failed("write to it"))?;
        durable::barrier(&self.root).map_err(failed("write to it"))?;
        durable::replace(&self.root, INDEX, 0o644, &bytes(&self.index))
            .map_err(failed("write its index"))?;
        if let Some(temporary) = self.temporary.take() {
            publish(temporary, &self.path).map_err(failed("give it its name"))?;
        }
        Ok(manifest)
    }

    fn document(&self, bytes: &[u8]) -> Result<(), LayoutError> {
        let name = Digest::sha256(bytes).to_hex();
        match durable::write_new(&self.blobs, &name, 0o644, bytes) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.failed("write into it", error))
            }
            _ => Ok(()),
        }
    }

    /// Puts the image into the index.
    fn list(&mut self, manifest: &Digest, size: usize, tag: Option<&str>, platform: &Platform) {
        let mut entry = json!({
            "mediaType": MANIFEST_TYPE,
            "digest": manifest.to_string(),
            "size": size,
            "platform": {"architecture": platform.architecture, "os": platform.os},
        });
        if let Some(variant) = &platform.variant {
            entry["platform"]["variant"] = json!(variant);
        }
        if let Some(tag) = tag {
            entry["annotations"] = json!({TAG: tag});
        }
        if !self.index["manifests"].is_array() {
            self.index["manifests"] = json!([]);
        }
        if let Some(list) = self.index["manifests"].as_array_mut() {
            let same_tag = |other: &Value| other["annotations"][TAG].as_str() == tag;
            list.retain(|other| !same_tag(other));
            list.push(entry);
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> LayoutError {
        LayoutError::Io {
            path: self.path.clone(),
            doing,
            source,
        }
    }
}

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn make_blobs(root: &OwnedFd) -> io::Result<OwnedFd> {
    let blobs = durable::make_dir(root, "blobs", 0o755)?;
    durable::make_dir(&blobs, "sha256", 0o755)
}

/// Gives a directory that is whole its name.
fn publish(temporary: Scratch, path: &Path) -> io::Result<()> {
    let text = |name: Option<&OsStr>| {
        name.and_then(OsStr::to_str)
            .map(str::to_owned)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8"))
    };
    let (old, new) = (text(temporary.path().file_name())?, text(path.file_name())?);
    rustix::fs::chmod(temporary.path(), Mode::from_raw_mode(0o755))?;
    let directory = open_dir(parent(path))?;
    durable::rename_new(&directory, &old, &directory, &new)?;
    // It has another name now, and stays.
    let _renamed = temporary.keep();
    durable::sync_dir(&directory)
}
