//! From the entries of layers to one tree.
//!
//! A layer is applied in two passes: first all its whiteouts, to what the lower
//! layers left, then its other entries in their order. So a whiteout hides what
//! is below wherever it stands in its layer, and never what is beside it.
//!
//! Where the specification leaves a choice, the tree is what umoci unpacks:
//! an entry below a symbolic link goes to where the link leads inside the
//! root; a directory that has no entry of its own is root's, with mode 0755
//! (and the time 0, for the tree depends on nothing but the layers);
//! a directory on a directory brings new metadata and keeps the entries; the
//! metadata of a hard link's entry is not used; all attributes are kept, also
//! overlay's own (the image's writer escapes those), and a character device 0/0
//! is a device.

use std::borrow::Cow;

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, DirectoryId, Leaf, LeafId, Metadata, Node, Tree};
use hull_store::Store;
use hull_sys::spill::SpilledVec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::entry::{ENTRIES_MAX, Entry, ImageBudget, Item, METADATA_MAX};
use super::parts::{LENGTHS, Lengths, for_each_part};
use super::path::{DEPTH_MAX, EntryName, EntryPath, NAME_MAX, PATH_MAX};
use super::record::RecordError;
use super::whiteout::Whiteout;

/// How many symbolic links one path may lead through, as in Linux.
const FOLLOWED_MAX: usize = 40;

/// The bytes of paths that symbolic links are put in front of, in all of an image: 32 for each of the most entries. Each
/// component is looked up, and may be far from the last one on disk.
const FOLLOWED_BYTES_MAX: u64 = 128 << 20;

/// Why layers cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The entries of a layer cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// More than an image may have.
    #[error(
        "the layers of the image have too many {what}, each layer counted as often as it is listed; \
         an image may have {ENTRIES_MAX} entries, and {METADATA_MAX} bytes of metadata"
    )]
    TooMuch {
        /// Of what.
        what: &'static str,
    },
    /// An entry does not fit what is below it.
    #[error("entry {entry} of the layer with record {record}: {reason}")]
    Refused {
        /// The layer.
        record: ObjectId,
        /// The entry.
        entry: EntryName,
        /// Why.
        reason: Refusal,
    },
}

/// Why an entry does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A symbolic link on its way leads up from the root.
    #[error("a symbolic link on its path leads out of the root")]
    Escape,
    /// Links on its way lead to each other.
    #[error("its path leads through more than {FOLLOWED_MAX} symbolic links")]
    Loop,
    /// A symbolic link on its way leads to a file.
    #[error("a symbolic link on its path leads to something that is no directory")]
    NoDirectory,
    /// It would lie deeper, or under a longer path, than an image may have.
    #[error("it would lie deeper than {DEPTH_MAX} directories or {PATH_MAX} bytes")]
    TooDeep,
    /// A directory that a symbolic link makes would have a longer name than an image may have.
    #[error("a symbolic link on its path leads to a name of more than {NAME_MAX} bytes")]
    LongName,
    /// Symbolic links that are long and lead to each other can make each entry cost as much as a layer.
    #[error(
        "the symbolic links that the paths of the image lead through are longer than {FOLLOWED_BYTES_MAX} bytes together"
    )]
    TooMuchFollowed,
    /// A hard link to nothing.
    #[error("its target {0} does not exist at that point; a hard link must follow its target")]
    TargetMissing(EntryName),
    /// A hard link to a directory.
    #[error("its target {0} is a directory, which can't have a hard link")]
    TargetDirectory(EntryName),
    /// A hard link to its own name.
    #[error("it is a hard link to itself")]
    TargetItself,
    /// The root as something else.
    #[error("the root must be a directory")]
    Root,
    /// Long paths can stand for many directories that have no entry.
    #[error("with it the image has more than {ENTRIES_MAX} files and directories")]
    TooMany,
}

/// The tree of an image: its layers' records, the lowest first.
///
/// All layers together may have as much as one.
pub fn merge(store: &Store, layers: &[ObjectId]) -> Result<Tree, MergeError> {
    let budget = ImageBudget::new(ENTRIES_MAX, METADATA_MAX);
    merge_within(store, layers, &budget)
}

