//! The entries of a directory, in blocks.

use std::ops::Range;

use super::format::{self, FileType};

/// An entry, also those for the directory itself and the one above.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// Place of the inode in the plan.
    pub(super) inode: usize,
    pub(super) file_type: FileType,
}

/// A directory's entries in order, and how they fall into blocks.
#[derive(Debug, Default)]
pub(super) struct Listing<'a> {
    entries: Vec<Entry<'a>>,
    /// Ends of the blocks in `entries`.
    blocks: Vec<usize>,
    tail_len: u64,
}

impl<'a> Listing<'a> {
    /// Sorts the entries by name and fills blocks greedily. What is left goes
    /// behind the inode, unless it is more than half a block.
    pub(super) fn new(mut entries: Vec<Entry<'a>>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.name);
        let mut blocks = Vec::new();
        let mut filled = 0;
        for (index, entry) in entries.iter().enumerate() {
            let length = format::DIRENT_LEN + entry.name.len() as u64;
            filled += length;
            if filled > format::BLOCK {
                blocks.push(index);
                filled = length;
            }
        }
        if filled > format::MAX_DIRECTORY_TAIL {
            blocks.push(entries.len());
            filled = 0;
        }
        Self {
            entries,
            blocks,
            tail_len: filled,
        }
    }

    /// How many blocks are full, or as good as.
    pub(super) fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Bytes of the entries behind the inode.
    pub(super) fn tail_len(&self) -> u64 {
        self.tail_len
    }

    /// The links of the directory: from above, from itself, and from those below.
    pub(super) fn links(&self) -> u32 {
        let is_directory = |entry: &&Entry| entry.file_type == FileType::Directory;
        let count = self.entries.iter().filter(is_directory).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Appends the entries behind the inode; `nid` gives the number of an inode.
    pub(super) fn encode_tail(&self, nid: impl Fn(usize) -> u64, out: &mut Vec<u8>) {
        let start = self.blocks.last().copied().unwrap_or(0);
        self.encode_block(start..self.entries.len(), nid, out);
    }

    /// Appends the blocks, each padded to its full length.
    pub(super) fn encode_blocks(&self, nid: impl Fn(usize) -> u64, out: &mut Vec<u8>) {
        let mut start = 0;
        for &end in &self.blocks {
            self.encode_block(start..end, &nid, out);
            super::encode::pad(out, format::BLOCK);
            start = end;
        }
    }

    fn encode_block(&self, block: Range<usize>, nid: impl Fn(usize) -> u64, out: &mut Vec<u8>) {
        let entries = &self.entries[block];
        let mut name_at = entries.len() as u64 * format::DIRENT_LEN;
        for entry in entries {
            out.extend(nid(entry.inode).to_le_bytes());
            let [low, high, ..] = name_at.to_le_bytes();
            out.extend([low, high, entry.file_type.entry_type(), 0]);
            name_at += entry.name.len() as u64;
        }
        for entry in entries {
            out.extend_from_slice(entry.name);
        }
    }
}
