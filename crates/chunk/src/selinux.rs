//! SELinux labels from the policy that is in the root itself.

use std::io;

use hull_erofs::ObjectId;
use hull_erofs::selinux::{self, LabelError};
use hull_erofs::tree::{Content, DirectoryId, Entry as Found, Leaf, Tree};

use crate::scan::{Entries, Kind, Scan};

/// Labels that cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum SelinuxError {
    /// Nothing says which policy there is.
    #[error(
        "labels cannot be computed: /etc/selinux/config of the root names no policy; leave --selinux out \
         to keep the labels that files have"
    )]
    NoPolicy,
    /// The policy.
    #[error(transparent)]
    Policy(#[from] LabelError<io::Error>),
}

/// Gives each entry the label that the policy of the root has for its path, in place of the one that it has.
///
/// Of several names of one inode the first one counts.
pub fn label(scan: &mut Scan) -> Result<(), SelinuxError> {
    let mut tree = to_tree(&scan.entries);
    let read = |id: &ObjectId, size: u64| read(scan, id, size);
    if !selinux::label(&mut tree, read)? {
        return Err(SelinuxError::NoPolicy);
    }
    for place in 0..scan.entries.len() {
        let labelled = match tree.lookup(&scan.entries.path(place)) {
            Some(Found::Directory(directory)) => directory.metadata().xattrs,
            Some(Found::Leaf(_, leaf)) => leaf.metadata.xattrs,
            None => continue,
        };
        scan.entries.set_xattrs(place, labelled);
    }
    first_names_count(&mut scan.entries);
    Ok(())
}

/// The tree of these entries. A file's content is an object whose name is the place of its entry.
fn to_tree(entries: &Entries) -> Tree {
    let mut tree = Tree::default();
    for (place, entry) in entries.iter().enumerate() {
        if entry.path.is_empty() {
            tree.set_directory_metadata(DirectoryId::ROOT, entry.metadata);
            continue;
        }
        let slash = entry.path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match slash {
            Some(slash) => (&entry.path[..slash], &entry.path[slash + 1..]),
            None => (&[][..], &entry.path[..]),
        };
        // A directory comes before what is in it.
        let Some(parent) = tree.directory(parent).map(|parent| parent.id()) else {
            continue;
        };
        let (kind, metadata) = (&entry.kind, entry.metadata);
        if *kind == Kind::Directory {
            tree.put_directory(parent, name, metadata);
            continue;
        }
        let first = entries.first_name(place).filter(|&first| first != place);
        let known = first.and_then(|first| tree.lookup(&entries.path(first)));
        let leaf = match known {
            Some(Found::Leaf(known, _)) => known,
            _ => tree.add_leaf(Leaf {
                metadata,
                content: content(kind, place),
            }),
        };
        tree.put_leaf(parent, name, leaf);
    }
    tree
}

fn content(kind: &Kind, place: usize) -> Content {
    match kind {
        Kind::Regular(size) => Content::Object {
            id: name_of(place),
            size: *size,
        },
        Kind::Symlink(target) => Content::Symlink(target.clone()),
        Kind::CharacterDevice(device) => Content::CharacterDevice(*device),
        Kind::BlockDevice(device) => Content::BlockDevice(*device),
        Kind::Fifo | Kind::Directory => Content::Fifo,
    }
}

fn name_of(place: usize) -> ObjectId {
    let mut bytes = [0; ObjectId::LEN];
    bytes[..8].copy_from_slice(&(place as u64).to_le_bytes());
    ObjectId::from_bytes(bytes)
}

fn read(scan: &Scan, id: &ObjectId, size: u64) -> io::Result<Vec<u8>> {
    let place = id
        .as_bytes()
        .first_chunk()
        .map(|bytes| u64::from_le_bytes(*bytes));
    let place = place.and_then(|place| usize::try_from(place).ok());
    let place = place.filter(|&place| place < scan.entries.len());
    let place = place.ok_or(io::ErrorKind::NotFound)?;
    let bytes = scan.read_start(&scan.entries.path(place), size)?;
    bytes.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn first_names_count(entries: &mut Entries) {
    for place in 0..entries.len() {
        if let Some(first) = entries.first_name(place) {
            entries.set_xattrs(place, entries.xattrs(first));
        }
    }
}
