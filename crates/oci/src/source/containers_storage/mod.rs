//! Images in podman's store (containers-storage, driver overlay), read without podman.
//!
//! The store has no compressed blobs, so an image whose manifest names such comes
//! with a manifest that names the plain tars instead; its configuration, and with it
//! the digests of the tars, stay as they are and are checked (docs/adr,
//! "containers-storage"). A layer without tar-split is made of its files again: that
//! gives other bytes, so the configuration changes too.

mod diff;
mod error;
mod owners;
mod places;
mod select;
mod store;
mod tar_split;

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;

use self::diff::Diff;
pub use self::error::StorageError;
pub use self::owners::{OwnerRange, Owners};
pub use self::places::StorageOptions;
use self::store::{LayerRecord, Store};
#[cfg(fuzzing)]
pub use self::tar_split::fuzz as fuzz_tar_split;
use self::tar_split::{Assembled, Pieces};
use super::{Fetched, Source, SourceError};
use crate::decompress::decompress_any;
use crate::digest::{Digest, Hasher};
use crate::manifest::write::{NewBlob, with_blobs, with_diff_ids};
use crate::manifest::{
    Compression, Descriptor, Document, ImageConfig, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, Manifest,
    ManifestError,
};
use crate::reference::StorageReference;

/// What to do about a file of the store that is closed to the user.
const FOREIGN: &str = "; run hull as root, or in `podman unshare`";
/// What to do about a store of somebody else's.
const NOT_MAPPED: &str = "the store belongs to somebody whose numbers this user namespace does not have; \
                          run hull outside of it, as its owner or as root";

/// One image of podman's.
#[derive(Debug)]
pub(super) struct ContainersStorage {
    /// In the order in which podman looks for things.
    stores: Vec<Store>,
    /// The store with the image.
    home: PathBuf,
    manifest: Vec<u8>,
    config: (Digest, Vec<u8>),
    layers: HashMap<Digest, Layer>,
    remarks: Vec<String>,
}

/// How a layer's tar is had.
#[derive(Debug)]
enum Layer {
    /// From its files and tar-split.
    Split { store: usize, id: String },
    /// From its files alone.
    Made(Diff),
}

impl ContainersStorage {
    /// Finds the image and what its layers are. The store stays locked for writers as
    /// long as the value lives.
    pub(super) fn open(
        reference: &StorageReference,
        options: &StorageOptions,
    ) -> Result<Self, StorageError> {
        let user = options.user.unwrap_or(rustix::process::geteuid().as_raw());
        let places = places::find(reference.store(), options, user)?;
        let mut stores = Vec::new();
        for path in std::iter::once(&places.own).chain(&places.additional) {
            stores.extend(Store::open(path)?);
        }
        if stores.is_empty() {
            return Err(StorageError::NoStore { path: places.own });
        }
        let wanted = Wanted {
            stores,
            reference,
            options,
        };
        wanted.find()
    }

    fn open_layer(
        &self,
        digest: &Digest,
        layer: &Layer,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        match layer {
            Layer::Made(diff) => Ok(Box::new(diff.tar())),
            Layer::Split { store, id } => {
                let store = &self.stores[*store];
                let missing = || SourceError::MissingBlob {
                    path: self.home.clone(),
                    digest: *digest,
                };
                let split = store.tar_split(id)?.ok_or_else(missing)?;
                let (_, split) = decompress_any(split).map_err(|source| StorageError::Read {
                    path: store.path.join(id),
                    source,
                })?;
                Ok(Box::new(Assembled::new(
                    Pieces::new(split),
                    store.diff(id)?,
                )))
            }
        }
    }
}

/// What is looked for.
struct Wanted<'a> {
    stores: Vec<Store>,
    reference: &'a StorageReference,
    options: &'a StorageOptions,
}

/// A layer as it will be given.
struct Described {
    digest: Digest,
    size: u64,
    layer: Layer,
}

