//! The inodes of a tree, without their names: trees have millions of them.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::fsverity::ObjectId;
use crate::tree::{Content, Device, DirectoryId, Leaf, LeafId, Metadata, Timestamp, Xattrs};

/// Two tables, by [`LeafId`] and [`DirectoryId`]; on disk but for their ends.
///
/// What inodes have alike of owners, modes and extended attributes is there once, in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inodes {
    leaves: SpilledVec<Row>,
    directories: SpilledVec<DirectoryRow>,
    /// The content of small files, the names of objects, the targets of symbolic links.
    bytes: SpilledVec<u8>,
    attributes: Interned,
}

/// One directory.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct DirectoryRow {
    seconds: i64,
    nanoseconds: u32,
    attributes: u32,
}

/// One leaf. Bytes and attributes that it leads to no more stay in their tables until the next [`Reorder`].
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Row {
    seconds: i64,
    /// Of an object its size, of a device its number, else how many bytes there are.
    value: u64,
    /// Where the bytes begin.
    start: u64,
    nanoseconds: u32,
    /// The place of owner, mode and extended attributes in the table of those.
    attributes: u32,
    /// One of the constants in [`form`].
    form: u32,
    unused: u32,
}

impl Row {
    /// Where its bytes are.
    fn bytes(&self) -> Range<usize> {
        let wide = |number| usize::try_from(number).expect("it was a place in memory");
        let length = match self.form {
            form::INLINE | form::SYMLINK => wide(self.value),
            form::OBJECT => ObjectId::LEN,
            _ => 0,
        };
        wide(self.start)..wide(self.start) + length
    }
}

/// What a leaf holds.
mod form {
    pub(super) const INLINE: u32 = 0;
    pub(super) const OBJECT: u32 = 1;
    pub(super) const SYMLINK: u32 = 2;
    pub(super) const CHARACTER_DEVICE: u32 = 3;
    pub(super) const BLOCK_DEVICE: u32 = 4;
    pub(super) const FIFO: u32 = 5;
    pub(super) const SOCKET: u32 = 6;
}

/// What many leaves have alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Attributes {
    mode: u16,
    uid: u32,
    gid: u32,
    xattrs: Xattrs,
}

/// Values by the order in which they came, each once.
#[derive(Debug, Clone, Default)]
struct Interned {
    values: Vec<Arc<Attributes>>,
    known: HashMap<Arc<Attributes>, u32>,
}

impl Interned {
    fn place(&mut self, attributes: Attributes) -> u32 {
        if let Some(&place) = self.known.get(&attributes) {
            return place;
        }
        self.add(Arc::new(attributes))
    }

    fn place_shared(&mut self, attributes: &Arc<Attributes>) -> u32 {
        match self.known.get(attributes) {
            Some(&place) => place,
            None => self.add(Arc::clone(attributes)),
        }
    }

    fn add(&mut self, attributes: Arc<Attributes>) -> u32 {
        let place = narrow(self.values.len());
        self.values.push(Arc::clone(&attributes));
        self.known.insert(attributes, place);
        place
    }
}

/// [`Metadata`] where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetadataView<'a> {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: &'a Xattrs,
}

impl MetadataView<'_> {
    fn is(&self, other: &Metadata) -> bool {
        (self.mode, self.uid, self.gid, self.mtime)
            == (other.mode, other.uid, other.gid, other.mtime)
            && *self.xattrs == other.xattrs
    }

    pub(crate) fn to_metadata(self) -> Metadata {
        Metadata {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: self.xattrs.clone(),
        }
    }
}

impl<'a> From<&'a Metadata> for MetadataView<'a> {
    fn from(metadata: &'a Metadata) -> Self {
        Self {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            xattrs: &metadata.xattrs,
        }
    }
}

