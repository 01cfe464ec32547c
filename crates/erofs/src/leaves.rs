//! The inodes of a tree that are no directories, compactly: trees have millions of them.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::fsverity::ObjectId;
use crate::tree::{Content, Device, Leaf, LeafId, Metadata, Timestamp, Xattrs};

/// A table of leaves, by [`LeafId`]; on disk but for its end.
///
/// What leaves have alike of owners, modes and extended attributes is there once, in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaves {
    rows: SpilledVec<Row>,
    /// The content of small files, the names of objects, the targets of symbolic links.
    bytes: SpilledVec<u8>,
    attributes: Interned,
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
    fn to_metadata(self) -> Metadata {
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

impl Leaves {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// All of the table, in order.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = LeafId> + use<> {
        (0..narrow(self.len())).map(LeafId)
    }

    pub(crate) fn push(&mut self, leaf: Leaf) -> LeafId {
        let id = LeafId(narrow(self.len()));
        let row = self.row(leaf);
        self.rows.push(row);
        id
    }

    pub(crate) fn set(&mut self, id: LeafId, leaf: Leaf) {
        let row = self.row(leaf);
        self.rows.set(id.index(), row);
    }

    /// Content stays where it is.
    pub(crate) fn change_metadata(&mut self, id: LeafId, change: impl FnOnce(&mut Metadata)) {
        let before = self.metadata(self.rows.get(id.index()));
        let mut metadata = before.to_metadata();
        change(&mut metadata);
        let is_same = (before.mode, before.uid, before.gid, before.mtime)
            == (metadata.mode, metadata.uid, metadata.gid, metadata.mtime)
            && *before.xattrs == metadata.xattrs;
        if !is_same {
            let row = Row {
                seconds: metadata.mtime.seconds,
                nanoseconds: metadata.mtime.nanoseconds,
                attributes: self.attributes(metadata),
                ..*self.rows.get(id.index())
            };
            self.rows.set(id.index(), row);
        }
    }

    pub(crate) fn get(&self, id: LeafId) -> LeafView<'_> {
        let row = self.rows.get(id.index());
        LeafView {
            metadata: self.metadata(row),
            content: self.content(row),
        }
    }

    fn metadata(&self, row: &Row) -> MetadataView<'_> {
        let attributes = &*self.attributes.values[row.attributes as usize];
        MetadataView {
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: Timestamp {
                seconds: row.seconds,
                nanoseconds: row.nanoseconds,
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
        self.rows.copy(id.index()..id.index() + 1, &mut copy);
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

    /// Begins a new table of some of the leaves.
    pub(crate) fn reorder(&mut self) -> Reorder {
        let from = std::mem::take(self);
        Reorder {
            places: vec![None; from.len()],
            rows: SpilledVec::default(),
            bytes: SpilledVec::default(),
            attributes: Interned::default(),
            copied: Vec::new(),
            from,
        }
    }
}

/// Leaves on their way into a new order.
#[derive(Debug)]
pub(crate) struct Reorder {
    from: Leaves,
    /// Where each has come, by its old place.
    places: Vec<Option<NonZero<u32>>>,
    rows: SpilledVec<Row>,
    bytes: SpilledVec<u8>,
    attributes: Interned,
    /// The bytes of one, on their way.
    copied: Vec<u8>,
}

impl Reorder {
    /// The new place of a leaf: the next one, unless it has one.
    pub(crate) fn next(&mut self, id: LeafId) -> LeafId {
        if let Some(place) = self.places[id.index()] {
            return LeafId(place.get() - 1);
        }
        let new = LeafId(narrow(self.rows.len()));
        self.places[id.index()] = NonZero::new(new.0 + 1);
        let row = self.from.copy_row(id);
        let attributes = &self.from.attributes.values[row.attributes as usize];
        self.copied.clear();
        self.from.bytes.copy(row.bytes(), &mut self.copied);
        self.rows.push(Row {
            attributes: self.attributes.place_shared(attributes),
            start: self.bytes.extend_from_slice(&self.copied) as u64,
            ..row
        });
        new
    }

    /// The table of those that got a new place.
    pub(crate) fn finish(self) -> Leaves {
        Leaves {
            rows: self.rows,
            bytes: self.bytes,
            attributes: self.attributes,
        }
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

    fn many() -> Leaves {
        let mut leaves = Leaves::default();
        (0..MANY).for_each(|number| assert_eq!(leaves.push(leaf(number)).0, number));
        leaves
    }

    #[test]
    fn many_leaves_are_given_back_as_they_were() {
        let mut leaves = many();
        leaves.set(LeafId(6), leaf(1));
        for id in leaves.ids() {
            let expected = leaf(if id.0 == 6 { 1 } else { id.0 });
            assert_eq!(leaves.get(id).to_leaf(), expected);
        }
    }

    #[test]
    fn metadata_changes_and_content_stays() {
        let mut leaves = many();
        for id in leaves.ids() {
            leaves.change_metadata(id, |metadata| {
                metadata.xattrs.retain(|_, value| value != [1]);
                metadata.uid += u32::from(id.0 == 9);
            });
        }
        for id in leaves.ids() {
            let mut expected = leaf(id.0);
            expected.metadata.xattrs.retain(|_, value| value != [1]);
            expected.metadata.uid += u32::from(id.0 == 9);
            assert_eq!(leaves.get(id).to_leaf(), expected);
        }
    }

    #[test]
    fn leaves_come_into_another_order_and_the_others_go() {
        let mut leaves = many();
        let mut order = leaves.reorder();
        let kept = (0..MANY).rev().filter(|number| number % 3 > 0);
        for (place, number) in (0..).zip(kept.clone()) {
            assert_eq!(order.next(LeafId(number)).0, place);
            assert_eq!(order.next(LeafId(number)).0, place, "again");
        }
        let leaves = order.finish();
        assert_eq!(leaves.len(), kept.clone().count());
        for (id, number) in leaves.ids().zip(kept) {
            assert_eq!(leaves.get(id).to_leaf(), leaf(number));
        }
    }
}
