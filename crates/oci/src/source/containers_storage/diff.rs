//! A layer as a tar, made from the files that podman unpacked it to: for a layer
//! without tar-split. It unpacks to the same files, and has other bytes than the
//! layer once had.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use super::owners::Owners;
use crate::layer::tar::write::{END, Head, padding};

/// The most entries of a layer that is put together.
const MAX_ENTRIES: usize = 4_000_000;
/// The longest extended attribute that Linux has, in bytes.
const MAX_XATTR: usize = 64 << 10;
/// Overlayfs keeps its own attributes below these.
const OVERLAY: [&[u8]; 3] = [
    b"trusted.overlay.",
    b"user.overlay.",
    b"user.fuseoverlayfs.",
];
/// Where rootless podman notes what a file should be.
const OVERRIDE: &[u8] = b"user.containers.override_stat";

/// The files of a layer, in the order of their names.
#[derive(Debug)]
pub(super) struct Diff {
    dir: Arc<OwnedFd>,
    owners: Arc<Owners>,
    paths: Arc<Vec<Vec<u8>>>,
}

impl Diff {
    /// Looks through the directory.
    pub(super) fn open(dir: OwnedFd, owners: Owners) -> io::Result<Self> {
        let mut paths = Vec::new();
        collect(&dir, b"", &mut paths)?;
        Ok(Self {
            dir: Arc::new(dir),
            owners: Arc::new(owners),
            paths: Arc::new(paths),
        })
    }

    /// The tar. Two readers give the same bytes unless files change meanwhile.
    pub(super) fn tar(&self) -> Tar {
        Tar {
            dir: Arc::clone(&self.dir),
            owners: Arc::clone(&self.owners),
            paths: Arc::clone(&self.paths),
            next: 0,
            linked: HashMap::new(),
            pending: Cursor::default(),
            file: None,
            ended: false,
        }
    }
}

fn collect(dir: &OwnedFd, prefix: &[u8], paths: &mut Vec<Vec<u8>>) -> io::Result<()> {
    for entry in hull_sys::dir::entries(dir)? {
        let mut path = prefix.to_vec();
        path.extend(entry.name.as_bytes());
        if paths.len() == MAX_ENTRIES {
            return Err(io::Error::other("the layer has too many files"));
        }
        paths.push(path.clone());
        if entry.kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let inner = hull_sys::dir::open_beneath(dir, entry.name.as_c_str(), flags)
                .map_err(|error| about(&path, error))?;
            path.push(b'/');
            collect(&inner, &path, paths)?;
        }
    }
    Ok(())
}

fn about(path: &[u8], error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => super::FOREIGN,
        _ => "",
    };
    let name = crate::layer::EntryName::new(path);
    io::Error::new(error.kind(), format!("{name}: {error}{advice}"))
}

/// The tar of a layer, made while it is read.
#[derive(Debug)]
pub(super) struct Tar {
    dir: Arc<OwnedFd>,
    owners: Arc<Owners>,
    paths: Arc<Vec<Vec<u8>>>,
    next: usize,
    /// The first name of files that have several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    pending: Cursor<Vec<u8>>,
    /// A file's content that follows what is pending, and its length.
    file: Option<(File, u64, u64)>,
    ended: bool,
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = self.pending.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            match &mut self.file {
                Some((_, 0, size)) => {
                    self.pending = Cursor::new(padding(*size).to_vec());
                    self.file = None;
                }
                Some((file, left, _)) => {
                    let room = usize::try_from(*left).map_or(buffer.len(), |n| n.min(buffer.len()));
                    let count = file.read(&mut buffer[..room])?;
                    if count == 0 {
                        return Err(io::Error::other("a file became shorter while it was read"));
                    }
                    *left -= count as u64;
                    return Ok(count);
                }
                None if self.ended => return Ok(0),
                None => self.advance()?,
            }
        }
    }
}

/// What a file is in the container's eyes.
struct Facts {
    stat: Stat,
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    opaque: bool,
}

impl Tar {
    /// Begins the next entry, or the end.
    fn advance(&mut self) -> io::Result<()> {
        let paths = Arc::clone(&self.paths);
        let Some(path) = paths.get(self.next) else {
            self.ended = true;
            self.pending = Cursor::new(END.to_vec());
            return Ok(());
        };
        self.next += 1;
        self.entry(path).map_err(|error| about(path, error))
    }

