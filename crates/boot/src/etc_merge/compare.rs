//! Whether two versions of a name are the same. The time of the last modification
//! says nothing.

use std::io;

use hull_erofs::tree::Metadata;

use super::tree::{Content, Directory, EtcTree, Leaf, Node, Regular};

/// A part of a tree, with the tree that can read it.
pub(super) struct At<'t, T> {
    pub(super) tree: &'t EtcTree<'t>,
    pub(super) it: &'t T,
}

impl<T> Clone for At<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for At<'_, T> {}

impl<'t, T> At<'t, T> {
    pub(super) fn new(tree: &'t EtcTree<'_>, it: &'t T) -> Self {
        Self { tree, it }
    }

    pub(super) fn to<U>(self, it: &'t U) -> At<'t, U> {
        At {
            tree: self.tree,
            it,
        }
    }
}

impl<'t> At<'t, Directory> {
    pub(super) fn entry(self, name: &[u8]) -> Option<At<'t, Node>> {
        Some(self.to(self.it.entries.get(name)?))
    }
}

impl<'t> At<'t, Node> {
    pub(super) fn directory(self) -> Option<At<'t, Directory>> {
        Some(self.to(self.it.as_directory()?))
    }

    pub(super) fn regular(self) -> Option<At<'t, Regular>> {
        Some(self.to(self.it.as_regular()?))
    }
}

pub(super) fn same_file(a: At<'_, Regular>, b: At<'_, Regular>) -> io::Result<bool> {
    a.tree.same_content(a.it, b.tree, b.it)
}

pub(super) fn same_metadata(a: &Metadata, b: &Metadata) -> bool {
    (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.xattrs == b.xattrs
}

pub(super) fn same_version(a: Option<At<'_, Node>>, b: Option<At<'_, Node>>) -> io::Result<bool> {
    match (a, b) {
        (None, None) => Ok(true),
        (Some(a), Some(b)) => same_node(a, b),
        _ => Ok(false),
    }
}

fn same_node(a: At<'_, Node>, b: At<'_, Node>) -> io::Result<bool> {
    if !same_metadata(a.it.metadata(), b.it.metadata()) {
        return Ok(false);
    }
    match (a.it, b.it) {
        (Node::Directory(inner_a), Node::Directory(inner_b)) => {
            same_entries(a.to(inner_a), b.to(inner_b))
        }
        (Node::Leaf(leaf_a), Node::Leaf(leaf_b)) => same_leaf(a.to(leaf_a), b.to(leaf_b)),
        _ => Ok(false),
    }
}

fn same_entries(a: At<'_, Directory>, b: At<'_, Directory>) -> io::Result<bool> {
    if !a.it.entries.keys().eq(b.it.entries.keys()) {
        return Ok(false);
    }
    for (inner_a, inner_b) in a.it.entries.values().zip(b.it.entries.values()) {
        if !same_node(a.to(inner_a), b.to(inner_b))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_leaf(a: At<'_, Leaf>, b: At<'_, Leaf>) -> io::Result<bool> {
    Ok(match (&a.it.content, &b.it.content) {
        (Content::Regular(file_a), Content::Regular(file_b)) => {
            return same_file(a.to(file_a), b.to(file_b));
        }
        (Content::Symlink(target_a), Content::Symlink(target_b)) => target_a == target_b,
        (Content::CharacterDevice(a), Content::CharacterDevice(b))
        | (Content::BlockDevice(a), Content::BlockDevice(b)) => a == b,
        (Content::Fifo, Content::Fifo) | (Content::Socket, Content::Socket) => true,
        _ => false,
    })
}
