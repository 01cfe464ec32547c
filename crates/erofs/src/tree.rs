//! A file system tree: names, metadata, and where the content is.

use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::fsverity::ObjectId;
use crate::inodes::Inodes;
pub(crate) use crate::inodes::{ContentView, LeafView, MetadataView};
use crate::links::HardLinks;
use crate::names::{self, Names};
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

/// Place of a directory in its tree's table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, FromBytes, IntoBytes, Immutable,
)]
#[repr(transparent)]
pub struct DirectoryId(pub(crate) u32);

impl DirectoryId {
    /// The root of a tree.
    pub const ROOT: Self = Self(0);

    /// The place, counted from 0 in the order of [`Tree::put_directory`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a name in a directory leads to.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    /// A directory.
    Directory(Directory<'a>),
    /// Anything else.
    Leaf(LeafId),
}

/// What a name leads to, as a number: the lowest bit tells directories.
#[derive(Clone, Copy)]
enum Place {
    Directory(DirectoryId),
    Leaf(LeafId),
}

impl Place {
    fn pack(self) -> u32 {
        let (id, kind) = match self {
            Self::Directory(id) => (id.0, 1),
            Self::Leaf(id) => (id.0, 0),
        };
        assert!(id <= u32::MAX >> 1, "a tree has fewer than 2^31 inodes");
        id << 1 | kind
    }

    fn unpack(number: u32) -> Self {
        match number & 1 {
            0 => Self::Leaf(LeafId(number >> 1)),
            _ => Self::Directory(DirectoryId(number >> 1)),
        }
    }
}

/// A directory of a tree.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    tree: &'a Tree,
    id: DirectoryId,
}

impl<'a> Directory<'a> {
    /// Its place in the table.
    pub fn id(self) -> DirectoryId {
        self.id
    }

    /// Owner, permissions, time, extended attributes.
    pub fn metadata(self) -> Metadata {
        self.metadata_view().to_metadata()
    }

    pub(crate) fn metadata_view(self) -> MetadataView<'a> {
        self.tree.inodes.directory(self.id)
    }

    /// What a name in it leads to, if it is there.
    pub fn get(self, name: &[u8]) -> Option<Node<'a>> {
        let place = self.tree.names.get(self.id.0, name)?;
        Some(self.tree.node(place))
    }

    /// Its entries, sorted by the bytes of their names.
    pub fn entries(self) -> Entries<'a> {
        Entries {
            tree: self.tree,
            names: self.tree.names.iter(self.id.0),
        }
    }

    /// Whether it has no entries.
    pub fn is_empty(self) -> bool {
        self.tree.names.is_empty(self.id.0)
    }
}

/// The entries of a [`Directory`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    tree: &'a Tree,
    names: names::Iter<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, place) = self.names.next()?;
        Some((name, self.tree.node(place)))
    }
}

/// A file system tree: names, and two tables of inodes. Hard links are two entries with one [`LeafId`].
///
/// Its memory is bounded, however many files there are: the rest is in files without a name. But what inodes differ in of
/// owners, permissions and extended attributes is in memory.
#[derive(Debug, Clone)]
pub struct Tree {
    names: Names,
    inodes: Inodes,
    /// Whether [`Tree::compact`] would change nothing.
    is_compact: bool,
}

impl Default for Tree {
    /// A root directory of root's, without permissions, from 1970.
    fn default() -> Self {
        let mut inodes = Inodes::default();
        inodes.push_directory(Metadata::default());
        Self {
            names: Names::default(),
            inodes,
            is_compact: true,
        }
    }
}

