//! An entry of a layer, with its content in the store.

use std::sync::atomic::{AtomicU64, Ordering};

use hull_erofs::tree::{Content, Metadata};

use super::path::EntryPath;
use super::tar::{Kind, Member, TarError};

/// The most entries of one layer, and of all layers of an image. A large system has
/// 500,000 in all its layers.
pub(super) const ENTRIES_MAX: u64 = 4_000_000;
/// The most metadata of them (paths, targets of links, attributes), in bytes.
pub(super) const METADATA_MAX: u64 = 512 * 1024 * 1024;

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

impl Entry {
    fn metadata_bytes(&self) -> u64 {
        let link = match &self.item {
            Item::HardLink(target) => target.as_bytes().len(),
            Item::Leaf(Content::Symlink(target)) => target.len(),
            _ => 0,
        };
        metadata_bytes(&self.path, link, &self.metadata)
    }
}

fn metadata_bytes(path: &EntryPath, link: usize, metadata: &Metadata) -> u64 {
    let xattrs = &metadata.xattrs;
    let attributes: usize = xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    (path.as_bytes().len() + link + attributes) as u64
}

/// What the layers of an image may still take in memory, each as often as the image
/// lists it: a small manifest can list one layer a thousand times.
#[derive(Debug)]
pub(super) struct ImageBudget {
    entries: AtomicU64,
    metadata: AtomicU64,
}

impl ImageBudget {
    pub(super) fn new(entries: u64, metadata: u64) -> Self {
        Self {
            entries: AtomicU64::new(entries),
            metadata: AtomicU64::new(metadata),
        }
    }

    /// Takes an entry off the budget; what there would be too much of, if it does not fit.
    pub(super) fn spend(&self, entry: &Entry) -> Result<(), &'static str> {
        let take = |left: &AtomicU64, count| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(count)
            })
        };
        take(&self.entries, 1).map_err(|_| "entries")?;
        take(&self.metadata, entry.metadata_bytes()).map_err(|_| "bytes of metadata")?;
        Ok(())
    }
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
        self.entries += 1;
        self.metadata += metadata_bytes(&member.path, link, &member.metadata);
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
