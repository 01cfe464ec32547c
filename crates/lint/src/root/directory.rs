//! Reading the names of a directory of this machine, and of all below it on the same mount.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use hull_sys::dir;
use hull_sys::status::{Mount, Status};
use rustix::fs::{FileType, Mode, OFlags};

use super::Kind;

/// Deeper directories are not looked into.
const MAX_DEPTH: usize = 512;

type Entries = BTreeMap<Box<[u8]>, Kind>;
type Unreadable = Vec<(Box<[u8]>, io::Error)>;

/// All names below the root, and those that cannot be read.
pub(super) fn read(root: impl AsFd) -> io::Result<(Entries, Unreadable)> {
    let root = root.as_fd();
    let mut walk = Walk {
        mount: Status::of(root, c"")?.mount,
        entries: Entries::new(),
        unreadable: Unreadable::new(),
    };
    walk.entries.insert(Box::default(), Kind::Directory);
    walk.directory(root, &mut Vec::new(), 0)?;
    Ok((walk.entries, walk.unreadable))
}

struct Walk {
    mount: Mount,
    entries: Entries,
    unreadable: Unreadable,
}

impl Walk {
    /// Reads what is in a directory; `path` is given back as it was.
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let length = path.len();
        for found in dir::entries(dir)? {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(found.name.to_bytes());
            match self.entry(dir, &found.name, path, depth + 1) {
                // What is gone meanwhile is not part of the root.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unreadable.push((path.as_slice().into(), error)),
                Ok(()) => {}
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let seen = Status::of(dir, name)?;
        let mounted = seen.mount != self.mount;
        let kind = match seen.kind {
            FileType::Directory if mounted => Kind::Mount,
            // A file that an engine has put over the image's own.
            _ if mounted => return Ok(()),
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::Regular(seen.size),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                Kind::Symlink(target.into_bytes().into_boxed_slice())
            }
            _ => Kind::Special,
        };
        let inside = kind == Kind::Directory;
        self.entries.insert(path.as_slice().into(), kind);
        if !inside {
            return Ok(());
        }
        if depth >= MAX_DEPTH {
            return Err(io::Error::other(format!(
                "it lies deeper than {MAX_DEPTH} directories"
            )));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        self.directory(inner.as_fd(), path, depth)
    }
}