impl Tree {
    /// The root directory.
    pub fn root(&self) -> Directory<'_> {
        self.directory_at(DirectoryId::ROOT)
    }

    /// The directory in that place. The id must come from this tree.
    pub fn directory_at(&self, id: DirectoryId) -> Directory<'_> {
        Directory { tree: self, id }
    }

    fn node(&self, place: u32) -> Node<'_> {
        match Place::unpack(place) {
            Place::Directory(id) => Node::Directory(self.directory_at(id)),
            Place::Leaf(id) => Node::Leaf(id),
        }
    }

    /// Adds a leaf to the table; it is in the tree once an entry leads to it.
    pub fn add_leaf(&mut self, leaf: Leaf) -> LeafId {
        self.is_compact = false;
        self.inodes.push_leaf(leaf)
    }

    /// Makes a name, of at most 1024 bytes, lead to a leaf; whether there was something of that name.
    pub fn put_leaf(&mut self, directory: DirectoryId, name: &[u8], leaf: LeafId) -> bool {
        self.put(directory, name, Place::Leaf(leaf))
    }

    /// Makes a name, of at most 1024 bytes, lead to a new directory, in place of what there was.
    pub fn put_directory(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        metadata: Metadata,
    ) -> DirectoryId {
        let id = self.inodes.push_directory(metadata);
        self.put(parent, name, Place::Directory(id));
        id
    }

    fn put(&mut self, directory: DirectoryId, name: &[u8], place: Place) -> bool {
        assert!(
            name.len() <= Names::LONGEST,
            "no file system has such a name"
        );
        self.is_compact = false;
        let before = self.names.insert(directory.0, name, place.pack());
        before.is_some()
    }

    /// Removes a name; whether it was there.
    pub fn remove(&mut self, directory: DirectoryId, name: &[u8]) -> bool {
        let removed = self.names.remove(directory.0, name);
        self.is_compact &= removed.is_none();
        removed.is_some()
    }

    /// Removes all names in a directory.
    pub fn clear(&mut self, directory: DirectoryId) {
        if !self.names.is_empty(directory.0) {
            self.is_compact = false;
            self.names.clear(directory.0);
        }
    }

    /// The first name in a directory that comes behind `name`, and what it leads to: for walks that change the tree.
    pub fn next_entry(&self, directory: DirectoryId, name: &[u8]) -> Option<(&[u8], Node<'_>)> {
        let mut names = self.names.iter_from(directory.0, name);
        let (next, place) = names.find(|(next, _)| *next != name)?;
        Some((next, self.node(place)))
    }

    /// The leaf in that place. The id must come from this tree.
    pub fn leaf(&self, id: LeafId) -> Leaf {
        self.leaf_view(id).to_leaf()
    }

    /// The same without copies.
    pub(crate) fn leaf_view(&self, id: LeafId) -> LeafView<'_> {
        self.inodes.leaf(id)
    }

    /// Puts another leaf in that place: for all of its names.
    pub fn set_leaf(&mut self, id: LeafId, leaf: Leaf) {
        self.is_compact = false;
        self.inodes.set_leaf(id, leaf);
    }

    /// All leaves of the table, also those that no entry leads to any more.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = (LeafId, Leaf)> {
        self.inodes.leaf_ids().map(|id| (id, self.leaf(id)))
    }

    /// How many of them there are.
    pub fn leaf_count(&self) -> usize {
        self.inodes.leaf_count()
    }

    /// How many directories there are in their table, also those that no entry leads to any more.
    pub fn directory_count(&self) -> usize {
        self.inodes.directory_count()
    }

    /// How many names lead to each leaf.
    pub fn hard_links(&self) -> HardLinks {
        HardLinks::of(self)
    }

    /// Forgets the inodes that no name leads to; every id but that of the root may change. The others
    /// come into the order of the tree, breadth first, in which most things go through them.
    pub fn compact(&mut self) {
        if self.is_compact {
            return;
        }
        let mut inodes = self.inodes.reorder();
        let mut names = Names::default();
        // The old ids of the directories in their new order.
        let mut directories = SpilledVec::default();
        inodes.directory(DirectoryId::ROOT);
        directories.push(DirectoryId::ROOT.0);
        let mut index = 0;
        while index < directories.len() {
            let old = *directories.get(index);
            let parent = u32::try_from(index).expect("ids are of 32 bits");
            for (name, place) in self.names.iter(old) {
                let place = match Place::unpack(place) {
                    Place::Leaf(id) => Place::Leaf(inodes.leaf(id)),
                    Place::Directory(id) => {
                        directories.push(id.0);
                        Place::Directory(inodes.directory(id))
                    }
                };
                names.append(parent, name, place.pack());
            }
            index += 1;
        }
        *self = Self {
            names,
            inodes: inodes.finish(),
            is_compact: true,
        };
    }

    /// Shows the metadata of every inode to `change`: each of the tables once.
    pub fn for_each_metadata_mut(&mut self, mut change: impl FnMut(&mut Metadata)) {
        for id in self.inodes.directory_ids() {
            self.inodes.change_directory(id, &mut change);
        }
        for id in self.inodes.leaf_ids() {
            self.inodes.change_leaf(id, &mut change);
        }
    }

    /// Changes the metadata of one leaf: for all of its names.
    pub fn change_leaf_metadata(&mut self, id: LeafId, change: impl FnOnce(&mut Metadata)) {
        self.inodes.change_leaf(id, change);
    }

    /// Changes the metadata of a directory.
    pub fn change_directory_metadata(
        &mut self,
        id: DirectoryId,
        change: impl FnOnce(&mut Metadata),
    ) {
        self.inodes.change_directory(id, change);
    }

    /// Gives a directory other metadata.
    pub fn set_directory_metadata(&mut self, id: DirectoryId, metadata: Metadata) {
        self.inodes.set_directory(id, metadata);
    }

    /// What is at `path` (components between slashes; empty ones are skipped;
    /// symbolic links and `..` are not followed), if anything.
    pub fn lookup(&self, path: &[u8]) -> Option<Entry<'_>> {
        let mut node = Node::Directory(self.root());
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            let Node::Directory(directory) = node else {
                return None;
            };
            node = directory.get(name)?;
        }
        Some(match node {
            Node::Directory(directory) => Entry::Directory(directory),
            Node::Leaf(id) => Entry::Leaf(id, self.leaf(id)),
        })
    }

    /// The directory at `path`, if there is one.
    pub fn directory(&self, path: &[u8]) -> Option<Directory<'_>> {
        match self.lookup(path)? {
            Entry::Directory(directory) => Some(directory),
            Entry::Leaf(..) => None,
        }
    }
}

/// What [`Tree::lookup`] finds.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// A directory.
    Directory(Directory<'a>),
    /// Anything else, with its place in the table.
    Leaf(LeafId, Leaf),
}
