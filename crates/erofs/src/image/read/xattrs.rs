//! The extended attributes of an inode, and what composefs has put among them.

use crate::limits;
use crate::tree::Xattrs;

use super::super::format::{self, overlay};
use super::layout::{Image, RawInode};
use super::{Budget, Fault, ObjectId};

/// Attributes as the image has them.
#[derive(Default)]
pub(super) struct RawXattrs<'a>(Vec<(Vec<u8>, &'a [u8])>);

impl<'a> RawXattrs<'a> {
    pub(super) fn read(
        image: &Image<'a>,
        inode: &RawInode,
        budget: &mut Budget,
    ) -> Result<Self, Fault> {
        let (offset, length) = inode.xattrs;
        let mut xattrs = Self::default();
        let bytes = image.slice(offset, length, "the extended attributes of an inode")?;
        let Some((header, mut rest)) = bytes.split_first_chunk::<12>() else {
            return Ok(xattrs);
        };
        for _ in 0..header[4] {
            let (place, others) = rest.split_first_chunk().ok_or(Fault::Invalid(
                "there are fewer shared attributes than it says",
            ))?;
            rest = others;
            let shared = image.shared_xattr(u32::from_le_bytes(*place))?;
            xattrs.push(shared, budget)?;
        }
        while !rest.is_empty() {
            let length = xattrs.push(rest, budget)?;
            let padded = length.next_multiple_of(4);
            rest = rest.get(padded..).ok_or(INVALID)?;
        }
        Ok(xattrs)
    }

    /// Adds the entry at the start of `bytes`, and returns its length.
    fn push(&mut self, bytes: &'a [u8], budget: &mut Budget) -> Result<usize, Fault> {
        let ([name_len, prefix, low, high], rest) = bytes.split_first_chunk().ok_or(INVALID)?;
        let (name_len, value_len) = (
            usize::from(*name_len),
            usize::from(u16::from_le_bytes([*low, *high])),
        );
        let (suffix, rest) = rest.split_at_checked(name_len).ok_or(INVALID)?;
        let value = rest.get(..value_len).ok_or(INVALID)?;
        let prefix = format::XATTR_PREFIXES
            .get(usize::from(*prefix))
            .ok_or(INVALID)?;
        let name = [prefix, suffix].concat();
        if !(1..=limits::XATTR_NAME).contains(&name.len()) || name.contains(&0) {
            return Err(INVALID);
        }
        budget.charge(ENTRY_COST + name.len() + value.len())?;
        self.0.push((name, value));
        Ok(4 + name_len + value_len)
    }

    /// Takes out one attribute of this name, and of this value if one is given.
    fn take(&mut self, name: &[u8], value: Option<&[u8]>) -> Option<&'a [u8]> {
        let fits = |(its_name, its_value): &(Vec<u8>, &[u8])| {
            its_name == name && value.is_none_or(|value| value == *its_value)
        };
        let place = self.0.iter().position(fits)?;
        Some(self.0.remove(place).1)
    }

    fn has(&self, marks: &[(&[u8], &[u8])]) -> bool {
        let has = |mark: &(&[u8], &[u8])| {
            self.0
                .iter()
                .any(|(name, value)| (&name[..], *value) == *mark)
        };
        marks.iter().all(has)
    }

    /// Takes out what the root has so that the objects don't show.
    pub(super) fn take_opaque(&mut self) {
        self.take(overlay::OPAQUE, None);
    }

    /// Whether a directory is marked as having whiteouts that were made files.
    pub(super) fn has_whiteouts_marks(&self) -> bool {
        // The others came with version 1.
        self.has(&overlay::WHITEOUTS_MARKS[..2])
    }

    /// Takes those marks out.
    pub(super) fn take_whiteouts_marks(&mut self) {
        for (name, value) in overlay::WHITEOUTS_MARKS {
            self.take(name, Some(value));
        }
    }

    /// Takes out the marks of a file that was made from a whiteout, if it has all.
    pub(super) fn take_whiteout_marks(&mut self) -> bool {
        let is_marked = self.has(&overlay::WHITEOUT_MARKS);
        if is_marked {
            for (name, value) in overlay::WHITEOUT_MARKS {
                self.take(name, Some(value));
            }
        }
        is_marked
    }

    /// Takes out what says where the content of a file is, if it is in an object.
    pub(super) fn take_object(&mut self) -> Result<Option<ObjectId>, Fault> {
        let (metacopy, redirect) = (
            self.take(overlay::METACOPY, None),
            self.take(overlay::REDIRECT, None),
        );
        let (metacopy, redirect) = match (metacopy, redirect) {
            (None, None) => return Ok(None),
            (Some(metacopy), Some(redirect)) => (metacopy, redirect),
            _ => {
                return Err(Fault::Invalid(
                    "a file has only a digest or only the path of an object",
                ));
            }
        };
        let id = metacopy
            .strip_prefix(&format::METACOPY_HEAD)
            .and_then(|digest| digest.try_into().ok())
            .map(ObjectId::from_bytes)
            .ok_or(Fault::Invalid(
                "the digest of an object is not of fs-verity with SHA-512",
            ))?;
        let path = id.to_object_path();
        if redirect.strip_prefix(b"/") != Some(path.as_bytes()) {
            return Err(Fault::Invalid(
                "the path of an object is not that of its digest",
            ));
        }
        Ok(Some(id))
    }

    /// The attributes under the names that they have in the tree.
    pub(super) fn into_tree(self) -> Result<Xattrs, Fault> {
        let mut xattrs = Xattrs::new();
        for (name, value) in self.0 {
            let name = match name.strip_prefix(overlay::ESCAPED_PREFIX) {
                Some(rest) => [overlay::PREFIX, rest].concat(),
                None if name.starts_with(overlay::PREFIX) => {
                    return Err(Fault::Invalid(
                        "an attribute for overlayfs that composefs never writes",
                    ));
                }
                None => name,
            };
            if xattrs.insert(name.into(), value.into()).is_some() {
                return Err(Fault::Invalid("an extended attribute is there twice"));
            }
        }
        Ok(xattrs)
    }
}

/// What an attribute takes in memory, about, beside its name and value.
const ENTRY_COST: usize = 64;

const INVALID: Fault = Fault::Invalid("its extended attributes are no list of attributes");
