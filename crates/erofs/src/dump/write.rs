//! From tree to text.

use std::collections::{BTreeMap, btree_map};

use crate::links::HardLinks;
use crate::tree::{ContentView, Directory, LeafId, MetadataView, Node, Tree};

use super::escape::{write_field, write_xattr};

/// The dump file of a tree.
///
/// The first name of a leaf carries it; its other names are links to that one.
pub fn write(tree: &Tree) -> Vec<u8> {
    let mut dump = Dump {
        tree,
        links: tree.hard_links(),
        first_names: BTreeMap::new(),
        path: Vec::new(),
        out: Vec::new(),
    };
    dump.write_tree();
    dump.out
}

struct Dump<'a> {
    tree: &'a Tree,
    links: HardLinks,
    /// Of leaves with several names, once they were met.
    first_names: BTreeMap<LeafId, Vec<u8>>,
    path: Vec<u8>,
    out: Vec<u8>,
}

/// The fields of a line that depend on what an inode holds.
struct Line<'a> {
    file_type: u32,
    size: u64,
    device: u64,
    payload: &'a [u8],
    content: &'a [u8],
    digest: Option<String>,
}

impl Line<'_> {
    const fn of_type(file_type: u32) -> Self {
        Self {
            file_type,
            size: 0,
            device: 0,
            payload: b"",
            content: b"",
            digest: None,
        }
    }
}

impl<'a> Dump<'a> {
    fn write_tree(&mut self) {
        let root = self.tree.root();
        self.write_directory(root);
        let mut open = vec![(self.path.len(), root.entries())];
        while let Some((length, entries)) = open.last_mut() {
            self.path.truncate(*length);
            let Some((name, node)) = entries.next() else {
                open.pop();
                continue;
            };
            self.path.push(b'/');
            self.path.extend_from_slice(name);
            match node {
                Node::Directory(directory) => {
                    self.write_directory(directory);
                    open.push((self.path.len(), directory.entries()));
                }
                Node::Leaf(id) => self.write_leaf(id),
            }
        }
    }

    fn write_directory(&mut self, directory: Directory<'_>) {
        let is_directory = |(_, node): &(&[u8], Node<'_>)| matches!(node, Node::Directory(_));
        let links = 2 + directory.entries().filter(is_directory).count();
        self.write_line(
            directory.metadata_view(),
            links,
            &Line::of_type(super::DIRECTORY),
        );
    }

    fn write_leaf(&mut self, id: LeafId) {
        let links = self.links.names(id);
        if links > 1 {
            match self.first_names.entry(id) {
                btree_map::Entry::Occupied(first) => {
                    write_field(&self.path, &mut self.out);
                    self.out.extend_from_slice(b" 0 @120000 - - - - 0.0 ");
                    write_field(first.get(), &mut self.out);
                    self.out.extend_from_slice(b" - -\n");
                    return;
                }
                btree_map::Entry::Vacant(place) => {
                    place.insert(self.path.clone());
                }
            }
        }
        let leaf = self.tree.leaf_view(id);
        let path;
        let line = match leaf.content {
            ContentView::Inline(bytes) => Line {
                size: bytes.len() as u64,
                content: bytes,
                ..Line::of_type(super::REGULAR)
            },
            ContentView::Object { id, size } => {
                path = id.to_object_path();
                Line {
                    size,
                    payload: path.as_bytes(),
                    digest: Some(id.to_hex()),
                    ..Line::of_type(super::REGULAR)
                }
            }
            ContentView::Symlink(target) => Line {
                size: target.len() as u64,
                payload: target,
                ..Line::of_type(super::SYMLINK)
            },
            ContentView::CharacterDevice(device) => Line {
                device: device.to_raw(),
                ..Line::of_type(super::CHARACTER_DEVICE)
            },
            ContentView::BlockDevice(device) => Line {
                device: device.to_raw(),
                ..Line::of_type(super::BLOCK_DEVICE)
            },
            ContentView::Fifo => Line::of_type(super::FIFO),
            ContentView::Socket => Line::of_type(super::SOCKET),
        };
        self.write_line(leaf.metadata, links as usize, &line);
    }

    fn write_line(&mut self, metadata: MetadataView<'_>, links: usize, line: &Line<'_>) {
        let path = if self.path.is_empty() {
            &b"/"[..]
        } else {
            &self.path
        };
        let out = &mut self.out;
        write_field(path, out);
        let mode = line.file_type | u32::from(metadata.mode);
        let MetadataView {
            uid,
            gid,
            mtime,
            xattrs,
            ..
        } = metadata;
        let numbers = format_args!(
            " {size} {mode:o} {links} {uid} {gid} {device} {seconds}.{nanoseconds} ",
            size = line.size,
            device = line.device,
            seconds = mtime.seconds,
            nanoseconds = mtime.nanoseconds,
        )
        .to_string();
        out.extend_from_slice(numbers.as_bytes());
        write_field(line.payload, out);
        out.push(b' ');
        write_field(line.content, out);
        out.push(b' ');
        out.extend_from_slice(line.digest.as_ref().map_or(super::NONE, String::as_bytes));
        for (name, value) in xattrs {
            out.push(b' ');
            write_xattr(name, out);
            out.push(b'=');
            write_xattr(value, out);
        }
        out.push(b'\n');
    }
}
