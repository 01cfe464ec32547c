//! The names of a root file system with what is known of each, compactly: roots have millions of them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use hull_erofs::tree::{Device, Metadata, Timestamp, Xattrs};

use super::{Entry, Inode, Kind};

/// Entries in the order of the bytes of their paths: a directory comes before what is in it.
///
/// One takes 40 bytes and its name; a symbolic link its target, too. What entries have alike of owners, modes and
/// extended attributes is there once.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    rows: Vec<Row>,
    /// Names, each with the target behind it that a symbolic link has.
    text: Vec<u8>,
    attributes: Vec<Arc<Attributes>>,
    known: HashMap<Arc<Attributes>, u32>,
    /// The inodes that have several names, by entry.
    links: Vec<(u32, Inode)>,
}

#[derive(Debug, Clone, Copy)]
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
    form: Form,
}

/// What an entry is, without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Directory,
    Regular,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
}

/// What many entries have alike.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Attributes {
    mode: u16,
    uid: u32,
    gid: u32,
    xattrs: Xattrs,
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
        } = self.attributes_of(place);
        Entry {
            path: self.path(place),
            kind: self.kind(place),
            metadata: Metadata {
                mode: *mode,
                uid: *uid,
                gid: *gid,
                mtime: self.mtime(place),
                xattrs: xattrs.clone(),
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
        let row = &self.rows[place];
        &self.text[row.name..][..usize::from(row.name_len)]
    }

    /// The directory that an entry is in; nothing for the root.
    pub fn parent(&self, place: usize) -> Option<usize> {
        (place != ROOT).then(|| self.rows[place].parent as usize)
    }

    /// What an entry is.
    pub fn kind(&self, place: usize) -> Kind {
        let value = self.rows[place].value;
        let device = Device {
            major: u32::try_from(value >> 32).unwrap_or_default(),
            minor: u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default(),
        };
        match self.rows[place].form {
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
        self.rows[place].form == Form::Directory
    }

    /// The size of a regular file in bytes; nothing for anything else.
    pub fn size(&self, place: usize) -> Option<u64> {
        let row = &self.rows[place];
        (row.form == Form::Regular).then_some(row.value)
    }

    /// The target of a symbolic link; nothing for anything else.
    pub fn target(&self, place: usize) -> Option<&[u8]> {
        let row = &self.rows[place];
        let length = usize::try_from(row.value).ok()?;
        let start = row.name + usize::from(row.name_len);
        (row.form == Form::Symlink).then(|| &self.text[start..start + length])
    }

    /// The time of an entry, as it is on disk.
    pub fn mtime(&self, place: usize) -> Timestamp {
        let row = &self.rows[place];
        Timestamp {
            seconds: row.seconds,
            nanoseconds: row.nanoseconds,
        }
    }

    /// The extended attributes of an entry.
    pub fn xattrs(&self, place: usize) -> &Xattrs {
        &self.attributes_of(place).xattrs
    }

    fn attributes_of(&self, place: usize) -> &Attributes {
        &self.attributes[self.rows[place].attributes as usize]
    }

    /// Which inode an entry is a name of, where that has several.
    pub fn inode(&self, place: usize) -> Option<Inode> {
        let found = self
            .links
            .binary_search_by_key(&place, |(entry, _)| *entry as usize);
        found.ok().map(|index| self.links[index].1)
    }

    /// The names of inodes that have several: those of one beside each other, in their order.
    pub(crate) fn links(&self) -> Vec<(Inode, usize)> {
        let mut links: Vec<(Inode, usize)> = self
            .links
            .iter()
            .map(|&(place, inode)| (inode, place as usize))
            .collect();
        links.sort_unstable();
        links
    }

    /// The place of a path.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let place = self.first_from(path);
        (place < self.len() && self.compare(place, path) == Ordering::Equal).then_some(place)
    }

    /// The places of the entries whose paths begin so.
    pub(crate) fn beginning(&self, prefix: &[u8]) -> Range<usize> {
        let start = self.first_from(prefix);
        let begins = |place| self.path(place).starts_with(prefix);
        start..partition_point(start..self.len(), begins)
    }

    /// The first entry whose path is not before `path`.
    fn first_from(&self, path: &[u8]) -> usize {
        partition_point(0..self.len(), |place| self.compare(place, path).is_lt())
    }

    fn compare(&self, place: usize, path: &[u8]) -> Ordering {
        match self.without(place, path) {
            Ok([]) => Ordering::Equal,
            Ok(_) => Ordering::Less,
            Err(order) => order,
        }
    }

    /// What follows the path of an entry in `path`, if that begins with it; else how the first compares with the second.
    fn without<'p>(&self, place: usize, path: &'p [u8]) -> Result<&'p [u8], Ordering> {
        let Some(parent) = self.parent(place) else {
            return Ok(path);
        };
        let rest = self.without(parent, path)?;
        let rest = if parent == ROOT {
            rest
        } else {
            after(b"/", rest)?
        };
        after(self.name(place), rest)
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
        let row = self.row(parent, name, kind, metadata);
        self.rows.push(row);
        if let Some(inode) = links {
            self.links.push((narrow(place), inode));
        }
        place
    }

    /// Adds a directory, whose parent must be there, and which must not be.
    pub(super) fn insert_directory(&mut self, path: &[u8], metadata: Metadata) {
        let place = self.first_from(path);
        let slash = path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match slash {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let parent = self.find(parent).unwrap_or(ROOT);
        let row = self.row(parent, name, &Kind::Directory, metadata);
        let moved = |other: &mut u32| {
            if *other as usize >= place {
                *other += 1;
            }
        };
        self.rows.iter_mut().for_each(|row| moved(&mut row.parent));
        self.links.iter_mut().for_each(|(entry, _)| moved(entry));
        self.rows.insert(place, row);
    }

    /// Gives an entry other extended attributes.
    pub(crate) fn set_xattrs(&mut self, place: usize, xattrs: Xattrs) {
        let Attributes { mode, uid, gid, .. } = *self.attributes_of(place);
        let attributes = Attributes {
            mode,
            uid,
            gid,
            xattrs,
        };
        self.rows[place].attributes = self.intern(attributes);
    }

    fn row(&mut self, parent: usize, name: &[u8], kind: &Kind, metadata: Metadata) -> Row {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let device = |device: &Device| u64::from(device.major) << 32 | u64::from(device.minor);
        let (form, value) = match kind {
            Kind::Directory => (Form::Directory, 0),
            Kind::Regular(size) => (Form::Regular, *size),
            Kind::Symlink(target) => {
                self.text.extend_from_slice(target);
                (Form::Symlink, target.len() as u64)
            }
            Kind::CharacterDevice(number) => (Form::CharacterDevice, device(number)),
            Kind::BlockDevice(number) => (Form::BlockDevice, device(number)),
            Kind::Fifo => (Form::Fifo, 0),
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
            attributes: self.intern(Attributes {
                mode,
                uid,
                gid,
                xattrs,
            }),
            name_len: u8::try_from(name.len()).expect("a name has at most 255 bytes"),
            form,
        }
    }

    fn intern(&mut self, attributes: Attributes) -> u32 {
        if let Some(&place) = self.known.get(&attributes) {
            return place;
        }
        let place = narrow(self.attributes.len());
        let attributes = Arc::new(attributes);
        self.attributes.push(Arc::clone(&attributes));
        self.known.insert(attributes, place);
        place
    }
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("a root has fewer than 2^32 entries")
}

