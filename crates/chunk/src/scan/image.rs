//! Reading the merged tree of an image.

use std::fs::File;
use std::io::{self, Read};

use hull_erofs::tree::{
    Content, Device, Directory, Entry as InTree, Leaf, LeafId, MAX_DEPTH, Node, Tree,
};
use hull_erofs::{HardLinks, ObjectId};

use super::entries::is_content_before;
use super::rules::{self, Verdict};
use super::{Found, Inode, Kind, NAME_MAX, Opened, PATH_MAX, Reason, Rules, SpecialFiles};

/// Opens an object.
type Open<'a> = &'a dyn Fn(&ObjectId) -> io::Result<File>;

/// Reads what is in a tree.
pub(super) fn read(tree: &Tree, open: Open<'_>, rules: &Rules) -> io::Result<Found> {
    let mut walk = Walk {
        rules,
        tree,
        open,
        links: tree.hard_links(),
        found: Found::default(),
    };
    let metadata = tree.root().metadata();
    let entries = &mut walk.found.entries;
    let place = entries.push(0, b"", &Kind::Directory, metadata, None);
    walk.directory(tree.root(), place, &mut Vec::new(), 0)?;
    Ok(walk.found)
}

/// Opens the content of a regular file.
pub(super) fn open(tree: &Tree, open: Open<'_>, path: &[u8]) -> io::Result<Opened> {
    match tree.lookup(path) {
        Some(InTree::Leaf(_, leaf)) => content(&leaf, open),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn content(leaf: &Leaf, open: Open<'_>) -> io::Result<Opened> {
    match &leaf.content {
        Content::Inline(bytes) => Ok(Opened::Bytes(io::Cursor::new(bytes.clone()))),
        Content::Object { id, .. } => open(id).map(Opened::File),
        _ => Err(io::Error::other("it is no regular file")),
    }
}

/// A directory among the entries, whose content comes later.
struct Waiting<'a> {
    name: &'a [u8],
    directory: Directory<'a>,
    place: usize,
    excluded: Verdict,
}

struct Walk<'a> {
    rules: &'a Rules,
    tree: &'a Tree,
    open: Open<'a>,
    links: HardLinks,
    found: Found,
}

impl<'a> Walk<'a> {
    /// Reads what is in a directory, in the order of the entries; `path` is given back as it was.
    fn directory(
        &mut self,
        directory: Directory<'a>,
        place: usize,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let length = path.len();
        let mut waiting: Vec<Waiting<'a>> = Vec::new();
        for (name, node) in directory.entries() {
            while let Some(due) = waiting.pop_if(|due| is_content_before(due.name, name)) {
                self.inside(&due, path, depth + 1)?;
            }
            push_name(path, name);
            waiting.extend(self.entry(name, node, place, path, depth + 1));
            path.truncate(length);
        }
        while let Some(due) = waiting.pop() {
            self.inside(&due, path, depth + 1)?;
        }
        Ok(())
    }

    /// Takes a name, if it is to be; of a directory what is needed to read its content.
    fn entry(
        &mut self,
        name: &'a [u8],
        node: Node<'a>,
        parent: usize,
        path: &[u8],
        depth: usize,
    ) -> Option<Waiting<'a>> {
        let excluded = self.rules.excludes(path);
        let metadata = match node {
            Node::Directory(directory) => directory.metadata(),
            Node::Leaf(id) => self.tree.leaf(id).metadata,
        };
        if excluded == Verdict::LeaveOut || rules::is_marked(&metadata.xattrs) {
            self.found.skip(path);
        } else if depth > MAX_DEPTH || path.len() > PATH_MAX {
            self.found.refuse(path, Reason::TooDeep);
        } else if name.len() > NAME_MAX {
            self.found.refuse(path, Reason::LongName);
        } else if name.starts_with(b".wh.") {
            self.found.refuse(path, Reason::Whiteout);
        } else {
            match node {
                Node::Directory(directory) => {
                    let entries = &mut self.found.entries;
                    return Some(Waiting {
                        name,
                        directory,
                        place: entries.push(parent, name, &Kind::Directory, metadata, None),
                        excluded,
                    });
                }
                Node::Leaf(id) => self.leaf(id, parent, name, path),
            }
        }
        None
    }

    /// Reads what is in a directory that waited; `path` is that of the directory above, and given back as it was.
    fn inside(&mut self, of: &Waiting<'a>, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let length = path.len();
        push_name(path, of.name);
        let read = self.content(of, path, depth);
        path.truncate(length);
        read
    }

    /// Goes into a directory, unless its content is not for images.
    fn content(&mut self, of: &Waiting<'a>, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let inner = of.directory;
        if of.excluded == Verdict::Empty || self.is_cache(inner)? {
            if !inner.is_empty() {
                self.found.skip(path);
            }
            return Ok(());
        }
        if path == b"boot" && !self.rules.allow_boot {
            for (name, _) in inner.entries() {
                let path = [&b"boot/"[..], name].concat();
                match self.rules.excludes(&path) {
                    Verdict::LeaveOut => self.found.skip(&path),
                    _ => self.found.refuse(&path, Reason::Boot),
                }
            }
            return Ok(());
        }
        self.directory(inner, of.place, path, depth)
    }

    fn is_cache(&self, directory: Directory<'_>) -> io::Result<bool> {
        let Some(Node::Leaf(id)) = directory.get(rules::CACHE_TAG) else {
            return Ok(false);
        };
        let leaf = self.tree.leaf(id);
        if !matches!(leaf.content, Content::Inline(_) | Content::Object { .. }) {
            return Ok(false);
        }
        let mut head = Vec::new();
        content(&leaf, self.open)?
            .take(rules::CACHE_SIGNATURE.len() as u64)
            .read_to_end(&mut head)?;
        Ok(head == rules::CACHE_SIGNATURE)
    }

    fn leaf(&mut self, id: LeafId, parent: usize, name: &[u8], path: &[u8]) {
        let leaf = self.tree.leaf(id);
        let (special, kind) = match &leaf.content {
            Content::Inline(bytes) => ("", Some(Kind::Regular(bytes.len() as u64))),
            Content::Object { size, .. } => ("", Some(Kind::Regular(*size))),
            Content::Symlink(target) => ("", Some(Kind::Symlink(target.clone()))),
            Content::CharacterDevice(Device::WHITEOUT) => {
                return self.found.refuse(path, Reason::WhiteoutDevice);
            }
            Content::CharacterDevice(device) => {
                ("character device", Some(Kind::CharacterDevice(*device)))
            }
            Content::BlockDevice(device) => ("block device", Some(Kind::BlockDevice(*device))),
            Content::Fifo => ("named pipe", Some(Kind::Fifo)),
            Content::Socket => ("socket", None),
        };
        match (kind, self.rules.special_files) {
            (Some(kind), _) if special.is_empty() => self.take(id, parent, name, &kind),
            (_, SpecialFiles::Refuse) => self.found.refuse(path, Reason::Special(special)),
            (Some(kind), SpecialFiles::Keep) => self.take(id, parent, name, &kind),
            (_, SpecialFiles::Skip | SpecialFiles::Keep) => self.found.skip(path),
        }
    }

    fn take(&mut self, id: LeafId, parent: usize, name: &[u8], kind: &Kind) {
        let linked = self.links.rank(id).is_some();
        let links = linked.then(|| Inode {
            device: (0, 0),
            number: id.index() as u64,
        });
        let metadata = self.tree.leaf(id).metadata;
        let entries = &mut self.found.entries;
        entries.push(parent, name, kind, metadata, links);
    }
}

fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}
