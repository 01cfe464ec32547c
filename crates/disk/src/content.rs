//! How much a staged directory holds.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// The unit in which file systems give out space to files, in bytes.
const BLOCK: u64 = 4096;

/// How deep directories may be nested in a staged tree.
const MAX_DEPTH: usize = 256;

/// What a directory tree takes on a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// The contents of all files, each rounded up to 4 KiB.
    pub bytes: u64,
    /// Files, directories and everything else, with the root.
    pub entries: u64,
}

/// A staged directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The entry could not be read.
    #[error("cannot read {path} of the staged tree")]
    Read {
        /// The path inside the tree.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Directories are nested too deeply.
    #[error("{path} of the staged tree is nested more than {MAX_DEPTH} directories deep")]
    TooDeep {
        /// The path inside the tree.
        path: PathBuf,
    },
}

/// One entry of a staged tree.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The path inside the tree.
    pub(crate) path: &'a Path,
    pub(crate) kind: FileType,
    pub(crate) stat: &'a Stat,
    /// The directory that holds it, or the tree's root for the root itself.
    pub(crate) parent: &'a OwnedFd,
}

/// What a walk is told of: a directory is visited before its contents are
/// read, and left after.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Visit(Entry<'a>),
    Leave(Entry<'a>),
}

impl Content {
    /// Measures the tree below `root`; hard links count once for each name.
    pub fn measure(root: impl AsFd) -> Result<Content, ContentError> {
        let mut content = Content {
            bytes: 0,
            entries: 1,
        };
        walk(root, &mut |step| {
            if let Step::Visit(entry) = step {
                let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
                let rounded = size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
                content.bytes = content.bytes.saturating_add(rounded);
                content.entries += 1;
            }
            Ok::<(), ContentError>(())
        })?;
        Ok(content)
    }
}

/// Walks the tree below `root` in the order of the names' bytes, without `root` itself.
pub(crate) fn walk<E: From<ContentError>>(
    root: impl AsFd,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let root = open_directory(root, Path::new("."), Path::new(""))?;
    walk_directory(&root, Path::new(""), 0, visit)
}

fn walk_directory<E: From<ContentError>>(
    directory: &OwnedFd,
    path: &Path,
    depth: usize,
    visit: &mut dyn FnMut(Step<'_>) -> Result<(), E>,
) -> Result<(), E> {
    if depth > MAX_DEPTH {
        return Err(ContentError::TooDeep { path: path.into() }.into());
    }
    for name in sorted_names(directory, path)? {
        let entry_path = path.join(&name);
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| read_error(&entry_path, error))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        visit(Step::Visit(Entry {
            path: &entry_path,
            kind,
            stat: &stat,
            parent: directory,
        }))?;
        if kind == FileType::Directory {
            let child = open_directory(directory, Path::new(&name), &entry_path)?;
            walk_directory(&child, &entry_path, depth + 1, visit)?;
            visit(Step::Leave(Entry {
                path: &entry_path,
                kind,
                stat: &stat,
                parent: directory,
            }))?;
        }
    }
    Ok(())
}

fn open_directory(at: impl AsFd, name: &Path, path: &Path) -> Result<OwnedFd, ContentError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|error| read_error(path, error))
}

fn sorted_names(directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>, ContentError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(|error| read_error(path, error))? {
        let entry = entry.map_err(|error| read_error(path, error))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn read_error(path: &Path, error: rustix::io::Errno) -> ContentError {
    ContentError::Read {
        path: Path::new("/").join(path),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_in_whole_blocks_and_every_entry_counts() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path();
        std::fs::create_dir(path.join("d")).unwrap();
        std::fs::File::create(path.join("d/one"))
            .unwrap()
            .set_len(1)
            .unwrap();
        std::fs::File::create(path.join("two"))
            .unwrap()
            .set_len(4097)
            .unwrap();
        std::fs::File::create(path.join("empty")).unwrap();
        let directory = std::fs::File::open(path).unwrap();
        let content = Content::measure(&directory).unwrap();
        assert_eq!(content.entries, 5);
        let directory_size = std::fs::metadata(path.join("d")).unwrap().len();
        let directory_size = directory_size.next_multiple_of(4096);
        assert_eq!(content.bytes, 3 * 4096 + directory_size);
    }
}
