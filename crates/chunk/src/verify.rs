//! Whether an image holds what its source does: every entry, in all that layers can say.

use std::fmt;
use std::io::{self, Read};

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, Directory, Entry as Found, LeafId, Metadata, Node, Tree, Xattrs};

use crate::components::{Components, Places};
use crate::scan::{Entry, FullPath, Kind, Scan};

/// The unit in which contents are compared, in bytes.
const BUFFER: usize = 128 * 1024;

/// In what an entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The entry.
    pub path: FullPath,
    /// What differs.
    pub what: &'static str,
    /// How it should be: as in the source, with the times that the rules for them give.
    pub expected: String,
    /// How it is in the image.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            what,
            expected,
            found,
        } = self;
        write!(f, "{path}: {what}: {expected} expected, {found} found")
    }
}

/// A comparison that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file of the source.
    #[error("{path} cannot be read")]
    Source {
        /// The file.
        path: FullPath,
        /// Why.
        source: io::Error,
    },
    /// Its content in the image.
    #[error("the content of {path} in the image cannot be read")]
    Image {
        /// The file.
        path: FullPath,
        /// Why.
        source: io::Error,
    },
}

/// Gives the content of an object.
pub type OpenObject<'a> = &'a dyn Fn(&ObjectId) -> io::Result<Box<dyn Read>>;

/// Every difference between a root file system and the merged tree of its image, by path.
///
/// Entries that the rules of the scan leave out must not be in the image. Holes
/// of sparse files are not compared.
pub fn differences(
    scan: &Scan,
    components: &Components,
    tree: &Tree,
    open: OpenObject<'_>,
) -> Result<Vec<Difference>, VerifyError> {
    let mut comparer = Comparer {
        scan,
        tree,
        open,
        differences: Vec::new(),
        inodes: Places::none(tree.leaf_count()),
        leaves: Places::none(scan.entries.len()),
    };
    for (place, entry) in scan.entries.iter().enumerate() {
        let expected = Metadata {
            mtime: components.time(scan, place),
            ..entry.metadata.clone()
        };
        comparer.entry(place, &entry, &expected)?;
    }
    comparer.extras(tree.root(), &mut Vec::new());
    comparer.differences.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(comparer.differences)
}

struct Comparer<'a> {
    scan: &'a Scan,
    tree: &'a Tree,
    open: OpenObject<'a>,
    differences: Vec<Difference>,
    /// The inode of the source that each leaf stands for, by its first name, and back.
    inodes: Places,
    leaves: Places,
}