/// The first place from which on `is_before` does not hold.
fn partition_point(range: Range<usize>, is_before: impl Fn(usize) -> bool) -> usize {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Entries with these paths, each a directory, and those above them.
    fn entries(paths: &[&str]) -> Entries {
        let mut sorted: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for path in paths {
            let path = path.as_bytes();
            sorted.insert(Vec::new(), 0);
            for (index, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                sorted.insert(path[..index].to_vec(), 0);
            }
            sorted.insert(path.to_vec(), 0);
        }
        let mut entries = Entries::default();
        for path in sorted.keys().cloned().collect::<Vec<_>>() {
            let slash = path.iter().rposition(|&byte| byte == b'/');
            let parent = slash.map_or(&b""[..], |slash| &path[..slash]);
            let name = slash.map_or(&path[..], |slash| &path[slash + 1..]);
            let metadata = Metadata::default();
            let place = entries.push(sorted[parent], name, &Kind::Directory, metadata, None);
            sorted.insert(path, place);
        }
        entries
    }

    fn paths(entries: &Entries) -> Vec<String> {
        let path = |place| String::from_utf8(entries.path(place).into_vec()).unwrap();
        (0..entries.len()).map(path).collect()
    }

    #[test]
    fn an_entry_is_given_back_as_it_was() {
        let mut entries = entries(&["a"]);
        let xattrs = |value: &[u8]| Xattrs::from([(b"user.a"[..].into(), value.into())]);
        let metadata = Metadata {
            mode: 0o4755,
            uid: 70_000,
            gid: 5,
            mtime: Timestamp {
                seconds: -3,
                nanoseconds: 7,
            },
            xattrs: xattrs(b"1"),
        };
        let inode = Inode {
            device: (8, 1),
            number: 1 << 40,
        };
        let device = Device {
            major: 240,
            minor: 70_000,
        };
        let kinds = [
            Kind::Regular(1 << 40),
            Kind::Symlink(b"../x"[..].into()),
            Kind::CharacterDevice(device),
            Kind::BlockDevice(device),
            Kind::Fifo,
        ];
        for (number, kind) in (0..).zip(&kinds) {
            let name = [b'f', number];
            let links = (number == 1).then_some(inode);
            let place = entries.push(1, &name, kind, metadata.clone(), links);
            let expected = Entry {
                path: [&b"a/"[..], &name].concat().into(),
                kind: kind.clone(),
                metadata: metadata.clone(),
                links,
            };
            assert_eq!(entries.get(place), expected);
        }
        entries.set_xattrs(3, xattrs(b"2"));
        assert_eq!(*entries.xattrs(3), xattrs(b"2"));
        assert_eq!(*entries.xattrs(2), xattrs(b"1"));
        assert_eq!(entries.get(3).metadata.mode, 0o4755);
    }

    #[test]
    fn a_row_is_forty_bytes() {
        assert_eq!(size_of::<Row>(), 40);
    }

    #[test]
    fn a_directory_is_put_among_the_others() {
        let mut entries = entries(&["a/b", "v/x/y"]);
        let inode = Inode {
            device: (0, 0),
            number: 1,
        };
        let last = entries.push(0, b"z", &Kind::Fifo, Metadata::default(), Some(inode));
        for path in [&b"v/t"[..], b"b", b"v/t/u"] {
            entries.insert_directory(path, Metadata::default());
        }
        let expected = [
            "", "a", "a/b", "b", "v", "v/t", "v/t/u", "v/x", "v/x/y", "z",
        ];
        assert_eq!(paths(&entries), expected);
        assert_eq!(entries.inode(last + 3), Some(inode));
        assert_eq!(entries.links(), [(inode, last + 3)]);
    }

    proptest! {
        #[test]
        fn a_path_is_found_where_sorting_puts_it(
            paths_in in proptest::collection::vec("[-a0.]{1,3}(/[-a0.]{1,3}){0,3}", 0..12),
            asked in "[-a0./]{0,6}",
        ) {
            let borrowed: Vec<&str> = paths_in.iter().map(String::as_str).collect();
            let entries = entries(&borrowed);
            let all = paths(&entries);
            prop_assert!(all.is_sorted());
            for (place, path) in all.iter().enumerate() {
                prop_assert_eq!(entries.find(path.as_bytes()), Some(place));
            }
            let expected = all.iter().position(|path| *path == asked);
            prop_assert_eq!(entries.find(asked.as_bytes()), expected);
            let begin: Vec<usize> = (0..all.len()).filter(|&i| all[i].starts_with(&asked)).collect();
            prop_assert_eq!(entries.beginning(asked.as_bytes()).collect::<Vec<_>>(), begin);
        }

        #[test]
        fn content_comes_where_its_paths_sort(
            (name, b) in ("[-.0a]{1,4}", "[-.0a]{1,4}").prop_filter("two names", |(a, b)| a != b),
        ) {
            prop_assert_eq!(is_content_before(name.as_bytes(), b.as_bytes()), format!("{name}/") < b);
        }
    }
}
