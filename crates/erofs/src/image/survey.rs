//! What has to be known of the whole tree before an image of it is planned.

use hull_sys::spill::SpilledVec;

use crate::limits;
use crate::links::HardLinks;
use crate::tree::{ContentView, Device, DirectoryId, LeafId, MAX_DEPTH, MetadataView, Node, Tree};

use super::error::WriteError;
use super::format;

/// A tree that can be written: its limits are checked, its links counted.
#[derive(Debug)]
pub(super) struct Survey {
    links: HardLinks,
    /// Of the leaves with several names, by rank: the directory with the first, or [`UNMET`].
    homes: SpilledVec<DirectoryId>,
}

/// No directory: that of a leaf that was not met so far.
const UNMET: DirectoryId = DirectoryId(u32::MAX);

impl Survey {
    /// Walks the tree once, depth first, in the order of a dump file.
    pub(super) fn new(tree: &Tree) -> Result<Self, WriteError> {
        let links = tree.hard_links();
        let mut survey = Self {
            homes: std::iter::repeat_n(UNMET, links.len()).collect(),
            links,
        };
        let mut path = Vec::new();
        let root = tree.root();
        check_metadata(root.metadata_view(), &path)?;
        let mut open = vec![(root.id(), root.entries())];
        while let Some((directory, entries)) = open.last_mut() {
            let Some((name, node)) = entries.next() else {
                open.pop();
                path.pop();
                continue;
            };
            path.push(name);
            check_name(name, &path)?;
            match node {
                Node::Directory(inner) => {
                    check_metadata(inner.metadata_view(), &path)?;
                    check_depth(&path)?;
                    open.push((inner.id(), inner.entries()));
                }
                Node::Leaf(id) => {
                    let directory = *directory;
                    survey.visit_leaf(tree, id, directory, &path)?;
                    path.pop();
                }
            }
        }
        Ok(survey)
    }

    /// How many names lead to each leaf.
    pub(super) fn links(&self) -> &HardLinks {
        &self.links
    }

    /// Whether this is the directory with the first name of the leaf, depth first.
    ///
    /// mkcomposefs reads dump files, where the first name carries the inode and
    /// the others are links to it. So the inode takes its place among those of
    /// that directory, although a name in another one may come earlier there.
    pub(super) fn is_home(&self, id: LeafId, directory: DirectoryId) -> bool {
        let rank = self.links.rank(id);
        rank.is_none_or(|rank| *self.homes.get(rank) == directory)
    }

    fn visit_leaf(
        &mut self,
        tree: &Tree,
        id: LeafId,
        directory: DirectoryId,
        path: &[&[u8]],
    ) -> Result<(), WriteError> {
        if let Some(rank) = self.links.rank(id) {
            if *self.homes.get(rank) != UNMET {
                return Ok(());
            }
            self.homes.set(rank, directory);
        }
        let leaf = tree.leaf_view(id);
        check_metadata(leaf.metadata, path)?;
        check_content(leaf.content, self.links.names(id), path)
    }
}

fn check_name(name: &[u8], path: &[&[u8]]) -> Result<(), WriteError> {
    let allowed = (1..=limits::NAME).contains(&name.len())
        && !name.contains(&b'/')
        && !name.contains(&0)
        && !matches!(name, b"." | b"..");
    if allowed {
        Ok(())
    } else {
        Err(WriteError::InvalidName { path: show(path) })
    }
}

fn check_depth(path: &[&[u8]]) -> Result<(), WriteError> {
    if path.len() > MAX_DEPTH {
        return Err(WriteError::TooDeep {
            path: show(path),
            limit: MAX_DEPTH,
        });
    }
    Ok(())
}

fn check_metadata(metadata: MetadataView<'_>, path: &[&[u8]]) -> Result<(), WriteError> {
    if metadata.mtime.nanoseconds > limits::NANOSECONDS {
        return Err(WriteError::InvalidTime {
            path: show(path),
            nanoseconds: metadata.mtime.nanoseconds,
        });
    }
    for (name, value) in metadata.xattrs {
        if !(1..=limits::XATTR_NAME).contains(&name.len()) || name.contains(&0) {
            return Err(WriteError::InvalidXattrName {
                path: show(path),
                name: lossy(name),
            });
        }
        if value.len() > limits::XATTR_VALUE {
            return Err(WriteError::XattrTooLong {
                path: show(path),
                name: lossy(name),
                length: value.len(),
            });
        }
    }
    Ok(())
}

fn check_content(content: ContentView<'_>, links: u32, path: &[&[u8]]) -> Result<(), WriteError> {
    match content {
        ContentView::Inline(bytes) if bytes.len() > limits::INLINE => {
            Err(WriteError::InlineTooLong {
                path: show(path),
                length: bytes.len(),
            })
        }
        ContentView::Object { size, .. } if size > format::MAX_OBJECT_SIZE => {
            Err(WriteError::ObjectTooLarge {
                path: show(path),
                size,
            })
        }
        ContentView::Symlink(target) if !(1..=limits::SYMLINK).contains(&target.len()) => {
            Err(WriteError::InvalidSymlink {
                path: show(path),
                length: target.len(),
            })
        }
        ContentView::CharacterDevice(Device::WHITEOUT) if links > 1 => {
            Err(WriteError::HardLinkedWhiteout { path: show(path) })
        }
        ContentView::CharacterDevice(device) | ContentView::BlockDevice(device)
            if u32::try_from(device.to_raw()).is_err() =>
        {
            let Device { major, minor } = device;
            Err(WriteError::InvalidDevice {
                path: show(path),
                major,
                minor,
            })
        }
        _ => Ok(()),
    }
}

/// The path whose components these are, for people.
pub(super) fn show(components: &[&[u8]]) -> String {
    format!("/{}", lossy(&components.join(&b'/')))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
