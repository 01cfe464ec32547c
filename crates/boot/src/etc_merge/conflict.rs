//! What both sides of a merge changed, and who wins there.

use std::fmt;

use serde::Serialize;

/// One of the two versions that are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The machine's.
    Mine,
    /// The new image's.
    Theirs,
}

/// Which side wins where both changed the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The machine's; the image's is kept beside it as `NAME.hull-new~`.
    #[default]
    Mine,
    /// The image's; the machine's is kept beside it as `NAME.hull-old~`.
    Theirs,
}

impl Policy {
    pub(super) fn winner(self) -> Side {
        match self {
            Self::Mine => Side::Mine,
            Self::Theirs => Side::Theirs,
        }
    }

    pub(super) fn suffix_of_the_other(self) -> &'static [u8] {
        match self {
            Self::Mine => b".hull-new~",
            Self::Theirs => b".hull-old~",
        }
    }
}

/// A name that both sides changed in different ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The path, `/etc/…`.
    pub path: String,
    /// What each side did.
    pub kind: ConflictKind,
    /// Whose version is used.
    pub winner: Side,
    /// Where the other version is, in the same directory.
    pub kept_as: Option<String>,
}

/// What both sides did to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictKind {
    /// Both changed it.
    BothChanged,
    /// Both changed owner, permissions or extended attributes.
    BothChangedMetadata,
    /// I removed it, they changed it.
    RemovedByMe,
    /// They removed it, I changed it.
    RemovedByThem,
    /// It is a directory on one side and something else on the other.
    KindChanged,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            kind,
            winner,
            kept_as,
        } = self;
        let what = match kind {
            ConflictKind::BothChanged => "changed here and in the new image",
            ConflictKind::BothChangedMetadata => {
                "has other owners, permissions or attributes here and in the new image"
            }
            ConflictKind::RemovedByMe => "removed here and changed in the new image",
            ConflictKind::RemovedByThem => "changed here and removed in the new image",
            ConflictKind::KindChanged => "a directory on one side only",
        };
        let stays = match winner {
            Side::Mine => "this machine's version is used",
            Side::Theirs => "the new image's version is used",
        };
        write!(f, "{path}: {what}; {stays}")?;
        match kept_as {
            Some(name) => write!(f, ", the other one is beside it as {name}"),
            None => Ok(()),
        }
    }
}