/// [`Content`] where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ContentView<'a> {
    Inline(&'a [u8]),
    Object { id: &'a ObjectId, size: u64 },
    Symlink(&'a [u8]),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
    Socket,
}

/// [`Leaf`] where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeafView<'a> {
    pub(crate) metadata: MetadataView<'a>,
    pub(crate) content: ContentView<'a>,
}

impl LeafView<'_> {
    pub(crate) fn to_leaf(self) -> Leaf {
        let content = match self.content {
            ContentView::Inline(bytes) => Content::Inline(bytes.into()),
            ContentView::Object { id, size } => Content::Object { id: *id, size },
            ContentView::Symlink(target) => Content::Symlink(target.into()),
            ContentView::CharacterDevice(device) => Content::CharacterDevice(device),
            ContentView::BlockDevice(device) => Content::BlockDevice(device),
            ContentView::Fifo => Content::Fifo,
            ContentView::Socket => Content::Socket,
        };
        Leaf {
            metadata: self.metadata.to_metadata(),
            content,
        }
    }
}

impl Inodes {
    pub(crate) fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    pub(crate) fn directory_count(&self) -> usize {
        self.directories.len()
    }

    /// All of the table, in order.
    pub(crate) fn leaf_ids(&self) -> impl ExactSizeIterator<Item = LeafId> + use<> {
        (0..narrow(self.leaf_count())).map(LeafId)
    }

    /// All of the table, in order.
    pub(crate) fn directory_ids(&self) -> impl ExactSizeIterator<Item = DirectoryId> + use<> {
        (0..narrow(self.directory_count())).map(DirectoryId)
    }

    pub(crate) fn push_leaf(&mut self, leaf: Leaf) -> LeafId {
        let id = LeafId(narrow(self.leaf_count()));
        let row = self.row(leaf);
        self.leaves.push(row);
        id
    }

    pub(crate) fn set_leaf(&mut self, id: LeafId, leaf: Leaf) {
        let row = self.row(leaf);
        self.leaves.set(id.index(), row);
    }

    pub(crate) fn push_directory(&mut self, metadata: Metadata) -> DirectoryId {
        let id = DirectoryId(narrow(self.directory_count()));
        let row = self.directory_row(metadata);
        self.directories.push(row);
        id
    }

    pub(crate) fn set_directory(&mut self, id: DirectoryId, metadata: Metadata) {
        let row = self.directory_row(metadata);
        self.directories.set(id.index(), row);
    }

    fn directory_row(&mut self, metadata: Metadata) -> DirectoryRow {
        DirectoryRow {
            seconds: metadata.mtime.seconds,
            nanoseconds: metadata.mtime.nanoseconds,
            attributes: self.attributes(metadata),
        }
    }

    /// Changes the metadata of a directory.
    pub(crate) fn change_directory(&mut self, id: DirectoryId, change: impl FnOnce(&mut Metadata)) {
        let before = self.directory(id);
        let mut metadata = before.to_metadata();
        change(&mut metadata);
        if !before.is(&metadata) {
            self.set_directory(id, metadata);
        }
    }

    /// Changes the metadata of a leaf. Its content stays where it is.
    pub(crate) fn change_leaf(&mut self, id: LeafId, change: impl FnOnce(&mut Metadata)) {
        let before = self.leaf(id).metadata;
        let mut metadata = before.to_metadata();
        change(&mut metadata);
        if !before.is(&metadata) {
            let row = Row {
                seconds: metadata.mtime.seconds,
                nanoseconds: metadata.mtime.nanoseconds,
                attributes: self.attributes(metadata),
                ..*self.leaves.get(id.index())
            };
            self.leaves.set(id.index(), row);
        }
    }

