//! From image to tree, trusting nothing.
//!
//! Every offset is checked, nothing recurses, each directory is read once, and what
//! an image can say several times over (shared attributes, overlapping targets of
//! links) is charged to a budget.

mod entries;
mod layout;
mod xattrs;

use std::collections::{HashMap, HashSet};

use crate::fsverity::ObjectId;
use crate::limits;
use crate::tree::{Content, Device, DirectoryId, Leaf, LeafId, MAX_DEPTH, Metadata, Tree};

use super::error::ReadError;
use super::format::{self, DataLayout, FileType};
use super::survey::show;
use entries::Entry;
use layout::{Image, RawInode};
use xattrs::RawXattrs;

/// The tree in an image of format V1, or of V0, which differs in its header only.
///
/// Made for bytes that nobody vouches for: it never panics, and its time and
/// memory are bounded by the length of the image. An image that [`super::write`]
/// would not have written is mostly refused, but not always: whoever needs to know
/// compares digests.
pub fn read(image: &[u8]) -> Result<Tree, ReadError> {
    let image = Image::open(image)?;
    let mut reader = Reader::new(&image, Vec::new());
    let root = image.root_nid();
    reader.read_tree(root, root)?;
    reader.check_links()?;
    Ok(reader.tree)
}

/// One directory of an image with all below it, as the root of a tree; `None`
/// where the image has no directory of that name in its root.
///
/// What lies elsewhere is not looked at, so a file may have fewer names here
/// than its link count says. Else as [`read`], in time and memory that the
/// directory bounds.
pub fn read_top_directory(image: &[u8], name: &[u8]) -> Result<Option<Tree>, ReadError> {
    let image = Image::open(image)?;
    let root_nid = image.root_nid();
    let in_root = |fault: Fault| fault.at(image.len(), show(&[]));
    let root = image.inode(root_nid).map_err(in_root)?;
    if root.file_type != FileType::Directory {
        return Err(in_root(Fault::Invalid("the root is no directory")));
    }
    let entries = entries::read(&image, &root, root_nid).map_err(in_root)?;
    let wanted = |entry: &&Entry<'_>| entry.name == name && entry.file_type == FileType::Directory;
    let Some(entry) = entries.iter().find(wanted) else {
        return Ok(None);
    };
    let mut reader = Reader::new(&image, vec![entry.name]);
    reader.read_tree(entry.nid, root_nid)?;
    Ok(Some(reader.tree))
}

/// Why something can't be read, before it is known of which path.
#[derive(Debug)]
enum Fault {
    OutOfBounds {
        what: &'static str,
        offset: u64,
        length: u64,
    },
    Invalid(&'static str),
    Amplification,
}

impl Fault {
    fn at(self, image: usize, path: String) -> ReadError {
        match self {
            Self::OutOfBounds {
                what,
                offset,
                length,
            } => ReadError::OutOfBounds {
                path,
                what,
                offset,
                length,
                image,
            },
            Self::Invalid(problem) => ReadError::Invalid { path, problem },
            Self::Amplification => ReadError::Amplification { path, image },
        }
    }
}

/// How many bytes may still be taken from places that others may share.
struct Budget(u64);

impl Budget {
    fn new(image: usize) -> Self {
        const FLOOR: u64 = 64 << 20;
        Self((image as u64).saturating_mul(16).saturating_add(FLOOR))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        self.0 = self
            .0
            .checked_sub(bytes as u64)
            .ok_or(Fault::Amplification)?;
        Ok(())
    }
}

/// A directory that is not read to its end yet.
struct Open<'a> {
    inode: RawInode,
    name: &'a [u8],
    directory: DirectoryId,
    xattrs: RawXattrs<'a>,
    entries: std::vec::IntoIter<Entry<'a>>,
    subdirectories: u32,
    /// Some of its files turned out to be whiteouts.
    has_whiteouts: bool,
}

/// A leaf that has a place in the table.
struct Known {
    id: LeafId,
    /// How many of its names are still to come.
    links_left: u32,
    /// Its first name, if there are to be more.
    path: String,
}

