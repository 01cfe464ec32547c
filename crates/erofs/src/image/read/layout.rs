//! The parts of an image by their place in it.

use crate::limits;
use crate::tree::{Metadata, Timestamp};

use super::super::error::ReadError;
use super::super::format::{self, DataLayout, FileType};
use super::Fault;

/// An image whose header and superblock are fine.
pub(super) struct Image<'a> {
    bytes: &'a [u8],
    root_nid: u64,
    /// Time of compact inodes.
    build_time: Timestamp,
    /// Where the shared attributes are counted from.
    shared_xattrs: u64,
}

/// An inode as the image has it, its attributes aside.
#[derive(Debug)]
pub(super) struct RawInode {
    pub(super) nid: u64,
    pub(super) file_type: FileType,
    pub(super) layout: DataLayout,
    pub(super) size: u64,
    pub(super) union_field: u32,
    pub(super) links: u32,
    pub(super) metadata: Metadata,
    /// Where the attributes start, and how long they are.
    pub(super) xattrs: (u64, u64),
}

impl RawInode {
    fn tail_at(&self) -> u64 {
        self.xattrs.0.saturating_add(self.xattrs.1)
    }
}

/// Reads numbers one after the other from bytes whose length was checked.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (number, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *number
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// Fails if a field holds anything but what hull reads.
fn require(feature: &'static str, value: u64, supported: bool) -> Result<(), ReadError> {
    if supported {
        Ok(())
    } else {
        Err(ReadError::Unsupported { feature, value })
    }
}

impl<'a> Image<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let (header, superblock) = match bytes.get(..format::SUPERBLOCK_AT + format::SUPERBLOCK_LEN)
        {
            Some(start) => start.split_at(format::SUPERBLOCK_AT),
            None => return Err(ReadError::NotAnImage("it is too short for a superblock")),
        };
        check_header(&mut Numbers(header))?;
        let mut numbers = Numbers(superblock);
        if numbers.u32() != format::EROFS_MAGIC {
            return Err(ReadError::NotAnImage(
                "the magic number of EROFS is missing",
            ));
        }
        let _checksum = numbers.u32();
        let compat = u64::from(numbers.u32());
        require(
            "compatible features",
            compat,
            compat & u64::from(format::COMPAT_MTIME) != 0,
        )?;
        let block_bits = numbers.u8();
        require(
            "log2 of the block size",
            block_bits.into(),
            block_bits == format::BLOCK_BITS,
        )?;
        let slots = numbers.u8();
        require("superblock extensions", slots.into(), slots == 0)?;
        let root_nid = numbers.u16().into();
        let _inodes = numbers.u64();
        let seconds = numbers.u64().cast_signed();
        let nanoseconds = numbers.u32();
        require(
            "nanoseconds of the build time",
            nanoseconds.into(),
            nanoseconds <= limits::NANOSECONDS,
        )?;
        let blocks = u64::from(numbers.u32());
        if blocks.saturating_mul(format::BLOCK) != bytes.len() as u64 {
            return Err(ReadError::NotAnImage(
                "its length is not what its superblock says",
            ));
        }
        let inodes_at = numbers.u32();
        require("block of the inodes", inodes_at.into(), inodes_at == 0)?;
        let shared_xattrs = u64::from(numbers.u32()).saturating_mul(format::BLOCK);
        let _name: [u8; 32] = numbers.take();
        let incompat = numbers.u32();
        let unknown = incompat & !format::INCOMPAT_CHUNKED_FILE;
        require("incompatible features", incompat.into(), unknown == 0)?;
        let build_time = Timestamp {
            seconds,
            nanoseconds,
        };
        Ok(Self {
            bytes,
            root_nid,
            build_time,
            shared_xattrs,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn root_nid(&self) -> u64 {
        self.root_nid
    }

    /// The bytes at `offset`; `what` says in a message what they would be.
    pub(super) fn slice(
        &self,
        offset: u64,
        length: u64,
        what: &'static str,
    ) -> Result<&'a [u8], Fault> {
        let start = usize::try_from(offset).ok();
        let end = offset
            .checked_add(length)
            .and_then(|end| usize::try_from(end).ok());
        start
            .zip(end)
            .and_then(|(start, end)| self.bytes.get(start..end))
            .ok_or(Fault::OutOfBounds {
                what,
                offset,
                length,
            })
    }

    /// From the shared attribute that inodes refer to by this number to the end.
    pub(super) fn shared_xattr(&self, place: u32) -> Result<&'a [u8], Fault> {
        let offset = self.shared_xattrs + u64::from(place) * format::XATTR_UNIT;
        let length = (self.bytes.len() as u64).saturating_sub(offset);
        self.slice(
            offset,
            length.max(format::XATTR_ENTRY_LEN),
            "a shared extended attribute",
        )
    }

    pub(super) fn inode(&self, nid: u64) -> Result<RawInode, Fault> {
        let offset = nid.saturating_mul(format::SLOT);
        let mut numbers = Numbers(self.slice(offset, format::COMPACT_LEN, "an inode")?);
        let format_bits = numbers.u16();
        let extended = format_bits & format::EXTENDED != 0;
        let layout = DataLayout::from_format(format_bits)
            .filter(|_| format_bits & !(format::EXTENDED | DataLayout::MASK) == 0)
            .ok_or(Fault::Invalid(
                "the layout of an inode is none that composefs uses",
            ))?;
        if extended {
            numbers = Numbers(self.slice(offset, format::EXTENDED_LEN, "an inode")?);
            numbers.u16();
        }
        let xattr_units = u64::from(numbers.u16());
        let mode = numbers.u16();
        let mut inode = RawInode {
            nid,
            file_type: FileType::from_mode(mode)
                .ok_or(Fault::Invalid("the mode of an inode has no type"))?,
            layout,
            size: 0,
            union_field: 0,
            links: 0,
            metadata: Metadata {
                mode: mode & !FileType::MODE_MASK,
                ..Metadata::default()
            },
            xattrs: (0, 0),
        };
        let head = if extended {
            format::EXTENDED_LEN
        } else {
            format::COMPACT_LEN
        };
        let xattrs = match xattr_units {
            0 => 0,
            units => format::XATTR_HEADER_LEN + (units - 1) * format::XATTR_UNIT,
        };
        inode.xattrs = (offset.saturating_add(head), xattrs);
        if extended {
            read_extended(&mut inode, &mut numbers)?;
        } else {
            read_compact(&mut inode, &mut numbers, self.build_time);
        }
        Ok(inode)
    }

    /// What an inode holds: first what is in blocks, then what is behind it.
    pub(super) fn content(&self, inode: &RawInode) -> Result<[&'a [u8]; 2], Fault> {
        let tail = match inode.layout {
            DataLayout::FlatPlain => 0,
            DataLayout::FlatInline => inode.size % format::BLOCK,
            DataLayout::ChunkBased => {
                return Err(Fault::Invalid("only regular files can be in chunks"));
            }
        };
        let in_blocks = inode.size - tail;
        let blocks_at = match in_blocks {
            0 => 0,
            _ => u64::from(inode.union_field) * format::BLOCK,
        };
        if inode.tail_at() % format::BLOCK + tail > format::BLOCK {
            return Err(Fault::Invalid(
                "what is behind an inode crosses into another block",
            ));
        }
        Ok([
            self.slice(blocks_at, in_blocks, "the blocks of an inode")?,
            self.slice(inode.tail_at(), tail, "what is behind an inode")?,
        ])
    }
}

