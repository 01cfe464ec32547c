//! Reading a directory into an [`EtcTree`].

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hull_erofs::tree::{Device, MAX_DEPTH, Metadata, Timestamp, Xattrs};
use hull_sys::dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::tree::{Content, Directory, EtcTree, Leaf, Node, Regular, is_merged_xattr};

/// The kernel's limit for a list of names, and for a value.
const XATTR_MAX: usize = 64 << 10;

/// Why a directory could not be scanned.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} of the old /etc: {source}")]
pub struct ScanError {
    path: String,
    source: io::Error,
}

impl EtcTree<'_> {
    /// Reads names and metadata of all that is in `dir`; contents stay where
    /// they are, and `dir` must not change while the tree is used.
    pub fn scan(dir: OwnedFd) -> Result<Self, ScanError> {
        let mut scanner = Scanner {
            path: Vec::new(),
            depth: 0,
        };
        let root = scanner.directory(dir.as_fd()).map_err(|source| ScanError {
            path: format!("/{}", String::from_utf8_lossy(&scanner.path)),
            source,
        })?;
        Ok(Self::from_scan(root, dir))
    }
}

/// Holds the path that it is at, below the directory; after an error, that of
/// what caused it.
struct Scanner {
    path: Vec<u8>,
    depth: usize,
}

impl Scanner {
    fn directory(&mut self, dir: BorrowedFd<'_>) -> io::Result<Directory> {
        // `/etc` is a directory within the root: what an image can have is scanned.
        if self.depth == MAX_DEPTH {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        self.depth += 1;
        let mut directory = Directory {
            metadata: metadata(&rustix::fs::fstat(dir)?, xattrs(dir, c"")?),
            ..Directory::default()
        };
        dir::for_each_entry(dir, |name, _| {
            let before = self.path.len();
            if before > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            let node = self.node(dir, name)?;
            directory.entries.insert(name.to_bytes().into(), node);
            self.path.truncate(before);
            Ok::<(), io::Error>(())
        })?;
        self.depth -= 1;
        Ok(directory)
    }

    fn node(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Node> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(dir, name, flags, Mode::empty())?;
                return Ok(Node::Directory(self.directory(inner.as_fd())?));
            }
            FileType::RegularFile => Content::Regular(Regular::at_path(
                self.path.clone(),
                u64::try_from(stat.st_size).unwrap_or(0),
            )),
            FileType::Symlink => Content::Symlink(
                rustix::fs::readlinkat(dir, name, Vec::new())?
                    .into_bytes()
                    .into(),
            ),
            FileType::CharacterDevice => Content::CharacterDevice(device(&stat)),
            FileType::BlockDevice => Content::BlockDevice(device(&stat)),
            FileType::Fifo => Content::Fifo,
            FileType::Socket => Content::Socket,
            FileType::Unknown => return Err(io::Error::other("its type is unknown")),
        };
        Ok(Node::Leaf(Leaf {
            metadata: metadata(&stat, xattrs(dir, name)?),
            content,
        }))
    }
}

fn metadata(stat: &Stat, xattrs: Xattrs) -> Metadata {
    Metadata {
        mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or_default(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        },
        xattrs,
    }
}

fn device(stat: &Stat) -> Device {
    Device {
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
    }
}

/// The extended attributes of `name` in `dir`, or of `dir` itself.
fn xattrs(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Xattrs> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let list = match with_growing_buffer(|buffer| rustix::fs::llistxattr(&*path, buffer)) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::new()),
        Err(e) => return Err(e.into()),
    };
    let mut xattrs = Xattrs::new();
    for name in list.split(|&b| b == 0) {
        if name.is_empty() || !is_merged_xattr(name) {
            continue;
        }
        let value = with_growing_buffer(|buffer| rustix::fs::lgetxattr(&*path, name, buffer))?;
        xattrs.insert(name.into(), value.into());
    }
    Ok(xattrs)
}

/// Most lists and values are short: one call, no question for the size.
fn with_growing_buffer(
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(XATTR_MAX, 0),
            Err(e) => return Err(e),
        }
    }
}
