//! What can go wrong when a store is opened, read or written.

use std::io;

use hull_erofs::ObjectId;
use rustix::io::Errno;

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory holds no store.
    #[error("this directory holds no store: it has no meta.json")]
    NotAStore,
    /// Objects without meta.json: a store of composefs-rs before 0.7.
    #[error(
        "this store has objects but no meta.json: it is older than that file; \
         `cfsctl init` of composefs-rs upgrades it"
    )]
    OldFormat,
    /// meta.json is damaged.
    #[error("meta.json of the store is damaged: {reason}")]
    BadMeta {
        /// What is wrong with it.
        reason: String,
    },
    /// The store was written by a newer program.
    #[error("the store has format version {found}, this program knows up to {known}")]
    NewerVersion {
        /// The version in meta.json.
        found: u64,
        /// The highest one that this program knows.
        known: u64,
    },
    /// The store uses features that this program does not know.
    #[error("the store needs features that this program does not know: {}", .0.join(", "))]
    UnknownFeatures(Vec<String>),
    /// The same, but reading it is safe.
    #[error(
        "the store can only be read: it has features that this program does not know: {}",
        .0.join(", ")
    )]
    ReadOnlyFeatures(Vec<String>),
    /// The store names objects in another way.
    #[error("the store names objects by {found}, this program by {expected}", expected = crate::meta::ALGORITHM)]
    OtherAlgorithm {
        /// The algorithm in meta.json.
        found: String,
    },
    /// fs-verity was required.
    #[error(
        "the file system of the store has no fs-verity, which is required here \
         (ext4 needs `mkfs.ext4 -O verity -b 4096`, xfs has none)"
    )]
    NoVerity,
    /// The disk or the quota is full.
    #[error("no space left on the store's file system, while writing {writing}")]
    NoSpace {
        /// What was being written.
        writing: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// An object is not there.
    #[error("object {object} is missing: `hull fsck` says what has to be pulled again")]
    Missing {
        /// The object.
        object: ObjectId,
    },
    /// An object's content is not what its name says.
    #[error(
        "object {expected} is damaged: its content has the digest {actual}; \
         `hull fsck` says what has to be pulled again"
    )]
    Corrupt {
        /// The object's name, which is the digest that it should have.
        expected: ObjectId,
        /// The digest that it has.
        actual: Box<ObjectId>,
    },
    /// An object is larger than the reader allows.
    #[error("object {object} has {size} bytes, no more than {max} were expected")]
    TooLarge {
        /// The object.
        object: ObjectId,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A stream or a reference can't have this name.
    #[error("{name:?} can't be the name of a {what}: {reason}")]
    InvalidName {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A reference to something that is not in the store.
    #[error("{what} is not in the store, so {reference} can't refer to it")]
    NoTarget {
        /// The reference.
        reference: String,
        /// The stream or image.
        what: String,
    },
    /// A link in the store leads to no object.
    #[error("{path} in the store is no link to an object: it leads to {target:?}")]
    BadLink {
        /// The link, from the store's directory.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Its garbage is being collected.
    #[error(
        "the store's garbage has been being collected for more than {seconds} s; \
         try again when that is done"
    )]
    Busy {
        /// How long this has waited.
        seconds: u64,
    },
    /// A stream is damaged.
    #[error(transparent)]
    Stream(#[from] crate::stream::StreamError),
    /// Anything else that the kernel refused.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// The kernel's word.
        source: io::Error,
    },
}

impl StoreError {
    /// An error of the file system, met while doing `what`
    /// (`writing object …`); a full disk becomes [`StoreError::NoSpace`].
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
        if source
            .raw_os_error()
            .is_some_and(|code| full.contains(&code))
        {
            let writing = what
                .strip_prefix("writing ")
                .map_or_else(|| what.clone(), str::to_owned);
            return Self::NoSpace { writing, source };
        }
        Self::Io { what, source }
    }
}

/// Names what was being done when an I/O error came up.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(what(), error.into()))
    }
}
