//! Reading the names and contents of an image's merged tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, Directory, Entry, Node, Tree};

use super::Kind;

/// Opens an object of the store that the image is in.
pub type OpenObject = Arc<dyn Fn(&ObjectId) -> io::Result<File> + Send + Sync>;

/// All names of the tree. Its depth is bounded where layers are merged.
pub(super) fn read(tree: &Tree) -> BTreeMap<Box<[u8]>, Kind> {
    let mut entries = BTreeMap::from([(Box::default(), Kind::Directory)]);
    directory(tree, tree.root(), &mut Vec::new(), &mut entries);
    entries
}

fn directory(
    tree: &Tree,
    inside: Directory<'_>,
    path: &mut Vec<u8>,
    entries: &mut BTreeMap<Box<[u8]>, Kind>,
) {
    let length = path.len();
    for (name, node) in inside.entries() {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let kind = match node {
            Node::Directory(_) => Kind::Directory,
            Node::Leaf(id) => match &tree.leaf(id).content {
                Content::Inline(bytes) => Kind::Regular(bytes.len() as u64),
                Content::Object { size, .. } => Kind::Regular(*size),
                Content::Symlink(target) => Kind::Symlink(target.clone()),
                _ => Kind::Special,
            },
        };
        entries.insert(path.as_slice().into(), kind);
        if let Node::Directory(inner) = node {
            directory(tree, inner, path, entries);
        }
        path.truncate(length);
    }
}

/// Opens the content of a regular file.
pub(super) fn open(tree: &Tree, open: &OpenObject, path: &[u8]) -> io::Result<Box<dyn Read>> {
    match tree.lookup(path) {
        Some(Entry::Leaf(_, leaf)) => match &leaf.content {
            Content::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.to_vec()))),
            Content::Object { id, .. } => Ok(Box::new(open(id)?)),
            _ => Err(super::not_a_file()),
        },
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}