    pub(crate) fn leaf(&self, id: LeafId) -> LeafView<'_> {
        let row = self.leaves.get(id.index());
        LeafView {
            metadata: self.metadata(row.attributes, row.seconds, row.nanoseconds),
            content: self.content(row),
        }
    }

    pub(crate) fn directory(&self, id: DirectoryId) -> MetadataView<'_> {
        let row = self.directories.get(id.index());
        self.metadata(row.attributes, row.seconds, row.nanoseconds)
    }

    fn metadata(&self, attributes: u32, seconds: i64, nanoseconds: u32) -> MetadataView<'_> {
        let attributes = &*self.attributes.values[attributes as usize];
        MetadataView {
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            xattrs: &attributes.xattrs,
        }
    }

    fn content(&self, row: &Row) -> ContentView<'_> {
        match row.form {
            form::INLINE => ContentView::Inline(self.bytes_of(row)),
            form::OBJECT => ContentView::Object {
                id: self.object(row),
                size: row.value,
            },
            form::SYMLINK => ContentView::Symlink(self.bytes_of(row)),
            form::CHARACTER_DEVICE => ContentView::CharacterDevice(unpack(row.value)),
            form::BLOCK_DEVICE => ContentView::BlockDevice(unpack(row.value)),
            form::FIFO => ContentView::Fifo,
            _ => ContentView::Socket,
        }
    }

    fn bytes_of(&self, row: &Row) -> &[u8] {
        self.bytes.slice(row.bytes())
    }

    fn copy_row(&self, id: LeafId) -> Row {
        let mut copy = Vec::with_capacity(1);
        self.leaves.copy(id.index()..id.index() + 1, &mut copy);
        copy[0]
    }

    fn object(&self, row: &Row) -> &ObjectId {
        let bytes = self.bytes_of(row);
        ObjectId::ref_from_bytes(bytes).expect("they are as many as a name has")
    }

    fn row(&mut self, leaf: Leaf) -> Row {
        let Leaf { metadata, content } = leaf;
        let mut add = |bytes: &[u8]| self.bytes.extend_from_slice(bytes) as u64;
        let (form, value, start) = match &content {
            Content::Inline(bytes) => (form::INLINE, bytes.len() as u64, add(bytes)),
            Content::Object { id, size } => (form::OBJECT, *size, add(id.as_bytes())),
            Content::Symlink(target) => (form::SYMLINK, target.len() as u64, add(target)),
            Content::CharacterDevice(device) => (form::CHARACTER_DEVICE, pack(*device), 0),
            Content::BlockDevice(device) => (form::BLOCK_DEVICE, pack(*device), 0),
            Content::Fifo => (form::FIFO, 0, 0),
            Content::Socket => (form::SOCKET, 0, 0),
        };
        Row {
            seconds: metadata.mtime.seconds,
            value,
            start,
            nanoseconds: metadata.mtime.nanoseconds,
            attributes: self.attributes(metadata),
            form,
            unused: 0,
        }
    }

    fn attributes(&mut self, metadata: Metadata) -> u32 {
        self.attributes.place(Attributes {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            xattrs: metadata.xattrs,
        })
    }

    /// Begins new tables of some of the inodes.
    pub(crate) fn reorder(&mut self) -> Reorder {
        let from = std::mem::take(self);
        Reorder {
            places: vec![None; from.leaf_count()],
            to: Self::default(),
            from,
            copied: Vec::new(),
        }
    }
}

/// Inodes on their way into a new order.
#[derive(Debug)]
pub(crate) struct Reorder {
    from: Inodes,
    to: Inodes,
    /// Where each leaf has come, by its old place.
    places: Vec<Option<NonZero<u32>>>,
    /// The bytes of one, on their way.
    copied: Vec<u8>,
}

impl Reorder {
    /// The new place of a leaf: the next one, unless it has one.
    pub(crate) fn leaf(&mut self, id: LeafId) -> LeafId {
        if let Some(place) = self.places[id.index()] {
            return LeafId(place.get() - 1);
        }
        let new = LeafId(narrow(self.to.leaf_count()));
        self.places[id.index()] = NonZero::new(new.0 + 1);
        let row = self.from.copy_row(id);
        self.copied.clear();
        self.from.bytes.copy(row.bytes(), &mut self.copied);
        let row = Row {
            attributes: self.attributes(row.attributes),
            start: self.to.bytes.extend_from_slice(&self.copied) as u64,
            ..row
        };
        self.to.leaves.push(row);
        new
    }

