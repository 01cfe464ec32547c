//! What many entries have alike: owners, modes and extended attributes.

use std::collections::HashMap;

use hull_erofs::tree::Xattrs;
use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The bytes of rows that are known in memory. On most roots these are all; on one whose every file has attributes of its
/// own, as signatures are, what was known is forgotten now and then, and may be there twice.
const KNOWN_MAX: usize = 1 << 20;
/// What a row that is known takes beside its bytes, about.
const OVERHEAD: usize = 64;

/// What is said of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) xattrs: Xattrs,
}

/// A table of what is said of entries, in which the same is there once, mostly.
#[derive(Debug, Default)]
pub(super) struct Alike {
    rows: SpilledVec<Row>,
    text: SpilledVec<u8>,
    /// Rows by their text.
    known: HashMap<Box<[u8]>, u32>,
    /// The bytes that `known` takes.
    size: usize,
}

/// Where the text of a row is.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Row {
    start: usize,
    length: usize,
}

impl Alike {
    /// What is in this place.
    pub(super) fn get(&self, place: u32) -> Attributes {
        let row = self.rows.get(place as usize);
        decode(self.text.slice(row.start..row.start + row.length))
    }

    /// The place of this; it is added where it is new.
    pub(super) fn place(&mut self, attributes: &Attributes) -> u32 {
        let text = encode(attributes);
        if let Some(&place) = self.known.get(&*text) {
            return place;
        }
        let place = u32::try_from(self.rows.len()).expect("there are no more than entries");
        self.rows.push(Row {
            start: self.text.extend_from_slice(&text),
            length: text.len(),
        });
        self.size += text.len() + OVERHEAD;
        if self.size > KNOWN_MAX {
            self.known.clear();
            self.size = text.len() + OVERHEAD;
        }
        self.known.insert(text.into_boxed_slice(), place);
        place
    }
}

fn encode(attributes: &Attributes) -> Vec<u8> {
    let Attributes {
        mode,
        uid,
        gid,
        xattrs,
    } = attributes;
    let mut text = Vec::with_capacity(16);
    text.extend(mode.to_le_bytes());
    text.extend(uid.to_le_bytes());
    text.extend(gid.to_le_bytes());
    for part in xattrs.iter().flat_map(|(name, value)| [name, value]) {
        text.extend(part.len().to_le_bytes());
        text.extend_from_slice(part);
    }
    text
}

fn decode(mut text: &[u8]) -> Attributes {
    let text = &mut text;
    Attributes {
        mode: u16::from_le_bytes(take(text)),
        uid: u32::from_le_bytes(take(text)),
        gid: u32::from_le_bytes(take(text)),
        xattrs: std::iter::from_fn(|| {
            (!text.is_empty()).then(|| (part(text).into(), part(text).into()))
        })
        .collect(),
    }
}

fn part<'t>(text: &mut &'t [u8]) -> &'t [u8] {
    let length = usize::from_le_bytes(take(text));
    let (part, rest) = text.split_at(length);
    *text = rest;
    part
}

fn take<const N: usize>(text: &mut &[u8]) -> [u8; N] {
    let (number, rest) = text.split_first_chunk().expect("it is as it was encoded");
    *text = rest;
    *number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(number: u32, value: &[u8]) -> Attributes {
        let name = b"security.ima"[..].into();
        Attributes {
            mode: 0o4755,
            uid: number,
            gid: 70_000,
            xattrs: Xattrs::from([(name, value.into()), (b"user.a"[..].into(), [].into())]),
        }
    }

    #[test]
    fn the_same_is_there_once() {
        let mut alike = Alike::default();
        let none = Attributes {
            xattrs: Xattrs::new(),
            ..attributes(1, b"")
        };
        let all = [attributes(1, b"1"), attributes(1, b"2"), none];
        let mut places = || all.each_ref().map(|one| alike.place(one));
        assert_eq!((places(), places()), ([0, 1, 2], [0, 1, 2]));
        assert_eq!([0, 1, 2].map(|place| alike.get(place)), all);
    }

    #[test]
    fn what_is_another_in_each_entry_is_not_kept_in_memory() {
        let mut alike = Alike::default();
        let value = vec![7; 10_000];
        let places: Vec<u32> = (0..1000)
            .map(|number| alike.place(&attributes(number, &value)))
            .collect();
        assert!(alike.size <= KNOWN_MAX + value.len() + 100);
        assert!(alike.known.len() <= KNOWN_MAX / value.len());
        for (number, place) in (0..).zip(places) {
            assert_eq!(alike.get(place), attributes(number, &value));
        }
    }
}
