//! The inodes of a tree in the order of the image: breadth first.

use std::collections::VecDeque;

use crate::fsverity::ObjectId;
use crate::tree::{Content, Device, Directory, Leaf, LeafId, Metadata, Node, Tree};

use super::directory::{Entry, Listing};
use super::format::{self, FileType, overlay};
use super::inode::{Body, Inode};
use super::survey::Survey;
use super::xattr::{InodeXattrs, Value};

/// The place of the root among the inodes.
const ROOT: usize = 0;

/// Where an entry leads to, before every inode has its place.
enum Target {
    Inode(usize),
    /// To a leaf whose place is with another name of it.
    Link(LeafId),
}

/// The entries of one directory, before every inode has its place.
struct Draft<'a> {
    directory: usize,
    parent: usize,
    entries: Vec<(&'a [u8], Target)>,
}

/// All inodes, the root first. `stub` is the metadata of the devices `00` to `ff`.
pub(super) fn inodes<'a>(
    tree: &'a Tree,
    survey: &Survey<'a>,
    stub: &'a Metadata,
) -> Vec<Inode<'a>> {
    let mut order = Order {
        tree,
        survey,
        inodes: Vec::new(),
        places: vec![None; tree.leaves().count()],
        waiting: VecDeque::new(),
    };
    let drafts = order.walk(stub);
    order.finish(drafts);
    order.inodes
}

