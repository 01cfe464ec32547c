//! Reading a root file system: names and metadata, not contents.
//!
//! Every name is opened relative to its directory and no symbolic link is
//! followed, so that nothing outside of the root gets in. What must not become
//! part of an image is left out here; what cannot become part of one is
//! collected, so that a person sees all of it at once.

mod attributes;
mod rules;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hull_erofs::tree::{Device, MAX_DEPTH, Metadata, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};

pub use rules::{InvalidExclusion, Rules, SpecialFiles};

use self::rules::Verdict;

/// The longest path in an image, in bytes.
const PATH_MAX: usize = 4095;

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
    /// Longer than an image may have.
    #[error(
        "it lies deeper than {MAX_DEPTH} directories, or its path is longer than {PATH_MAX} bytes"
    )]
    TooDeep,
}

/// A root file system that was read.
#[derive(Debug)]
pub struct Scan {
    root: OwnedFd,
    path: PathBuf,
    /// All entries by the bytes of their paths: a directory comes before what is in it.
    pub entries: Vec<Entry>,
    /// What cannot become part of an image, by path.
    pub refusals: Vec<Refusal>,
    /// What was left out because the rules say so, by path.
    pub skipped: Vec<FullPath>,
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
        let seen = Seen::of(root.as_fd(), c"").map_err(|e| failed(e.into()))?;
        let mut walk = Walk {
            rules,
            mount: seen.mount,
            entries: Vec::new(),
            refusals: Vec::new(),
            skipped: Vec::new(),
        };
        let xattrs = attributes::read(&attributes::of_directory(root.as_fd())).map_err(failed)?;
        walk.entries.push(seen.entry(b"", Kind::Directory, xattrs));
        walk.directory(root.as_fd(), &mut Vec::new(), 0)
            .map_err(failed)?;
        let Walk {
            mut entries,
            mut refusals,
            mut skipped,
            ..
        } = walk;
        rules.add_skeleton(&mut entries);
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        refusals.sort_by(|a, b| a.path.cmp(&b.path));
        skipped.sort();
        Ok(Self {
            root,
            path: path.to_owned(),
            entries,
            refusals,
            skipped,
        })
    }

    /// Where the root is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root's directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The place of a path among the entries.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.entries
            .binary_search_by(|entry| (*entry.path).cmp(path))
            .ok()
    }

    /// Opens the content of a regular file, if it is still the file that was read.
    pub fn open(&self, entry: &Entry) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = hull_sys::dir::open_beneath(&self.root, &*entry.path, flags)?;
        let file = File::from(fd);
        match self.is_unchanged(entry, &file)? {
            true => Ok(file),
            false => Err(io::Error::other("the file changed while it was read")),
        }
    }

    /// Whether a file has the length and the time that it had when it was scanned.
    pub fn is_unchanged(&self, entry: &Entry, file: &File) -> io::Result<bool> {
        let seen = Seen::of(file.as_fd(), c"")?;
        Ok(seen.type_ == FileType::RegularFile
            && entry.kind == Kind::Regular(seen.size)
            && entry.metadata.mtime == seen.mtime)
    }
}

