//! An inode of the image: what it holds, how it is laid out, and its bytes.

use crate::tree::{MetadataView, Timestamp};

use super::directory::Extent;
use super::format::{self, DataLayout, FileType};

/// What an inode holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    /// The entries of a directory, which the plan has.
    Directory(Extent),
    /// The content of a regular file.
    Inline(&'a [u8]),
    /// A regular file of that many bytes, which are in an object.
    Object(u64),
    /// The target of a symbolic link.
    Symlink(&'a [u8]),
    /// The number of a device, as the kernel stores it.
    Device(u32),
    /// Nothing at all.
    Nothing,
}

/// An inode as the image holds it, but for the bytes of its attributes and its entries.
#[derive(Debug)]
pub(super) struct Inode<'a> {
    /// Owner and time.
    metadata: MetadataView<'a>,
    mode: u16,
    file_type: FileType,
    pub(super) body: Body<'a>,
    links: u32,
    /// `i_xattr_icount`.
    pub(super) xattr_count: u16,
    /// Bytes behind the inode that the attributes take.
    pub(super) xattr_len: u64,
    /// Whether it takes the longer form.
    pub(super) extended: bool,
    /// Where its blocks start, if it has any.
    pub(super) blocks_at: u64,
}

/// A time as the format holds it and mkcomposefs compares it: those before 1970
/// come last.
pub(super) fn time_key(time: Timestamp) -> (u64, u32) {
    (time.seconds.cast_unsigned(), time.nanoseconds)
}

impl<'a> Inode<'a> {
    /// An inode with one link and no attributes.
    pub(super) fn new(metadata: MetadataView<'a>, file_type: FileType, body: Body<'a>) -> Self {
        Self {
            metadata,
            mode: metadata.mode,
            file_type,
            body,
            links: 1,
            xattr_count: 0,
            xattr_len: 0,
            extended: false,
            blocks_at: 0,
        }
    }

    /// One of the devices `00` to `ff`: owner and time are those of the root.
    pub(super) fn stub(root: MetadataView<'a>) -> Self {
        Self {
            mode: format::STUB_MODE,
            ..Self::new(root, FileType::CharacterDevice, Body::Nothing)
        }
    }

    /// The same with so many links.
    pub(super) fn with_links(self, links: u32) -> Self {
        Self { links, ..self }
    }

    /// `i_size`.
    fn size(&self) -> u64 {
        match self.body {
            Body::Directory(extent) => extent.blocks * format::BLOCK + extent.tail,
            Body::Inline(bytes) | Body::Symlink(bytes) => bytes.len() as u64,
            Body::Object(size) => size,
            Body::Device(_) | Body::Nothing => 0,
        }
    }

    /// Whether the compact form can't hold it; `build_time` is that of compact inodes.
    pub(super) fn needs_extended(&self, build_time: (u64, u32)) -> bool {
        let MetadataView {
            uid, gid, mtime, ..
        } = self.metadata;
        let fits_16 = |number: u32| u16::try_from(number).is_ok();
        time_key(mtime) != build_time
            || ![uid, gid, self.links].into_iter().all(fits_16)
            || u32::try_from(self.size()).is_err()
    }

    /// Bytes of the inode and its attributes.
    fn head_len(&self) -> u64 {
        let inode = if self.extended {
            format::EXTENDED_LEN
        } else {
            format::COMPACT_LEN
        };
        inode + self.xattr_len
    }

    /// A link whose target doesn't fit in one block with the inode has it in a block.
    pub(super) fn is_long_symlink(&self) -> bool {
        matches!(self.body, Body::Symlink(target)
            if self.head_len() + target.len() as u64 >= format::BLOCK)
    }

    fn layout(&self) -> DataLayout {
        match self.body {
            Body::Object(_) => DataLayout::ChunkBased,
            _ if self.tail_len() > 0 => DataLayout::FlatInline,
            _ => DataLayout::FlatPlain,
        }
    }

    /// Bytes behind the inode and its attributes.
    fn tail_len(&self) -> u64 {
        match self.body {
            Body::Directory(extent) => extent.tail,
            Body::Symlink(_) if self.is_long_symlink() => 0,
            Body::Inline(bytes) | Body::Symlink(bytes) => bytes.len() as u64,
            Body::Object(size) => chunk_count(size) * format::HOLE.len() as u64,
            Body::Device(_) | Body::Nothing => 0,
        }
    }

    /// Blocks of its own.
    pub(super) fn block_count(&self) -> u64 {
        match self.body {
            Body::Directory(extent) => extent.blocks,
            Body::Symlink(_) => u64::from(self.is_long_symlink()),
            _ => 0,
        }
    }

