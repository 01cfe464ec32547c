//! A version of `/etc`: what is in it, and how its files are read.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use hull_erofs::fsverity::{self, ObjectId};
use hull_erofs::tree::{self as image, Device, Metadata};
use hull_sys::dir;
use rustix::fs::OFlags;

/// One version of `/etc`, from a directory or from an image's tree.
///
/// Contents stay where they are until something needs them.
pub struct EtcTree<'a> {
    pub(super) root: Directory,
    source: Source<'a>,
}

impl std::fmt::Debug for EtcTree<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcTree").finish_non_exhaustive()
    }
}

type OpenObject<'a> = dyn Fn(&ObjectId) -> io::Result<File> + 'a;

enum Source<'a> {
    Empty,
    Directory(OwnedFd),
    Image(Box<OpenObject<'a>>),
}

#[derive(Default)]
pub(super) struct Directory {
    pub(super) metadata: Metadata,
    pub(super) entries: BTreeMap<Box<[u8]>, Node>,
}

pub(super) enum Node {
    Directory(Directory),
    Leaf(Leaf),
}

pub(super) struct Leaf {
    pub(super) metadata: Metadata,
    pub(super) content: Content,
}

pub(super) enum Content {
    Regular(Regular),
    Symlink(Box<[u8]>),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
    Socket,
}

pub(super) struct Regular {
    pub(super) size: u64,
    place: Place,
    /// Its digest, once it had to be read for it.
    digest: OnceCell<ObjectId>,
}

enum Place {
    Inline(Box<[u8]>),
    Object(ObjectId),
    /// A path below the directory that was scanned.
    Path(Vec<u8>),
}

impl Node {
    pub(super) fn metadata(&self) -> &Metadata {
        match self {
            Self::Directory(directory) => &directory.metadata,
            Self::Leaf(leaf) => &leaf.metadata,
        }
    }

    pub(super) fn as_directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::Leaf(_) => None,
        }
    }

    pub(super) fn as_regular(&self) -> Option<&Regular> {
        match self {
            Self::Leaf(Leaf {
                content: Content::Regular(regular),
                ..
            }) => Some(regular),
            _ => None,
        }
    }
}

impl Regular {
    pub(super) fn at_path(path: Vec<u8>, size: u64) -> Self {
        Self {
            size,
            place: Place::Path(path),
            digest: OnceCell::new(),
        }
    }
}

impl<'a> EtcTree<'a> {
    /// An empty one.
    pub fn empty() -> Self {
        Self {
            root: Directory {
                metadata: Metadata {
                    mode: 0o755,
                    ..Metadata::default()
                },
                entries: BTreeMap::new(),
            },
            source: Source::Empty,
        }
    }

    pub(super) fn from_scan(root: Directory, dir: OwnedFd) -> Self {
        Self {
            root,
            source: Source::Directory(dir),
        }
    }

    /// The `/etc` of an image's whole tree; `open` opens an object of the store.
    ///
    /// An image without `/etc` has an empty one.
    pub fn from_image(
        tree: &image::Tree,
        open: impl Fn(&ObjectId) -> io::Result<File> + 'a,
    ) -> Self {
        Self::from_part(tree, tree.directory(b"etc"), open)
    }

    /// The same from a tree whose root is the image's `/etc`, if it has one.
    pub fn from_image_etc(
        etc: Option<&image::Tree>,
        open: impl Fn(&ObjectId) -> io::Result<File> + 'a,
    ) -> Self {
        match etc {
            Some(tree) => Self::from_part(tree, Some(tree.root()), open),
            None => Self::empty(),
        }
    }

    fn from_part(
        tree: &image::Tree,
        etc: Option<image::Directory<'_>>,
        open: impl Fn(&ObjectId) -> io::Result<File> + 'a,
    ) -> Self {
        let root = match etc {
            Some(etc) => convert_directory(tree, etc),
            None => Self::empty().root,
        };
        Self {
            root,
            source: Source::Image(Box::new(open)),
        }
    }

    /// Opens the content of a file of this tree.
    pub(super) fn open<'s>(&'s self, file: &'s Regular) -> io::Result<Box<dyn Read + 's>> {
        Ok(match (&file.place, &self.source) {
            (Place::Inline(bytes), _) => Box::new(&**bytes),
            (Place::Object(id), Source::Image(open)) => Box::new(open(id)?),
            (Place::Path(path), Source::Directory(root)) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                Box::new(File::from(dir::open_beneath(root, &**path, flags)?))
            }
            _ => return Err(io::Error::other("the file belongs to another tree")),
        })
    }

    /// Whether both files have the same bytes; each is read at most once.
    pub(super) fn same_content(
        &self,
        file: &Regular,
        other_tree: &EtcTree<'_>,
        other: &Regular,
    ) -> io::Result<bool> {
        if file.size != other.size {
            return Ok(false);
        }
        if let (Place::Inline(a), Place::Inline(b)) = (&file.place, &other.place) {
            return Ok(a == b);
        }
        Ok(self.digest(file)? == other_tree.digest(other)?)
    }

    fn digest(&self, file: &Regular) -> io::Result<ObjectId> {
        if let Place::Object(id) = &file.place {
            return Ok(*id);
        }
        if let Some(digest) = file.digest.get() {
            return Ok(*digest);
        }
        let digest = digest_of(self.open(file)?)?;
        Ok(*file.digest.get_or_init(|| digest))
    }
}

fn digest_of(mut content: impl Read) -> io::Result<ObjectId> {
    let mut hasher = fsverity::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn convert_directory(tree: &image::Tree, directory: image::Directory<'_>) -> Directory {
    let convert = |node: image::Node<'_>| match node {
        image::Node::Directory(inner) => Node::Directory(convert_directory(tree, inner)),
        image::Node::Leaf(id) => Node::Leaf(convert_leaf(&tree.leaf(id))),
    };
    Directory {
        metadata: convert_metadata(&directory.metadata()),
        entries: directory
            .entries()
            .map(|(name, node)| (name.into(), convert(node)))
            .collect(),
    }
}

fn convert_metadata(metadata: &Metadata) -> Metadata {
    let mut metadata = metadata.clone();
    metadata.xattrs.retain(|name, _| is_merged_xattr(name));
    metadata
}

/// Attributes of the namespace `trusted` are the overlay's own.
pub(super) fn is_merged_xattr(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.")
}

fn convert_leaf(leaf: &image::Leaf) -> Leaf {
    let regular = |size, place| {
        Content::Regular(Regular {
            size,
            place,
            digest: OnceCell::new(),
        })
    };
    Leaf {
        metadata: convert_metadata(&leaf.metadata),
        content: match &leaf.content {
            image::Content::Inline(bytes) => regular(
                u64::try_from(bytes.len()).unwrap_or(u64::MAX),
                Place::Inline(bytes.clone()),
            ),
            image::Content::Object { id, size } => regular(*size, Place::Object(*id)),
            image::Content::Symlink(target) => Content::Symlink(target.clone()),
            image::Content::CharacterDevice(device) => Content::CharacterDevice(*device),
            image::Content::BlockDevice(device) => Content::BlockDevice(*device),
            image::Content::Fifo => Content::Fifo,
            image::Content::Socket => Content::Socket,
        },
    }
}