struct Walk<'a> {
    rules: &'a Rules,
    /// The mount that the root is on; what is on others is left out.
    mount: Mount,
    entries: Vec<Entry>,
    refusals: Vec<Refusal>,
    skipped: Vec<FullPath>,
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
                self.refuse(path, Reason::Unreadable(error));
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
            self.skipped.push(FullPath::new(path));
            return Ok(());
        }
        let seen = Seen::of(dir, name)?;
        let mounted = seen.mount != self.mount;
        if mounted && seen.type_ != FileType::Directory {
            self.skipped.push(FullPath::new(path));
            return Ok(());
        }
        if depth > MAX_DEPTH || path.len() > PATH_MAX {
            self.refuse(path, Reason::TooDeep);
            return Ok(());
        }
        if mounted {
            self.entries.push(Rules::mount_point(path));
            self.skipped.push(FullPath::new(path));
            return Ok(());
        }
        let xattrs = attributes::read(&attributes::of_name(dir, name))?;
        if rules::is_marked(&xattrs) {
            self.skipped.push(FullPath::new(path));
            return Ok(());
        }
        if name.to_bytes().starts_with(b".wh.") {
            self.refuse(path, Reason::Whiteout);
            return Ok(());
        }
        let kind = match self.kind(dir, name, path, &seen)? {
            Some(kind) => kind,
            None => return Ok(()),
        };
        let is_directory = kind == Kind::Directory;
        self.entries.push(seen.entry(path, kind, xattrs));
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
                self.skipped.push(FullPath::new(path));
            }
            return Ok(());
        }
        if path == b"boot" && !self.rules.allow_boot {
            for found in hull_sys::dir::entries(inner)? {
                let path = [b"boot/", found.name.to_bytes()].concat();
                if self.rules.excludes(&path) != Verdict::LeaveOut {
                    self.refuse(&path, Reason::Boot);
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
        seen: &Seen,
    ) -> io::Result<Option<Kind>> {
        let special = match seen.type_ {
            FileType::Directory => return Ok(Some(Kind::Directory)),
            FileType::RegularFile => return Ok(Some(Kind::Regular(seen.size))),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                return Ok(Some(Kind::Symlink(target.into_bytes().into_boxed_slice())));
            }
            FileType::CharacterDevice if seen.device == Device::WHITEOUT => {
                self.refuse(path, Reason::WhiteoutDevice);
                return Ok(None);
            }
            FileType::CharacterDevice => {
                ("character device", Some(Kind::CharacterDevice(seen.device)))
            }
            FileType::BlockDevice => ("block device", Some(Kind::BlockDevice(seen.device))),
            FileType::Fifo => ("named pipe", Some(Kind::Fifo)),
            _ => ("socket", None),
        };
        match self.rules.special_files {
            SpecialFiles::Refuse => self.refuse(path, Reason::Special(special.0)),
            SpecialFiles::Keep if special.1.is_some() => return Ok(special.1),
            SpecialFiles::Skip | SpecialFiles::Keep => self.skipped.push(FullPath::new(path)),
        }
        Ok(None)
    }

    fn refuse(&mut self, path: &[u8], reason: Reason) {
        self.refusals.push(Refusal {
            path: FullPath::new(path),
            reason,
        });
    }
}

/// Which mount a name is on: the kernel's number of the mount, else the device.
type Mount = (u64, u32, u32);

/// What `statx` says of a name.
struct Seen {
    type_: FileType,
    mode: u16,
    owner: (u32, u32),
    mtime: Timestamp,
    size: u64,
    device: Device,
    inode: Inode,
    link_count: u32,
    mount: Mount,
}

impl Seen {
    fn of(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(dir, name, flags, wanted)?;
        // Subvolumes have devices of their own on one mount, so the device is second choice.
        let mount = match stat.stx_mask & StatxFlags::MNT_ID.bits() {
            0 => (0, stat.stx_dev_major, stat.stx_dev_minor),
            _ => (stat.stx_mnt_id, 0, 0),
        };
        Ok(Self {
            type_: FileType::from_raw_mode(stat.stx_mode.into()),
            mode: stat.stx_mode & 0o7777,
            owner: (stat.stx_uid, stat.stx_gid),
            mtime: Timestamp {
                seconds: stat.stx_mtime.tv_sec,
                nanoseconds: stat.stx_mtime.tv_nsec,
            },
            size: stat.stx_size,
            device: Device {
                major: stat.stx_rdev_major,
                minor: stat.stx_rdev_minor,
            },
            inode: Inode {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                number: stat.stx_ino,
            },
            link_count: stat.stx_nlink,
            mount,
        })
    }

    fn entry(&self, path: &[u8], kind: Kind, xattrs: hull_erofs::tree::Xattrs) -> Entry {
        let links = (kind != Kind::Directory && self.link_count > 1).then_some(self.inode);
        Entry {
            path: path.into(),
            kind,
            metadata: Metadata {
                mode: self.mode,
                uid: self.owner.0,
                gid: self.owner.1,
                mtime: self.mtime,
                xattrs,
            },
            links,
        }
    }
}
