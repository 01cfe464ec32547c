//! Reading the merged tree of an image.

use std::fs::File;
use std::io::{self, Read};

use hull_erofs::ObjectId;
use hull_erofs::tree::{
    Content, Device, Directory, Entry as Node, Leaf, LeafId, MAX_DEPTH, Metadata, Tree,
};

use super::rules::{self, Verdict};
use super::{Entry, Found, Inode, Kind, Opened, PATH_MAX, Reason, Rules, SpecialFiles};

/// Opens an object.
type Open<'a> = &'a dyn Fn(&ObjectId) -> io::Result<File>;

/// Reads what is in a tree.
pub(super) fn read(tree: &Tree, open: Open<'_>, rules: &Rules) -> io::Result<Found> {
    let mut walk = Walk {
        rules,
        tree,
        open,
        links: tree.link_counts(),
        found: Found::default(),
    };
    let root = walk.of(b"", Kind::Directory, &tree.root.metadata, None);
    walk.found.entries.push(root);
    walk.directory(&tree.root, &mut Vec::new(), 0)?;
    Ok(walk.found)
}

/// Opens the content of a regular file.
pub(super) fn open(tree: &Tree, open: Open<'_>, path: &[u8]) -> io::Result<Opened> {
    match tree.lookup(path) {
        Some(Node::Leaf(_, leaf)) => content(leaf, open),
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

struct Walk<'a> {
    rules: &'a Rules,
    tree: &'a Tree,
    open: Open<'a>,
    links: Vec<u32>,
    found: Found,
}

impl Walk<'_> {
    /// Reads what is in a directory; `path` is given back as it was.
    fn directory(
        &mut self,
        directory: &Directory,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let length = path.len();
        for (name, node) in &directory.entries {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.entry(name, node, path, depth + 1)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        name: &[u8],
        node: &hull_erofs::tree::Node,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        use hull_erofs::tree::Node;
        let excluded = self.rules.excludes(path);
        let metadata = match node {
            Node::Directory(directory) => &directory.metadata,
            Node::Leaf(id) => &self.tree.leaf(*id).metadata,
        };
        if excluded == Verdict::LeaveOut || rules::is_marked(&metadata.xattrs) {
            self.found.skip(path);
        } else if depth > MAX_DEPTH || path.len() > PATH_MAX {
            self.found.refuse(path, Reason::TooDeep);
        } else if name.starts_with(b".wh.") {
            self.found.refuse(path, Reason::Whiteout);
        } else {
            match node {
                Node::Directory(inner) => {
                    let entry = self.of(path, Kind::Directory, metadata, None);
                    self.found.entries.push(entry);
                    return self.inside(inner, path, depth, excluded);
                }
                Node::Leaf(id) => self.leaf(*id, path),
            }
        }
        Ok(())
    }

    /// Goes into a directory, unless its content is not for images.
    fn inside(
        &mut self,
        inner: &Directory,
        path: &mut Vec<u8>,
        depth: usize,
        excluded: Verdict,
    ) -> io::Result<()> {
        if excluded == Verdict::Empty || self.is_cache(inner)? {
            if !inner.entries.is_empty() {
                self.found.skip(path);
            }
            return Ok(());
        }
        if path == b"boot" && !self.rules.allow_boot {
            for name in inner.entries.keys() {
                let path = [&b"boot/"[..], name].concat();
                if self.rules.excludes(&path) != Verdict::LeaveOut {
                    self.found.refuse(&path, Reason::Boot);
                }
            }
            return Ok(());
        }
        self.directory(inner, path, depth)
    }

    fn is_cache(&self, directory: &Directory) -> io::Result<bool> {
        let Some(hull_erofs::tree::Node::Leaf(id)) = directory.entries.get(rules::CACHE_TAG) else {
            return Ok(false);
        };
        let leaf = self.tree.leaf(*id);
        if !matches!(leaf.content, Content::Inline(_) | Content::Object { .. }) {
            return Ok(false);
        }
        let mut head = Vec::new();
        content(leaf, self.open)?
            .take(rules::CACHE_SIGNATURE.len() as u64)
            .read_to_end(&mut head)?;
        Ok(head == rules::CACHE_SIGNATURE)
    }

    fn leaf(&mut self, id: LeafId, path: &[u8]) {
        let leaf = self.tree.leaf(id);
        let (name, kind) = match &leaf.content {
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
            (Some(kind), _) if name.is_empty() => self.take(id, path, kind),
            (_, SpecialFiles::Refuse) => self.found.refuse(path, Reason::Special(name)),
            (Some(kind), SpecialFiles::Keep) => self.take(id, path, kind),
            (_, SpecialFiles::Skip | SpecialFiles::Keep) => self.found.skip(path),
        }
    }

    fn take(&mut self, id: LeafId, path: &[u8], kind: Kind) {
        let entry = self.of(path, kind, &self.tree.leaf(id).metadata, Some(id));
        self.found.entries.push(entry);
    }

    fn of(&self, path: &[u8], kind: Kind, metadata: &Metadata, leaf: Option<LeafId>) -> Entry {
        let linked = leaf.filter(|id| self.links[id.index()] > 1);
        Entry {
            path: path.into(),
            kind,
            metadata: metadata.clone(),
            links: linked.map(|id| Inode {
                device: (0, 0),
                number: id.index() as u64,
            }),
        }
    }
}
