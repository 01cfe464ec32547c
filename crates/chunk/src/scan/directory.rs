//! Reading a directory of this machine.
//!
//! Every name is opened relative to its directory and no symbolic link is
//! followed, so that nothing outside of the root gets in.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use hull_erofs::tree::{Device, MAX_DEPTH, Metadata, Timestamp, Xattrs};
use hull_sys::status::{Mount, Status};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};

use super::entries::is_content_before;
use super::names::Names;
use super::rules::{self, Verdict};
use super::{
    Entry, Found, FullPath, Inode, Kind, NAME_MAX, PATH_MAX, Reason, Rules, SpecialFiles,
    attributes,
};

/// Reads what is below an opened root.
pub(super) fn read(root: BorrowedFd<'_>, rules: &Rules) -> io::Result<Found> {
    let seen = Status::of(root, c"")?;
    let mut walk = Walk {
        rules,
        mount: seen.mount,
        found: Found::default(),
    };
    let xattrs = attributes::read(&attributes::of_directory(root))?;
    let place = walk.take(0, b"", &Kind::Directory, &seen, xattrs);
    walk.directory(root, place, &mut Vec::new(), 0)?;
    Ok(walk.found)
}

/// Whether an open file is a regular one that has the length and the time of this entry.
pub(super) fn is_unchanged(entry: &Entry, file: impl AsFd) -> io::Result<bool> {
    let seen = Status::of(file.as_fd(), c"")?;
    Ok(seen.kind == FileType::RegularFile
        && entry.kind == Kind::Regular(seen.size)
        && entry.metadata.mtime == mtime(&seen))
}

/// A directory among the entries, whose content comes later.
struct Waiting {
    name: CString,
    seen: Seen,
}

/// A directory that was taken.
struct Seen {
    place: usize,
    excluded: Verdict,
    inode: Inode,
}

struct Walk<'a> {
    rules: &'a Rules,
    /// The mount that the root is on; what is on others is left out.
    mount: Mount,
    found: Found,
}

