//! Where everything in an image goes.

use crate::tree::{Metadata, Tree};

use super::error::WriteError;
use super::format;
use super::inode::{Inode, time_key};
use super::order;
use super::survey::{Survey, show};
use super::xattr::{self, InodeXattrs, Xattr};

/// An image before its bytes.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// In the order of their numbers.
    pub(super) inodes: Vec<Inode<'a>>,
    /// The attributes that several inodes have alike, in the order of the image.
    pub(super) shared: Vec<Xattr<'a>>,
    /// What inodes refer to those by: their distance, in units of
    /// [`format::XATTR_UNIT`], from the block that the table starts in.
    pub(super) shared_at: Vec<u32>,
    /// Whether any inode has a POSIX ACL.
    pub(super) has_acl: bool,
    /// The earliest time of all inodes, which is the time of compact ones.
    pub(super) build_time: (u64, u32),
    /// Where the inodes end and the table of shared attributes starts.
    pub(super) inodes_end: u64,
    /// Length of the image.
    pub(super) end: u64,
}

impl<'a> Plan<'a> {
    /// Plans the image of a tree; `stub` is the metadata of the devices `00` to `ff`.
    pub(super) fn new(
        tree: &'a Tree,
        survey: &Survey<'a>,
        stub: &'a Metadata,
    ) -> Result<Self, WriteError> {
        let mut inodes = order::inodes(tree, survey, stub);
        let has_acl = inodes.iter().any(|inode| inode.xattrs.has_acl());
        let mut xattrs: Vec<&mut InodeXattrs> =
            inodes.iter_mut().map(|inode| &mut inode.xattrs).collect();
        let shared = xattr::share(&mut xattrs);
        let times = inodes.iter().map(|inode| time_key(inode.metadata.mtime));
        let build_time = times.min().unwrap_or_default();
        for place in 0..inodes.len() {
            if inodes[place].xattrs.count().is_none() {
                return Err(WriteError::TooManyXattrs {
                    path: path_of(&inodes, place),
                });
            }
        }
        let mut plan = Self {
            inodes,
            shared,
            shared_at: Vec::new(),
            has_acl,
            build_time,
            inodes_end: 0,
            end: 0,
        };
        plan.place_inodes();
        let table_end = plan.place_shared().ok_or(WriteError::TooLarge)?;
        plan.place_blocks(table_end);
        plan.check_counts()?;
        Ok(plan)
    }

    fn place_inodes(&mut self) {
        let mut position = (format::SUPERBLOCK_AT + format::SUPERBLOCK_LEN) as u64;
        for inode in &mut self.inodes {
            inode.xattr_count = inode.xattrs.count().unwrap_or_default();
            inode.xattr_len = inode.xattrs.encoded_len();
            inode.extended = inode.needs_extended(self.build_time);
            inode.offset = inode.place(position);
            position = inode.offset + inode.encoded_len();
        }
        self.inodes_end = position.next_multiple_of(format::SLOT);
    }

    /// Returns where the table ends.
    fn place_shared(&mut self) -> Option<u64> {
        let mut position = self.inodes_end;
        let block_start = position - position % format::BLOCK;
        for xattr in &self.shared {
            let units = (position - block_start) / format::XATTR_UNIT;
            self.shared_at.push(u32::try_from(units).ok()?);
            position += xattr.encoded_len();
        }
        Some(position)
    }

    fn place_blocks(&mut self, table_end: u64) {
        let mut position = table_end.next_multiple_of(format::BLOCK);
        for inode in &mut self.inodes {
            inode.blocks_at = position;
            position += inode.block_count() * format::BLOCK;
        }
        self.end = position;
    }

    fn check_counts(&self) -> Result<(), WriteError> {
        let blocks = u32::try_from(self.end / format::BLOCK);
        let inodes = u32::try_from(self.inodes.len());
        match (blocks, inodes) {
            (Ok(_), Ok(_)) => Ok(()),
            _ => Err(WriteError::TooLarge),
        }
    }
}

/// The path that an inode was first met by.
fn path_of(inodes: &[Inode<'_>], mut place: usize) -> String {
    let mut components = Vec::new();
    while place != 0 {
        components.push(inodes[place].name);
        place = inodes[place].parent;
    }
    components.reverse();
    show(&components)
}
