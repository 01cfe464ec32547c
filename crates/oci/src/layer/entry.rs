//! An entry of a layer, with its content in the store.

use hull_erofs::tree::{Content, Metadata};

use super::path::EntryPath;
use super::tar::{Kind, Member, TarError};

/// The most entries of one layer. A large system has 500,000 in all its layers.
const ENTRIES_MAX: u64 = 4_000_000;
/// The most metadata of one layer (paths, targets of links, attributes), in bytes.
const METADATA_MAX: u64 = 512 * 1024 * 1024;

/// An entry of a layer: what it makes of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies. A name that begins with `.wh.` is a whiteout.
    pub path: EntryPath,
    /// Owner, permissions, time, attributes. Without meaning for hard links.
    pub metadata: Metadata,
    /// What it is.
    pub item: Item,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A directory.
    Directory,
    /// A file, a symbolic link, a device, a pipe.
    Leaf(Content),
    /// Another name of what is at this path.
    HardLink(EntryPath),
}

/// Counts what a layer takes in memory when its entries are read.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pub(super) entries: u64,
    metadata: u64,
}

impl Budget {
    /// Counts one more entry.
    pub(super) fn spend(&mut self, member: &Member) -> Result<(), TarError> {
        let link = match &member.kind {
            Kind::HardLink(target) => target.as_bytes().len(),
            Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs = &member.metadata.xattrs;
        let attributes: usize = xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.entries += 1;
        self.metadata += (member.path.as_bytes().len() + link + attributes) as u64;
        if self.entries > ENTRIES_MAX {
            return Err(TarError::TooMuch {
                what: "entries",
                limit: ENTRIES_MAX,
            });
        }
        if self.metadata > METADATA_MAX {
            return Err(TarError::TooMuch {
                what: "bytes of metadata",
                limit: METADATA_MAX,
            });
        }
        Ok(())
    }
}
