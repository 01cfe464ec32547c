//! One of podman's stores: its lists of images and layers, read under its locks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::StorageError;
use super::owners::OwnerRange;
use crate::digest::Digest;

/// The longest list, in bytes: some hundred for each image or layer.
const MAX_LIST: u64 = 256 << 20;
/// How long podman may be at work, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(50);

/// An image in `images.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ImageRecord {
    pub(super) id: String,
    pub(super) digest: Option<String>,
    pub(super) names: Option<Vec<String>>,
    /// The uppermost layer.
    pub(super) layer: Option<String>,
    pub(super) big_data_digests: Option<BTreeMap<String, String>>,
}

/// A layer in `layers.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LayerRecord {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    /// The length of the tar.
    pub(super) diff_size: Option<i64>,
    #[serde(rename = "uidmap")]
    pub(super) users: Option<Vec<OwnerRange>>,
    #[serde(rename = "gidmap")]
    pub(super) groups: Option<Vec<OwnerRange>>,
}

/// A store, kept as it is by its locks.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) path: PathBuf,
    dir: OwnedFd,
    /// Dropped, they go.
    _locks: Vec<Lock>,
    pub(super) images: Vec<ImageRecord>,
    pub(super) layers: Vec<LayerRecord>,
}

impl Store {
    /// Opens a store; nothing where there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, StorageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(reading(path, "")(error.into())),
        };
        // Podman takes them in this order too.
        let locks = ["overlay-layers/layers.lock", "overlay-images/images.lock"]
            .into_iter()
            .filter_map(|name| Lock::take(&dir, name, path).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            images: list(&dir, "overlay-images/images.json", path)?,
            layers: list(&dir, "overlay-layers/layers.json", path)?,
            path: path.to_owned(),
            dir,
            _locks: locks,
        }))
    }

    /// A document of an image, by the key that podman gave it.
    pub(super) fn big_data(
        &self,
        image: &ImageRecord,
        key: &str,
        limit: u64,
    ) -> Result<Vec<u8>, StorageError> {
        check_id(&image.id, &self.path)?;
        let path = format!("overlay-images/{}/{}", image.id, big_data_name(key));
        hull_sys::dir::read_file_at_most(&self.dir, &*path, limit)
            .map_err(reading(&self.path, &path))
    }

    /// podman's record of how the layer's tar was split, if there is one.
    pub(super) fn tar_split(&self, layer: &str) -> Result<Option<File>, StorageError> {
        check_id(layer, &self.path)?;
        let path = format!("overlay-layers/{layer}.tar-split.gz");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        match hull_sys::dir::open_beneath(&self.dir, &*path, flags) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(reading(&self.path, &path)(error)),
        }
    }

    /// The files of the layer.
    pub(super) fn diff(&self, layer: &str) -> Result<OwnedFd, StorageError> {
        check_id(layer, &self.path)?;
        let blob = format!("overlay/{layer}/composefs-data/composefs.blob");
        if hull_sys::dir::open_beneath(&self.dir, &*blob, OFlags::PATH | OFlags::NOFOLLOW).is_ok() {
            return Err(StorageError::Composefs {
                store: self.path.clone(),
                layer: layer.to_owned(),
            });
        }
        let path = format!("overlay/{layer}/diff");
        hull_sys::dir::open_dir_beneath(&self.dir, &*path).map_err(reading(&self.path, &path))
    }

    /// Who owns the store: user and group.
    pub(super) fn owner(&self) -> io::Result<(u32, u32)> {
        let stat = rustix::fs::fstat(&self.dir)?;
        Ok((stat.st_uid, stat.st_gid))
    }
}

impl ImageRecord {
    /// The digests of its manifests, as the store knows them, with their keys.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (&str, Digest)> {
        let recorded = self.big_data_digests.iter().flatten();
        let recorded = recorded.filter(|(key, _)| key.starts_with("manifest"));
        recorded.filter_map(|(key, digest)| Some((key.as_str(), digest.parse().ok()?)))
    }
}

/// IDs become parts of paths.
fn check_id(id: &str, store: &Path) -> Result<(), StorageError> {
    let is_id = (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    match is_id {
        true => Ok(()),
        false => Err(StorageError::Damaged {
            store: store.to_owned(),
            reason: format!("{:?} is no ID", id.chars().take(80).collect::<String>()),
        }),
    }
}

/// The file that podman keeps a document in: its key, or the key in base64.
fn big_data_name(key: &str) -> String {
    let is_plain = key
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.');
    match is_plain {
        true => key.to_owned(),
        false => format!("={}", STANDARD.encode(key)),
    }
}

/// A list; none is an empty one.
fn list<T: DeserializeOwned>(
    dir: &OwnedFd,
    name: &str,
    store: &Path,
) -> Result<Vec<T>, StorageError> {
    let bytes = match hull_sys::dir::read_file_at_most(dir, name, MAX_LIST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(reading(store, name)(error)),
    };
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let list: Option<Vec<T>> =
        serde_json::from_slice(&bytes).map_err(|error| StorageError::Damaged {
            store: store.to_owned(),
            reason: format!("{name}: {error}"),
        })?;
    Ok(list.unwrap_or_default())
}

fn reading<'a>(store: &'a Path, what: &'a str) -> impl FnOnce(io::Error) -> StorageError + 'a {
    move |source| StorageError::Read {
        path: store.join(what),
        source,
    }
}

/// A read lock on one of the store's lock files: podman adds and removes nothing.
///
/// It belongs to the process: it goes when any handle of that file is closed.
#[derive(Debug)]
struct Lock(OwnedFd);

impl Lock {
    /// Nothing where there is no such file: nobody can be at work there then.
    fn take(dir: &OwnedFd, name: &str, store: &Path) -> Result<Option<Self>, StorageError> {
        let file = match hull_sys::dir::open_beneath(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reading(store, name)(error)),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(Some(Self(file))),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS)
                    if Instant::now() < until =>
                {
                    std::thread::sleep(RETRY);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                    return Err(StorageError::Busy(store.to_owned()));
                }
                Err(error) => return Err(reading(store, name)(error.into())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file lets it go anyway.
        rustix::fs::fcntl_lock(&self.0, FlockOperation::Unlock).ok();
    }
}
