//! The attributes that several inodes have alike: an image holds one copy of each.

use std::collections::HashMap;

use hull_sys::spill::SpilledVec;

use crate::fsverity::ObjectId;

use super::attributes::Attributes;
use super::format::overlay;
use super::order::{Order, Place};
use super::xattr::{Value, Xattr};

/// What several inodes have alike.
#[derive(Debug)]
pub(super) struct Sharing<'a> {
    /// In the order of the image: the last comes first.
    pub(super) table: Vec<Xattr<'a>>,
    /// Whether any inode has a POSIX ACL.
    pub(super) has_acl: bool,
}

impl<'a> Sharing<'a> {
    /// Finds what inodes share, and notes which of them share their object.
    pub(super) fn find(order: &mut Order<'a>) -> Self {
        let mut has_acl = false;
        // Whether several have it.
        let mut kinds: HashMap<Xattr<'a>, bool> = HashMap::new();
        let mut attributes = Attributes::default();
        for source in order.sources.iter() {
            for xattr in attributes.take(order, source) {
                has_acl |= xattr.is_acl();
                if let Some(several) = kinds.get_mut(xattr) {
                    *several = true;
                } else {
                    kinds.insert(xattr.clone(), false);
                }
            }
        }
        let several = |(xattr, several)| if several { Some(xattr) } else { None };
        let mut table: Vec<Xattr<'a>> = kinds.into_iter().filter_map(several).collect();
        for id in shared_objects(order) {
            table.push(Xattr::for_overlay(overlay::METACOPY, Value::Metacopy(id)));
            table.push(Xattr::for_overlay(overlay::REDIRECT, Value::Redirect(id)));
        }
        table.sort_unstable_by(|a, b| b.order(a));
        Self { table, has_acl }
    }

    /// The place of an attribute in the table, if several have it.
    pub(super) fn place(&self, xattr: &Xattr<'a>) -> Option<usize> {
        let order = |there: &Xattr<'a>| xattr.order(there);
        self.table.binary_search_by(order).ok()
    }
}

/// The objects that several inodes have, which is noted at these.
///
/// Equal ones are found by sorting, by their first bytes: these seldom agree by chance, and
/// take a quarter of the memory and the time. Many are sorted in parts, by the first bits.
fn shared_objects<'a>(order: &mut Order<'a>) -> Vec<&'a ObjectId> {
    let objects = Heads::of(order);
    let mut shared = Vec::new();
    for part in 0..objects.parts() {
        let sharers = shared_in(order, objects.part(part), &mut shared);
        for place in sharers {
            order.shares_object(place);
        }
    }
    shared
}

/// The first bytes of the inodes' objects, with the places of the inodes.
struct Heads(SpilledVec<[u64; 2]>);

impl Heads {
    /// How many are sorted at once, more or less: 4 MiB of them.
    const SORTED: usize = 1 << 18;

    fn of(order: &Order<'_>) -> Self {
        let mut heads = SpilledVec::default();
        for (place, source) in (0u64..).zip(order.sources.iter()) {
            let head = order
                .object(source)
                .and_then(|id| id.as_bytes().first_chunk());
            heads.extend_from_slice(
                head.map(|head| [u64::from_be_bytes(*head), place])
                    .as_slice(),
            );
        }
        Self(heads)
    }

    /// A power of two.
    fn parts(&self) -> u64 {
        self.0.len().div_ceil(Self::SORTED).next_power_of_two() as u64
    }

    /// Those whose first bits are the number of the part, sorted.
    fn part(&self, part: u64) -> Vec<(u64, Place)> {
        let shift = u64::BITS - self.parts().trailing_zeros();
        let is_in = |head: u64| head.checked_shr(shift).unwrap_or(0) == part;
        let in_part = self.0.iter().filter(|[head, _]| is_in(*head));
        let mut heads: Vec<(u64, Place)> = in_part
            .map(|&[head, place]| (head, Place::try_from(place).unwrap_or(Place::MAX)))
            .collect();
        heads.sort_unstable();
        heads
    }
}

/// The places of inodes that have an object of another one, of these; adds the objects to those that are shared.
fn shared_in<'a>(
    order: &Order<'a>,
    mut objects: Vec<(u64, Place)>,
    shared: &mut Vec<&'a ObjectId>,
) -> Vec<Place> {
    let id_at = |place: Place| order.object(order.sources.get(place));
    let mut sharers = Vec::new();
    let alike = objects.chunk_by_mut(|(a, _), (b, _)| a == b);
    for alike in alike.filter(|alike| alike.len() > 1) {
        alike.sort_unstable_by_key(|(_, place)| id_at(*place));
        let same = alike.chunk_by(|(_, a), (_, b)| id_at(*a) == id_at(*b));
        for same in same.filter(|same| same.len() > 1) {
            shared.extend(id_at(same[0].1));
            sharers.extend(same.iter().map(|(_, place)| *place));
        }
    }
    sharers
}