pub(super) fn merge_within(
    store: &Store,
    layers: &[ObjectId],
    budget: &ImageBudget,
) -> Result<Tree, MergeError> {
    merge_in_parts(store, layers, budget, LENGTHS)
}

pub(super) fn merge_in_parts(
    store: &Store,
    layers: &[ObjectId],
    budget: &ImageBudget,
    lengths: Lengths,
) -> Result<Tree, MergeError> {
    let mut merger = Merger::default();
    for_each_part(store, layers, budget, lengths, |record, part| {
        merger
            .apply(part)
            .map_err(|(entry, reason)| MergeError::Refused {
                record: *record,
                entry,
                reason,
            })
    })?;
    Ok(merger.finish())
}

/// The layers applied so far.
#[derive(Debug)]
pub struct Merger {
    /// With hidden inodes, which go at the end.
    tree: Tree,
    /// Where the directories of the tree are, by their places.
    locations: SpilledVec<Location>,
    /// The parent that the last entry was put into, and its path: its neighbours follow it.
    last_parent: Option<(Box<[u8]>, DirectoryId)>,
    /// The most directories and leaves, hidden ones among them.
    nodes_max: u64,
    /// The bytes of paths that symbolic links were put in front of.
    followed: u64,
    followed_max: u64,
}

const ROOT: DirectoryId = DirectoryId::ROOT;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Location {
    parent: DirectoryId,
    depth: u32,
    /// Length of the path in bytes, with a slash in front of each component.
    length: u32,
}

/// What a name leads to.
#[derive(Clone, Copy)]
enum Found {
    Directory(DirectoryId),
    Leaf(LeafId),
}

/// What to do about directories that are not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Accept,
}

/// What a directory is like that a layer holds no entry of.
fn implied() -> Metadata {
    Metadata {
        mode: 0o755,
        ..Metadata::default()
    }
}

impl Default for Merger {
    fn default() -> Self {
        let mut tree = Tree::default();
        tree.set_directory_metadata(ROOT, implied());
        let mut merger = Self {
            tree,
            locations: SpilledVec::default(),
            last_parent: None,
            nodes_max: ENTRIES_MAX,
            followed: 0,
            followed_max: FOLLOWED_BYTES_MAX,
        };
        merger.locations.push(Location {
            parent: ROOT,
            depth: 0,
            length: 0,
        });
        merger
    }
}

impl Merger {
    /// Applies one layer on top of the others.
    ///
    /// # Errors
    ///
    /// The first entry that does not fit, and why; the merger is of no use then.
    pub fn apply(&mut self, layer: Vec<Entry>) -> Result<(), (EntryName, Refusal)> {
        for entry in &layer {
            if let Some(whiteout) = Whiteout::at(&entry.path) {
                self.hide(whiteout)
                    .map_err(|reason| (entry.path.to_name(), reason))?;
            }
        }
        self.last_parent = None;
        for entry in layer {
            if Whiteout::at(&entry.path).is_some() {
                continue;
            }
            let Entry {
                path,
                metadata,
                item,
            } = entry;
            self.add(&path, metadata, item)
                .map_err(|reason| (path.to_name(), reason))?;
        }
        Ok(())
    }

    /// The tree of all layers.
    pub fn finish(mut self) -> Tree {
        self.tree.compact();
        self.tree
    }

