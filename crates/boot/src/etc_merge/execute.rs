//! Writing the merged `/etc` into a deployment.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hull_erofs::tree::Metadata;
use hull_sys::{dir, durable};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::conflict::Side;
use super::plan::{MergePlan, PlannedDirectory, Step};
use super::tree::{Content, Directory, EtcTree, Leaf, Node, Regular};

const FINAL: &str = "etc";
const NEW: &str = "etc.new";

/// Why the merged `/etc` could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// A leftover of a run that was cut is in the way.
    #[error("cannot remove {NEW}, left over by a merge that was cut: {0}")]
    Leftover(#[source] io::Error),
    /// A file or directory can't be written.
    #[error("cannot write {path} of the new /etc: {source}")]
    Write {
        /// What it would have been, `/etc/…`.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It could not be brought onto the disk.
    #[error("cannot bring the new /etc onto the disk: {0}")]
    Commit(#[source] io::Error),
}

/// Writes what was planned into the directory `etc` of a deployment.
///
/// It grows beside it as `etc.new`; the one rename at the end, after all of it
/// is on disk, is the commit. `mine` and `theirs` are those of the plan. A
/// leftover of a cut run is removed first, an existing `etc` is an error.
pub fn execute(
    plan: &MergePlan,
    mine: &EtcTree<'_>,
    theirs: &EtcTree<'_>,
    deployment: impl AsFd,
) -> Result<(), ExecuteError> {
    let deployment = deployment.as_fd();
    remove_tree(deployment, c"etc.new").map_err(ExecuteError::Leftover)?;
    let mut writer = Writer {
        mine,
        theirs,
        path: Vec::new(),
        buffer: vec![0; 64 << 10],
    };
    durable::make_dir(deployment, NEW, 0o700)
        .and_then(|dir| {
            writer.planned_directory(
                &plan.root,
                Some(&mine.root),
                Some(&theirs.root),
                dir.as_fd(),
            )
        })
        .map_err(|source| ExecuteError::Write {
            path: format!("/etc/{}", String::from_utf8_lossy(&writer.path)),
            source,
        })?;
    commit(deployment).map_err(ExecuteError::Commit)
}

fn commit(deployment: BorrowedFd<'_>) -> io::Result<()> {
    durable::barrier(deployment)?;
    durable::rename_new(deployment, NEW, deployment, FINAL)?;
    durable::sync_dir(deployment)
}

/// Removes `name` with all below it; not existing is fine.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in dir::entries(&inner)? {
        remove_tree(inner.as_fd(), &entry.name)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

struct Writer<'p> {
    mine: &'p EtcTree<'p>,
    theirs: &'p EtcTree<'p>,
    /// Where it is, below `/etc`; after an error, at what caused it.
    path: Vec<u8>,
    /// For contents on their way: most files fit, and need one read and one write.
    buffer: Vec<u8>,
}

impl Writer<'_> {
    fn at<T>(
        &mut self,
        name: &[u8],
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let before = self.path.len();
        if before > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let result = work(self)?;
        self.path.truncate(before);
        Ok(result)
    }

    fn planned_directory(
        &mut self,
        planned: &PlannedDirectory,
        mine: Option<&Directory>,
        theirs: Option<&Directory>,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        for (name, step) in &planned.entries {
            self.at(name, |writer| writer.step(name, step, mine, theirs, to))?;
        }
        let metadata_from = match planned.metadata {
            Side::Mine => mine,
            Side::Theirs => theirs,
        };
        set_open_metadata(to, &metadata_from.ok_or_else(not_planned)?.metadata)
    }

    fn step(
        &mut self,
        name: &[u8],
        step: &Step,
        mine: Option<&Directory>,
        theirs: Option<&Directory>,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let find = |side: Side, name: &[u8]| {
            let directory = match side {
                Side::Mine => mine,
                Side::Theirs => theirs,
            };
            directory
                .and_then(|directory| directory.entries.get(name))
                .ok_or_else(not_planned)
        };
        match step {
            Step::Copy { side, name: from } => self.copy(*side, find(*side, from)?, name, to),
            Step::Directory(planned) => {
                let inner = make_directory(to, name)?;
                let directory = |side| find(side, name).ok().and_then(Node::as_directory);
                self.planned_directory(
                    planned,
                    directory(Side::Mine),
                    directory(Side::Theirs),
                    inner.as_fd(),
                )
            }
            Step::File { content, metadata } => {
                let file = find(*content, name)?.as_regular().ok_or_else(not_planned)?;
                let metadata = find(*metadata, name)?.metadata();
                self.copy_file(*content, file, metadata, name, to)
            }
            Step::Text { bytes, metadata } => {
                let metadata = find(*metadata, name)?.metadata();
                write_file(&mut &**bytes, metadata, name, to, &mut self.buffer)
            }
        }
    }

    fn copy(&mut self, side: Side, node: &Node, name: &[u8], to: BorrowedFd<'_>) -> io::Result<()> {
        match node {
            Node::Directory(directory) => {
                let inner = make_directory(to, name)?;
                for (name, node) in &directory.entries {
                    self.at(name, |writer| writer.copy(side, node, name, inner.as_fd()))?;
                }
                set_open_metadata(inner.as_fd(), &directory.metadata)
            }
            Node::Leaf(Leaf { metadata, content }) => match content {
                Content::Regular(file) => self.copy_file(side, file, metadata, name, to),
                content => make_special(content, metadata, name, to),
            },
        }
    }

    fn copy_file(
        &mut self,
        side: Side,
        file: &Regular,
        metadata: &Metadata,
        name: &[u8],
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let tree = match side {
            Side::Mine => self.mine,
            Side::Theirs => self.theirs,
        };
        let mut content = tree.open(file)?;
        write_file(&mut content, metadata, name, to, &mut self.buffer)
    }
}

