//! Reading a directory of this machine.
//!
//! Every name is opened relative to its directory and no symbolic link is
//! followed, so that nothing outside of the root gets in.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use hull_erofs::tree::{Device, MAX_DEPTH, Metadata, Timestamp, Xattrs};
use hull_sys::status::{Mount, Status};
use rustix::fs::{FileType, Mode, OFlags};

use super::rules::{self, Verdict};
use super::{Entry, Found, Inode, Kind, PATH_MAX, Reason, Rules, SpecialFiles, attributes};

/// Reads what is below an opened root.
pub(super) fn read(root: BorrowedFd<'_>, rules: &Rules) -> io::Result<Found> {
    let seen = Status::of(root, c"")?;
    let mut walk = Walk {
        rules,
        mount: seen.mount,
        found: Found::default(),
    };
    let xattrs = attributes::read(&attributes::of_directory(root))?;
    let entry = entry(&seen, b"", Kind::Directory, xattrs);
    walk.found.entries.push(entry);
    walk.directory(root, &mut Vec::new(), 0)?;
    Ok(walk.found)
}

/// Whether an open file is a regular one that has the length and the time of this entry.
pub(super) fn is_unchanged(entry: &Entry, file: impl AsFd) -> io::Result<bool> {
    let seen = Status::of(file.as_fd(), c"")?;
    Ok(seen.kind == FileType::RegularFile
        && entry.kind == Kind::Regular(seen.size)
        && entry.metadata.mtime == mtime(&seen))
}

struct Walk<'a> {
    rules: &'a Rules,
    /// The mount that the root is on; what is on others is left out.
    mount: Mount,
    found: Found,
}

impl Walk<'_> {
    /// Reads what is in a directory; `path` is given back as it was.
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let length = path.len();
        for found in hull_sys::dir::entries(dir)? {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(found.name.to_bytes());
            if let Err(error) = self.entry(dir, &found.name, path, depth + 1) {
                self.found.refuse(path, Reason::Unreadable(error));
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
        let excluded = self.rules.excludes(path);
        if excluded == Verdict::LeaveOut {
            self.found.skip(path);
            return Ok(());
        }
        let seen = Status::of(dir, name)?;
        let mounted = seen.mount != self.mount;
        if mounted && seen.kind != FileType::Directory {
            self.found.skip(path);
            return Ok(());
        }
        if depth > MAX_DEPTH || path.len() > PATH_MAX {
            self.found.refuse(path, Reason::TooDeep);
            return Ok(());
        }
        if mounted {
            self.found.entries.push(Rules::mount_point(path));
            self.found.skip(path);
            return Ok(());
        }
        let xattrs = attributes::read(&attributes::of_name(dir, name))?;
        if rules::is_marked(&xattrs) {
            self.found.skip(path);
            return Ok(());
        }
        if let Some(name) = xattrs.keys().find(|name| name.contains(&b'=')) {
            let name = String::from_utf8_lossy(name).into_owned();
            self.found.refuse(path, Reason::AttributeName(name));
            return Ok(());
        }
        if name.to_bytes().starts_with(b".wh.") {
            self.found.refuse(path, Reason::Whiteout);
            return Ok(());
        }
        let kind = match self.kind(dir, name, path, &seen)? {
            Some(kind) => kind,
            None => return Ok(()),
        };
        let is_directory = kind == Kind::Directory;
        self.found.entries.push(entry(&seen, path, kind, xattrs));
        if !is_directory {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        self.inside(inner.as_fd(), path, depth, excluded)
    }

    /// Goes into a directory, unless its content is not for images.
    fn inside(
        &mut self,
        inner: BorrowedFd<'_>,
        path: &mut Vec<u8>,
        depth: usize,
        excluded: Verdict,
    ) -> io::Result<()> {
        if excluded == Verdict::Empty || rules::is_cache(inner)? {
            if !hull_sys::dir::entries(inner)?.is_empty() {
                self.found.skip(path);
            }
            return Ok(());
        }
        if path == b"boot" && !self.rules.allow_boot {
            for found in hull_sys::dir::entries(inner)? {
                let path = [b"boot/", found.name.to_bytes()].concat();
                if self.rules.excludes(&path) != Verdict::LeaveOut {
                    self.found.refuse(&path, Reason::Boot);
                }
            }
            return Ok(());
        }
        self.directory(inner, path, depth)
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
            FileType::RegularFile => return Ok(Some(Kind::Regular(seen.size))),
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

/// The entry of a name, of which this is the status.
fn entry(seen: &Status, path: &[u8], kind: Kind, xattrs: Xattrs) -> Entry {
    let inode = Inode {
        device: seen.device,
        number: seen.inode,
    };
    let links = (kind != Kind::Directory && seen.links > 1).then_some(inode);
    Entry {
        path: path.into(),
        kind,
        metadata: Metadata {
            mode: seen.mode,
            uid: seen.uid,
            gid: seen.gid,
            mtime: mtime(seen),
            xattrs,
        },
        links,
    }
}

fn mtime(seen: &Status) -> Timestamp {
    let (seconds, nanoseconds) = seen.mtime;
    Timestamp {
        seconds,
        nanoseconds,
    }
}