struct Reader<'a, 'i> {
    image: &'i Image<'a>,
    /// The path of the tree's root in the image; empty for all of it.
    above: Vec<&'a [u8]>,
    tree: Tree,
    open: Vec<Open<'a>>,
    /// By the number of the inode.
    leaves: HashMap<u64, Known>,
    directories: HashSet<u64>,
    directory_bytes: u64,
    budget: Budget,
}

impl<'a, 'i> Reader<'a, 'i> {
    fn new(image: &'i Image<'a>, above: Vec<&'a [u8]>) -> Self {
        Self {
            image,
            above,
            tree: Tree::default(),
            open: Vec::new(),
            leaves: HashMap::new(),
            directories: HashSet::new(),
            directory_bytes: 0,
            budget: Budget::new(image.len()),
        }
    }

    /// Reads the directory `root`, which is in `parent`, to the tree's root.
    fn read_tree(&mut self, root: u64, parent: u64) -> Result<(), ReadError> {
        self.open_directory(root, parent, b"")
            .map_err(|fault| self.error(fault, None))?;
        loop {
            let Some(top) = self.open.last_mut() else {
                return Ok(());
            };
            if let Some(entry) = top.entries.next() {
                self.read_entry(&entry)
                    .map_err(|fault| self.error(fault, Some(entry.name)))?;
                continue;
            }
            self.close_directory()
                .map_err(|fault| self.error(fault, None))?;
        }
    }

    /// Whether the innermost open directory is the root of the image.
    fn is_at_top(&self) -> bool {
        self.above.is_empty() && self.open.len() == 1
    }

    /// The error of a fault in the innermost open directory, or at a name in it.
    fn error(&self, fault: Fault, name: Option<&[u8]>) -> ReadError {
        fault.at(self.image.len(), self.path(name))
    }

    fn path(&self, name: Option<&[u8]>) -> String {
        let open = self.open.iter().skip(1).map(|open| open.name);
        let above = self.above.iter().copied();
        show(&above.chain(open).chain(name).collect::<Vec<_>>())
    }

    fn open_directory(&mut self, nid: u64, parent: u64, name: &'a [u8]) -> Result<(), Fault> {
        let inode = self.image.inode(nid)?;
        if inode.file_type != FileType::Directory {
            return Err(Fault::Invalid(
                "an entry for a directory leads to something else",
            ));
        }
        if !self.directories.insert(nid) {
            return Err(Fault::Invalid("a directory has two names"));
        }
        if self.above.len() + self.open.len() > MAX_DEPTH {
            return Err(Fault::Invalid("the directories nest too deep"));
        }
        // Directories can't share blocks, so all of them fit the image.
        self.directory_bytes = self.directory_bytes.saturating_add(inode.size);
        if self.directory_bytes > self.image.len() as u64 {
            return Err(Fault::Amplification);
        }
        let entries = entries::read(self.image, &inode, parent)?;
        let xattrs = RawXattrs::read(self.image, &inode, &mut self.budget)?;
        // Its metadata comes when all of its entries are known.
        let directory = match self.open.last() {
            Some(parent) => self
                .tree
                .put_directory(parent.directory, name, Metadata::default()),
            None => DirectoryId::ROOT,
        };
        self.open.push(Open {
            inode,
            name,
            directory,
            xattrs,
            entries: entries.into_iter(),
            subdirectories: 0,
            has_whiteouts: false,
        });
        Ok(())
    }

    /// Ends the innermost open directory, whose entries are all read.
    fn close_directory(&mut self) -> Result<(), Fault> {
        let is_root = self.is_at_top();
        let Some(top) = self.open.last_mut() else {
            return Err(Fault::Invalid("there is no root"));
        };
        if top.inode.links != top.subdirectories.saturating_add(2) {
            return Err(Fault::Invalid("the link count of the directory is wrong"));
        }
        if is_root {
            top.xattrs.take_opaque();
        }
        if top.has_whiteouts {
            top.xattrs.take_whiteouts_marks();
        }
        let xattrs = std::mem::take(&mut top.xattrs);
        let metadata = Metadata {
            xattrs: xattrs.into_tree()?,
            ..top.inode.metadata.clone()
        };
        self.tree.set_directory_metadata(top.directory, metadata);
        self.open.pop();
        Ok(())
    }

