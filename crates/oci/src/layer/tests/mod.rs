//! Layers in a store in a temporary directory.

mod archive;
mod breakouts;
mod hostile;
mod importing;
mod merging;
mod model;
mod programs;
mod reading;
mod sizes;
mod ways_out;

use std::borrow::Borrow;
use std::os::fd::OwnedFd;

use hull_erofs::tree::{self, Content, Leaf, Tree};
use hull_store::{ObjectId, Session, Store, Verity};

use super::{Entry, import};
use crate::Digest;

/// A store that lives as long as this.
struct Scratch {
    _directory: tempfile::TempDir,
    store: Store,
}

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let fd = OwnedFd::from(std::fs::File::open(directory.path()).unwrap());
        let store = Store::create(fd, Verity::WhereSupported).unwrap();
        Self {
            _directory: directory,
            store,
        }
    }

    fn session(&self) -> Session {
        self.store.session().unwrap()
    }

    /// Imports a layer that must be fine.
    fn layer(&self, tar: &[u8]) -> ObjectId {
        self.try_layer(tar)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Imports a layer; the error as its messages, from the first cause to the last.
    fn try_layer(&self, tar: &[u8]) -> Result<ObjectId, String> {
        let session = self.session();
        let imported = import(&session, &mut &*tar).map_err(|error| chain(&error))?;
        assert_eq!(imported.length(), tar.len() as u64);
        Ok(imported.commit(&session, &Digest::sha256(tar)).unwrap())
    }

    fn entries(&self, tar: &[u8]) -> Vec<Entry> {
        let record = self.layer(tar);
        super::entries(&self.store, &record)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    fn try_merge(&self, layers: &[Vec<u8>]) -> Result<Tree, String> {
        let records = layers
            .iter()
            .map(|tar| self.try_layer(tar))
            .collect::<Result<Vec<_>, _>>()?;
        super::merge(&self.store, &records).map_err(|error| chain(&error))
    }

    fn merge(&self, layers: &[Vec<u8>]) -> Tree {
        self.try_merge(layers)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The bytes of a file of the tree.
    fn read(&self, leaf: impl Borrow<Leaf>) -> Vec<u8> {
        match &leaf.borrow().content {
            Content::Inline(bytes) => bytes.to_vec(),
            Content::Object { id, size } => {
                let bytes = self.store.read_object(id, 1 << 30).unwrap();
                assert_eq!(bytes.len() as u64, *size);
                assert!(*size > 64);
                bytes
            }
            other => panic!("{other:?} is no file"),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// All paths of a tree in order, a slash behind those of directories.
fn paths(tree: &Tree) -> Vec<String> {
    fn walk(directory: tree::Directory<'_>, path: &str, paths: &mut Vec<String>) {
        for (name, node) in directory.entries() {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match node {
                tree::Node::Directory(inner) => {
                    paths.push(format!("{path}/"));
                    walk(inner, &format!("{path}/"), paths);
                }
                tree::Node::Leaf(_) => paths.push(path),
            }
        }
    }
    let mut all = Vec::new();
    walk(tree.root(), "", &mut all);
    all
}

fn leaf(tree: &Tree, path: &str) -> Leaf {
    match tree.lookup(path.as_bytes()) {
        Some(tree::Entry::Leaf(_, leaf)) => leaf,
        other => panic!("{path} is no leaf: {other:?}"),
    }
}
