//! The inodes of a tree in the order of the image: breadth first.

use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::fsverity::ObjectId;
use crate::tree::{
    ContentView, Device, Directory, DirectoryId, LeafId, LeafView, MetadataView, Node, Tree,
};

use super::attributes;
use super::directory::{Extent, Names, Target};
use super::error::WriteError;
use super::format::{self, FileType};
use super::inode::{Body, Inode};
use super::survey::Survey;

/// Place of an inode in the order.
pub(super) type Place = u32;

/// The place of the root.
pub(super) const ROOT: Place = 0;

/// What an inode is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// A directory, by its number for [`Order::placed`].
    Directory(u32),
    /// Anything else in the tree.
    Leaf {
        id: LeafId,
        /// Whether another inode has the same object.
        shares_object: bool,
    },
    /// A whiteout in the tree: it becomes an empty file that overlayfs shows as a whiteout.
    Whiteout(LeafId),
    /// One of the devices `00` to `ff` in the root.
    Stub,
}

/// What the inodes of an image are made of, by their places; on disk but for the end.
#[derive(Debug, Default)]
pub(super) struct Sources(
    /// A kind, and in the lower half a number.
    SpilledVec<u64>,
);

impl Sources {
    const DIRECTORY: u64 = 0;
    const LEAF: u64 = 1;
    const SHARING_LEAF: u64 = 2;
    const WHITEOUT: u64 = 3;
    const STUB: u64 = 4;

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Source> {
        self.0.iter().map(|packed| Self::unpack(*packed))
    }

    pub(super) fn get(&self, place: Place) -> Source {
        Self::unpack(*self.0.get(place as usize))
    }

    fn push(&mut self, source: Source) {
        self.0.push(Self::pack(source));
    }

    fn set(&mut self, place: Place, source: Source) {
        self.0.set(place as usize, Self::pack(source));
    }

    fn pack(source: Source) -> u64 {
        let (kind, number) = match source {
            Source::Directory(index) => (Self::DIRECTORY, index),
            Source::Leaf { id, shares_object } if shares_object => (Self::SHARING_LEAF, id.0),
            Source::Leaf { id, .. } => (Self::LEAF, id.0),
            Source::Whiteout(id) => (Self::WHITEOUT, id.0),
            Source::Stub => (Self::STUB, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn unpack(packed: u64) -> Source {
        let number = u32::try_from(packed & u64::from(u32::MAX)).unwrap_or_default();
        let kind = packed >> 32;
        match kind {
            Self::DIRECTORY => Source::Directory(number),
            Self::LEAF | Self::SHARING_LEAF => Source::Leaf {
                id: LeafId(number),
                shares_object: kind == Self::SHARING_LEAF,
            },
            Self::WHITEOUT => Source::Whiteout(LeafId(number)),
            _ => Source::Stub,
        }
    }
}

/// A directory and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) directory: Directory<'a>,
    pub(super) place: Place,
    /// The place of the directory above.
    pub(super) parent: Place,
    /// The first of the inodes that have their place by an entry of this directory;
    /// they are in a row, in the order of the entries.
    first: Place,
    /// From above, from itself, and from those below.
    links: u32,
    /// Whether whiteouts in it were made files.
    pub(super) has_whiteouts: bool,
    pub(super) extent: Extent,
}

/// The same in bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PlacedRow {
    blocks: u64,
    tail: u64,
    directory: DirectoryId,
    place: Place,
    parent: Place,
    first: Place,
    links: u32,
    has_whiteouts: u32,
}

impl From<&Placed<'_>> for PlacedRow {
    fn from(placed: &Placed<'_>) -> Self {
        Self {
            blocks: placed.extent.blocks,
            tail: placed.extent.tail,
            directory: placed.directory.id(),
            place: placed.place,
            parent: placed.parent,
            first: placed.first,
            links: placed.links,
            has_whiteouts: placed.has_whiteouts.into(),
        }
    }
}

/// All inodes of an image, by their places.
#[derive(Debug)]
pub(super) struct Order<'a> {
    tree: &'a Tree,
    survey: Survey,
    pub(super) sources: Sources,
    /// In the order of their places.
    directories: SpilledVec<PlacedRow>,
    /// Places of the leaves with several names, by rank; [`ROOT`] is none. All others are where their directory says.
    linked: SpilledVec<Place>,
}

