//! What is left out of an image.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

use hull_erofs::tree::{Metadata, Xattrs};
use hull_sys::status::Status;
use rustix::io::Errno;

use super::{Entries, FullPath, Inode};

/// Directories whose content belongs to the running system; with the modes that distributions give them.
const RUNTIME: [(&str, u16); 6] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
];
/// What else a root has that boots from an image.
const SKELETON: [(&str, u16); 3] = [("boot", 0o755), ("sysroot", 0o755), ("var", 0o755)];
/// Attributes that keep a file, or a directory with all that is in it, out of images.
const MARKS: [&[u8]; 2] = [b"user.hull.skip", b"user.rpmostree.skip"];
/// The file in a directory that marks it as a cache.
pub(super) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How that file begins (the Cache Directory Tagging Specification).
pub(super) const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What happens to devices, named pipes and sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialFiles {
    /// They are refused.
    #[default]
    Refuse,
    /// They are left out.
    Skip,
    /// Devices and named pipes are taken; sockets, which layers cannot hold, are left out.
    Keep,
}

/// What is taken of a root file system.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Whether a file in /boot is fine.
    pub allow_boot: bool,
    /// What happens to devices, pipes and sockets.
    pub special_files: SpecialFiles,
    /// Whether the directories are made that an operating system needs.
    pub skeleton: bool,
    exclusions: Vec<Exclusion>,
    image: Option<Inode>,
}

#[derive(Debug, Clone)]
struct Exclusion {
    path: Box<[u8]>,
    /// Only what is in the directory.
    content_only: bool,
}

/// What the rules say of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is taken.
    Take,
    /// The directory is taken, its content is not.
    Empty,
    /// It is not taken.
    LeaveOut,
}

/// An exclusion that is no path below the root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be excluded: an absolute path is expected, not the root, without . and ..")]
pub struct InvalidExclusion(String);

impl Rules {
    /// Leaves out `/path`, or with `/path/` only what is in it.
    pub fn exclude(&mut self, text: &[u8]) -> Result<(), InvalidExclusion> {
        let invalid = || InvalidExclusion(String::from_utf8_lossy(text).into_owned());
        let path = text.strip_prefix(b"/").ok_or_else(invalid)?;
        let (path, content_only) = match path.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let odd = |name: &[u8]| name.is_empty() || name == b"." || name == b"..";
        if path.split(|&byte| byte == b'/').any(odd) {
            return Err(invalid());
        }
        self.exclusions.push(Exclusion {
            path: path.into(),
            content_only,
        });
        Ok(())
    }

    /// Leaves out the image itself, where it is in the root that it is made of: the directory of a layout, or an archive.
    pub fn leave_out_image(&mut self, image: &Status) {
        self.image = Some(Inode::of(image));
    }

    pub(super) fn is_image(&self, seen: &Status) -> bool {
        self.image == Some(Inode::of(seen))
    }

    pub(super) fn excludes(&self, path: &[u8]) -> Verdict {
        let named = |exclusion: &&Exclusion| *exclusion.path == *path;
        let mut found = self.exclusions.iter().filter(named);
        if found.clone().any(|exclusion| !exclusion.content_only) {
            return Verdict::LeaveOut;
        }
        let runtime = RUNTIME.iter().any(|(name, _)| name.as_bytes() == path);
        // What an operating system has there is of the machine that it came from, such as ostree's own copy of all files.
        let runtime = runtime || (self.skeleton && path == b"sysroot");
        match runtime || found.next().is_some() {
            true => Verdict::Empty,
            false => Verdict::Take,
        }
    }

    /// The exclusions that met nothing, where what was left out for another reason is sorted and does not hold it either.
    pub(super) fn unmet(&self, entries: &Entries, skipped: &[FullPath]) -> Vec<FullPath> {
        let is_skipped = |path: &[u8]| skipped.binary_search(&FullPath::new(path)).is_ok();
        let is_met = |exclusion: &&Exclusion| {
            let path = &*exclusion.path;
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let mut above = slashes.map(|(end, _)| &path[..end]);
            is_skipped(path)
                || above.any(is_skipped)
                || (exclusion.content_only && is_directory(entries, path))
        };
        let unmet = self.exclusions.iter().filter(|it| !is_met(it));
        let as_given = |exclusion: &Exclusion| {
            let end: &[u8] = if exclusion.content_only { b"/" } else { b"" };
            FullPath::new(&[&*exclusion.path, end].concat())
        };
        unmet.map(as_given).collect()
    }

    /// The directory below a mount: what it is like cannot be seen, so it is as distributions have it.
    pub(super) fn mount_point(path: &[u8]) -> Metadata {
        let known = |(name, _): &&(&str, u16)| name.as_bytes() == path;
        let mode = RUNTIME.iter().find(known).map_or(0o755, |(_, mode)| *mode);
        with_mode(mode)
    }

    /// Adds the directories that an operating system needs, where they are missing.
    pub(super) fn add_skeleton(&self, entries: &mut Entries) {
        if !self.skeleton {
            return;
        }
        let mut missing = BTreeMap::new();
        for (name, mode) in SKELETON.iter().chain(&RUNTIME) {
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            let has_parent =
                missing.contains_key(parent.as_bytes()) || is_directory(entries, parent.as_bytes());
            if entries.find(name.as_bytes()).is_none() && has_parent {
                missing.insert(name.as_bytes(), with_mode(*mode));
            }
        }
        entries.insert_directories(missing);
    }
}

/// Whether a path is a directory's: /var may be a symbolic link.
fn is_directory(entries: &Entries, path: &[u8]) -> bool {
    let place = entries.find(path);
    place.is_some_and(|place| entries.is_directory(place))
}

fn with_mode(mode: u16) -> Metadata {
    Metadata {
        mode,
        ..Metadata::default()
    }
}

/// Whether somebody marked it as not for images.
pub(super) fn is_marked(xattrs: &Xattrs) -> bool {
    MARKS.iter().any(|mark| xattrs.contains_key(*mark))
}

/// Whether a directory says of itself that it is a cache.
pub(super) fn is_cache(dir: BorrowedFd<'_>) -> io::Result<bool> {
    use rustix::fs::{FileType, Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(dir, CACHE_TAG, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut head = [0; CACHE_SIGNATURE.len()];
    let length = rustix::io::read(&fd, &mut head)?;
    Ok(head[..length] == *CACHE_SIGNATURE)
}
