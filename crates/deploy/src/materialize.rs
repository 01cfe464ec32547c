//! Writing a part of an image's tree as real files: the /var that a machine
//! starts with.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_erofs::Tree;
use hull_erofs::tree::{Content, Device, Directory, LeafId, Metadata, Node, Timestamp};
use hull_store::{Store, StoreError};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// The operating system refused.
    #[error("writing /{path}: {source}")]
    Io {
        /// The path below the directory that is written.
        path: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The content is not in the store.
    #[error("writing /{path}: {source}")]
    Store {
        /// The path below the directory that is written.
        path: String,
        /// The reason.
        #[source]
        source: StoreError,
    },
}

/// Writes the entries of `directory` into `target`, and gives `target` its
/// metadata. Not durable: the caller ends with a barrier.
pub fn materialize(
    store: &Store,
    tree: &Tree,
    directory: Directory<'_>,
    target: impl AsFd,
) -> Result<(), MaterializeError> {
    let target = target.as_fd();
    let mut writer = Writer {
        store,
        tree,
        written: BTreeMap::new(),
        top: target,
        path: Vec::new(),
    };
    writer.directory(directory, target)
}

struct Writer<'a> {
    store: &'a Store,
    tree: &'a Tree,
    /// Where each inode was written first, for hard links: names, since a descriptor
    /// for each would be more than a process may have.
    written: BTreeMap<LeafId, CString>,
    /// The directory that all paths are below.
    top: BorrowedFd<'a>,
    path: Vec<u8>,
}

impl Writer<'_> {
    fn directory(
        &mut self,
        directory: Directory<'_>,
        target: BorrowedFd<'_>,
    ) -> Result<(), MaterializeError> {
        for (name, node) in directory.entries() {
            let depth = self.path.len();
            self.path.extend_from_slice(b"/");
            self.path.extend_from_slice(name);
            self.node(name, node, target)?;
            self.path.truncate(depth);
        }
        self.io(apply_to_fd(target, &directory.metadata()))
    }

    fn node(
        &mut self,
        name: &[u8],
        node: Node<'_>,
        parent: BorrowedFd<'_>,
    ) -> Result<(), MaterializeError> {
        let c_name = self.io(CString::new(name).map_err(io::Error::from))?;
        match node {
            Node::Directory(inner) => {
                let made = make_dir(parent, &c_name);
                let fd = self.io(made)?;
                self.directory(inner, fd.as_fd())
            }
            Node::Leaf(id) => self.leaf(id, c_name, parent),
        }
    }

    fn leaf(
        &mut self,
        id: LeafId,
        name: CString,
        parent: BorrowedFd<'_>,
    ) -> Result<(), MaterializeError> {
        if let Some(first) = self.written.get(&id) {
            let linked = rustix::fs::linkat(
                self.top,
                first.as_c_str(),
                parent,
                name.as_c_str(),
                AtFlags::empty(),
            );
            return self.io(linked.map_err(io::Error::from));
        }
        let leaf = self.tree.leaf(id);
        match &leaf.content {
            Content::Inline(bytes) => self.file(&name, parent, &mut &bytes[..], &leaf.metadata)?,
            Content::Object { id, .. } => {
                let mut object =
                    self.store
                        .open_object(id)
                        .map_err(|source| MaterializeError::Store {
                            path: self.shown_path(),
                            source,
                        })?;
                self.file(&name, parent, &mut object, &leaf.metadata)?;
            }
            other => {
                let made = make_special(parent, &name, other, &leaf.metadata);
                self.io(made)?;
            }
        }
        let path = self.path.get(1..).unwrap_or_default();
        let path = self.io(CString::new(path).map_err(io::Error::from))?;
        self.written.insert(id, path);
        Ok(())
    }

    fn file(
        &self,
        name: &CString,
        parent: BorrowedFd<'_>,
        content: &mut dyn io::Read,
        metadata: &Metadata,
    ) -> Result<(), MaterializeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name.as_c_str(), flags, Mode::from_raw_mode(0o600));
        let mut file = std::fs::File::from(self.io(opened.map_err(io::Error::from))?);
        self.io(io::copy(content, &mut file))?;
        self.io(apply_to_fd(file.as_fd(), metadata))
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, MaterializeError> {
        result.map_err(|source| MaterializeError::Io {
            path: self.shown_path(),
            source,
        })
    }

    fn shown_path(&self) -> String {
        String::from_utf8_lossy(self.path.get(1..).unwrap_or_default()).into_owned()
    }
}

fn make_dir(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name.as_c_str(), Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        parent,
        name.as_c_str(),
        flags,
        Mode::empty(),
    )?)
}

fn make_special(
    parent: BorrowedFd<'_>,
    name: &CString,
    content: &Content,
    metadata: &Metadata,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(u32::from(metadata.mode));
    let node = |kind, device: Device| {
        let device = rustix::fs::makedev(device.major, device.minor);
        rustix::fs::mknodat(parent, name.as_c_str(), kind, mode, device)
    };
    let none = Device { major: 0, minor: 0 };
    match content {
        Content::Symlink(target) => rustix::fs::symlinkat(&target[..], parent, name.as_c_str())?,
        Content::CharacterDevice(device) => node(FileType::CharacterDevice, *device)?,
        Content::BlockDevice(device) => node(FileType::BlockDevice, *device)?,
        Content::Fifo => node(FileType::Fifo, none)?,
        Content::Socket => node(FileType::Socket, none)?,
        Content::Inline(_) | Content::Object { .. } => {}
    }
    let (uid, gid) = owner(metadata);
    rustix::fs::chownat(parent, name.as_c_str(), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(content, Content::Symlink(_)) {
        // mknod's mode went through the umask.
        rustix::fs::chmodat(parent, name.as_c_str(), mode, AtFlags::empty())?;
    }
    let times = times(metadata.mtime);
    Ok(rustix::fs::utimensat(
        parent,
        name.as_c_str(),
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// The owner first: changing it takes setuid bits and capabilities away.
fn apply_to_fd(fd: BorrowedFd<'_>, metadata: &Metadata) -> io::Result<()> {
    let (uid, gid) = owner(metadata);
    rustix::fs::fchown(fd, uid, gid)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(metadata.mode)))?;
    for (name, value) in &metadata.xattrs {
        let name = CString::new(&name[..])?;
        rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(fd, &times(metadata.mtime))?)
}

fn owner(metadata: &Metadata) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
    )
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: i64::from(mtime.nanoseconds),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