impl Wanted<'_> {
    fn find(self) -> Result<ContainersStorage, StorageError> {
        let found = select::candidates(&self.stores, self.reference)?;
        let mut last = None;
        for (place, image) in found {
            let image = self.stores[place].images[image].clone();
            let wanted = self.reference.digest();
            let keys: Vec<_> = image
                .manifests()
                .map(|(key, digest)| (key.to_owned(), digest))
                .collect();
            let by_digest = wanted.and_then(|wanted| {
                let mut keys = keys.iter();
                keys.find(|(_, digest)| digest == wanted)
                    .map(|(key, _)| key.as_str())
            });
            let prepared = self.prepare(place, &image, by_digest)?;
            // The digest may be that of the manifest that hull gives.
            let fits = match wanted {
                None => true,
                Some(wanted) => {
                    by_digest.is_some() || Digest::sha256(&prepared.manifest) == *wanted
                }
            };
            if fits {
                return Ok(prepared.into_source(self));
            }
            last = Some(place);
        }
        let place = last.unwrap_or(0);
        Err(select::missing(&self.stores[place], self.reference))
    }

    /// Works out manifest, configuration and layers of an image.
    fn prepare(
        &self,
        place: usize,
        image: &store::ImageRecord,
        key: Option<&str>,
    ) -> Result<Prepared, StorageError> {
        let store = &self.stores[place];
        let bad = |source| StorageError::Document {
            store: store.path.clone(),
            source: Box::new(source),
        };
        let (bytes, manifest) = self.manifest(place, image, key)?;
        let config_digest = manifest.config.digest;
        let config = store.big_data(image, &config_digest.to_string(), MAX_CONFIG)?;
        check(store, &config, &config_digest)?;
        let parsed = ImageConfig::parse(&config).map_err(bad)?;
        let chain = self.chain(place, image)?;
        if chain.len() != parsed.diff_ids.len() || chain.len() != manifest.layers.len() {
            return Err(bad(ManifestError::LayerCount {
                diff_ids: parsed.diff_ids.len(),
                layers: chain.len(),
            }));
        }
        let layers = chain
            .iter()
            .zip(&parsed.diff_ids)
            .map(|((place, layer), diff_id)| self.describe(*place, layer, diff_id))
            .collect::<Result<Vec<_>, _>>()?;
        Prepared::new(&bytes, &manifest, config, &parsed, layers).map_err(bad)
    }

    /// The image's own manifest: that of the digest that was asked for, unless it is an
    /// index that led to it.
    fn manifest(
        &self,
        place: usize,
        image: &store::ImageRecord,
        key: Option<&str>,
    ) -> Result<(Vec<u8>, Manifest), StorageError> {
        let store = &self.stores[place];
        let keys = key.into_iter().chain(["manifest"]);
        for key in keys {
            let bytes = store.big_data(image, key, MAX_MANIFEST)?;
            let recorded = image.manifests().find(|(found, _)| *found == key);
            if let Some((_, digest)) = recorded {
                check(store, &bytes, &digest)?;
            }
            match Document::parse(&bytes, None) {
                Ok(Document::Manifest(manifest)) => return Ok((bytes, manifest)),
                Ok(Document::Index(_)) => {}
                Err(source) => {
                    return Err(StorageError::Document {
                        store: store.path.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
        Err(StorageError::Damaged {
            store: store.path.clone(),
            reason: format!("the image {} has no manifest of its own", image.id),
        })
    }

    /// The layers of an image, lowest first, and the stores that they are in.
    fn chain(
        &self,
        place: usize,
        image: &store::ImageRecord,
    ) -> Result<Vec<(usize, LayerRecord)>, StorageError> {
        let mut chain = Vec::new();
        let mut next = image.layer.clone().filter(|id| !id.is_empty());
        while let Some(id) = next {
            let found = self.stores.iter().enumerate().find_map(|(place, store)| {
                let layer = store.layers.iter().find(|layer| layer.id == id)?;
                Some((place, layer.clone()))
            });
            let damaged = |reason| StorageError::Damaged {
                store: self.stores[place].path.clone(),
                reason,
            };
            let found = found.ok_or_else(|| damaged(format!("the layer {id} is missing")))?;
            if chain.len() == MAX_LAYERS {
                return Err(damaged("a chain of layers is endless".to_owned()));
            }
            next = found.1.parent.clone().filter(|id| !id.is_empty());
            chain.push(found);
        }
        chain.reverse();
        Ok(chain)
    }

    fn describe(
        &self,
        place: usize,
        layer: &LayerRecord,
        diff_id: &Digest,
    ) -> Result<Described, StorageError> {
        let store = &self.stores[place];
        let failed = |source| StorageError::Read {
            path: store.path.join("overlay").join(&layer.id),
            source,
        };
        let files = store.diff(&layer.id)?;
        if let Some(split) = store.tar_split(&layer.id)? {
            let size = match layer.diff_size.and_then(|size| u64::try_from(size).ok()) {
                Some(size) if size > 0 => size,
                _ => {
                    let (_, split) = decompress_any(split).map_err(failed)?;
                    Pieces::new(split).length().map_err(failed)?
                }
            };
            return Ok(Described {
                digest: *diff_id,
                size,
                layer: Layer::Split {
                    store: place,
                    id: layer.id.clone(),
                },
            });
        }
        let owners = self.owners(store, layer).map_err(failed)?;
        let diff = Diff::open(files, owners).map_err(failed)?;
        let mut hash = Hashing::default();
        io::copy(&mut diff.tar(), &mut hash).map_err(failed)?;
        Ok(Described {
            size: hash.length,
            digest: hash.hasher.finish(),
            layer: Layer::Made(diff),
        })
    }

    /// Who the owners of a layer's files are in the container.
    fn owners(&self, store: &Store, layer: &LayerRecord) -> io::Result<Owners> {
        let users = layer.users.clone().unwrap_or_default();
        let groups = layer.groups.clone().unwrap_or_default();
        if !users.is_empty() || !groups.is_empty() {
            return Ok(Owners { users, groups });
        }
        let (user, group) = store.owner()?;
        let inside = hull_sys::user_namespace::is_inside();
        let is_own = user == rustix::process::geteuid().as_raw();
        match user {
            // The kernel maps.
            0 if inside => return Owners::of_this_namespace(),
            0 => return Ok(Owners::default()),
            _ if inside && !is_own => return Err(io::Error::other(NOT_MAPPED)),
            _ => {}
        }
        let root = self.options.root.as_deref().unwrap_or("/".as_ref());
        let owners = Owners::of_rootless(root, user, group)?;
        match is_own || owners.has_subordinate() {
            true => Ok(owners),
            false => Err(io::Error::other(format!(
                "the store belongs to user {user}, who has no numbers in etc/subuid and etc/subgid"
            ))),
        }
    }
}

fn check(store: &Store, bytes: &[u8], wanted: &Digest) -> Result<(), StorageError> {
    let actual = Digest::compute(wanted.algorithm(), bytes);
    if actual == *wanted {
        return Ok(());
    }
    Err(StorageError::Content {
        store: store.path.clone(),
        wanted: Box::new(*wanted),
        actual: Box::new(actual),
    })
}

/// Hashes and counts what is written to it.
#[derive(Default)]
struct Hashing {
    hasher: Hasher,
    length: u64,
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An image as it will be given.
struct Prepared {
    manifest: Vec<u8>,
    config: (Digest, Vec<u8>),
    layers: HashMap<Digest, Layer>,
    remarks: Vec<String>,
}

impl Prepared {
    fn new(
        bytes: &[u8],
        manifest: &Manifest,
        config: Vec<u8>,
        parsed: &ImageConfig,
        layers: Vec<Described>,
    ) -> Result<Self, ManifestError> {
        let mut remarks = Vec::new();
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest).collect();
        let (config, new_config) = match diff_ids == parsed.diff_ids {
            true => ((manifest.config.digest, config), None),
            false => {
                let config = with_diff_ids(&config, &diff_ids)?;
                let digest = Digest::sha256(&config);
                let size = u64::try_from(config.len()).unwrap_or(u64::MAX);
                remarks.push(
                    "podman kept no record of how some layers were packed (tar-split), so they were made of their files again: their digests cannot be checked, and the image's own digest is another one".to_owned(),
                );
                ((digest, config), Some((digest, size)))
            }
        };
        let new: Vec<_> = layers
            .iter()
            .zip(&manifest.layers)
            .map(|(layer, old)| {
                let blob = NewBlob {
                    digest: layer.digest,
                    size: layer.size,
                    compression: Compression::None,
                };
                let same =
                    old.descriptor.digest == blob.digest && old.compression == Compression::None;
                (!same).then_some(blob)
            })
            .collect();
        let written = match new.iter().any(Option::is_some) || new_config.is_some() {
            true => with_blobs(bytes, new_config, &new)?,
            false => bytes.to_vec(),
        };
        if written != bytes {
            remarks.push(format!(
                "podman's store has no compressed layers: the manifest names them unpacked, and its digest is {} instead of {}",
                Digest::sha256(&written),
                Digest::sha256(bytes)
            ));
        }
        Ok(Self {
            manifest: written,
            config,
            layers: layers
                .into_iter()
                .map(|layer| (layer.digest, layer.layer))
                .collect(),
            remarks,
        })
    }

    fn into_source(self, wanted: Wanted<'_>) -> ContainersStorage {
        ContainersStorage {
            home: wanted.stores[0].path.clone(),
            stores: wanted.stores,
            manifest: self.manifest,
            config: self.config,
            layers: self.layers,
            remarks: self.remarks,
        }
    }
}

impl Source for ContainersStorage {
    fn place(&self) -> String {
        format!("containers-storage:[{}]", self.home.display())
    }

    fn root(&self) -> Result<Fetched, SourceError> {
        Ok(Fetched::new(self.manifest.clone(), None, None))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError> {
        // A manifest of an image is no index, so nothing leads here.
        Err(SourceError::MissingBlob {
            path: self.home.clone(),
            digest: descriptor.digest,
        })
    }

    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        let digest = descriptor.digest;
        if digest == self.config.0 {
            return Ok(Box::new(io::Cursor::new(self.config.1.clone())));
        }
        let layer = self
            .layers
            .get(&digest)
            .ok_or_else(|| SourceError::MissingBlob {
                path: self.home.clone(),
                digest,
            })?;
        self.open_layer(&digest, layer)
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }
}