    fn entry(&mut self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = open_parent(&self.dir, path)?;
        let facts = self.facts(&parent, &name)?;
        let kind = FileType::from_raw_mode(facts.stat.st_mode);
        let mut head = Head {
            path,
            mode: facts.mode,
            uid: facts.uid,
            gid: facts.gid,
            mtime: (
                facts.stat.st_mtime,
                u32::try_from(facts.stat.st_mtime_nsec).unwrap_or(0),
            ),
            xattrs: &facts.xattrs,
            ..Head::default()
        };
        let target;
        let other;
        let with_slash;
        let device = facts.stat.st_rdev;
        head.device = (rustix::fs::major(device), rustix::fs::minor(device));
        if facts.stat.st_nlink > 1
            && kind != FileType::Directory
            && let Some(first) = self.linked.get(&(facts.stat.st_dev, facts.stat.st_ino))
        {
            other = first.clone();
            head.kind = b'1';
            head.link = &other;
            self.pending = Cursor::new(head.to_blocks());
            return Ok(());
        }
        match kind {
            FileType::Directory => {
                head.kind = b'5';
                with_slash = [path, b"/"].concat();
                head.path = &with_slash;
            }
            FileType::RegularFile => {
                head.kind = b'0';
                head.size = u64::try_from(facts.stat.st_size).unwrap_or(0);
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = File::from(hull_sys::dir::open_beneath(&parent, &*name, flags)?);
                self.file = Some((file, head.size, head.size));
            }
            FileType::Symlink => {
                head.kind = b'2';
                target = rustix::fs::readlinkat(&parent, &*name, Vec::new())?;
                head.link = target.as_bytes();
            }
            // Overlayfs' whiteout is the layer's.
            FileType::CharacterDevice if head.device == (0, 0) => {
                let whiteout = whiteout(path);
                let head = Head {
                    path: &whiteout,
                    kind: b'0',
                    ..Head::default()
                };
                self.pending = Cursor::new(head.to_blocks());
                return Ok(());
            }
            FileType::CharacterDevice => head.kind = b'3',
            FileType::BlockDevice => head.kind = b'4',
            FileType::Fifo => head.kind = b'6',
            // A socket is nobody's content.
            _ => return Ok(()),
        }
        if facts.stat.st_nlink > 1 && kind != FileType::Directory {
            self.linked
                .insert((facts.stat.st_dev, facts.stat.st_ino), path.to_vec());
        }
        let mut blocks = head.to_blocks();
        if facts.opaque {
            let path = [path, b"/.wh..wh..opq"].concat();
            let head = Head {
                path: &path,
                kind: b'0',
                ..Head::default()
            };
            blocks.extend(head.to_blocks());
        }
        self.pending = Cursor::new(blocks);
        Ok(())
    }

    fn facts(&self, parent: &OwnedFd, name: &CStr) -> io::Result<Facts> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut facts = Facts {
            stat,
            mode: stat.st_mode & 0o7777,
            uid: 0,
            gid: 0,
            xattrs: Vec::new(),
            opaque: false,
        };
        let mut overridden = None;
        for (name, value) in xattrs(parent, name)? {
            if let Some(own) = OVERLAY.iter().find_map(|prefix| name.strip_prefix(*prefix)) {
                match own {
                    b"opaque" => facts.opaque |= value.first() == Some(&b'y'),
                    b"redirect" | b"metacopy" => {
                        return Err(io::Error::other(
                            "the layer holds only a part of it (redirect_dir or metacopy), which hull does not read",
                        ));
                    }
                    _ => {}
                }
            } else if name == OVERRIDE {
                overridden = Some(value);
            } else if name != b"security.selinux" {
                facts.xattrs.push((name, value));
            }
        }
        facts.xattrs.sort();
        match overridden.as_deref().map(super::owners::parse_override) {
            Some(Some((uid, gid, mode))) => {
                (facts.uid, facts.gid, facts.mode) = (uid, gid, mode & 0o7777);
            }
            Some(None) => {
                return Err(io::Error::other(
                    "its attribute user.containers.override_stat is damaged",
                ));
            }
            None => {
                facts.uid = self.owners.user(stat.st_uid)?;
                facts.gid = self.owners.group(stat.st_gid)?;
            }
        }
        Ok(facts)
    }
}

/// The name that the specification gives to the removal of this path.
fn whiteout(path: &[u8]) -> Vec<u8> {
    let start = path
        .iter()
        .rposition(|&b| b == b'/')
        .map_or(0, |slash| slash + 1);
    [&path[..start], b".wh.", &path[start..]].concat()
}

fn open_parent(dir: &OwnedFd, path: &[u8]) -> io::Result<(OwnedFd, CString)> {
    let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = hull_sys::dir::open_beneath(dir, parent, flags)?;
    Ok((parent, CString::new(name)?))
}

/// The extended attributes of what a name in a directory is, links not followed.
fn xattrs(parent: &OwnedFd, name: &CStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend(name.to_bytes());
    let mut names = vec![0; MAX_XATTR];
    let count = match rustix::fs::llistxattr(&*path, &mut names[..]) {
        Ok(count) => count,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..count]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; MAX_XATTR];
        let length = rustix::fs::lgetxattr(&*path, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    Ok(found)
}