struct Order<'a, 's> {
    tree: &'a Tree,
    survey: &'s Survey<'a>,
    inodes: Vec<Inode<'a>>,
    /// Of the leaves by their index.
    places: Vec<Option<usize>>,
    /// Directories whose entries have no place yet, with their own and their parent's.
    waiting: VecDeque<(&'a Directory, usize, usize)>,
}

impl<'a> Order<'a, '_> {
    fn walk(&mut self, stub: &'a Metadata) -> Vec<Draft<'a>> {
        self.push_directory(ROOT, b"", &self.tree.root);
        let mut drafts = Vec::new();
        while let Some((directory, place, parent)) = self.waiting.pop_front() {
            let entries = if place == ROOT {
                self.place_root_entries(directory, stub)
            } else {
                let entries = directory.entries.iter();
                entries
                    .map(|(name, node)| (&name[..], self.place_node(directory, place, name, node)))
                    .collect()
            };
            drafts.push(Draft {
                directory: place,
                parent,
                entries,
            });
        }
        self.inodes[ROOT]
            .xattrs
            .add(overlay::OPAQUE, Value::Bytes(b"y"));
        drafts
    }

    /// In the root, the devices that hide the object store stand among the entries,
    /// except where the tree has such a name itself.
    fn place_root_entries(
        &mut self,
        root: &'a Directory,
        stub: &'a Metadata,
    ) -> Vec<(&'a [u8], Target)> {
        let mut names: Vec<(&[u8], Option<&Node>)> = root
            .entries
            .iter()
            .map(|(name, node)| (&name[..], Some(node)))
            .collect();
        let free = format::STUB_NAMES
            .iter()
            .filter(|name| !root.entries.contains_key(&name[..]));
        names.extend(free.map(|name| (&name[..], None)));
        names.sort_unstable_by_key(|(name, _)| *name);
        let place = |(name, node)| match node {
            Some(node) => (name, self.place_node(root, ROOT, name, node)),
            None => (name, Target::Inode(self.push_stub(name, stub))),
        };
        names.into_iter().map(place).collect()
    }

    fn place_node(
        &mut self,
        directory: &'a Directory,
        place: usize,
        name: &'a [u8],
        node: &'a Node,
    ) -> Target {
        match node {
            Node::Directory(inner) => Target::Inode(self.push_directory(place, name, inner)),
            Node::Leaf(id) => match self.places[id.index()] {
                Some(inode) => Target::Inode(inode),
                None if self.survey.is_home(*id, directory) => {
                    let inode = self.push_leaf(place, name, *id);
                    self.places[id.index()] = Some(inode);
                    Target::Inode(inode)
                }
                None => Target::Link(*id),
            },
        }
    }

    fn push_directory(&mut self, parent: usize, name: &'a [u8], directory: &'a Directory) -> usize {
        let place = self.push(Inode {
            file_type: FileType::Directory,
            xattrs: InodeXattrs::of_tree(&directory.metadata),
            ..blank(parent, name, &directory.metadata)
        });
        self.waiting.push_back((directory, place, parent));
        place
    }

    fn push_stub(&mut self, name: &'a [u8], stub: &'a Metadata) -> usize {
        self.push(Inode {
            file_type: FileType::CharacterDevice,
            xattrs: InodeXattrs::of_tree(stub),
            ..blank(ROOT, name, stub)
        })
    }

    fn push_leaf(&mut self, parent: usize, name: &'a [u8], id: LeafId) -> usize {
        let leaf = self.tree.leaf(id);
        let mut xattrs = InodeXattrs::of_tree(&leaf.metadata);
        if let Content::Object { id, .. } = &leaf.content {
            add_object_xattrs(&mut xattrs, id);
        }
        let (mut file_type, body) = describe(&leaf.content);
        if leaf.content == Content::CharacterDevice(Device::WHITEOUT)
            && !(parent == ROOT && self.is_like_stub(name, leaf))
        {
            file_type = FileType::Regular;
            self.mark_whiteout(parent, &mut xattrs);
        }
        self.push(Inode {
            file_type,
            body,
            links: self.survey.links(id),
            xattrs,
            ..blank(parent, name, &leaf.metadata)
        })
    }

    /// A whiteout in the tree becomes an empty file that overlayfs shows as one.
    fn mark_whiteout(&mut self, directory: usize, xattrs: &mut InodeXattrs<'a>) {
        for (name, value) in overlay::WHITEOUT_MARKS {
            xattrs.add(name, Value::Bytes(value));
        }
        let directory = &mut self.inodes[directory];
        if !directory.has_whiteouts {
            directory.has_whiteouts = true;
            for (name, value) in overlay::WHITEOUTS_MARKS {
                directory.xattrs.add(name, Value::Bytes(value));
            }
        }
    }

    /// Whether a whiteout in the root can't be told from the devices `00` to `ff`.
    fn is_like_stub(&self, name: &[u8], leaf: &Leaf) -> bool {
        let stub = super::stub_metadata(&self.tree.root.metadata);
        format::STUB_NAMES.iter().any(|stub_name| stub_name == name) && leaf.metadata == stub
    }

    fn push(&mut self, inode: Inode<'a>) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// Gives the directories their entries, now that all inodes have their place.
    fn finish(&mut self, drafts: Vec<Draft<'a>>) {
        for Draft {
            directory,
            parent,
            entries,
        } in drafts
        {
            let to_directory = |name, inode| Entry {
                name,
                inode,
                file_type: FileType::Directory,
            };
            let mut listing = vec![
                to_directory(&b"."[..], directory),
                to_directory(b"..", parent),
            ];
            for (name, target) in entries {
                let inode = match target {
                    Target::Inode(inode) => Some(inode),
                    Target::Link(id) => self.places[id.index()],
                };
                // Every leaf has a home, and every home was walked.
                let Some(inode) = inode else { continue };
                listing.push(Entry {
                    name,
                    inode,
                    file_type: self.inodes[inode].file_type,
                });
            }
            let listing = Listing::new(listing);
            let inode = &mut self.inodes[directory];
            inode.links = listing.links();
            inode.body = Body::Directory(listing);
        }
    }
}

fn blank<'a>(parent: usize, name: &'a [u8], metadata: &'a Metadata) -> Inode<'a> {
    Inode {
        parent,
        name,
        metadata,
        file_type: FileType::Regular,
        body: Body::Nothing,
        links: 1,
        xattrs: InodeXattrs::default(),
        has_whiteouts: false,
        xattr_count: 0,
        xattr_len: 0,
        extended: false,
        offset: 0,
        blocks_at: 0,
    }
}

/// What overlayfs needs to find the content and to check it.
fn add_object_xattrs<'a>(xattrs: &mut InodeXattrs<'a>, id: &'a ObjectId) {
    xattrs.add(overlay::METACOPY, Value::Metacopy(id));
    xattrs.add(overlay::REDIRECT, Value::Redirect(id));
}

fn describe(content: &Content) -> (FileType, Body<'_>) {
    match content {
        Content::Inline(bytes) => (FileType::Regular, Body::Inline(bytes)),
        Content::Object { size, .. } => (FileType::Regular, Body::Object(*size)),
        Content::Symlink(target) => (FileType::Symlink, Body::Symlink(target)),
        Content::CharacterDevice(device) => (FileType::CharacterDevice, device_body(*device)),
        Content::BlockDevice(device) => (FileType::BlockDevice, device_body(*device)),
        Content::Fifo => (FileType::Fifo, Body::Nothing),
        Content::Socket => (FileType::Socket, Body::Nothing),
    }
}

/// The survey let only numbers pass that fit.
fn device_body(device: Device) -> Body<'static> {
    u32::try_from(device.to_raw()).map_or(Body::Nothing, Body::Device)
}