    fn hide(&mut self, whiteout: Whiteout<'_>) -> Result<(), Refusal> {
        match whiteout {
            Whiteout::Name { directory, name } => {
                if let Some(directory) = self.resolve(directory, Missing::Accept)? {
                    self.tree.remove(directory, name);
                }
            }
            Whiteout::Opaque { directory } => {
                if let Some(directory) = self.resolve(directory, Missing::Accept)? {
                    self.tree.clear(directory);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &EntryPath, metadata: Metadata, item: Item) -> Result<(), Refusal> {
        let Some((parent, name)) = path.split_last() else {
            if item != Item::Directory {
                return Err(Refusal::Root);
            }
            self.tree.set_directory_metadata(ROOT, metadata);
            return Ok(());
        };
        let parent = self.parent(parent)?;
        self.below(parent, name)?;
        match item {
            Item::Directory => match self.get(parent, name) {
                Some(Found::Directory(id)) => self.tree.set_directory_metadata(id, metadata),
                _ => {
                    self.make_directory(parent, name, metadata)?;
                }
            },
            Item::Leaf(content) => {
                self.check_room()?;
                let leaf = self.tree.add_leaf(Leaf { metadata, content });
                self.put(parent, name, leaf);
            }
            Item::HardLink(target) => {
                let leaf = self.link_target(&target, (parent, name))?;
                self.put(parent, name, leaf);
            }
        }
        Ok(())
    }

    /// The directory that an entry goes into; it is made if need be.
    fn parent(&mut self, path: &[u8]) -> Result<DirectoryId, Refusal> {
        if let Some((last, id)) = &self.last_parent
            && **last == *path
        {
            return Ok(*id);
        }
        let id = self
            .resolve(path, Missing::Make)?
            .ok_or(Refusal::NoDirectory)?;
        self.last_parent = Some((path.into(), id));
        Ok(id)
    }

    /// Where a directory with that name would be.
    fn below(&self, parent: DirectoryId, name: &[u8]) -> Result<Location, Refusal> {
        let Location { depth, length, .. } = *self.locations.get(parent.index());
        let length = length as usize + 1 + name.len();
        if depth as usize >= DEPTH_MAX || length > PATH_MAX + 1 {
            return Err(Refusal::TooDeep);
        }
        // Those of entries were looked at when they were read.
        if name.len() > NAME_MAX {
            return Err(Refusal::LongName);
        }
        Ok(Location {
            parent,
            depth: depth + 1,
            length: u32::try_from(length).map_err(|_| Refusal::TooDeep)?,
        })
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if (self.tree.directory_count() + self.tree.leaf_count()) as u64 >= self.nodes_max {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    fn get(&self, directory: DirectoryId, name: &[u8]) -> Option<Found> {
        let found = self.tree.directory_at(directory).get(name)?;
        Some(match found {
            Node::Directory(inner) => Found::Directory(inner.id()),
            Node::Leaf(id) => Found::Leaf(id),
        })
    }

    /// Puts a leaf under a name, in place of what was there.
    fn put(&mut self, parent: DirectoryId, name: &[u8], leaf: LeafId) {
        if self.tree.put_leaf(parent, name, leaf) {
            // It may have been a directory, or a link to one, on the way to the last parent.
            self.last_parent = None;
        }
    }

    fn make_directory(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        metadata: Metadata,
    ) -> Result<DirectoryId, Refusal> {
        let location = self.below(parent, name)?;
        self.check_room()?;
        if self.tree.directory_at(parent).get(name).is_some() {
            self.last_parent = None;
        }
        let id = self.tree.put_directory(parent, name, metadata);
        self.locations.push(location);
        Ok(id)
    }

    /// What a hard link leads to; its last component is not followed.
    fn link_target(
        &mut self,
        target: &EntryPath,
        link: (DirectoryId, &[u8]),
    ) -> Result<LeafId, Refusal> {
        let Some((directory, name)) = target.split_last() else {
            return Err(Refusal::TargetDirectory(target.to_name()));
        };
        let missing = || Refusal::TargetMissing(target.to_name());
        let directory = self
            .resolve(directory, Missing::Accept)?
            .ok_or_else(missing)?;
        if (directory, name) == link {
            return Err(Refusal::TargetItself);
        }
        match self.get(directory, name) {
            Some(Found::Directory(_)) => Err(Refusal::TargetDirectory(target.to_name())),
            Some(Found::Leaf(leaf)) => Ok(leaf),
            None => Err(missing()),
        }
    }

    /// The directory at a path, symbolic links followed inside the root.
    ///
    /// Nothing if there is none and none is to be made. What is made takes the
    /// place of a file, but not of one that a symbolic link leads to.
    fn resolve(&mut self, path: &[u8], missing: Missing) -> Result<Option<DirectoryId>, Refusal> {
        let mut rest = Cow::Borrowed(path);
        let mut position = 0;
        let mut at = ROOT;
        let mut followed = 0;
        while position < rest.len() {
            let component = rest[position..]
                .split(|&byte| byte == b'/')
                .next()
                .unwrap_or_default();
            let after = (position + component.len() + 1).min(rest.len());
            let found = match component {
                b"" | b"." => Found::Directory(at),
                b".." if at == ROOT => return Err(Refusal::Escape),
                b".." => Found::Directory(self.locations.get(at.index()).parent),
                _ => match self.get(at, component) {
                    Some(found) => found,
                    None if missing == Missing::Accept => return Ok(None),
                    None => Found::Directory(self.make_directory(at, component, implied())?),
                },
            };
            let leaf = match found {
                Found::Directory(id) => {
                    (at, position) = (id, after);
                    continue;
                }
                Found::Leaf(leaf) => leaf,
            };
            if let Content::Symlink(target) = &self.tree.leaf(leaf).content {
                followed += 1;
                if followed > FOLLOWED_MAX {
                    return Err(Refusal::Loop);
                }
                if target.starts_with(b"/") {
                    at = ROOT;
                }
                let path = [&target[..], b"/", &rest[after..]].concat();
                self.followed += path.len() as u64;
                if self.followed > self.followed_max {
                    return Err(Refusal::TooMuchFollowed);
                }
                (rest, position) = (Cow::Owned(path), 0);
                continue;
            }
            match missing {
                Missing::Accept => return Ok(None),
                Missing::Make if followed > 0 => return Err(Refusal::NoDirectory),
                Missing::Make => {
                    (at, position) = (self.make_directory(at, component, implied())?, after);
                }
            }
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifo(path: &str) -> Entry {
        Entry {
            path: EntryPath::parse(path.as_bytes()).unwrap(),
            metadata: Metadata::default(),
            item: Item::Leaf(Content::Fifo),
        }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry {
            item: Item::Leaf(Content::Symlink(target.as_bytes().into())),
            ..fifo(path)
        }
    }

    #[test]
    fn a_link_makes_no_name_that_is_too_long() {
        let apply = |length| {
            let target = "A".repeat(length);
            Merger::default().apply(vec![link("l", &target), fifo("l/x")])
        };
        apply(255).unwrap();
        let (entry, reason) = apply(256).unwrap_err();
        assert_eq!(
            (entry.to_string(), reason),
            ("\"l/x\"".into(), Refusal::LongName)
        );
    }

    #[test]
    fn long_links_are_followed_for_so_many_bytes_only() {
        let target = "./".repeat(1000) + "d";
        let entries = [link("l", &target), fifo("l/x"), fifo("y"), fifo("l/z")];
        let apply = |followed_max| {
            let mut merger = Merger {
                followed_max,
                ..Merger::default()
            };
            merger.apply(entries.to_vec())
        };
        apply(2 * 2002).unwrap();
        let (entry, reason) = apply(2 * 2002 - 1).unwrap_err();
        assert_eq!(
            (entry.to_string(), reason),
            ("\"l/z\"".into(), Refusal::TooMuchFollowed)
        );
    }

    #[test]
    fn directories_without_an_entry_count_too() {
        let apply = |nodes_max| {
            let mut merger = Merger {
                nodes_max,
                ..Merger::default()
            };
            merger.apply(vec![fifo("a/b/c/x"), fifo("a/y")])
        };
        apply(6).unwrap();
        let (entry, reason) = apply(5).unwrap_err();
        assert_eq!(
            (entry.to_string(), reason),
            ("\"a/y\"".into(), Refusal::TooMany)
        );
        assert_eq!(apply(3).unwrap_err().1, Refusal::TooMany);
    }
}