impl<'a> Order<'a> {
    /// Puts the inodes of a tree in order, the root first.
    pub(super) fn new(tree: &'a Tree, survey: Survey) -> Result<Self, WriteError> {
        let linked = std::iter::repeat_n(ROOT, survey.links().len()).collect();
        let mut order = Self {
            tree,
            survey,
            sources: Sources::default(),
            directories: SpilledVec::default(),
            linked,
        };
        order.push_directory(tree.root(), ROOT)?;
        let mut index = 0;
        while (index as usize) < order.directories.len() {
            order.place_entries(index)?;
            index += 1;
        }
        Ok(order)
    }

    /// The directory with that number.
    pub(super) fn placed(&self, index: u32) -> Placed<'a> {
        let row = self.directories.get(index as usize);
        Placed {
            directory: self.tree.directory_at(row.directory),
            place: row.place,
            parent: row.parent,
            first: row.first,
            links: row.links,
            has_whiteouts: row.has_whiteouts != 0,
            extent: Extent {
                blocks: row.blocks,
                tail: row.tail,
            },
        }
    }

    fn place_entries(&mut self, index: u32) -> Result<(), WriteError> {
        let mut placed = self.placed(index);
        placed.first = self.next_place()?;
        for (name, target) in Names::new(placed.directory, placed.place == ROOT) {
            placed.extent.add(name);
            match target {
                Target::This | Target::Above => placed.links = placed.links.saturating_add(1),
                Target::Stub => {
                    self.push(Source::Stub)?;
                }
                Target::Node(Node::Directory(inner)) => {
                    placed.links = placed.links.saturating_add(1);
                    self.push_directory(inner, placed.place)?;
                }
                Target::Node(Node::Leaf(id)) => self.place_leaf(&mut placed, name, id)?,
            }
        }
        placed.extent.close();
        self.directories.set(index as usize, (&placed).into());
        Ok(())
    }

    fn push_directory(
        &mut self,
        directory: Directory<'a>,
        parent: Place,
    ) -> Result<(), WriteError> {
        let index = u32::try_from(self.directories.len()).map_err(|_| WriteError::TooLarge)?;
        let place = self.push(Source::Directory(index))?;
        let placed = Placed {
            directory,
            place,
            parent,
            first: place,
            links: 0,
            has_whiteouts: false,
            extent: Extent::default(),
        };
        self.directories.push((&placed).into());
        Ok(())
    }

    /// Gives a leaf its place, unless it has one or gets it by another name.
    fn place_leaf(
        &mut self,
        parent: &mut Placed<'a>,
        name: &[u8],
        id: LeafId,
    ) -> Result<(), WriteError> {
        let Placed {
            directory, place, ..
        } = *parent;
        let rank = self.survey.links().rank(id);
        let is_placed = rank.is_some_and(|rank| *self.linked.get(rank) != ROOT);
        if is_placed || !self.survey.is_home(id, directory.id()) {
            return Ok(());
        }
        let leaf = self.tree.leaf_view(id);
        let is_whiteout = matches!(leaf.content, ContentView::CharacterDevice(Device::WHITEOUT))
            && !(place == ROOT && self.is_like_stub(name, leaf));
        let source = if is_whiteout {
            parent.has_whiteouts = true;
            Source::Whiteout(id)
        } else {
            Source::Leaf {
                id,
                shares_object: false,
            }
        };
        let place = self.push(source)?;
        if let Some(rank) = rank {
            self.linked.set(rank, place);
        }
        Ok(())
    }

    /// Whether a whiteout in the root can't be told from the devices `00` to `ff`.
    fn is_like_stub(&self, name: &[u8], leaf: LeafView<'_>) -> bool {
        let root = self.tree.root().metadata_view();
        let MetadataView {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        } = leaf.metadata;
        format::STUB_NAMES.iter().any(|stub_name| stub_name == name)
            && mode == format::STUB_MODE
            && (uid, gid, mtime) == (root.uid, root.gid, root.mtime)
            && xattrs.iter().eq(attributes::of_stub(root))
    }

    fn push(&mut self, source: Source) -> Result<Place, WriteError> {
        let place = self.next_place()?;
        self.sources.push(source);
        Ok(place)
    }

    fn next_place(&self) -> Result<Place, WriteError> {
        Place::try_from(self.sources.len()).map_err(|_| WriteError::TooLarge)
    }

    /// The entries of a directory in their order, with the places of their inodes.
    pub(super) fn entries(&self, placed: &Placed<'a>) -> impl Iterator<Item = (&'a [u8], Place)> {
        let &Placed {
            directory,
            place,
            parent,
            first,
            ..
        } = placed;
        let mut next = first;
        Names::new(directory, place == ROOT).map(move |(name, target)| {
            let place = match target {
                Target::This => place,
                Target::Above => parent,
                Target::Stub | Target::Node(Node::Directory(_)) => next,
                Target::Node(Node::Leaf(id)) => match self.survey.links().rank(id) {
                    // It has a home, and every home was walked.
                    Some(rank) => *self.linked.get(rank),
                    None => next,
                },
            };
            next += u32::from(place == next);
            (name, place)
        })
    }

    /// The names by which an inode got its place.
    pub(super) fn path_of(&self, mut place: Place) -> Vec<&'a [u8]> {
        let mut path = Vec::new();
        while place != ROOT {
            // The last directory whose inodes begin there or before; one without any is
            // followed by another that begins where it does.
            let (mut last, mut after) = (0, self.directories.len());
            while after - last > 1 {
                let middle = last + (after - last) / 2;
                if self.directories.get(middle).first <= place {
                    last = middle;
                } else {
                    after = middle;
                }
            }
            let Ok(last) = u32::try_from(last) else {
                break;
            };
            let parent = self.placed(last);
            path.extend(
                self.entries(&parent)
                    .find(|(_, there)| *there == place)
                    .map(|(name, _)| name),
            );
            place = parent.place;
        }
        path.reverse();
        path
    }

    /// The content of a regular file that is in an object.
    pub(super) fn object(&self, source: Source) -> Option<&'a ObjectId> {
        let Source::Leaf { id, .. } = source else {
            return None;
        };
        match self.tree.leaf_view(id).content {
            ContentView::Object { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Notes that another inode has the object of this one.
    pub(super) fn shares_object(&mut self, place: Place) {
        if let Source::Leaf { id, .. } = self.sources.get(place) {
            let shares_object = true;
            self.sources.set(place, Source::Leaf { id, shares_object });
        }
    }

    /// The inode in front of its attributes and its place.
    pub(super) fn inode(&self, source: Source) -> Inode<'a> {
        let tree = self.tree;
        match source {
            Source::Directory(index) => {
                let placed = self.placed(index);
                let body = Body::Directory(placed.extent);
                let metadata = placed.directory.metadata_view();
                Inode::new(metadata, FileType::Directory, body).with_links(placed.links)
            }
            Source::Leaf { id, .. } => {
                let leaf = tree.leaf_view(id);
                let (file_type, body) = describe(leaf.content);
                Inode::new(leaf.metadata, file_type, body).with_links(self.survey.links().names(id))
            }
            Source::Whiteout(id) => {
                let metadata = tree.leaf_view(id).metadata;
                Inode::new(metadata, FileType::Regular, Body::Nothing)
            }
            Source::Stub => Inode::stub(tree.root().metadata_view()),
        }
    }

    /// The type of an inode.
    pub(super) fn file_type(&self, place: Place) -> FileType {
        match self.sources.get(place) {
            Source::Directory(_) => FileType::Directory,
            Source::Leaf { id, .. } => describe(self.tree.leaf_view(id).content).0,
            Source::Whiteout(_) => FileType::Regular,
            Source::Stub => FileType::CharacterDevice,
        }
    }

    /// Owner, permissions, time and attributes as the tree has them; of the devices in the root its own.
    pub(super) fn metadata(&self, source: Source) -> MetadataView<'a> {
        match source {
            Source::Directory(index) => self.placed(index).directory.metadata_view(),
            Source::Leaf { id, .. } | Source::Whiteout(id) => self.tree.leaf_view(id).metadata,
            Source::Stub => self.tree.root().metadata_view(),
        }
    }
}

fn describe(content: ContentView<'_>) -> (FileType, Body<'_>) {
    match content {
        ContentView::Inline(bytes) => (FileType::Regular, Body::Inline(bytes)),
        ContentView::Object { size, .. } => (FileType::Regular, Body::Object(size)),
        ContentView::Symlink(target) => (FileType::Symlink, Body::Symlink(target)),
        ContentView::CharacterDevice(device) => (FileType::CharacterDevice, device_body(device)),
        ContentView::BlockDevice(device) => (FileType::BlockDevice, device_body(device)),
        ContentView::Fifo => (FileType::Fifo, Body::Nothing),
        ContentView::Socket => (FileType::Socket, Body::Nothing),
    }
}

/// The survey let only numbers pass that fit.
fn device_body(device: Device) -> Body<'static> {
    u32::try_from(device.to_raw()).map_or(Body::Nothing, Body::Device)
}
