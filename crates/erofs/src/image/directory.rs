//! The entries of a directory, in blocks.

use std::iter::Peekable;

use crate::tree::{Directory, Entries, Node};

use super::format::{self, FileType};

/// What a name in a directory of the image leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// The directory itself.
    This,
    /// The one above.
    Above,
    /// In the root: a device that hides a directory of the object store.
    Stub,
    /// What the tree has there.
    Node(Node<'a>),
}

/// The names of a directory of the image in their order: those of the tree, and
/// those that the image adds.
#[derive(Debug)]
pub(super) struct Names<'a> {
    own: Peekable<Entries<'a>>,
    /// Of those that the image adds: which is next, and how many there are.
    added: usize,
    added_end: usize,
}

/// Those that each directory has.
const DOTS: [(&[u8], Target<'static>); 2] = [(b".", Target::This), (b"..", Target::Above)];

impl<'a> Names<'a> {
    /// The root has devices for names that the tree does not use.
    pub(super) fn new(directory: Directory<'a>, is_root: bool) -> Self {
        let stubs = if is_root { format::STUB_NAMES.len() } else { 0 };
        Self {
            own: directory.entries().peekable(),
            added: 0,
            added_end: DOTS.len() + stubs,
        }
    }

    /// The next one that the image adds. All of them are in order.
    fn next_added(&self) -> Option<(&'static [u8], Target<'static>)> {
        if self.added == self.added_end {
            return None;
        }
        Some(match self.added.checked_sub(DOTS.len()) {
            None => DOTS[self.added],
            Some(stub) => (&format::STUB_NAMES[stub], Target::Stub),
        })
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = (&'a [u8], Target<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((name, target)) = self.next_added() {
            let own = self.own.peek().map(|(own, _)| *own);
            if own.is_none_or(|own| name <= own) {
                self.added += 1;
            }
            if own.is_none_or(|own| name < own) {
                return Some((name, target));
            }
        }
        let (name, node) = self.own.next()?;
        Some((name, Target::Node(node)))
    }
}

/// How the entries of a directory fall into blocks: these are filled greedily. What is
/// left goes behind the inode, unless it is more than half a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extent {
    /// How many blocks are full, or as good as.
    pub(super) blocks: u64,
    /// Bytes of the entries behind the inode.
    pub(super) tail: u64,
}

impl Extent {
    /// Adds the entry with this name behind the others.
    pub(super) fn add(&mut self, name: &[u8]) {
        self.tail += entry_len(name);
        if self.tail > format::BLOCK {
            self.blocks += 1;
            self.tail = entry_len(name);
        }
    }

    /// Called when all were added.
    pub(super) fn close(&mut self) {
        if self.tail > format::MAX_DIRECTORY_TAIL {
            self.blocks += 1;
            self.tail = 0;
        }
    }
}

fn entry_len(name: &[u8]) -> u64 {
    format::DIRENT_LEN + name.len() as u64
}

/// An entry, also those for the directory itself and the one above.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// Number of the inode.
    pub(super) nid: u64,
    pub(super) file_type: FileType,
}

/// Takes as many entries as go into one block.
pub(super) fn fill_block<'a, I>(entries: &mut Peekable<I>, block: &mut Vec<Entry<'a>>)
where
    I: Iterator<Item = Entry<'a>>,
{
    block.clear();
    let mut filled = 0;
    while let Some(entry) = entries.next_if(|entry| filled + entry_len(entry.name) <= format::BLOCK)
    {
        filled += entry_len(entry.name);
        block.push(entry);
    }
}

/// Appends the entries of one block, without padding.
pub(super) fn encode_block(entries: &[Entry<'_>], out: &mut Vec<u8>) {
    let mut name_at = entries.len() as u64 * format::DIRENT_LEN;
    for entry in entries {
        out.extend(entry.nid.to_le_bytes());
        let [low, high, ..] = name_at.to_le_bytes();
        out.extend([low, high, entry.file_type.entry_type(), 0]);
        name_at += entry.name.len() as u64;
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}