    /// Gives a directory the next place.
    pub(crate) fn directory(&mut self, id: DirectoryId) -> DirectoryId {
        let new = DirectoryId(narrow(self.to.directory_count()));
        let row = *self.from.directories.get(id.index());
        let attributes = self.attributes(row.attributes);
        self.to.directories.push(DirectoryRow { attributes, ..row });
        new
    }

    fn attributes(&mut self, place: u32) -> u32 {
        let attributes = &self.from.attributes.values[place as usize];
        self.to.attributes.place_shared(attributes)
    }

    /// The tables of those that got a new place.
    pub(crate) fn finish(self) -> Inodes {
        self.to
    }
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("a tree has fewer than 2^32 inodes")
}

fn pack(device: Device) -> u64 {
    u64::from(device.major) << 32 | u64::from(device.minor)
}

fn unpack(value: u64) -> Device {
    let half = |bits: u64| u32::try_from(bits).unwrap_or_default();
    Device {
        major: half(value >> 32),
        minor: half(value & u64::from(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than stay in memory.
    const MANY: u32 = 100_000;

    /// Each differs from its neighbours in kind, time, attributes and bytes.
    fn leaf(number: u32) -> Leaf {
        let bytes: Box<[u8]> = number.to_string().into_bytes().into();
        let device = Device {
            major: number,
            minor: u32::MAX - number,
        };
        let mut id = [7; ObjectId::LEN];
        id[..4].copy_from_slice(&number.to_le_bytes());
        let content = match number % 7 {
            0 => Content::Inline(bytes),
            1 => Content::Symlink(bytes),
            2 => Content::CharacterDevice(device),
            3 => Content::BlockDevice(device),
            4 => Content::Fifo,
            5 => Content::Socket,
            _ => Content::Object {
                id: ObjectId::from_bytes(id),
                size: u64::from(number) << 20,
            },
        };
        let xattr = (b"user.a"[..].into(), [(number % 3) as u8][..].into());
        Leaf {
            metadata: Metadata {
                mode: (number % 0o1000) as u16,
                uid: number % 2,
                gid: number % 5,
                mtime: Timestamp {
                    seconds: -i64::from(number),
                    nanoseconds: number,
                },
                xattrs: Xattrs::from([xattr]),
            },
            content,
        }
    }

    fn many() -> Inodes {
        let mut inodes = Inodes::default();
        (0..MANY).for_each(|number| assert_eq!(inodes.push_leaf(leaf(number)).0, number));
        inodes
    }

    #[test]
    fn many_inodes_are_given_back_as_they_were() {
        let mut inodes = many();
        inodes.set_leaf(LeafId(6), leaf(1));
        for id in inodes.leaf_ids() {
            let expected = leaf(if id.0 == 6 { 1 } else { id.0 });
            assert_eq!(inodes.leaf(id).to_leaf(), expected);
        }
    }

    #[test]
    fn metadata_changes_and_content_stays() {
        let mut inodes = many();
        for id in inodes.leaf_ids() {
            inodes.change_leaf(id, |metadata| {
                metadata.xattrs.retain(|_, value| value != [1]);
                metadata.uid += u32::from(id.0 == 9);
            });
        }
        for id in inodes.leaf_ids() {
            let mut expected = leaf(id.0);
            expected.metadata.xattrs.retain(|_, value| value != [1]);
            expected.metadata.uid += u32::from(id.0 == 9);
            assert_eq!(inodes.leaf(id).to_leaf(), expected);
        }
    }

    #[test]
    fn inodes_come_into_another_order_and_the_others_go() {
        let mut inodes = many();
        let mut order = inodes.reorder();
        let kept = (0..MANY).rev().filter(|number| number % 3 > 0);
        for (place, number) in (0..).zip(kept.clone()) {
            assert_eq!(order.leaf(LeafId(number)).0, place);
            assert_eq!(order.leaf(LeafId(number)).0, place, "again");
        }
        let inodes = order.finish();
        assert_eq!(inodes.leaf_count(), kept.clone().count());
        for (id, number) in inodes.leaf_ids().zip(kept) {
            assert_eq!(inodes.leaf(id).to_leaf(), leaf(number));
        }
    }
}
