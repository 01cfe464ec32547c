//! Paths as packages spell them, and the entries that they lead to.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use crate::scan::Scan;

/// How many symbolic links one path may lead through, as in Linux.
const FOLLOWED_MAX: usize = 40;
/// The bytes that directories may take that are known.
const KNOWN_MAX: usize = 4 << 20;
/// What each takes beside its path, about.
const KNOWN_OVERHEAD: usize = 64;

/// Resolves paths within what was scanned; the file system is not asked again.
#[derive(Debug)]
pub(super) struct Paths<'a> {
    scan: &'a Scan,
    /// Directories that were asked for, as spelled, with what they are.
    known: RefCell<Known>,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<Box<[u8]>, Option<usize>>,
    /// The bytes that they take.
    size: usize,
}

impl Known {
    /// Where there would be too many, the others are forgotten: packages list what is in one directory at once.
    fn add(&mut self, path: &[u8], place: Option<usize>) {
        self.size += path.len() + KNOWN_OVERHEAD;
        if self.size > KNOWN_MAX {
            self.places.clear();
            self.size = path.len() + KNOWN_OVERHEAD;
        }
        self.places.insert(path.into(), place);
    }
}

impl<'a> Paths<'a> {
    pub(super) fn new(scan: &'a Scan) -> Self {
        Self {
            scan,
            known: RefCell::default(),
        }
    }

    /// The entry of a name whose directory may be spelled through symbolic links
    /// (`/lib/x` for `/usr/lib/x`); the name itself is not followed.
    pub(super) fn entry(&self, path: &[u8]) -> Option<usize> {
        let path = trimmed(path);
        if let Some(place) = self.scan.find(path) {
            return Some(place);
        }
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        self.scan.find(&self.child(parent, name))
    }

    /// The path of an entry's child.
    fn child(&self, parent: usize, name: &[u8]) -> Vec<u8> {
        let parent = self.scan.entries.path(parent);
        match parent.is_empty() {
            true => name.to_vec(),
            false => [&parent, &b"/"[..], name].concat(),
        }
    }

    /// The directory that a path leads to.
    pub(super) fn directory(&self, path: &[u8]) -> Option<usize> {
        if let Some(known) = self.known.borrow().places.get(path) {
            return *known;
        }
        let place = self
            .follow(path)
            .filter(|&place| self.scan.entries.is_directory(place));
        self.known.borrow_mut().add(path, place);
        place
    }

    /// What a path leads to in the end, all symbolic links followed within the root.
    pub(super) fn follow(&self, path: &[u8]) -> Option<usize> {
        let mut rest = Cow::Borrowed(path);
        let mut position = 0;
        let mut at = self.scan.find(b"")?;
        let mut followed = 0;
        while position < rest.len() {
            let name = rest[position..].split(|&byte| byte == b'/').next()?;
            let after = (position + name.len() + 1).min(rest.len());
            let next = match name {
                b"" | b"." => at,
                // The root is above itself.
                b".." => self.scan.entries.parent(at).unwrap_or(at),
                _ => self.scan.find(&self.child(at, name))?,
            };
            if let Some(target) = self.scan.entries.target(next) {
                followed += 1;
                if followed > FOLLOWED_MAX {
                    return None;
                }
                if target.starts_with(b"/") {
                    at = self.scan.find(b"")?;
                }
                rest = Cow::Owned([target, &b"/"[..], &rest[after..]].concat());
                position = 0;
            } else {
                (at, position) = (next, after);
            }
        }
        Some(at)
    }

    /// What a symbolic link leads to in the end.
    pub(super) fn target(&self, link: usize) -> Option<usize> {
        self.follow(&self.scan.entries.path(link))
    }
}

/// A path as packages write it, without slashes at its ends and dots at its beginning.
fn trimmed(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let Some(rest) = path.strip_prefix(b"/").or(path.strip_prefix(b"./")) {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    if path == b"." { b"" } else { path }
}

/// The parent's path and the last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
