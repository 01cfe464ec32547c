//! What is in a store, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use hull_erofs::ObjectId;
use rustix::fs::FileType;

use crate::error::{During, StoreError};
use crate::names::{Kind, PASSING, REFS};
use crate::store::Store;

/// The streams, images and references of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Links {
    /// Streams and the objects that hold them.
    pub(crate) streams: BTreeMap<String, ObjectId>,
    /// Images.
    pub(crate) images: BTreeSet<ObjectId>,
    /// References: kind, name, name of the target.
    pub(crate) references: Vec<(Kind, String, String)>,
    /// What is among them and is no link of the format, from the store's directory.
    pub(super) foreign: Vec<String>,
}

impl Links {
    pub(crate) fn list(store: &Store) -> Result<Self, StoreError> {
        let mut links = Self::default();
        for kind in [Kind::Stream, Kind::Image] {
            // References first: what one leads to was there before it.
            for (name, target) in store.refs(kind)? {
                links.references.push((kind, name, target));
            }
            links.list_kind(store, kind)?;
        }
        Ok(links)
    }

    fn list_kind(&mut self, store: &Store, kind: Kind) -> Result<(), StoreError> {
        for (name, entry_kind) in list(store, kind.directory())? {
            if name == REFS {
                continue;
            }
            let path = link_path(kind, &name);
            let target = match entry_kind {
                FileType::Symlink => match store.read_object_link(&path) {
                    Ok(target) => target,
                    Err(StoreError::BadLink { .. }) => None,
                    Err(error) => return Err(error),
                },
                _ => None,
            };
            match (kind, target) {
                (Kind::Stream, Some(object)) => {
                    self.streams.insert(name, object);
                }
                (Kind::Image, Some(object)) if object.to_hex() == name => {
                    self.images.insert(object);
                }
                _ => self.foreign.push(path),
            }
        }
        Ok(())
    }

    /// The object that a reference leads to, if its link is there.
    pub(crate) fn resolve(&self, kind: Kind, target: &str) -> Option<ObjectId> {
        match kind {
            Kind::Stream => self.streams.get(target).copied(),
            Kind::Image => {
                let id = target.parse().ok()?;
                self.images.contains(&id).then_some(id)
            }
        }
    }
}

/// What is in a store. What does not belong there is listed as foreign, and never
/// touched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    pub(crate) links: Links,
    /// Objects, sorted.
    pub(crate) objects: Vec<ObjectId>,
    /// Passing files that nobody needs when no session is at work.
    pub(crate) leftovers: Vec<String>,
    /// What is not of the format, from the store's directory.
    pub(crate) foreign: Vec<String>,
}

impl Inventory {
    pub(crate) fn take(store: &Store) -> Result<Self, StoreError> {
        // Links before objects: what a link leads to was there before it.
        let links = Links::list(store)?;
        let mut inventory = Self {
            foreign: links.foreign.clone(),
            links,
            ..Self::default()
        };
        inventory.list_objects(store)?;
        inventory.leftovers = list_leftovers(store)?;
        Ok(inventory)
    }

    fn list_objects(&mut self, store: &Store) -> Result<(), StoreError> {
        for (shard, kind) in list(store, "objects")? {
            let path = format!("objects/{shard}");
            if kind != FileType::Directory || shard.len() != 2 {
                self.foreign.push(path);
                continue;
            }
            let mut name = String::with_capacity(128);
            visit(store, &path, |entry, kind| {
                name.clear();
                name.push_str(&shard);
                name.push_str(entry);
                match name.parse() {
                    Ok(id) if kind == FileType::RegularFile => self.objects.push(id),
                    _ => self.foreign.push(format!("{path}/{entry}")),
                }
            })?;
        }
        self.objects.sort_unstable();
        Ok(())
    }

    pub(crate) fn has_object(&self, id: &ObjectId) -> bool {
        self.objects.binary_search(id).is_ok()
    }
}

pub(crate) fn list_leftovers(store: &Store) -> Result<Vec<String>, StoreError> {
    let mut leftovers = Vec::new();
    for (name, kind) in list(store, ".")? {
        if name.starts_with(PASSING) && kind != FileType::Directory {
            leftovers.push(name);
        }
    }
    Ok(leftovers)
}

/// How a reference is called in messages.
pub(crate) fn reference_path(kind: Kind, name: &str) -> String {
    format!("{}/{REFS}/{name}", kind.directory())
}

/// The link of a stream or an image.
pub(crate) fn link_path(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.directory())
}

/// Lists a directory of the store, sorted; one that is not there is empty.
fn list(store: &Store, path: &str) -> Result<Vec<(String, FileType)>, StoreError> {
    let mut names = Vec::new();
    visit(store, path, |name, kind| {
        names.push((name.to_owned(), kind))
    })?;
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn visit(
    store: &Store,
    path: &str,
    mut each: impl FnMut(&str, FileType),
) -> Result<(), StoreError> {
    let listing = || format!("listing {path} of the store");
    let directory = match hull_sys::dir::open_dir_beneath(store.root(), path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io(listing(), error)),
    };
    hull_sys::dir::for_each_entry(&directory, |name, kind| {
        each(&name.to_string_lossy(), kind);
        Ok::<(), io::Error>(())
    })
    .during(listing)
}

/// The names of links that lead to objects which are not there.
pub(crate) fn broken_links(inventory: &Inventory) -> Vec<(String, ObjectId)> {
    let Links {
        streams, images, ..
    } = &inventory.links;
    let streams = streams
        .iter()
        .map(|(name, id)| (link_path(Kind::Stream, name), *id));
    let images = images
        .iter()
        .map(|id| (link_path(Kind::Image, &id.to_hex()), *id));
    streams
        .chain(images)
        .filter(|(_, id)| !inventory.has_object(id))
        .collect()
}
