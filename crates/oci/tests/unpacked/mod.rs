//! Compares a tree with a directory that another program unpacked.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hull_erofs::tree::{
    Content, Device, Directory, LeafId, Metadata, Node, Timestamp, Tree, Xattrs,
};
use hull_store::Store;
use rustix::fs::{FileType, Stat};

/// Every difference between a tree and a directory, one a line; the directory is read as root.
///
/// Two things are not compared: the mode of symbolic links, which Linux does
/// not keep, and times that are those of the unpacking: of the root, and of
/// directories that no layer has an entry of (0 in the tree).
pub(crate) fn differences(store: &Store, tree: &Tree, unpacked: &Path) -> Vec<String> {
    let mut comparer = Comparer {
        store,
        tree,
        differences: Vec::new(),
        inodes: BTreeMap::new(),
        leaves: BTreeMap::new(),
    };
    comparer.directory(tree.root(), unpacked, "");
    comparer.differences
}

struct Comparer<'a> {
    store: &'a Store,
    tree: &'a Tree,
    differences: Vec<String>,
    /// Inode numbers to leaves and back: links must go together on both sides.
    inodes: BTreeMap<u64, LeafId>,
    leaves: BTreeMap<LeafId, u64>,
}

impl Comparer<'_> {
    fn differ(
        &mut self,
        path: &str,
        what: &str,
        ours: impl std::fmt::Debug,
        theirs: impl std::fmt::Debug,
    ) {
        self.differences.push(format!(
            "/{path}: {what}: tree {ours:?}, unpacked {theirs:?}"
        ));
    }

    fn directory(&mut self, ours: Directory<'_>, theirs: &Path, path: &str) {
        let stat = rustix::fs::lstat(theirs).expect("a directory that was listed can be read");
        let metadata = ours.metadata();
        let implied = path.is_empty() || metadata.mtime == Timestamp::default();
        self.metadata(&metadata, &stat, theirs, path, true, !implied);
        let mut names: BTreeMap<Box<[u8]>, ()> = BTreeMap::new();
        for entry in std::fs::read_dir(theirs).expect("a directory can be listed") {
            let name = entry.expect("a directory can be listed").file_name();
            names.insert(name.as_bytes().into(), ());
        }
        for name in names.keys().filter(|name| ours.get(name).is_none()) {
            self.differ(&join(path, name), "exists", false, true);
        }
        for (name, node) in ours.entries() {
            let path = join(path, name);
            if !names.contains_key(name) {
                self.differ(&path, "exists", true, false);
                continue;
            }
            let theirs = theirs.join(OsStr::from_bytes(name));
            let stat = rustix::fs::lstat(&theirs).expect("an entry that was listed can be read");
            let type_ = FileType::from_raw_mode(stat.st_mode);
            match node {
                Node::Directory(directory) if type_ == FileType::Directory => {
                    self.directory(directory, &theirs, &path);
                }
                Node::Directory(_) => self.differ(&path, "type", FileType::Directory, type_),
                Node::Leaf(id) => self.leaf(id, &stat, &theirs, &path),
            }
        }
    }

    fn leaf(&mut self, id: LeafId, stat: &Stat, theirs: &Path, path: &str) {
        let leaf = self.tree.leaf(id);
        let type_ = FileType::from_raw_mode(stat.st_mode);
        let expected = type_of(&leaf.content);
        if type_ != expected {
            return self.differ(path, "type", expected, type_);
        }
        let other = *self.inodes.entry(stat.st_ino).or_insert(id);
        let inode = *self.leaves.entry(id).or_insert(stat.st_ino);
        if other != id || inode != stat.st_ino {
            self.differ(path, "links", id, stat.st_ino);
        }
        self.metadata(
            &leaf.metadata,
            stat,
            theirs,
            path,
            type_ != FileType::Symlink,
            true,
        );
        match &leaf.content {
            Content::Inline(bytes) => {
                let found = std::fs::read(theirs).expect("a file can be read");
                if **bytes != *found {
                    self.differ(path, "content", bytes.len(), found.len());
                }
            }
            Content::Object { id, size } => {
                let object = self
                    .store
                    .open_object(id)
                    .expect("the store has the object");
                let file = std::fs::File::open(theirs).expect("a file can be opened");
                let length = file.metadata().expect("a file has metadata").len();
                if *size != length || !same_bytes(object, file) {
                    self.differ(path, "content", size, length);
                }
            }
            Content::Symlink(target) => {
                let found = std::fs::read_link(theirs).expect("a link can be read");
                if **target != *found.as_os_str().as_bytes() {
                    self.differ(path, "target", OsStr::from_bytes(target), found);
                }
            }
            Content::CharacterDevice(device) | Content::BlockDevice(device) => {
                let found = Device {
                    major: rustix::fs::major(stat.st_rdev),
                    minor: rustix::fs::minor(stat.st_rdev),
                };
                if *device != found {
                    self.differ(path, "device", device, found);
                }
            }
            Content::Fifo | Content::Socket => {}
        }
    }

    fn metadata(
        &mut self,
        ours: &Metadata,
        stat: &Stat,
        theirs: &Path,
        path: &str,
        mode: bool,
        time: bool,
    ) {
        let found = stat.st_mode & 0o7777;
        if mode && u32::from(ours.mode) != found {
            self.differ(
                path,
                "mode",
                format!("{:o}", ours.mode),
                format!("{found:o}"),
            );
        }
        if (ours.uid, ours.gid) != (stat.st_uid, stat.st_gid) {
            self.differ(
                path,
                "owner",
                (ours.uid, ours.gid),
                (stat.st_uid, stat.st_gid),
            );
        }
        let found = (stat.st_mtime, stat.st_mtime_nsec);
        if time && (ours.mtime.seconds, u64::from(ours.mtime.nanoseconds)) != found {
            self.differ(path, "time", ours.mtime, found);
        }
        let found = xattrs_of(theirs);
        if ours.xattrs != found {
            self.differ(path, "attributes", shown(&ours.xattrs), shown(&found));
        }
    }
}

fn join(path: &str, name: &[u8]) -> String {
    let name = name.escape_ascii();
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}/{name}")
    }
}

fn shown(xattrs: &Xattrs) -> Vec<String> {
    xattrs
        .iter()
        .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
        .collect()
}

fn type_of(content: &Content) -> FileType {
    match content {
        Content::Inline(_) | Content::Object { .. } => FileType::RegularFile,
        Content::Symlink(_) => FileType::Symlink,
        Content::CharacterDevice(_) => FileType::CharacterDevice,
        Content::BlockDevice(_) => FileType::BlockDevice,
        Content::Fifo => FileType::Fifo,
        Content::Socket => FileType::Socket,
    }
}

fn same_bytes(mut one: impl Read, mut other: impl Read) -> bool {
    let (mut a, mut b) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let count = one.read(&mut a).expect("a file can be read");
        if other.read_exact(&mut b[..count]).is_err() || a[..count] != b[..count] {
            return false;
        }
        if count == 0 {
            return other.read(&mut b).expect("a file can be read") == 0;
        }
    }
}

fn xattrs_of(path: &Path) -> Xattrs {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => panic!("attributes of {}: {error}", path.display()),
    };
    let names = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])
                .expect("an attribute that was listed can be read");
            (name.into(), value[..length].into())
        })
        .collect()
}