    fn read_entry(&mut self, entry: &Entry<'a>) -> Result<(), Fault> {
        let in_root = self.is_at_top();
        let Some(top) = self.open.last_mut() else {
            return Ok(());
        };
        if entry.file_type == FileType::Directory {
            top.subdirectories += 1;
            let parent = top.inode.nid;
            return self.open_directory(entry.nid, parent, entry.name);
        }
        if let Some(known) = self.leaves.get_mut(&entry.nid) {
            known.links_left = known.links_left.checked_sub(1).ok_or(Fault::Invalid(
                "the inode has more names than its link count says",
            ))?;
            self.tree.put_leaf(top.directory, entry.name, known.id);
            return Ok(());
        }
        let inode = self.image.inode(entry.nid)?;
        if inode.file_type != entry.file_type {
            return Err(Fault::Invalid(
                "the directory and the inode differ on its type",
            ));
        }
        if in_root && is_stub(&inode, entry.name) {
            return Ok(());
        }
        self.read_leaf(inode, entry.name)
    }

    fn read_leaf(&mut self, inode: RawInode, name: &'a [u8]) -> Result<(), Fault> {
        let mut xattrs = RawXattrs::read(self.image, &inode, &mut self.budget)?;
        let path = if inode.links > 1 {
            self.path(Some(name))
        } else {
            String::new()
        };
        let Some(top) = self.open.last_mut() else {
            return Ok(());
        };
        let is_whiteout = inode.file_type == FileType::Regular
            && inode.size == 0
            && top.xattrs.has_whiteouts_marks()
            && xattrs.take_whiteout_marks();
        let content = if is_whiteout {
            top.has_whiteouts = true;
            Content::CharacterDevice(Device::WHITEOUT)
        } else {
            read_content(self.image, &inode, &mut xattrs, &mut self.budget)?
        };
        let metadata = Metadata {
            xattrs: xattrs.into_tree()?,
            ..inode.metadata
        };
        let id = self.tree.add_leaf(Leaf { metadata, content });
        let links_left = inode
            .links
            .checked_sub(1)
            .ok_or(Fault::Invalid("an inode with a name has no link"))?;
        self.leaves.insert(
            inode.nid,
            Known {
                id,
                links_left,
                path,
            },
        );
        self.tree.put_leaf(top.directory, name, id);
        Ok(())
    }

    fn check_links(&self) -> Result<(), ReadError> {
        // The one that is met first in the image, so that the message is always the same.
        let lacking = self.leaves.values().filter(|known| known.links_left > 0);
        match lacking.min_by_key(|known| known.id) {
            None => Ok(()),
            Some(known) => Err(ReadError::Invalid {
                path: known.path.clone(),
                problem: "the inode has fewer names than its link count says",
            }),
        }
    }
}

/// Whether this is one of the devices that hide the object store.
fn is_stub(inode: &RawInode, name: &[u8]) -> bool {
    inode.file_type == FileType::CharacterDevice
        && inode.union_field == 0
        && format::STUB_NAMES.iter().any(|stub| stub == name)
}

fn read_content(
    image: &Image<'_>,
    inode: &RawInode,
    xattrs: &mut RawXattrs<'_>,
    budget: &mut Budget,
) -> Result<Content, Fault> {
    let device = Device::from_raw(inode.union_field.into());
    match inode.file_type {
        FileType::Regular => read_regular(image, inode, xattrs),
        FileType::Symlink => {
            if !(1..=limits::SYMLINK as u64).contains(&inode.size) {
                return Err(Fault::Invalid(
                    "a symbolic link has no target, or an endless one",
                ));
            }
            let target = image.content(inode)?.concat();
            budget.charge(target.len())?;
            if target.contains(&0) {
                return Err(Fault::Invalid("the target of a symbolic link has a NUL"));
            }
            Ok(Content::Symlink(target.into()))
        }
        FileType::CharacterDevice if device == Device::WHITEOUT => Err(Fault::Invalid(
            "a whiteout would delete the name instead of being shown",
        )),
        FileType::CharacterDevice => Ok(Content::CharacterDevice(device)),
        FileType::BlockDevice => Ok(Content::BlockDevice(device)),
        FileType::Fifo => Ok(Content::Fifo),
        FileType::Socket => Ok(Content::Socket),
        FileType::Directory => Err(Fault::Invalid("a directory is no leaf")),
    }
}

