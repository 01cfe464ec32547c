//! An extended attribute as the image holds it: name by prefix, with a bit for the filter
//! over the names.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::fsverity::ObjectId;

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
    /// The attribute with this name; what overlayfs would take for its own gets another.
    pub(super) fn of_tree(name: &'a [u8], value: &'a [u8]) -> Self {
        let name = match name.strip_prefix(overlay::PREFIX) {
            Some(rest) => Cow::Owned([overlay::ESCAPED_PREFIX, rest].concat()),
            None => Cow::Borrowed(name),
        };
        Self::new(name, Value::Bytes(value))
    }

    /// One by which the image talks to overlayfs: its name is already as the image has it.
    pub(super) fn for_overlay(name: &'static [u8], value: Value<'a>) -> Self {
        Self::new(Cow::Borrowed(name), value)
    }

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

    /// Whether it names an object.
    pub(super) fn names_object(&self) -> bool {
        matches!(self.value, Value::Metacopy(_) | Value::Redirect(_))
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

    /// The bit of the filter that says that an attribute of this name is there.
    pub(super) fn filter_bit(&self) -> u32 {
        let seed = format::XATTR_FILTER_SEED + u32::from(self.prefix);
        1 << (xxh32(&self.suffix, seed) % 32)
    }

    /// The order in the image: by full name, then shorter values first.
    pub(super) fn order(&self, other: &Self) -> Ordering {
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