impl Comparer<'_> {
    fn differ(
        &mut self,
        path: &[u8],
        what: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.differences.push(Difference {
            path: FullPath::new(path),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }

    fn entry(
        &mut self,
        place: usize,
        entry: &Entry,
        expected: &Metadata,
    ) -> Result<(), VerifyError> {
        let wanted = kind_name(&entry.kind);
        match self.tree.lookup(&entry.path) {
            None => self.differ(&entry.path, "entry", wanted, "nothing"),
            Some(Found::Directory(directory)) if entry.kind == Kind::Directory => {
                self.metadata(&entry.path, expected, &directory.metadata(), true);
            }
            Some(Found::Directory(_)) => self.differ(&entry.path, "type", wanted, "directory"),
            Some(Found::Leaf(id, leaf)) => {
                let found = content_name(&leaf.content);
                if found != wanted {
                    self.differ(&entry.path, "type", wanted, found);
                    return Ok(());
                }
                let mode = found != "symbolic link";
                self.metadata(&entry.path, expected, &leaf.metadata, mode);
                if self.links(place, entry, id) {
                    return self.content(entry, &leaf.content);
                }
            }
        }
        Ok(())
    }

    /// Compares which names go together; whether this is the first name of its inode.
    fn links(&mut self, place: usize, entry: &Entry, id: LeafId) -> bool {
        let of_several = self.scan.entries.first_name(place);
        let known = self.inodes.get(id.index());
        if known.is_none() {
            self.inodes.set(id.index(), of_several.or(Some(place)));
        }
        let same = match of_several {
            Some(first) => known.is_none_or(|known| known == first) && self.is_leaf_of(first, id),
            None => known.is_none(),
        };
        if !same {
            self.differ(&entry.path, "links", "the source's", "others");
        }
        known.is_none()
    }

    /// Whether this is the leaf of the inode with this first name; it is, if that has none yet.
    fn is_leaf_of(&mut self, first: usize, id: LeafId) -> bool {
        let known = self.leaves.get(first);
        if known.is_none() {
            self.leaves.set(first, Some(id.index()));
        }
        known.is_none_or(|known| known == id.index())
    }

    fn metadata(&mut self, path: &[u8], expected: &Metadata, found: &Metadata, mode: bool) {
        if mode && expected.mode != found.mode {
            let octal = |mode: u16| format!("{mode:04o}");
            self.differ(path, "mode", octal(expected.mode), octal(found.mode));
        }
        if (expected.uid, expected.gid) != (found.uid, found.gid) {
            let owner = |metadata: &Metadata| format!("{}:{}", metadata.uid, metadata.gid);
            self.differ(path, "owner", owner(expected), owner(found));
        }
        if expected.mtime != found.mtime {
            let time = |metadata: &Metadata| {
                let time = metadata.mtime;
                format!("{}.{:09}", time.seconds, time.nanoseconds)
            };
            self.differ(path, "time", time(expected), time(found));
        }
        if expected.xattrs != found.xattrs {
            self.differ(
                path,
                "attributes",
                shown(&expected.xattrs),
                shown(&found.xattrs),
            );
        }
    }

    fn content(&mut self, entry: &Entry, content: &Content) -> Result<(), VerifyError> {
        let device =
            |device: &hull_erofs::tree::Device| format!("{}:{}", device.major, device.minor);
        match (&entry.kind, content) {
            (Kind::Symlink(wanted), Content::Symlink(found)) if wanted != found => {
                self.differ(
                    &entry.path,
                    "target",
                    wanted.escape_ascii(),
                    found.escape_ascii(),
                );
            }
            (Kind::CharacterDevice(wanted), Content::CharacterDevice(found))
            | (Kind::BlockDevice(wanted), Content::BlockDevice(found))
                if wanted != found =>
            {
                self.differ(&entry.path, "device", device(wanted), device(found));
            }
            (Kind::Regular(size), Content::Inline(bytes)) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.bytes(entry, *size, length, &mut &**bytes)?;
            }
            (Kind::Regular(size), Content::Object { id, size: length }) => {
                let mut object = (self.open)(id).map_err(|source| VerifyError::Image {
                    path: FullPath::new(&entry.path),
                    source,
                })?;
                self.bytes(entry, *size, *length, &mut *object)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn bytes(
        &mut self,
        entry: &Entry,
        size: u64,
        length: u64,
        found: &mut dyn Read,
    ) -> Result<(), VerifyError> {
        if size != length {
            self.differ(&entry.path, "length", size, length);
            return Ok(());
        }
        let path = || FullPath::new(&entry.path);
        let mut source = self
            .scan
            .open(entry)
            .map_err(|source| VerifyError::Source {
                path: path(),
                source,
            })?;
        if let Some(offset) = first_difference(&mut source, found, path)? {
            self.differ(
                &entry.path,
                "content",
                "the source's",
                format!("another from byte {offset} on"),
            );
        }
        Ok(())
    }

    /// Finds what is in the image and not in the source.
    fn extras(&mut self, directory: Directory<'_>, path: &mut Vec<u8>) {
        let length = path.len();
        for (name, node) in directory.entries() {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            if self.scan.find(path).is_none() {
                self.differ(path, "entry", "nothing", "something");
            } else if let Node::Directory(inner) = node {
                self.extras(inner, path);
            }
            path.truncate(length);
        }
    }
}

/// Where two contents of the same length begin to differ, to within the unit of reading.
fn first_difference(
    source: &mut impl Read,
    found: &mut dyn Read,
    path: impl Fn() -> FullPath,
) -> Result<Option<u64>, VerifyError> {
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut offset = 0;
    loop {
        let wanted = fill(source, &mut a).map_err(|source| VerifyError::Source {
            path: path(),
            source,
        })?;
        let got = fill(found, &mut b).map_err(|source| VerifyError::Image {
            path: path(),
            source,
        })?;
        if a[..wanted] != b[..got] {
            return Ok(Some(offset));
        }
        if wanted == 0 {
            return Ok(None);
        }
        offset += u64::try_from(wanted).unwrap_or(0);
    }
}

/// Reads until the buffer is full or there is no more.
fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::Regular(_) => "regular file",
        Kind::Symlink(_) => "symbolic link",
        Kind::CharacterDevice(_) => "character device",
        Kind::BlockDevice(_) => "block device",
        Kind::Fifo => "named pipe",
    }
}

fn content_name(content: &Content) -> &'static str {
    match content {
        Content::Inline(_) | Content::Object { .. } => "regular file",
        Content::Symlink(_) => "symbolic link",
        Content::CharacterDevice(_) => "character device",
        Content::BlockDevice(_) => "block device",
        Content::Fifo => "named pipe",
        Content::Socket => "socket",
    }
}

fn shown(xattrs: &Xattrs) -> String {
    let pairs: Vec<_> = xattrs
        .iter()
        .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
        .collect();
    format!("[{}]", pairs.join(", "))
}