impl Walk<'_> {
    /// Reads what is in a directory, in the order of the entries; `path` is given back as it was.
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        place: usize,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let mut waiting: Vec<Waiting> = Vec::new();
        let names = Names::read(dir)?;
        for name in names.iter() {
            let is_due =
                |waiting: &mut Waiting| is_content_before(waiting.name.to_bytes(), name.to_bytes());
            while let Some(due) = waiting.pop_if(is_due) {
                self.content(dir, &due, path, depth);
            }
            self.below(path, name.to_bytes(), |walk, path| {
                if let Some(seen) = walk.entry(dir, name, place, path, depth + 1)? {
                    let name = name.to_owned();
                    waiting.push(Waiting { name, seen });
                }
                Ok(())
            });
        }
        while let Some(due) = waiting.pop() {
            self.content(dir, &due, path, depth);
        }
        Ok(())
    }

    /// Does something with a name in a directory; what cannot be read is refused by its path.
    fn below(
        &mut self,
        path: &mut Vec<u8>,
        name: &[u8],
        work: impl FnOnce(&mut Self, &mut Vec<u8>) -> io::Result<()>,
    ) {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if let Err(error) = work(self, path) {
            self.found.refuse(path, Reason::Unreadable(error));
        }
        path.truncate(length);
    }

    /// Reads what is in a directory that waited.
    fn content(&mut self, dir: BorrowedFd<'_>, of: &Waiting, path: &mut Vec<u8>, depth: usize) {
        self.below(path, of.name.to_bytes(), |walk, path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(dir, &of.name, flags, Mode::empty())?;
            let now = Status::of(inner.as_fd(), c"")?;
            if now.mount != walk.mount || Inode::of(&now) != of.seen.inode {
                walk.found.refuse(path, Reason::Changed);
                return Ok(());
            }
            walk.inside(inner.as_fd(), &of.seen, path, depth + 1)
        });
    }

    /// Takes a name, if it is to be; gives a directory whose content is to be read.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        parent: usize,
        path: &[u8],
        depth: usize,
    ) -> io::Result<Option<Seen>> {
        let excluded = self.rules.excludes(path);
        if excluded == Verdict::LeaveOut {
            self.found.skip(path);
            return Ok(None);
        }
        let seen = Status::of(dir, name)?;
        let mounted = seen.mount != self.mount;
        if mounted && seen.kind != FileType::Directory {
            self.found.skip(path);
            return Ok(None);
        }
        if self.rules.is_image(&seen) && !mounted {
            self.found.skip(path);
            self.found.image = Some(FullPath::new(path));
            return Ok(None);
        }
        if depth > MAX_DEPTH || path.len() > PATH_MAX {
            self.found.refuse(path, Reason::TooDeep);
            return Ok(None);
        }
        if name.to_bytes().len() > NAME_MAX {
            self.found.refuse(path, Reason::LongName);
            return Ok(None);
        }
        if mounted {
            let metadata = Rules::mount_point(path);
            let entries = &mut self.found.entries;
            entries.push(parent, name.to_bytes(), &Kind::Directory, metadata, None);
            self.found.skip(path);
            return Ok(None);
        }
        let xattrs = attributes::read(&attributes::of_name(dir, name))?;
        if rules::is_marked(&xattrs) {
            self.found.skip(path);
            return Ok(None);
        }
        if let Some(name) = xattrs.keys().find(|name| name.contains(&b'=')) {
            let name = String::from_utf8_lossy(name).into_owned();
            self.found.refuse(path, Reason::AttributeName(name));
            return Ok(None);
        }
        if name.to_bytes().starts_with(b".wh.") {
            self.found.refuse(path, Reason::Whiteout);
            return Ok(None);
        }
        let Some(kind) = self.kind(dir, name, path, &seen)? else {
            return Ok(None);
        };
        let place = self.take(parent, name.to_bytes(), &kind, &seen, xattrs);
        Ok((kind == Kind::Directory).then(|| Seen {
            place,
            excluded,
            inode: Inode::of(&seen),
        }))
    }

    /// Adds the entry of a name, of which this is the status.
    fn take(
        &mut self,
        parent: usize,
        name: &[u8],
        kind: &Kind,
        seen: &Status,
        xattrs: Xattrs,
    ) -> usize {
        let links = (*kind != Kind::Directory && seen.links > 1).then(|| Inode::of(seen));
        let metadata = Metadata {
            mode: seen.mode,
            uid: seen.uid,
            gid: seen.gid,
            mtime: mtime(seen),
            xattrs,
        };
        let entries = &mut self.found.entries;
        entries.push(parent, name, kind, metadata, links)
    }

    /// Goes into a directory, unless its content is not for images.
    fn inside(
        &mut self,
        inner: BorrowedFd<'_>,
        of: &Seen,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        if of.excluded == Verdict::Empty || rules::is_cache(inner)? {
            if !is_empty(inner)? {
                self.found.skip(path);
            }
            return Ok(());
        }
        if path == b"boot" && !self.rules.allow_boot {
            for name in Names::read(inner)?.iter() {
                let path = [b"boot/", name.to_bytes()].concat();
                match self.rules.excludes(&path) {
                    Verdict::LeaveOut => self.found.skip(&path),
                    _ => self.found.refuse(&path, Reason::Boot),
                }
            }
            return Ok(());
        }
        self.directory(inner, of.place, path, depth)
    }

    /// What a name is; nothing where it is left out or refused.
    fn kind(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        seen: &Status,
    ) -> io::Result<Option<Kind>> {
        let (major, minor) = seen.represents;
        let device = Device { major, minor };
        let special = match seen.kind {
            FileType::Directory => return Ok(Some(Kind::Directory)),
            FileType::RegularFile => {
                // Before any work: its content is read much later.
                rustix::fs::accessat(dir, name, Access::READ_OK, AtFlags::EACCESS)?;
                return Ok(Some(Kind::Regular(seen.size)));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                return Ok(Some(Kind::Symlink(target.into_bytes().into_boxed_slice())));
            }
            FileType::CharacterDevice if device == Device::WHITEOUT => {
                self.found.refuse(path, Reason::WhiteoutDevice);
                return Ok(None);
            }
            FileType::CharacterDevice => ("character device", Some(Kind::CharacterDevice(device))),
            FileType::BlockDevice => ("block device", Some(Kind::BlockDevice(device))),
            FileType::Fifo => ("named pipe", Some(Kind::Fifo)),
            _ => ("socket", None),
        };
        match self.rules.special_files {
            SpecialFiles::Refuse => self.found.refuse(path, Reason::Special(special.0)),
            SpecialFiles::Keep if special.1.is_some() => return Ok(special.1),
            SpecialFiles::Skip | SpecialFiles::Keep => self.found.skip(path),
        }
        Ok(None)
    }
}

fn is_empty(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let mut is_empty = true;
    hull_sys::dir::for_each_entry(dir, |_, _| {
        is_empty = false;
        Ok::<(), io::Error>(())
    })?;
    Ok(is_empty)
}

fn mtime(seen: &Status) -> Timestamp {
    let (seconds, nanoseconds) = seen.mtime;
    Timestamp {
        seconds,
        nanoseconds,
    }
}
