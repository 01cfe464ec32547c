//! The names of a root file system with what is known of each, compactly: roots have millions of them.

mod alike;
mod links;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use hull_erofs::tree::{Device, Metadata, Timestamp, Xattrs};
use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use self::alike::{Alike, Attributes};
use self::links::Links;
use super::{Entry, Inode, Kind};

/// Entries in the order of the bytes of their paths: a directory comes before what is in it.
///
/// One takes 40 bytes and its name; a symbolic link its target, too; a name of an inode that has several 24 bytes more.
/// What entries have alike of owners, modes and extended attributes is there once. All of it is on disk, but for some
/// megabytes.
#[derive(Debug, Default)]
pub struct Entries {
    rows: SpilledVec<Row>,
    /// Names, each with the target behind it that a symbolic link has.
    text: SpilledVec<u8>,
    alike: Alike,
    /// The inodes that have several names, by entry.
    links: Links,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Row {
    /// Where the name begins in the text.
    name: usize,
    /// Of a regular file its size, of a symbolic link the length of its target, of a device its number.
    value: u64,
    seconds: i64,
    nanoseconds: u32,
    /// The place of the directory that it is in; the root is in itself.
    parent: u32,
    /// The place of owner, mode and extended attributes in the table of those.
    attributes: u32,
    name_len: u8,
    /// A [`Form`].
    form: u8,
    /// Whether its inode has several names: 1 or 0.
    is_linked: u8,
    unused: u8,
}

impl Row {
    fn form(&self) -> Form {
        match self.form {
            0 => Form::Directory,
            1 => Form::Regular,
            2 => Form::Symlink,
            3 => Form::CharacterDevice,
            4 => Form::BlockDevice,
            _ => Form::Fifo,
        }
    }
}

/// What an entry is, without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    Directory = 0,
    Regular,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
}