fn read_regular(
    image: &Image<'_>,
    inode: &RawInode,
    xattrs: &mut RawXattrs<'_>,
) -> Result<Content, Fault> {
    if let Some(id) = xattrs.take_object()? {
        return Ok(Content::Object {
            id,
            size: inode.size,
        });
    }
    if inode.layout == DataLayout::ChunkBased {
        return Err(Fault::Invalid(
            "a file has neither content nor the digest of an object",
        ));
    }
    if inode.size > limits::INLINE as u64 {
        return Err(Fault::Invalid(
            "a file of that length can't be inside of an image",
        ));
    }
    Ok(Content::Inline(image.content(inode)?.concat().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump;

    const TREE: &[u8] = b"\
/ 0 40755 3 0 0 0 1.0 - - -
/x 0 40755 4 0 0 0 1.0 - - -
/x/aaaa 0 40755 2 0 0 0 1.0 - - -
/x/bbbb 0 40755 2 0 0 0 1.0 - - -
/x/cccc 1 100644 2 0 0 0 1.0 - c -
/x/dddd 0 @120000 - - - - 0.0 /x/cccc - -
/x/eeee 1 100644 1 0 0 0 1.0 - e -
";

    /// The image of [`TREE`], and where the entries of `/x` are in it: two for
    /// itself and the root, then the five names.
    fn image() -> (Vec<u8>, usize) {
        let bytes = super::super::write(&dump::parse(TREE).unwrap()).unwrap();
        let image = Image::open(&bytes).unwrap();
        let root = image.inode(image.root_nid()).unwrap();
        let entries = entries::read(&image, &root, root.nid).unwrap();
        let x = entries.iter().find(|entry| entry.name == b"x").unwrap();
        let x = image.inode(x.nid).unwrap();
        let at = usize::try_from(x.xattrs.0 + x.xattrs.1).unwrap();
        assert_eq!(&bytes[at + 7 * 12..][..11], b"...aaaabbbb");
        (bytes, at)
    }

    /// The message for an image in which the entry of one name leads to where that
    /// of another one does.
    fn redirected(name: usize, to: usize) -> String {
        let (mut bytes, at) = image();
        bytes.copy_within(at + to * 12..at + to * 12 + 8, at + name * 12);
        read(&bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_with_two_names_is_refused() {
        assert_eq!(redirected(3, 2), "\"/x/bbbb\": a directory has two names");
    }

    #[test]
    fn a_directory_that_holds_itself_is_refused() {
        assert_eq!(redirected(3, 0), "\"/x/bbbb\": a directory has two names");
        assert_eq!(redirected(3, 1), "\"/x/bbbb\": a directory has two names");
    }

    #[test]
    fn more_or_fewer_names_than_links_are_refused() {
        let more = "\"/x/eeee\": the inode has more names than its link count says";
        assert_eq!(redirected(6, 4), more);
        let fewer = "\"/x/cccc\": the inode has fewer names than its link count says";
        assert_eq!(
            redirected(5, 6),
            "\"/x/eeee\": the inode has more names than its link count says"
        );
        let (mut bytes, at) = image();
        let nid = u64::from_le_bytes(bytes[at + 4 * 12..][..8].try_into().unwrap());
        let links = usize::try_from(nid * format::SLOT).unwrap() + 6;
        bytes[links] = 3;
        assert_eq!(read(&bytes).unwrap_err().to_string(), fewer);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_refused() {
        assert_eq!(
            redirected(2, 6),
            "\"/x/aaaa\": an entry for a directory leads to something else"
        );
    }

    #[test]
    fn names_out_of_order_are_refused() {
        let (mut bytes, at) = image();
        bytes[at + 7 * 12 + 3] = b'c';
        let error = read(&bytes).unwrap_err().to_string();
        assert_eq!(error, "\"/x\": the names in the directory are not in order");
    }
}