/// The plan belongs to other trees than it is executed with.
fn not_planned() -> io::Error {
    io::Error::other("the plan was made for other versions of /etc")
}

fn make_directory(to: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(to, name, Mode::RWXU)?;
    Ok(rustix::fs::openat(
        to,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn write_file(
    content: &mut dyn Read,
    metadata: &Metadata,
    name: &[u8],
    to: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Nobody can look into the directory yet.
    let permissions = mode(metadata) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
    let mut file = File::from(rustix::fs::openat(to, name, flags, permissions)?);
    loop {
        match content.read(buffer) {
            Ok(0) => break,
            Ok(length) => file.write_all(&buffer[..length])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    set_open_metadata(file.as_fd(), metadata)
}

/// Owner before mode, which a change of owner would clear bits of; attributes
/// after it, since an access list replaces the group's bits.
///
/// What is right already is left alone: each change is one of the journal's,
/// and most files are root's and have the mode that they were made with.
fn set_open_metadata(fd: BorrowedFd<'_>, metadata: &Metadata) -> io::Result<()> {
    let stat = rustix::fs::fstat(fd)?;
    let has_owner = (stat.st_uid, stat.st_gid) == (metadata.uid, metadata.gid);
    if !has_owner {
        rustix::fs::fchown(fd, owner(metadata), group(metadata))?;
    }
    if !has_owner || stat.st_mode & 0o7777 != u32::from(metadata.mode) {
        rustix::fs::fchmod(fd, mode(metadata))?;
    }
    for (name, value) in &metadata.xattrs {
        rustix::fs::fsetxattr(fd, &**name, value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(fd, &times(metadata))?)
}

fn make_special(
    content: &Content,
    metadata: &Metadata,
    name: &[u8],
    to: BorrowedFd<'_>,
) -> io::Result<()> {
    let node = |kind, device: u64| rustix::fs::mknodat(to, name, kind, mode(metadata), device);
    let number =
        |device: &hull_erofs::tree::Device| rustix::fs::makedev(device.major, device.minor);
    match content {
        Content::Symlink(target) => rustix::fs::symlinkat(&**target, to, name)?,
        Content::CharacterDevice(device) => node(FileType::CharacterDevice, number(device))?,
        Content::BlockDevice(device) => node(FileType::BlockDevice, number(device))?,
        Content::Fifo => node(FileType::Fifo, 0)?,
        Content::Socket => node(FileType::Socket, 0)?,
        Content::Regular(_) => return Err(not_planned()),
    }
    let stat = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (stat.st_uid, stat.st_gid) != (metadata.uid, metadata.gid) {
        let (owner, group) = (owner(metadata), group(metadata));
        rustix::fs::chownat(to, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if !matches!(content, Content::Symlink(_)) {
        rustix::fs::chmodat(to, name, mode(metadata), AtFlags::empty())?;
    }
    let mut path = format!("/proc/self/fd/{}/", to.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    for (key, value) in &metadata.xattrs {
        rustix::fs::lsetxattr(&*path, &**key, value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(
        to,
        name,
        &times(metadata),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn owner(metadata: &Metadata) -> Option<Uid> {
    Some(Uid::from_raw(metadata.uid))
}

fn group(metadata: &Metadata) -> Option<Gid> {
    Some(Gid::from_raw(metadata.gid))
}

fn mode(metadata: &Metadata) -> Mode {
    Mode::from_raw_mode(u32::from(metadata.mode))
}

fn times(metadata: &Metadata) -> Timestamps {
    let time = Timespec {
        tv_sec: metadata.mtime.seconds,
        tv_nsec: metadata.mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
