//! Writing an image into an OCI layout.
//!
//! Blobs get their names when they are whole. A new layout is made beside its
//! final name and renamed; in one that exists already, the new `index.json` is
//! the last thing that is written. So the image is there whole, or not at all.
//!
//! A layout that exists may be written to by others meanwhile, and may hold what
//! a run left that was killed: blobs that are there are read before they are
//! believed, and the index is read again, under a lock, when the image goes into it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hull_oci::push::Blobs;
use hull_oci::{Digest, Platform};
use hull_sys::lock::{Lock, Wait};
use hull_sys::{dir, durable};
use rustix::fs::{Mode, OFlags};
use serde_json::{Map, Value, json};

use super::{Documents, MANIFEST_TYPE, bytes};
use crate::scratch::{self, Scratch};

const INDEX: &str = "index.json";
const MARKER: &str = "oci-layout";
const TAG: &str = "org.opencontainers.image.ref.name";
/// The longest index that is read, in bytes.
const INDEX_MAX: u64 = 4 << 20;

/// What `index.json` says.
type Index = Map<String, Value>;

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
    blobs: Blobs,
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
        // One that cannot be understood is told of before any work.
        read_index(path, &root)?;
        let blobs = Blobs::open(&root).map_err(failed("make a directory in it"))?;
        Ok(Self {
            path: path.to_owned(),
            temporary: None,
            root,
            blobs,
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
        let blobs = Blobs::open(&root).map_err(failed("make a directory in it"))?;
        durable::write_new(&root, MARKER, 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .map_err(failed("write into it"))?;
        Ok(Self {
            path: path.to_owned(),
            temporary: Some(temporary),
            root,
            blobs,
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
        let made = self.blobs.unnamed();
        made.map_err(|error| self.failed("make a file in it", error))
    }

    /// Gives a blob its name; if the layout has it already, that one stays.
    pub fn keep(&self, file: &File, digest: &Digest) -> Result<(), LayoutError> {
        // In a new layout there is nobody else's, and all of it is synced at once.
        let kept = match self.temporary {
            Some(_) => self.blobs.name(file, digest),
            None => self.blobs.keep(file, digest),
        };
        kept.map_err(|error| self.failed("name a file in it", error))
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
        self.on_disk()
            .map_err(|error| self.failed("write to it", error))?;
        let entry = entry(&manifest, documents.manifest.len(), tag, platform);
        self.list(entry, tag)?;
        if let Some(temporary) = self.temporary.take() {
            publish(temporary, &self.path)
                .map_err(|error| self.failed("give it its name", error))?;
        }
        Ok(manifest)
    }

    fn document(&self, bytes: &[u8]) -> Result<(), LayoutError> {
        let mut file = self.blob()?;
        file.write_all(bytes)
            .map_err(|error| self.failed("write into it", error))?;
        self.keep(&file, &Digest::sha256(bytes))
    }

    /// Waits until all but the index is on disk.
    fn on_disk(&self) -> io::Result<()> {
        self.blobs.sync()?;
        durable::barrier(&self.root)
    }

    /// Puts the image into the index as it is now: another program may have changed it since it was read.
    fn list(&self, entry: Value, tag: Option<&str>) -> Result<(), LayoutError> {
        // A new layout is this run's alone, and locked by what would remove it.
        let (_lock, index) = match self.temporary {
            Some(_) => (None, new_index()),
            None => {
                let lock = Lock::exclusive(&self.root, Wait::Forever);
                let lock = lock.map_err(|error| self.failed("lock it", io::Error::other(error)))?;
                (Some(lock), read_index(&self.path, &self.root)?)
            }
        };
        let text = bytes(&Value::Object(with_entry(index, entry, tag)));
        durable::replace(&self.root, INDEX, 0o644, &text)
            .map_err(|error| self.failed("write its index", error))
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

fn read_index(path: &Path, root: &OwnedFd) -> Result<Index, LayoutError> {
    let text = dir::read_file_at_most(root, INDEX, INDEX_MAX);
    let text = text.map_err(|source| LayoutError::Io {
        path: path.to_owned(),
        doing: "read its index",
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| LayoutError::Index {
        path: path.to_owned(),
        source,
    })
}

fn new_index() -> Index {
    let mut index = Index::new();
    index.insert("schemaVersion".to_owned(), json!(2));
    let media_type = json!("application/vnd.oci.image.index.v1+json");
    index.insert("mediaType".to_owned(), media_type);
    index
}

/// What an index says of an image.
fn entry(manifest: &Digest, size: usize, tag: Option<&str>, platform: &Platform) -> Value {
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
    entry
}

/// An index with the image in it, in place of the one that has its tag.
fn with_entry(mut index: Index, entry: Value, tag: Option<&str>) -> Index {
    let list = index.remove("manifests");
    let mut list = match list {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    list.retain(|other| other["annotations"][TAG].as_str() != tag);
    list.push(entry);
    index.insert("manifests".to_owned(), Value::Array(list));
    index
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    fn documents(name: &str) -> Documents {
        Documents {
            config: format!("the configuration of {name}").into_bytes(),
            manifest: format!("the manifest of {name}").into_bytes(),
        }
    }

    fn commit(layout: Layout, tag: &str) -> Digest {
        let committed = layout.commit(&documents(tag), Some(tag), &Platform::host());
        committed.unwrap()
    }

    /// The tags of a layout, in the order of its index.
    fn tags(path: &Path) -> Vec<String> {
        let index = std::fs::read(path.join(INDEX)).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let list = index["manifests"].as_array().unwrap().iter();
        let tags = list.map(|entry| entry["annotations"][TAG].as_str().unwrap().to_owned());
        tags.collect()
    }

    #[test]
    fn runs_that_end_while_others_go_on_keep_each_others_images() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out");
        commit(Layout::open(&path).unwrap(), "first");
        let opened: Vec<Layout> = (0..8).map(|_| Layout::open(&path).unwrap()).collect();
        std::thread::scope(|scope| {
            for (place, layout) in opened.into_iter().enumerate() {
                scope.spawn(move || commit(layout, &format!("run {place}")));
            }
        });
        let mut tags = tags(&path);
        tags.sort();
        let runs = (0..8).map(|place| format!("run {place}"));
        let expected: Vec<_> = std::iter::once("first".to_owned()).chain(runs).collect();
        assert_eq!(tags, expected);
    }

    #[test]
    fn an_index_that_another_program_has_locked_is_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out");
        commit(Layout::open(&path).unwrap(), "first");
        let layout = Layout::open(&path).unwrap();
        let directory = open_dir(&path).unwrap();
        let held = Lock::exclusive(&directory, Wait::No).unwrap();
        let (done, is_done) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                commit(layout, "second");
                done.send(()).unwrap();
            });
            let waited = is_done.recv_timeout(Duration::from_millis(200));
            assert!(waited.is_err());
            assert_eq!(tags(&path), ["first"]);
            drop(held);
        });
        assert_eq!(tags(&path), ["first", "second"]);
    }

    #[test]
    fn an_index_that_is_no_object_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out");
        commit(Layout::open(&path).unwrap(), "first");
        for odd in ["[]", "1", "{"] {
            let mut index = File::create(path.join(INDEX)).unwrap();
            index.write_all(odd.as_bytes()).unwrap();
            let refused = Layout::open(&path).unwrap_err();
            assert!(matches!(refused, LayoutError::Index { .. }), "{odd}");
        }
    }
}
