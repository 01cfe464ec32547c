//! What can be wrong with a tree or with an image.

/// Why a tree can't be written as an image. Each variant names the path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// A name that no directory can hold.
    #[error("{path:?}: a name must have 1 to 255 bytes, no '/' and no NUL, and not be '.' or '..'")]
    InvalidName {
        /// The entry.
        path: String,
    },
    /// Directories nest deeper than [`crate::tree::MAX_DEPTH`].
    #[error("{path:?}: more than {limit} directories within each other")]
    TooDeep {
        /// The directory that is too deep.
        path: String,
        /// How many may nest.
        limit: usize,
    },
    /// Nanoseconds that make a whole second.
    #[error("{path:?}: the modification time has {nanoseconds} nanoseconds, 999999999 is the most")]
    InvalidTime {
        /// The inode.
        path: String,
        /// Its nanoseconds.
        nanoseconds: u32,
    },
    /// The name of an extended attribute is empty, too long, or has a NUL.
    #[error(
        "{path:?}: the name of extended attribute {name:?} must have 1 to 255 bytes and no NUL"
    )]
    InvalidXattrName {
        /// The inode.
        path: String,
        /// The attribute.
        name: String,
    },
    /// The value of an extended attribute is too long.
    #[error("{path:?}: extended attribute {name:?} has {length} bytes, 65535 is the most")]
    XattrTooLong {
        /// The inode.
        path: String,
        /// The attribute.
        name: String,
        /// Length of its value.
        length: usize,
    },
    /// All extended attributes of an inode together are too long.
    #[error(
        "{path:?}: the extended attributes do not fit an image: there are too many, or they are too long"
    )]
    TooManyXattrs {
        /// The inode.
        path: String,
    },
    /// A symbolic link that leads nowhere or is longer than a path can be.
    #[error("{path:?}: the target of the symbolic link has {length} bytes, 1 to 4095 are possible")]
    InvalidSymlink {
        /// The link.
        path: String,
        /// Length of its target.
        length: usize,
    },
    /// Content that must be an object.
    #[error(
        "{path:?}: a file of {length} bytes can't be inside of an image, 512 is the most; make it an object"
    )]
    InlineTooLong {
        /// The file.
        path: String,
        /// Its length.
        length: usize,
    },
    /// A file longer than 4 PiB.
    #[error("{path:?}: a file of {size} bytes is larger than an image can describe")]
    ObjectTooLarge {
        /// The file.
        path: String,
        /// Its length.
        size: u64,
    },
    /// A device number beyond 12 bits of major and 20 bits of minor.
    #[error("{path:?}: the kernel can't store device {major}:{minor} in a file system")]
    InvalidDevice {
        /// The device node.
        path: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A whiteout (character device 0:0) with several names.
    #[error("{path:?}: a whiteout (character device 0:0) can't have hard links")]
    HardLinkedWhiteout {
        /// One of its names.
        path: String,
    },
    /// The image would have more blocks or inodes than the format can count.
    #[error("the tree is too large for one image")]
    TooLarge,
}

/// Why bytes are no image of a tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are no composefs image at all.
    #[error("this is no composefs image: {0}")]
    NotAnImage(&'static str),
    /// A composefs image that uses something we don't.
    #[error("the image uses {feature} {value:#x}, which hull does not read")]
    Unsupported {
        /// What it is.
        feature: &'static str,
        /// The value found there.
        value: u64,
    },
    /// Something lies outside of the image.
    #[error(
        "{path:?}: {what} is at byte {offset} with {length} bytes, outside of the image of {image} bytes"
    )]
    OutOfBounds {
        /// The inode that refers to it.
        path: String,
        /// What was to be read.
        what: &'static str,
        /// Where it would start.
        offset: u64,
        /// How long it would be.
        length: u64,
        /// Bytes in the image.
        image: usize,
    },
    /// Something has a value that no writer makes.
    #[error("{path:?}: {problem}")]
    Invalid {
        /// The inode or entry.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What the image describes is out of proportion to its length.
    #[error("{path:?}: the image describes far more than its {image} bytes can hold")]
    Amplification {
        /// Where the bound was met.
        path: String,
        /// Bytes in the image.
        image: usize,
    },
}
