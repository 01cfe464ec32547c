//! Where everything in an image goes.

use hull_sys::spill::SpilledVec;

use super::attributes::Attributes;
use super::error::WriteError;
use super::format;
use super::inode::{Inode, time_key};
use super::order::{Order, Source};
use super::sharing::Sharing;
use super::survey::show;

/// An image before its bytes.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) order: Order<'a>,
    pub(super) sharing: Sharing<'a>,
    /// What inodes refer to shared attributes by: their distance, in units of
    /// [`format::XATTR_UNIT`], from the block that the table starts in.
    pub(super) shared_at: Vec<u32>,
    /// The earliest time of all inodes, which is the time of compact ones.
    pub(super) build_time: (u64, u32),
    /// Where each inode starts.
    pub(super) offsets: SpilledVec<u64>,
    /// Where the inodes end and the table of shared attributes starts.
    pub(super) inodes_end: u64,
    /// Where that ends and the blocks of inodes start.
    pub(super) blocks_start: u64,
    /// Length of the image.
    pub(super) end: u64,
}

impl<'a> Plan<'a> {
    /// Plans the image of inodes in order.
    pub(super) fn new(mut order: Order<'a>) -> Result<Self, WriteError> {
        let sharing = Sharing::find(&mut order);
        let times = order
            .sources
            .iter()
            .map(|source| time_key(order.metadata(source).mtime));
        let build_time = times.min().unwrap_or_default();
        let mut plan = Self {
            order,
            sharing,
            shared_at: Vec::new(),
            build_time,
            offsets: SpilledVec::default(),
            inodes_end: 0,
            blocks_start: 0,
            end: 0,
        };
        let blocks = plan.place_inodes()?;
        let table_end = plan.place_shared().ok_or(WriteError::TooLarge)?;
        plan.blocks_start = table_end.next_multiple_of(format::BLOCK);
        plan.end = plan.blocks_start + blocks * format::BLOCK;
        match u32::try_from(plan.end / format::BLOCK) {
            Ok(_) => Ok(plan),
            Err(_) => Err(WriteError::TooLarge),
        }
    }

    /// An inode with its attributes, but for where its blocks start; none if the
    /// attributes do not fit.
    pub(super) fn inode(
        &self,
        source: Source,
        attributes: &mut Attributes<'a>,
    ) -> Option<Inode<'a>> {
        attributes.take_all(&self.order, &self.sharing, source);
        let mut inode = self.order.inode(source);
        inode.xattr_count = attributes.count()?;
        inode.xattr_len = attributes.encoded_len();
        inode.extended = inode.needs_extended(self.build_time);
        Some(inode)
    }

    /// Returns how many blocks the inodes have.
    fn place_inodes(&mut self) -> Result<u64, WriteError> {
        let mut blocks = 0;
        let mut position = (format::SUPERBLOCK_AT + format::SUPERBLOCK_LEN) as u64;
        let mut attributes = Attributes::default();
        for (place, source) in (0..).zip(self.order.sources.iter()) {
            let Some(inode) = self.inode(source, &mut attributes) else {
                return Err(WriteError::TooManyXattrs {
                    path: show(&self.order.path_of(place)),
                });
            };
            let offset = inode.place(position);
            self.offsets.push(offset);
            position = offset + inode.encoded_len();
            blocks += inode.block_count();
        }
        self.inodes_end = position.next_multiple_of(format::SLOT);
        Ok(blocks)
    }

    /// Returns where the table ends.
    fn place_shared(&mut self) -> Option<u64> {
        let mut position = self.inodes_end;
        let block_start = position - position % format::BLOCK;
        for xattr in &self.sharing.table {
            let units = (position - block_start) / format::XATTR_UNIT;
            self.shared_at.push(u32::try_from(units).ok()?);
            position += xattr.encoded_len();
        }
        Some(position)
    }
}
