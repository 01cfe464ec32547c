//! A file system tree: names, metadata, and where the content is.

use std::collections::BTreeMap;

use crate::fsverity::ObjectId;
use crate::leaves::Leaves;
pub(crate) use crate::leaves::{ContentView, LeafView, MetadataView};
pub use crate::name::Name;
pub use crate::xattrs::Xattrs;

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Owner, permissions, time and extended attributes of an inode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// The lower twelve bits of `st_mode`: permissions, setuid, setgid, sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// Number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Device {
    /// The device that an overlay takes for "deleted": 0, 0.
    pub const WHITEOUT: Self = Self { major: 0, minor: 0 };

    /// The number as `st_rdev` holds it: 12 bits of major and 20 bits of minor in
    /// the lower half, as the kernel encodes devices on disk; the rest above.
    pub const fn to_raw(self) -> u64 {
        let (major, minor) = (self.major as u64, self.minor as u64);
        (minor & 0xff)
            | (major & 0xfff) << 8
            | (minor & 0xffff_ff00) << 12
            | (major & 0xffff_f000) << 32
    }

    /// The device that has this `st_rdev`.
    pub const fn from_raw(raw: u64) -> Self {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = raw.to_le_bytes();
        Self {
            major: u32::from_le_bytes([b1, b2 & 0x0f, 0, 0]) & 0xfff
                | u32::from_le_bytes([0, b5 & 0xf0, b6, b7]),
            minor: u32::from_le_bytes([b0, 0, 0, 0])
                | (u32::from_le_bytes([b2 & 0xf0, b3, b4, b5 & 0x0f]) >> 4) << 8,
        }
    }
}

/// What an inode that is no directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file whose bytes are in the image (up to [`INLINE_MAX`]).
    Inline(Box<[u8]>),
    /// A regular file whose bytes are an object of the store.
    Object {
        /// The object.
        id: ObjectId,
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link with this target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Regular files of up to this many bytes are kept in the image itself.
pub const INLINE_MAX: usize = 64;

/// How deep directories may nest: what a path of 4096 bytes can name is deeper,
/// but no file system that anybody booted came near to this.
pub const MAX_DEPTH: usize = 512;

/// An inode that is no directory. Several names may lead to it (hard links).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Owner, permissions, time, extended attributes.
    pub metadata: Metadata,
    /// What it holds.
    pub content: Content,
}

/// Place of a leaf in its tree's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafId(pub(crate) u32);

impl LeafId {
    /// The place, counted from 0 in the order of [`Tree::add_leaf`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a name in a directory leads to.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory. In a box, so that the many other nodes need no room for one.
    Directory(Box<Directory>),
    /// Anything else.
    Leaf(LeafId),
}

/// A directory with its entries, sorted by the bytes of their names.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Owner, permissions, time, extended attributes.
    pub metadata: Metadata,
    /// The entries. A name is 1 to 255 bytes without `/` and NUL, not `.` or `..`.
    pub entries: BTreeMap<Name, Node>,
}

/// A file system tree: directories by value, other inodes in a table, so that
/// hard links are two entries with one [`LeafId`].
///
/// The table takes no more memory than some MiB, however long it is: the rest is in a file.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The root directory.
    pub root: Directory,
    leaves: Leaves,
}

impl Tree {
    /// Adds a leaf to the table; it is in the tree once an entry leads to it.
    pub fn add_leaf(&mut self, leaf: Leaf) -> LeafId {
        self.leaves.push(leaf)
    }

    /// The leaf in that place. The id must come from this tree.
    pub fn leaf(&self, id: LeafId) -> Leaf {
        self.leaf_view(id).to_leaf()
    }

    /// The same without copies.
    pub(crate) fn leaf_view(&self, id: LeafId) -> LeafView<'_> {
        self.leaves.get(id)
    }

    /// Puts another leaf in that place: for all of its names.
    pub fn set_leaf(&mut self, id: LeafId, leaf: Leaf) {
        self.leaves.set(id, leaf);
    }

    /// All leaves of the table, also those that no entry leads to any more.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = (LeafId, Leaf)> {
        self.leaves.ids().map(|id| (id, self.leaf(id)))
    }

    /// How many of them there are.
    pub fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// How many names lead to each leaf, by [`LeafId::index`].
    pub fn link_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.leaf_count()];
        let mut pending = vec![&self.root];
        while let Some(directory) = pending.pop() {
            for node in directory.entries.values() {
                match node {
                    Node::Directory(inner) => pending.push(inner),
                    Node::Leaf(id) => counts[id.index()] += 1,
                }
            }
        }
        counts
    }

    /// Forgets the leaves that no entry leads to; every [`LeafId`] may change. The others
    /// come into the order of the tree, in which most things go through them.
    pub fn drop_unreferenced_leaves(&mut self) {
        let mut order = self.leaves.reorder();
        let mut open = vec![self.root.entries.values_mut()];
        while let Some(nodes) = open.last_mut() {
            match nodes.next() {
                None => drop(open.pop()),
                Some(Node::Directory(inner)) => open.push(inner.entries.values_mut()),
                Some(Node::Leaf(id)) => *id = order.next(*id),
            }
        }
        self.leaves = order.finish();
    }

    /// Shows the metadata of every inode to `change`: the directories, and each
    /// leaf of the table once.
    pub fn for_each_metadata_mut(&mut self, mut change: impl FnMut(&mut Metadata)) {
        let mut pending = vec![&mut self.root];
        while let Some(directory) = pending.pop() {
            change(&mut directory.metadata);
            pending.extend(
                directory
                    .entries
                    .values_mut()
                    .filter_map(|node| match node {
                        Node::Directory(inner) => Some(&mut **inner),
                        Node::Leaf(_) => None,
                    }),
            );
        }
        for id in self.leaves.ids() {
            self.leaves.change_metadata(id, &mut change);
        }
    }

    /// Changes the metadata of one leaf: for all of its names.
    pub fn change_leaf_metadata(&mut self, id: LeafId, change: impl FnOnce(&mut Metadata)) {
        self.leaves.change_metadata(id, change);
    }

    /// What is at `path` (components between slashes; empty ones are skipped;
    /// symbolic links and `..` are not followed), if anything.
    pub fn lookup(&self, path: &[u8]) -> Option<Entry<'_>> {
        let mut entry = Entry::Directory(&self.root);
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            let Entry::Directory(directory) = entry else {
                return None;
            };
            entry = match directory.entries.get(name)? {
                Node::Directory(directory) => Entry::Directory(directory),
                Node::Leaf(id) => Entry::Leaf(*id, self.leaf(*id)),
            };
        }
        Some(entry)
    }

    /// The directory at `path`, if there is one.
    pub fn directory(&self, path: &[u8]) -> Option<&Directory> {
        match self.lookup(path)? {
            Entry::Directory(directory) => Some(directory),
            Entry::Leaf(..) => None,
        }
    }

    /// The same, to change it.
    pub fn directory_mut(&mut self, path: &[u8]) -> Option<&mut Directory> {
        let mut directory = &mut self.root;
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            match directory.entries.get_mut(name)? {
                Node::Directory(inner) => directory = inner,
                Node::Leaf(_) => return None,
            }
        }
        Some(directory)
    }
}

/// What [`Tree::lookup`] finds.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// A directory.
    Directory(&'a Directory),
    /// Anything else, with its place in the table.
    Leaf(LeafId, Leaf),
}