/// The place of the root.
const ROOT: usize = 0;

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none, not even the root.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All that is known of an entry, in memory of its own.
    pub fn get(&self, place: usize) -> Entry {
        let Attributes {
            mode,
            uid,
            gid,
            xattrs,
        } = self.attributes(place);
        Entry {
            path: self.path(place),
            kind: self.kind(place),
            metadata: Metadata {
                mode,
                uid,
                gid,
                mtime: self.mtime(place),
                xattrs,
            },
            links: self.inode(place),
        }
    }

    /// The same of each entry, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// Components between single slashes; the root is the empty path.
    pub fn path(&self, place: usize) -> Box<[u8]> {
        let mut path = Vec::new();
        self.append_path(place, &mut path);
        path.into_boxed_slice()
    }

    fn append_path(&self, place: usize, path: &mut Vec<u8>) {
        let Some(parent) = self.parent(place) else {
            return;
        };
        self.append_path(parent, path);
        if parent != ROOT {
            path.push(b'/');
        }
        path.extend_from_slice(self.name(place));
    }

    /// The last component of the path; empty for the root.
    pub fn name(&self, place: usize) -> &[u8] {
        let row = self.row(place);
        self.text
            .slice(row.name..row.name + usize::from(row.name_len))
    }

    /// The directory that an entry is in; nothing for the root.
    pub fn parent(&self, place: usize) -> Option<usize> {
        (place != ROOT).then(|| self.row(place).parent as usize)
    }

    /// What an entry is.
    pub fn kind(&self, place: usize) -> Kind {
        let Row { value, .. } = *self.row(place);
        let device = Device {
            major: u32::try_from(value >> 32).unwrap_or_default(),
            minor: u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default(),
        };
        match self.row(place).form() {
            Form::Directory => Kind::Directory,
            Form::Regular => Kind::Regular(value),
            Form::Symlink => Kind::Symlink(self.target(place).unwrap_or_default().into()),
            Form::CharacterDevice => Kind::CharacterDevice(device),
            Form::BlockDevice => Kind::BlockDevice(device),
            Form::Fifo => Kind::Fifo,
        }
    }

    /// Whether an entry is a directory.
    pub fn is_directory(&self, place: usize) -> bool {
        self.row(place).form() == Form::Directory
    }

    /// The size of a regular file in bytes; nothing for anything else.
    pub fn size(&self, place: usize) -> Option<u64> {
        let row = self.row(place);
        (row.form() == Form::Regular).then_some(row.value)
    }

    /// The target of a symbolic link; nothing for anything else.
    pub fn target(&self, place: usize) -> Option<&[u8]> {
        let row = self.row(place);
        let length = usize::try_from(row.value).ok()?;
        let start = row.name + usize::from(row.name_len);
        (row.form() == Form::Symlink).then(|| self.text.slice(start..start + length))
    }

    /// The time of an entry, as it is on disk.
    pub fn mtime(&self, place: usize) -> Timestamp {
        let row = self.row(place);
        Timestamp {
            seconds: row.seconds,
            nanoseconds: row.nanoseconds,
        }
    }

    /// The extended attributes of an entry.
    pub fn xattrs(&self, place: usize) -> Xattrs {
        self.attributes(place).xattrs
    }

    fn attributes(&self, place: usize) -> Attributes {
        self.alike.get(self.row(place).attributes)
    }

    fn row(&self, place: usize) -> &Row {
        self.rows.get(place)
    }

    /// Which inode an entry is a name of, where that has several.
    pub fn inode(&self, place: usize) -> Option<Inode> {
        let is_linked = self.row(place).is_linked != 0;
        is_linked.then(|| self.links.inode(place)).flatten()
    }

    /// The names of inodes that have several.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// The first name of the inode of an entry, where that has several; it may be the entry itself.
    pub(crate) fn first_name(&self, place: usize) -> Option<usize> {
        let is_linked = self.row(place).is_linked != 0;
        is_linked.then(|| self.links.first(place)).flatten()
    }

    /// The place of a path.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let place = self.first_from(path);
        (place < self.len() && self.without(place, path) == Ok(&[])).then_some(place)
    }

    /// The places of the entries whose paths begin so.
    pub(crate) fn beginning(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.first_from(prefix);
        let begins = |place| self.path(place).starts_with(prefix);
        start..partition_point(start..self.len(), begins)
    }

    /// The first entry whose path is not before `path`.
    fn first_from(&self, path: &[u8]) -> usize {
        // The directory that was compared last: most that a search looks at are in the one that it ends in.
        let mut above = None;
        partition_point(0..self.len(), |place| {
            let is_in = self.parent(place);
            let rest = match (is_in, above) {
                (Some(parent), Some((known, rest))) if parent == known => rest,
                (Some(parent), _) => self.without(parent, path),
                (None, _) => Ok(path),
            };
            above = is_in.map(|parent| (parent, rest));
            match rest.and_then(|rest| self.without_name(place, rest)) {
                Ok(rest) => !rest.is_empty(),
                Err(order) => order.is_lt(),
            }
        })
    }

    /// What follows the path of an entry in `path`, if that begins with it; else how the first compares with the second.
    fn without<'p>(&self, place: usize, path: &'p [u8]) -> Result<&'p [u8], Ordering> {
        let Some(parent) = self.parent(place) else {
            return Ok(path);
        };
        self.without_name(place, self.without(parent, path)?)
    }

    /// The same of the last component alone, which follows the path of its directory.
    fn without_name<'p>(&self, place: usize, path: &'p [u8]) -> Result<&'p [u8], Ordering> {
        let row = self.row(place);
        let name = self
            .text
            .slice(row.name..row.name + usize::from(row.name_len));
        match (place, row.parent as usize) {
            (ROOT, _) => Ok(path),
            (_, ROOT) => after(name, path),
            _ => after(name, after(b"/", path)?),
        }
    }

    /// Adds an entry behind all others, which must be its place; returns that.
    ///
    /// A name has at most 255 bytes. `parent` is the place of the directory that it is in; the root is its own.
    pub(super) fn push(
        &mut self,
        parent: usize,
        name: &[u8],
        kind: &Kind,
        metadata: Metadata,
        links: Option<Inode>,
    ) -> usize {
        let place = self.rows.len();
        let row = Row {
            is_linked: links.is_some().into(),
            ..self.new_row(parent, name, kind, metadata)
        };
        self.rows.push(row);
        if let Some(inode) = links {
            self.links.push(narrow(place), inode);
        }
        place
    }

    /// Finds the first name of each inode that has several, when all entries are there.
    pub(super) fn join_links(&mut self) {
        self.links.join();
    }

    /// Adds directories by path, whose parents must be there or among them, and which must not be.
    pub(super) fn insert_directories(&mut self, added: BTreeMap<&[u8], Metadata>) {
        if added.is_empty() {
            return;
        }
        let paths: Vec<&[u8]> = added.keys().copied().collect();
        // What each of them comes before.
        let next: Vec<usize> = paths.iter().map(|path| self.first_from(path)).collect();
        let moved = |place: usize| place + next.partition_point(|&next| next <= place);
        let mut rows = SpilledVec::default();
        let mut new_rows = Vec::new();
        for (path, metadata) in added {
            let slash = path.iter().rposition(|&byte| byte == b'/');
            let (parent, name) = match slash {
                Some(slash) => (&path[..slash], &path[slash + 1..]),
                None => (&b""[..], path),
            };
            let parent = match paths.binary_search(&parent) {
                Ok(index) => next[index] + index,
                Err(_) => moved(self.find(parent).unwrap_or(ROOT)),
            };
            new_rows.push(self.new_row(parent, name, &Kind::Directory, metadata));
        }
        let mut new_rows = next.iter().zip(new_rows).peekable();
        for (place, row) in self.rows.iter().enumerate() {
            while let Some((_, new)) = new_rows.next_if(|(next, _)| **next <= place) {
                rows.push(new);
            }
            let parent = narrow(moved(row.parent as usize));
            rows.push(Row { parent, ..*row });
        }
        new_rows.for_each(|(_, new)| rows.push(new));
        self.rows = rows;
        self.links = self.links.moved(|place| narrow(moved(place as usize)));
    }

    /// Gives an entry other extended attributes.
    pub(crate) fn set_xattrs(&mut self, place: usize, xattrs: Xattrs) {
        let before = self.attributes(place);
        if before.xattrs == xattrs {
            return;
        }
        let attributes = self.alike.place(&Attributes { xattrs, ..before });
        let row = *self.row(place);
        self.rows.set(place, Row { attributes, ..row });
    }

    fn new_row(&mut self, parent: usize, name: &[u8], kind: &Kind, metadata: Metadata) -> Row {
        let device = |device: &Device| u64::from(device.major) << 32 | u64::from(device.minor);
        let (form, value) = match kind {
            Kind::Directory => (Form::Directory, 0),
            Kind::Regular(size) => (Form::Regular, *size),
            Kind::Symlink(target) => (Form::Symlink, target.len() as u64),
            Kind::CharacterDevice(number) => (Form::CharacterDevice, device(number)),
            Kind::BlockDevice(number) => (Form::BlockDevice, device(number)),
            Kind::Fifo => (Form::Fifo, 0),
        };
        let start = match kind {
            Kind::Symlink(target) => self.text.extend_from_slice(&[name, target].concat()),
            _ => self.text.extend_from_slice(name),
        };
        let Metadata {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        } = metadata;
        Row {
            name: start,
            value,
            seconds: mtime.seconds,
            nanoseconds: mtime.nanoseconds,
            parent: narrow(parent),
            attributes: self.alike.place(&Attributes {
                mode,
                uid,
                gid,
                xattrs,
            }),
            name_len: u8::try_from(name.len()).expect("a name has at most 255 bytes"),
            form: form as u8,
            is_linked: 0,
            unused: 0,
        }
    }
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("a root has fewer than 2^32 entries")
}

/// The first place from which on `is_before` does not hold.
fn partition_point(range: Range<usize>, mut is_before: impl FnMut(usize) -> bool) -> usize {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = start + (end - start) / 2;
        if is_before(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}

/// What follows `part` in `path`, if that begins with it; else how `part` compares with it.
fn after<'p>(part: &[u8], path: &'p [u8]) -> Result<&'p [u8], Ordering> {
    let common = part.len().min(path.len());
    match part[..common].cmp(&path[..common]) {
        Ordering::Equal if part.len() > path.len() => Err(Ordering::Greater),
        Ordering::Equal => Ok(&path[common..]),
        order => Err(order),
    }
}

/// Whether what is in the directory `name` comes before its neighbour `next`, by the bytes of their paths.
pub(super) fn is_content_before(name: &[u8], next: &[u8]) -> bool {
    name.iter().chain(b"/").lt(next)
}