    /// Where the inode can start when everything before `position` is taken.
    ///
    /// What is behind an inode must not cross into another block. A symbolic link
    /// must be in one block altogether, even if its target is elsewhere then.
    pub(super) fn place(&self, position: u64) -> u64 {
        let start = position.next_multiple_of(format::SLOT);
        if let Body::Symlink(target) = self.body {
            let length = self.head_len() + target.len() as u64;
            return if start % format::BLOCK + length > format::BLOCK {
                start.next_multiple_of(format::BLOCK)
            } else {
                start
            };
        }
        let tail = start + self.head_len();
        let left_in_block = tail.next_multiple_of(format::BLOCK) - tail;
        if left_in_block != 0 && left_in_block < self.tail_len() {
            start + left_in_block.next_multiple_of(format::SLOT)
        } else {
            start
        }
    }

    /// Bytes from its start to its end.
    pub(super) fn encoded_len(&self) -> u64 {
        self.head_len() + self.tail_len()
    }

    /// Appends the inode without attributes and tail; `number` counts inodes.
    pub(super) fn encode_head(&self, number: u32, out: &mut Vec<u8>) {
        let MetadataView {
            uid, gid, mtime, ..
        } = self.metadata;
        let format = self.layout() as u16 | if self.extended { format::EXTENDED } else { 0 };
        let mode = self.file_type.mode() | (self.mode & !FileType::MODE_MASK);
        out.extend(format.to_le_bytes());
        out.extend(self.xattr_count.to_le_bytes());
        out.extend(mode.to_le_bytes());
        if self.extended {
            out.extend([0; 2]);
            out.extend(self.size().to_le_bytes());
            out.extend(self.union_field().to_le_bytes());
            out.extend(number.to_le_bytes());
            out.extend(uid.to_le_bytes());
            out.extend(gid.to_le_bytes());
            out.extend(mtime.seconds.to_le_bytes());
            out.extend(mtime.nanoseconds.to_le_bytes());
            out.extend(self.links.to_le_bytes());
            out.extend([0; 16]);
        } else {
            // All of these were found to fit; only the lower halves are kept.
            out.extend(&self.links.to_le_bytes()[..2]);
            out.extend(&self.size().to_le_bytes()[..4]);
            out.extend([0; 4]);
            out.extend(self.union_field().to_le_bytes());
            out.extend(number.to_le_bytes());
            out.extend(&uid.to_le_bytes()[..2]);
            out.extend(&gid.to_le_bytes()[..2]);
            out.extend([0; 4]);
        }
    }

    /// `i_u`: a device, the format of chunks, or the first block.
    fn union_field(&self) -> u32 {
        match self.body {
            Body::Device(number) => number,
            Body::Object(size) => chunk_bits(size) - u32::from(format::BLOCK_BITS),
            _ if self.block_count() > 0 => {
                let [b0, b1, b2, b3, ..] = (self.blocks_at / format::BLOCK).to_le_bytes();
                u32::from_le_bytes([b0, b1, b2, b3])
            }
            _ => 0,
        }
    }

    /// Appends what is behind inode and attributes, but for the entries of a directory.
    pub(super) fn encode_tail(&self, out: &mut Vec<u8>) {
        match self.body {
            Body::Symlink(_) if self.is_long_symlink() => {}
            Body::Inline(bytes) | Body::Symlink(bytes) => out.extend_from_slice(bytes),
            Body::Object(size) => {
                (0..chunk_count(size)).for_each(|_| out.extend(format::HOLE));
            }
            Body::Directory(_) | Body::Device(_) | Body::Nothing => {}
        }
    }
}

/// log2 of the length of a chunk: as few chunks as possible, none longer than needed.
fn chunk_bits(size: u64) -> u32 {
    let needed = u64::BITS - size.saturating_sub(1).leading_zeros();
    needed.clamp(u32::from(format::BLOCK_BITS), format::MAX_CHUNK_BITS)
}

fn chunk_count(size: u64) -> u64 {
    size.div_ceil(1 << chunk_bits(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_chunk_up_to_eight_tebibytes() {
        assert_eq!((chunk_bits(0), chunk_count(0)), (12, 0));
        assert_eq!((chunk_bits(1), chunk_count(1)), (12, 1));
        assert_eq!((chunk_bits(4096), chunk_count(4096)), (12, 1));
        assert_eq!((chunk_bits(4097), chunk_count(4097)), (13, 1));
        assert_eq!((chunk_bits(1 << 43), chunk_count(1 << 43)), (43, 1));
        assert_eq!(
            (chunk_bits((1 << 43) + 1), chunk_count((1 << 43) + 1)),
            (43, 2)
        );
        assert_eq!(chunk_count(format::MAX_OBJECT_SIZE), 512);
    }
}