fn check_header(numbers: &mut Numbers<'_>) -> Result<(), ReadError> {
    if numbers.u32() != format::COMPOSEFS_MAGIC {
        return Err(ReadError::NotAnImage(
            "the magic number of composefs is missing",
        ));
    }
    let version = numbers.u32();
    require(
        "header version",
        version.into(),
        version == format::HEADER_VERSION,
    )?;
    let flags = numbers.u32();
    require(
        "header flags",
        flags.into(),
        flags & !format::FLAG_HAS_ACL == 0,
    )?;
    let format_version = numbers.u32();
    let known = format_version <= format::COMPOSEFS_VERSION;
    require("composefs format version", format_version.into(), known)
}

fn read_extended(inode: &mut RawInode, numbers: &mut Numbers<'_>) -> Result<(), Fault> {
    let _reserved = numbers.u16();
    inode.size = numbers.u64();
    inode.union_field = numbers.u32();
    let _number = numbers.u32();
    inode.metadata.uid = numbers.u32();
    inode.metadata.gid = numbers.u32();
    inode.metadata.mtime.seconds = numbers.u64().cast_signed();
    inode.metadata.mtime.nanoseconds = numbers.u32();
    inode.links = numbers.u32();
    if inode.metadata.mtime.nanoseconds > limits::NANOSECONDS {
        return Err(Fault::Invalid("the nanoseconds of an inode make a second"));
    }
    Ok(())
}

fn read_compact(inode: &mut RawInode, numbers: &mut Numbers<'_>, build_time: Timestamp) {
    inode.links = numbers.u16().into();
    inode.size = numbers.u32().into();
    let _reserved = numbers.u32();
    inode.union_field = numbers.u32();
    let _number = numbers.u32();
    inode.metadata.uid = numbers.u16().into();
    inode.metadata.gid = numbers.u16().into();
    inode.metadata.mtime = build_time;
}
