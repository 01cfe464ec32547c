//! The numbers of the on-disk format: EROFS as Linux reads it, and what composefs adds.

/// Blocks are the unit of data, of directories, and of the whole image.
pub(super) const BLOCK: u64 = 4096;
/// log2 of [`BLOCK`], as the superblock says it.
pub(super) const BLOCK_BITS: u8 = 12;
/// Inodes start at multiples of this; their number is their place in this unit.
pub(super) const SLOT: u64 = 32;

/// Where the superblock is; before it stands the header of composefs.
pub(super) const SUPERBLOCK_AT: usize = 1024;
/// Length of the superblock.
pub(super) const SUPERBLOCK_LEN: usize = 128;

/// `composefs_header`: magic.
pub(super) const COMPOSEFS_MAGIC: u32 = 0xd078_629a;
/// `composefs_header`: version of the header.
pub(super) const HEADER_VERSION: u32 = 1;
/// `composefs_header`: some inode has a POSIX ACL.
pub(super) const FLAG_HAS_ACL: u32 = 1;
/// `composefs_header`: version of the layout, 1 as of `--min-version=1`.
pub(super) const COMPOSEFS_VERSION: u32 = 1;

/// Magic of EROFS.
pub(super) const EROFS_MAGIC: u32 = 0xe0f5_e1e2;
/// Extended inodes have times of their own, compact ones the build time.
pub(super) const COMPAT_MTIME: u32 = 2;
/// Inodes with xattrs have a filter over the names.
pub(super) const COMPAT_XATTR_FILTER: u32 = 4;
/// Chunk-based files; composefs uses them without saying so.
pub(super) const INCOMPAT_CHUNKED_FILE: u32 = 4;

/// Length of a compact inode.
pub(super) const COMPACT_LEN: u64 = 32;
/// Length of an extended inode.
pub(super) const EXTENDED_LEN: u64 = 64;
/// Bit of `i_format`: the inode is extended.
pub(super) const EXTENDED: u16 = 1;

/// Where the content of an inode is; the value stands in `i_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In blocks.
    FlatPlain = 0,
    /// In blocks, the rest behind the inode.
    FlatInline = 4,
    /// In chunks that are listed behind the inode; here always holes.
    ChunkBased = 8,
}

impl DataLayout {
    /// The bits of `i_format` that hold the layout.
    pub(super) const MASK: u16 = 0b1110;

    /// The layout that an `i_format` names, if composefs uses it.
    pub(super) fn from_format(format: u16) -> Option<Self> {
        [Self::FlatPlain, Self::FlatInline, Self::ChunkBased]
            .into_iter()
            .find(|layout| *layout as u16 == format & Self::MASK)
    }
}

/// Type of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Character device.
    CharacterDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Symbolic link.
    Symlink,
}

impl FileType {
    /// The bits of a mode that hold the type.
    pub(super) const MODE_MASK: u16 = 0o170_000;

    const ALL: [Self; 7] = [
        Self::Regular,
        Self::Directory,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::Socket,
        Self::Symlink,
    ];

    /// `S_IF*`.
    pub(super) const fn mode(self) -> u16 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::CharacterDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// `EROFS_FT_*`, as directory entries have it.
    pub(super) const fn entry_type(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }

    /// The type that a directory entry names.
    pub(super) fn from_entry_type(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|file_type| file_type.entry_type() == number)
    }

    /// The type that a mode names.
    pub(super) fn from_mode(mode: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|file_type| file_type.mode() == mode & Self::MODE_MASK)
    }
}

/// Length of an entry in a directory block, without its name.
pub(super) const DIRENT_LEN: u64 = 12;
/// A directory keeps at most this much behind its inode; more gets a block.
pub(super) const MAX_DIRECTORY_TAIL: u64 = BLOCK / 2;

/// Length of what stands before the xattrs of an inode.
pub(super) const XATTR_HEADER_LEN: u64 = 12;
/// Length of what stands before the name of an xattr.
pub(super) const XATTR_ENTRY_LEN: u64 = 4;
/// Xattrs are aligned to this, and counted in it.
pub(super) const XATTR_UNIT: u64 = 4;
/// Seed of the name filter, to which the index of the prefix is added.
pub(super) const XATTR_FILTER_SEED: u32 = 0x25bb_e08f;

/// Prefixes of xattr names by their index; the first fits all.
pub(super) const XATTR_PREFIXES: [&[u8]; 7] = [
    b"",
    b"user.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"trusted.",
    b"lustre.",
    b"security.",
];
/// Index of the prefix that mkcomposefs does not know and so never writes.
pub(super) const XATTR_PREFIX_LUSTRE: usize = 5;
/// Indexes of the prefixes that are POSIX ACLs.
pub(super) const XATTR_PREFIX_ACLS: [u8; 2] = [2, 3];

/// A file is a chunk of 2^12 bytes or more; the difference stands in `i_u`.
pub(super) const MAX_CHUNK_BITS: u32 = BLOCK_BITS as u32 + 31;
/// A file that needs more chunks than fit in a block would be laid out in another
/// way by mkcomposefs; half a block of them covers 4 PiB.
pub(super) const MAX_OBJECT_SIZE: u64 = 1 << (MAX_CHUNK_BITS + 9);

/// The index of a chunk that is a hole.
pub(super) const HOLE: [u8; 4] = [0xff; 4];

/// The xattrs by which composefs talks to overlayfs, and how it hides those of the tree.
pub(super) mod overlay {
    /// What overlayfs takes for its own.
    pub(in crate::image) const PREFIX: &[u8] = b"trusted.overlay.";
    /// What the tree's own attributes with that prefix become: overlayfs shows
    /// them with one `overlay.` less.
    pub(in crate::image) const ESCAPED_PREFIX: &[u8] = b"trusted.overlay.overlay.";
    /// On a regular file: its content is elsewhere, and has this digest.
    pub(in crate::image) const METACOPY: &[u8] = b"trusted.overlay.metacopy";
    /// Where the content is.
    pub(in crate::image) const REDIRECT: &[u8] = b"trusted.overlay.redirect";
    /// On the root: names of layers below, that is the objects, don't show.
    pub(in crate::image) const OPAQUE: &[u8] = b"trusted.overlay.opaque";

    /// What a whiteout of the tree gets: it becomes an empty file, so that it shows
    /// when an overlay is mounted on top of another.
    pub(in crate::image) const WHITEOUT_MARKS: [(&[u8], &[u8]); 2] = [
        (b"trusted.overlay.overlay.whiteout", b""),
        (b"user.overlay.whiteout", b""),
    ];
    /// What the directory with such whiteouts gets.
    pub(in crate::image) const WHITEOUTS_MARKS: [(&[u8], &[u8]); 4] = [
        (b"trusted.overlay.overlay.whiteouts", b""),
        (b"user.overlay.whiteouts", b""),
        (b"trusted.overlay.overlay.opaque", b"x"),
        (b"user.overlay.opaque", b"x"),
    ];
}

/// The names `00` to `ff`: in the root each hides the directory of objects of that name.
pub(super) const STUB_NAMES: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut names = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        names[i] = [digits[i / 16], digits[i % 16]];
        i += 1;
    }
    names
};
/// Permissions of those.
pub(super) const STUB_MODE: u16 = 0o644;

/// `struct ovl_metacopy` before the digest: version, length, flags, SHA-512.
pub(super) const METACOPY_HEAD: [u8; 4] = [0, 68, 0, 2];
