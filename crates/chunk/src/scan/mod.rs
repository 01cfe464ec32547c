//! Reading a root file system: names and metadata, not contents.
//!
//! A directory of this machine, or an image. What must not become part of an image is
//! left out here; what cannot become part of one is collected, so that a person
//! sees all of it at once.

mod attributes;
mod directory;
mod entries;
mod image;
mod names;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hull_erofs::ObjectId;
use hull_erofs::tree::{Device, MAX_DEPTH, Metadata, Tree};
use hull_sys::status::Status;
use rustix::fs::{Mode, OFlags};

pub use entries::Entries;
pub use rules::{InvalidExclusion, Rules, SpecialFiles};

/// The longest path in an image, in bytes.
const PATH_MAX: usize = 4095;
/// The longest name, in bytes.
const NAME_MAX: usize = 255;

/// What an entry is, with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of this many bytes.
    Regular(u64),
    /// A symbolic link with this target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// Which inode a name leads to, where more than one name does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    device: (u32, u32),
    number: u64,
}

impl Inode {
    fn of(seen: &Status) -> Self {
        Self {
            device: seen.device,
            number: seen.inode,
        }
    }
}

/// A name of the root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Components between single slashes; the root is the empty path.
    pub path: Box<[u8]>,
    /// What it is.
    pub kind: Kind,
    /// As it is on disk; in the image the time may be another.
    pub metadata: Metadata,
    /// Set where the inode has several names.
    pub links: Option<Inode>,
}

/// A name, made printable; with its slash in front.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullPath(Box<[u8]>);

impl FullPath {
    /// Of a path below the root.
    pub fn new(path: &[u8]) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for FullPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

/// Something that cannot become part of an image.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Refusal {
    /// Where it is in the root.
    pub path: FullPath,
    /// Why.
    pub reason: Reason,
}

/// Why a name is refused.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It cannot be read.
    #[error("it cannot be read: {0}; run as its owner or as root, or --exclude it")]
    Unreadable(io::Error),
    /// A device, a named pipe or a socket.
    #[error(
        "it is a {0}; --special-files=skip leaves such files out, =keep takes devices and pipes"
    )]
    Special(&'static str),
    /// A name that layers give another meaning.
    #[error(
        "a name that begins with .wh. would hide another file in a layer; rename or --exclude it"
    )]
    Whiteout,
    /// A device that overlays take for a deleted file.
    #[error("a character device 0/0 means a deleted file; --exclude it")]
    WhiteoutDevice,
    /// A file in /boot.
    #[error(
        "/boot belongs to the machine, not to the image: kernel and initramfs go to \
         /usr/lib/modules/VERSION; move it there, or keep it with --allow-boot"
    )]
    Boot,
    /// An attribute that a tar archive would give another name.
    #[error(
        "its extended attribute {0} has an equals sign in its name, which layers cannot hold; \
         remove it with setfattr -x"
    )]
    AttributeName(String),
    /// Longer than an image may have.
    #[error(
        "it lies deeper than {MAX_DEPTH} directories, or its path is longer than {PATH_MAX} bytes"
    )]
    TooDeep,
    /// Longer than a name in an image may be.
    #[error("its name is longer than {NAME_MAX} bytes; rename or --exclude it")]
    LongName,
    /// Something else was put in place of a directory, or on it.
    #[error("the directory changed while the root was read; stop what changes it and try again")]
    Changed,
}

/// A root file system that was read.
#[derive(Debug)]
pub struct Scan {
    contents: Contents,
    /// All entries by the bytes of their paths: a directory comes before what is in it.
    pub entries: Entries,
    /// What cannot become part of an image, by path.
    pub refusals: Vec<Refusal>,
    /// What was left out because the rules say so, by path.
    pub skipped: Vec<FullPath>,
    /// The exclusions that left out nothing, as they were given: nothing has such a path.
    pub unmet: Vec<FullPath>,
    /// Where the image itself was met and left out.
    pub image: Option<FullPath>,
}

/// The root itself could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the root file system {} cannot be opened", path.display())]
pub struct ScanError {
    path: PathBuf,
    source: io::Error,
}

