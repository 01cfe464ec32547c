//! A root file system, read once: what names it has, and their contents where they are asked for.

mod directory;
mod image;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use hull_chunk::scan::{Refusal, Rules, Scan};
use hull_erofs::tree::Tree;
use hull_sys::dir;
use rustix::fs::{FileType, OFlags};

pub use image::OpenObject;

/// So many symbolic links are followed for one name, as the kernel does.
const MAX_LINKS: usize = 40;

/// The longest text that is read, in bytes.
pub(crate) const MAX_TEXT: u64 = 1 << 20;

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A directory that another file system is mounted on; what is in it was not looked at.
    Mount,
    /// A regular file of this many bytes.
    Regular(u64),
    /// A symbolic link with this target.
    Symlink(Box<[u8]>),
    /// A device, a named pipe or a socket.
    Special,
}

/// A root file system that was read.
///
/// Paths are bytes: components between single slashes, without one in front.
pub struct Root {
    entries: BTreeMap<Box<[u8]>, Kind>,
    unreadable: Vec<(Box<[u8]>, io::Error)>,
    refusals: Vec<Refusal>,
    contents: Contents,
    labels: Option<BTreeMap<String, String>>,
    running: bool,
}

/// Where the contents are.
enum Contents {
    Directory(OwnedFd),
    Image { tree: Box<Tree>, open: OpenObject },
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("names", &self.entries.len())
            .field("labels", &self.labels)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// The root itself cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the root file system {path} cannot be read")]
pub struct RootError {
    path: String,
    source: io::Error,
}

impl Root {
    /// Reads the names below `path`. What lies on other mounts is left out, so that `/` of a
    /// container that is being built gives what becomes the image.
    pub fn read(path: &Path) -> Result<Self, RootError> {
        let failed = |source: io::Error| RootError {
            path: path.display().to_string(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .map_err(|e| failed(e.into()))?;
        let (entries, unreadable) = directory::read(&root).map_err(failed)?;
        let scan = Scan::read(path, &chunk_rules()).map_err(|e| failed(io::Error::other(e)))?;
        Ok(Self {
            entries,
            unreadable,
            refusals: scan.refusals,
            contents: Contents::Directory(root),
            labels: None,
            running: path == Path::new("/"),
        })
    }

    /// Reads the merged tree of an image, whose objects `open` gives; `name` is for errors.
    pub fn of_image(
        name: &str,
        tree: Tree,
        open: OpenObject,
        labels: BTreeMap<String, String>,
    ) -> Result<Self, RootError> {
        let objects = Arc::clone(&open);
        let scan = Scan::read_image(
            tree.clone(),
            Box::new(move |id| objects(id)),
            &chunk_rules(),
        );
        let scan = scan.map_err(|source| RootError {
            path: name.to_owned(),
            source,
        })?;
        Ok(Self {
            entries: image::read(&tree),
            unreadable: Vec::new(),
            refusals: scan.refusals,
            contents: Contents::Image {
                tree: Box::new(tree),
                open,
            },
            labels: Some(labels),
            running: false,
        })
    }

    /// The labels of an image; a directory has none.
    pub(crate) fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.labels.as_ref()
    }

    /// Whether it is the root that this program runs in: an engine may have put files into it that
    /// are not going to be in the image.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All names, a directory before what is in it.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&[u8], &Kind)> {
        self.entries.iter().map(|(path, kind)| (&**path, kind))
    }

    /// What could not be looked at, and why.
    pub(crate) fn unreadable(&self) -> &[(Box<[u8]>, io::Error)] {
        &self.unreadable
    }

    /// What `hull chunk` would refuse.
    pub(crate) fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// What a name is; no link is followed.
    pub(crate) fn get(&self, path: &str) -> Option<&Kind> {
        self.entries.get(path.as_bytes())
    }

    /// Whether it is a directory; no link is followed.
    pub(crate) fn is_directory(&self, path: &str) -> bool {
        matches!(self.get(path), Some(Kind::Directory | Kind::Mount))
    }

    /// What is below a directory, at any depth.
    pub(crate) fn below(&self, path: &[u8]) -> impl Iterator<Item = (&[u8], &Kind)> {
        let prefix = [path, b"/"].concat();
        self.entries
            .range(prefix.clone().into_boxed_slice()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, kind)| (&**path, kind))
    }

    /// What is in a directory: path, name, kind.
    pub(crate) fn children(&self, path: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &Kind)> {
        let length = path.len() + 1;
        self.below(path).filter_map(move |(path, kind)| {
            let name = &path[length..];
            (!name.contains(&b'/')).then_some((path, name, kind))
        })
    }

    /// The place that a name leads to, with every link followed as if this were the root directory;
    /// nothing where it leads nowhere.
    pub(crate) fn resolve(&self, path: &[u8]) -> Option<(&[u8], &Kind)> {
        let mut open: Vec<Box<[u8]>> = components(path);
        let mut at: Vec<u8> = Vec::new();
        let mut found = None;
        let mut links = 0;
        while let Some(name) = open.pop() {
            if *name == *b".." {
                let parent = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                at.truncate(parent);
                found = self.entries.get_key_value(&at[..]);
                continue;
            }
            let length = at.len();
            if length > 0 {
                at.push(b'/');
            }
            at.extend_from_slice(&name);
            let (key, kind) = self.entries.get_key_value(&at[..])?;
            found = Some((key, kind));
            if let Kind::Symlink(target) = kind {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                at.truncate(if target.starts_with(b"/") { 0 } else { length });
                found = self.entries.get_key_value(&at[..]);
                open.extend(components(target));
            }
        }
        found.map(|(path, kind)| (&**path, kind))
    }

    /// Opens a regular file, links followed inside of the root; nothing where there is none.
    pub(crate) fn open(&self, path: &str) -> io::Result<Option<Box<dyn Read>>> {
        let Some((path, kind)) = self.resolve(path.as_bytes()) else {
            return Ok(None);
        };
        if !matches!(kind, Kind::Regular(_)) {
            return Err(not_a_file());
        }
        let root = match &self.contents {
            Contents::Directory(root) => root,
            Contents::Image { tree, open } => return image::open(tree, open, path).map(Some),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(dir::open_beneath(root, path, flags)?);
        let stat = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some(Box::new(file))),
            _ => Err(not_a_file()),
        }
    }

    /// The first bytes of a file, at most so many.
    pub(crate) fn start(&self, path: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The text of a file of at most [`MAX_TEXT`] bytes.
    pub(crate) fn text(&self, path: &str) -> io::Result<Option<String>> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let bytes = dir::read_at_most(file, MAX_TEXT)?;
        let text = String::from_utf8(bytes);
        let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
        text.map(Some).map_err(invalid)
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// What `hull chunk` takes; what lies in /boot has a lint of its own.
fn chunk_rules() -> Rules {
    let mut rules = Rules::default();
    rules.allow_boot = true;
    rules
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Box<[u8]>> {
    path.rsplit(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(Into::into)
        .collect()
}

/// A path as people read it: with a slash in front, and bytes that are not text escaped.
pub(crate) fn printable(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) => format!("/{text}"),
        Err(_) => format!("/{}", path.escape_ascii()),
    }
}
