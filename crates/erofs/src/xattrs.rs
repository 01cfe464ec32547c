//! The extended attributes of an inode in a tree.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Deref;
use std::sync::Arc;

type Map = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Extended attributes by full name (`security.capability`).
///
/// Most inodes have none, or the same as many others: none take the room of a pointer,
/// and copies share their memory until one of them is changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Xattrs(
    /// Never an empty map.
    Option<Arc<Map>>,
);

impl Xattrs {
    /// No attributes.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Sets an attribute; gives the value that it had.
    pub fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) -> Option<Box<[u8]>> {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name, value)
    }

    /// Removes an attribute; gives the value that it had.
    pub fn remove(&mut self, name: &[u8]) -> Option<Box<[u8]>> {
        if !self.contains_key(name) {
            return None;
        }
        let removed = Arc::make_mut(self.0.as_mut()?).remove(name);
        self.drop_empty();
        removed
    }

    /// Keeps the attributes that `is_kept` says, by name and value.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&[u8], &[u8]) -> bool) {
        if self.iter().all(|(name, value)| is_kept(name, value)) {
            return;
        }
        if let Some(map) = &mut self.0 {
            Arc::make_mut(map).retain(|name, value| is_kept(name, value));
            self.drop_empty();
        }
    }

    fn drop_empty(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }
}

impl Deref for Xattrs {
    type Target = BTreeMap<Box<[u8]>, Box<[u8]>>;

    fn deref(&self) -> &Self::Target {
        static NONE: Map = Map::new();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl From<Map> for Xattrs {
    fn from(map: Map) -> Self {
        Self((!map.is_empty()).then(|| Arc::new(map)))
    }
}

impl<const N: usize> From<[(Box<[u8]>, Box<[u8]>); N]> for Xattrs {
    fn from(xattrs: [(Box<[u8]>, Box<[u8]>); N]) -> Self {
        Map::from(xattrs).into()
    }
}

impl FromIterator<(Box<[u8]>, Box<[u8]>)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>>(xattrs: I) -> Self {
        Map::from_iter(xattrs).into()
    }
}

impl<'a> IntoIterator for &'a Xattrs {
    type Item = (&'a Box<[u8]>, &'a Box<[u8]>);
    type IntoIter = btree_map::Iter<'a, Box<[u8]>, Box<[u8]>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Xattrs {
        Xattrs::from([(b"user.a"[..].into(), b"1"[..].into())])
    }

    #[test]
    fn a_copy_that_is_changed_leaves_the_other() {
        let original = one();
        let mut copy = original.clone();
        assert_eq!(
            copy.insert(b"user.a"[..].into(), b"2"[..].into())
                .as_deref(),
            Some(&b"1"[..])
        );
        assert_eq!(
            (&*original[&b"user.a"[..]], &*copy[&b"user.a"[..]]),
            (&b"1"[..], &b"2"[..])
        );
        let mut copy = original.clone();
        copy.retain(|name, _| name != b"user.a");
        assert_eq!((original.len(), copy.len()), (1, 0));
    }

    #[test]
    fn none_are_equal_however_they_came_to_be_none() {
        let mut removed = one();
        assert_eq!(removed.remove(b"user.b"), None);
        assert_eq!(removed.remove(b"user.a").as_deref(), Some(&b"1"[..]));
        let mut retained = one();
        retained.retain(|_, _| false);
        for none in [removed, retained, Xattrs::from([]), Xattrs::from_iter([])] {
            assert_eq!(none, Xattrs::new());
        }
        assert_eq!(size_of::<Xattrs>(), 8);
    }
}
