//! Check and repair.
//!
//! [`check`] compares every object with its name, and looks for what is missing
//! or leads nowhere. Repair is pulling again: [`repair_plan`] says which streams
//! and images have to come again, and a [`Store::repair_session`] replaces each
//! damaged object by the one that comes. [`quarantine`] takes a damaged object
//! out of the way at once, where serving it is worse than having none.

mod check;
mod digest;
mod repair;

use std::collections::BTreeMap;
use std::fmt;

use hull_erofs::ObjectId;

use crate::error::StoreError;
#[cfg(doc)]
use crate::store::Store;

pub use check::check;
pub(crate) use digest::{content_digest, open_unchecked, quick_digest};
pub use repair::{RepairPlan, quarantine, repair_plan, restore_meta};

/// How closely objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The digest of an object with fs-verity is asked of the kernel, which checks
    /// each block when it is read; others are read and hashed.
    Quick,
    /// Every object is read and hashed.
    Full,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Objects that were looked at.
    pub done: usize,
    /// Objects in the store.
    pub total: usize,
}

/// A stream or an image that uses an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum User {
    /// The stream of this name.
    Stream(String),
    /// An image.
    Image(ObjectId),
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Image(id) => write!(f, "image {id}"),
        }
    }
}

/// What is wrong with an object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It is shorter than it should be.
    Truncated {
        /// Its length in bytes.
        length: u64,
        /// The length that it should have, where an image says so.
        expected: Option<u64>,
    },
    /// Its content is another.
    Changed {
        /// The digest that it has.
        actual: Box<ObjectId>,
    },
    /// The disk does not give it back.
    Unreadable {
        /// The kernel's word.
        reason: String,
    },
}

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// meta.json is damaged or missing; [`restore_meta`] writes it again.
    BadMeta {
        /// What is wrong.
        reason: String,
    },
    /// An object that something uses is not there.
    Missing {
        /// The object.
        object: ObjectId,
        /// What uses it.
        users: Vec<User>,
    },
    /// An object is not what its name says.
    Damaged {
        /// The object.
        object: ObjectId,
        /// What is wrong with it.
        damage: Damage,
        /// What uses it.
        users: Vec<User>,
    },
    /// A stream whose bytes are right is no stream, or an image no image.
    NotWhatItIsLinkedAs {
        /// The stream or image.
        user: User,
        /// What is wrong with it.
        reason: String,
    },
    /// A link or a reference leads to nothing.
    Dangling {
        /// The link, from the store's directory.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Something that is not of the store's format; nothing ever touches it.
    Foreign {
        /// The file, from the store's directory.
        path: String,
    },
    /// No stream and no image in the store uses this object: a collection
    /// removes it. No damage.
    Unreferenced {
        /// The object.
        object: ObjectId,
    },
}

impl Finding {
    /// Whether something does not work because of it.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Unreferenced { .. } | Self::Foreign { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMeta { reason } => write!(f, "meta.json is damaged: {reason}"),
            Self::Missing { object, users } => {
                write!(f, "object {object} is missing")?;
                write_users(f, users)
            }
            Self::Damaged {
                object,
                damage,
                users,
            } => {
                write!(f, "object {object} {damage}")?;
                write_users(f, users)
            }
            Self::NotWhatItIsLinkedAs { user, reason } => {
                write!(
                    f,
                    "{user} can't be read, though its bytes are right: {reason}"
                )
            }
            Self::Dangling { path, target } => {
                write!(f, "{path} leads to {target}, which is not there")
            }
            Self::Foreign { path } => write!(f, "{path} does not belong into a store"),
            Self::Unreferenced { object } => write!(f, "object {object} is not used by anything"),
        }
    }
}

fn write_users(f: &mut fmt::Formatter<'_>, users: &[User]) -> fmt::Result {
    const SHOWN: usize = 3;
    for (index, user) in users.iter().take(SHOWN).enumerate() {
        write!(f, "{}{user}", if index == 0 { ", used by " } else { ", " })?;
    }
    match users.len().checked_sub(SHOWN) {
        Some(more @ 1..) => write!(f, " and {more} more"),
        _ => Ok(()),
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated {
                length,
                expected: Some(expected),
            } => write!(f, "is truncated: it has {length} of {expected} bytes"),
            Self::Truncated {
                length,
                expected: None,
            } => write!(f, "is truncated: it has {length} bytes"),
            Self::Changed { actual } => write!(f, "is changed: its digest is {actual}"),
            Self::Unreadable { reason } => write!(f, "can't be read: {reason}"),
        }
    }
}

/// How much a check has looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Objects.
    pub objects: usize,
    /// Those among them whose digest the kernel gave.
    pub measured: usize,
    /// Streams.
    pub streams: usize,
    /// Images.
    pub images: usize,
    /// References.
    pub references: usize,
}

/// What a check found, sorted by kind and then by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
    /// The references that lead to each stream and image, directly or not.
    pub references: BTreeMap<User, Vec<String>>,
}

impl Report {
    /// The findings that are damage.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_damage())
    }

    /// Whether nothing is damaged; there may be garbage.
    pub fn is_sound(&self) -> bool {
        self.damage().next().is_none()
    }
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the store can't be checked")]
pub struct FsckError(#[from] StoreError);

#[cfg(test)]
mod tests;
