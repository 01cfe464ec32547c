//! The attributes that several inodes have alike: an image holds one copy of each.

use std::collections::HashMap;

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
        for source in &order.sources {
            for xattr in attributes.take(order, *source) {
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
/// take a quarter of the memory and the time.
fn shared_objects<'a>(order: &mut Order<'a>) -> Vec<&'a ObjectId> {
    let objects = (0..).zip(&order.sources).filter_map(|(place, source)| {
        let id = order.object(*source)?;
        let (first, _) = id.as_bytes().split_first_chunk()?;
        Some((u64::from_be_bytes(*first), place))
    });
    let mut objects: Vec<(u64, Place)> = objects.collect();
    objects.sort_unstable();
    let id_at = |place: Place| order.object(order.sources[place as usize]);
    let mut shared = Vec::new();
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
    for place in sharers {
        order.shares_object(place);
    }
    shared
}
