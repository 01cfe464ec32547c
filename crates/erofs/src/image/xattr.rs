//! Extended attributes as the image holds them: name by prefix, a filter over the
//! names, and one copy of what several inodes have alike.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use crate::fsverity::ObjectId;
use crate::tree::Metadata;

use super::format::{self, overlay};
use super::xxh32::xxh32;

/// An attribute of an inode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Xattr<'a> {
    prefix: u8,
    suffix: Cow<'a, [u8]>,
    value: Value<'a>,
}

/// The value of an attribute. Those that name an object are on every other inode,
/// so they become bytes only when they are written.
///
/// Attributes of one name are all of one kind, which makes the derived order that
/// of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Value<'a> {
    /// Any bytes.
    Bytes(&'a [u8]),
    /// What overlayfs checks the content of a file with.
    Metacopy(&'a ObjectId),
    /// Where overlayfs finds the content of a file.
    Redirect(&'a ObjectId),
}

impl Value<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Metacopy(_) => format::METACOPY_HEAD.len() + ObjectId::LEN,
            // Two digits for each byte, and two slashes.
            Self::Redirect(_) => 2 * ObjectId::LEN + 2,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Metacopy(id) => {
                out.extend_from_slice(&format::METACOPY_HEAD);
                out.extend_from_slice(id.as_bytes());
            }
            Self::Redirect(id) => {
                out.push(b'/');
                out.extend_from_slice(id.to_object_path().as_bytes());
            }
        }
    }
}

impl<'a> Xattr<'a> {
    fn new(name: Cow<'a, [u8]>, value: Value<'a>) -> Self {
        let (prefix, length) = split_name(&name);
        let suffix = match name {
            Cow::Borrowed(name) => Cow::Borrowed(&name[length..]),
            Cow::Owned(name) => Cow::Owned(name[length..].to_vec()),
        };
        Self {
            prefix,
            suffix,
            value,
        }
    }

    /// Whether this is a POSIX ACL, for the flag in the header.
    pub(super) fn is_acl(&self) -> bool {
        format::XATTR_PREFIX_ACLS.contains(&self.prefix)
    }

    /// Bytes that the entry takes, padded.
    pub(super) fn encoded_len(&self) -> u64 {
        let length = self.suffix.len() as u64 + self.value.len() as u64;
        (format::XATTR_ENTRY_LEN + length).next_multiple_of(format::XATTR_UNIT)
    }

    /// Appends the entry without its padding.
    ///
    /// The survey has bounded both lengths, so they fit their fields.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let [name_len, ..] = self.suffix.len().to_le_bytes();
        let [low, high, ..] = self.value.len().to_le_bytes();
        out.extend([name_len, self.prefix, low, high]);
        out.extend_from_slice(&self.suffix);
        self.value.encode(out);
    }

    fn filter_bit(&self) -> u32 {
        let seed = format::XATTR_FILTER_SEED + u32::from(self.prefix);
        1 << (xxh32(&self.suffix, seed) % 32)
    }

    /// The order in the image: by full name, then shorter values first.
    fn order(&self, other: &Self) -> Ordering {
        let by_name = if self.prefix == other.prefix {
            self.suffix.cmp(&other.suffix)
        } else {
            self.name().cmp(other.name())
        };
        by_name
            .then_with(|| self.value.len().cmp(&other.value.len()))
            .then_with(|| self.value.cmp(&other.value))
    }

    fn name(&self) -> impl Iterator<Item = &u8> {
        format::XATTR_PREFIXES[usize::from(self.prefix)]
            .iter()
            .chain(self.suffix.iter())
    }
}

/// Index of the longest prefix that fits a name, and its length.
fn split_name(name: &[u8]) -> (u8, usize) {
    (0u8..)
        .zip(format::XATTR_PREFIXES)
        .skip(1)
        .filter(|(index, _)| usize::from(*index) != format::XATTR_PREFIX_LUSTRE)
        .find(|(_, prefix)| name.starts_with(prefix))
        .map_or((0, 0), |(index, prefix)| (index, prefix.len()))
}

/// The attributes of one inode.
#[derive(Debug, Default)]
pub(super) struct InodeXattrs<'a> {
    local: Vec<Xattr<'a>>,
    shared: Vec<usize>,
    filter: u32,
}