impl Scan {
    /// Reads the root file system at `path`.
    pub fn read(path: &Path, rules: &Rules) -> Result<Self, ScanError> {
        let failed = |source: io::Error| ScanError {
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let found = directory::read(root.as_fd(), rules).map_err(failed)?;
        Ok(Self::new(Contents::Directory(root), found, rules))
    }

    /// Reads the merged tree of an image, whose objects `open` gives.
    pub fn read_image(tree: Tree, open: OpenObject, rules: &Rules) -> io::Result<Self> {
        let found = image::read(&tree, &open, rules)?;
        let tree = Box::new(tree);
        Ok(Self::new(Contents::Image { tree, open }, found, rules))
    }

    fn new(contents: Contents, found: Found, rules: &Rules) -> Self {
        let Found {
            mut entries,
            mut refusals,
            mut skipped,
            image,
        } = found;
        entries.join_links();
        refusals.sort_by(|a, b| a.path.cmp(&b.path));
        skipped.sort();
        let unmet = rules.unmet(&entries, &skipped);
        rules.add_skeleton(&mut entries);
        Self {
            contents,
            entries,
            refusals,
            skipped,
            unmet,
            image,
        }
    }

    /// The place of a path among the entries.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.entries.find(path)
    }

    /// Opens the content of a regular file, if it is still the file that was read.
    pub fn open(&self, entry: &Entry) -> io::Result<Opened> {
        let root = match &self.contents {
            Contents::Directory(root) => root,
            Contents::Image { tree, open } => return image::open(tree, open, &entry.path),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(hull_sys::dir::open_beneath(root, &*entry.path, flags)?);
        match directory::is_unchanged(entry, &file)? {
            true => Ok(Opened::File(file)),
            false => Err(io::Error::other(FileChanged)),
        }
    }

    /// Whether a file that was opened is as it was scanned: the length and the time.
    pub fn is_unchanged(&self, entry: &Entry, opened: &Opened) -> io::Result<bool> {
        match (&self.contents, opened) {
            (Contents::Directory(_), Opened::File(file)) => directory::is_unchanged(entry, file),
            // Objects never change.
            _ => Ok(true),
        }
    }

    /// The first bytes of a regular file, at most so many; nothing if there is no such entry.
    pub fn read_start(&self, path: &[u8], max: u64) -> io::Result<Option<Vec<u8>>> {
        let place = self.find(path);
        let Some(place) = place.filter(|&place| self.entries.size(place).is_some()) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        self.open(&self.entries.get(place))?
            .take(max)
            .read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// A file that is not the one that was read before.
#[derive(Debug, thiserror::Error)]
#[error("the file changed while it was read")]
struct FileChanged;

/// Whether a file could not be read because it is written to: it is another one by now, or ends before it should.
pub(crate) fn is_changed(error: &io::Error) -> bool {
    let inner = error.get_ref();
    error.kind() == io::ErrorKind::UnexpectedEof
        || inner.is_some_and(|inner| inner.is::<FileChanged>())
}

/// Where the contents of a root are.
enum Contents {
    Directory(OwnedFd),
    Image { tree: Box<Tree>, open: OpenObject },
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(root) => f.debug_tuple("Directory").field(root).finish(),
            Self::Image { .. } => f.debug_struct("Image").finish_non_exhaustive(),
        }
    }
}

/// Opens the object of an image.
pub type OpenObject = Box<dyn Fn(&ObjectId) -> io::Result<File> + Send + Sync>;

/// A content that is open.
#[derive(Debug)]
pub enum Opened {
    /// A file, from its beginning.
    File(File),
    /// What is left of a short one.
    Bytes(io::Cursor<Box<[u8]>>),
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Bytes(bytes) => bytes.read(buffer),
        }
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    entries: Entries,
    refusals: Vec<Refusal>,
    skipped: Vec<FullPath>,
    image: Option<FullPath>,
}

impl Found {
    fn refuse(&mut self, path: &[u8], reason: Reason) {
        self.refusals.push(Refusal {
            path: FullPath::new(path),
            reason,
        });
    }

    fn skip(&mut self, path: &[u8]) {
        self.skipped.push(FullPath::new(path));
    }
}