impl<'a> InodeXattrs<'a> {
    /// Those of the tree; what overlayfs would take for its own gets another name.
    pub(super) fn of_tree(metadata: &'a Metadata) -> Self {
        let mut xattrs = Self::default();
        for (name, value) in &metadata.xattrs {
            let name = match name.strip_prefix(overlay::PREFIX) {
                Some(rest) => Cow::Owned([overlay::ESCAPED_PREFIX, rest].concat()),
                None => Cow::Borrowed(&name[..]),
            };
            xattrs.push(Xattr::new(name, Value::Bytes(value)));
        }
        xattrs
    }

    /// Adds one whose name is already as the image has it.
    pub(super) fn add(&mut self, name: &'static [u8], value: Value<'a>) {
        self.push(Xattr::new(Cow::Borrowed(name), value));
    }

    fn push(&mut self, xattr: Xattr<'a>) {
        self.filter |= xattr.filter_bit();
        self.local.push(xattr);
    }

    /// Whether any of them is a POSIX ACL.
    pub(super) fn has_acl(&self) -> bool {
        self.local.iter().any(Xattr::is_acl)
    }

    /// Bytes that they take behind the inode: a multiple of [`format::XATTR_UNIT`].
    pub(super) fn encoded_len(&self) -> u64 {
        if self.filter == 0 {
            return 0;
        }
        let local: u64 = self.local.iter().map(Xattr::encoded_len).sum();
        format::XATTR_HEADER_LEN + self.shared.len() as u64 * format::XATTR_UNIT + local
    }

    /// What `i_xattr_icount` says, if the attributes fit an image.
    pub(super) fn count(&self) -> Option<u16> {
        if self.shared.len() > usize::from(u8::MAX) {
            return None;
        }
        match self.encoded_len() {
            0 => Some(0),
            length => {
                let units = (length - format::XATTR_HEADER_LEN) / format::XATTR_UNIT;
                u16::try_from(units + 1).ok()
            }
        }
    }

    /// Appends them; `shared_at` holds the places of the shared ones.
    pub(super) fn encode(&self, shared_at: &[u32], out: &mut Vec<u8>) {
        if self.filter == 0 {
            return;
        }
        let [shared_count, ..] = self.shared.len().to_le_bytes();
        out.extend((!self.filter).to_le_bytes());
        out.extend([shared_count, 0, 0, 0, 0, 0, 0, 0]);
        for index in &self.shared {
            out.extend(shared_at[*index].to_le_bytes());
        }
        for xattr in &self.local {
            xattr.encode(out);
            let padded = out.len().next_multiple_of(4);
            out.resize(padded, 0);
        }
    }
}

/// Moves what several of `all` have alike to a table that is returned, and puts
/// the rest in order.
pub(super) fn share<'a>(all: &mut [&mut InodeXattrs<'a>]) -> Vec<Xattr<'a>> {
    for xattrs in all.iter_mut() {
        xattrs.local.sort_by(Xattr::order);
    }
    let (places, table) = find_shared(all);
    let mut places = places.into_iter();
    for xattrs in all {
        let shared = &mut xattrs.shared;
        xattrs.local.retain(|_| match places.next().flatten() {
            Some(index) => {
                shared.push(index);
                false
            }
            None => true,
        });
    }
    table
}

/// For each attribute, in order, its place in the table of shared ones, if it has
/// one; and that table: the last in order comes first.
fn find_shared<'a>(all: &[&mut InodeXattrs<'a>]) -> (Vec<Option<usize>>, Vec<Xattr<'a>>) {
    let mut kinds: HashMap<&Xattr<'a>, usize> = HashMap::new();
    let mut users: Vec<(&Xattr<'a>, u32)> = Vec::new();
    let mut occurrences = Vec::new();
    for xattr in all.iter().flat_map(|xattrs| &xattrs.local) {
        let kind = *kinds.entry(xattr).or_insert_with(|| {
            users.push((xattr, 0));
            users.len() - 1
        });
        users[kind].1 += 1;
        occurrences.push(kind);
    }
    let mut shared: Vec<usize> = (0..users.len()).filter(|kind| users[*kind].1 > 1).collect();
    shared.sort_by(|a, b| users[*b].0.order(users[*a].0));
    let mut place = vec![None; users.len()];
    for (index, kind) in shared.iter().enumerate() {
        place[*kind] = Some(index);
    }
    let table = shared
        .into_iter()
        .map(|kind| users[kind].0.clone())
        .collect();
    (
        occurrences.into_iter().map(|kind| place[kind]).collect(),
        table,
    )
}
