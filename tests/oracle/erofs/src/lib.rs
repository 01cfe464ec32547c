//! hull-erofs beside the `composefs` crates: the same tree in both, and what each
//! makes of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;

use anyhow::Result;
use composefs::dumpfile;
use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::{ValidatedFileSystem, mkfs_erofs_versioned};
use composefs::fsverity::{FsVerityHashValue as _, Sha512HashValue};
use composefs::generic_tree::{LeafContent, Stat};
use composefs::tree::{self, RegularFile};
use composefs_boot::BootOps as _;
use hull_erofs::tree::{Content, Directory, Metadata, Node, Tree};

pub mod mkcomposefs;
pub mod strategy;

/// A tree of theirs, with the digests that hull uses.
pub type TheirTree = tree::FileSystem<Sha512HashValue>;

/// The same tree as theirs.
pub fn to_theirs(ours: &Tree) -> TheirTree {
    let mut theirs = TheirTree::new(to_stat(&ours.root().metadata()));
    for (_, leaf) in ours.leaves() {
        let content = match &leaf.content {
            Content::Inline(bytes) => LeafContent::Regular(RegularFile::Inline(bytes.clone())),
            Content::Object { id, size } => {
                let id = Sha512HashValue::from_hex(id.to_hex()).expect("128 digits");
                LeafContent::Regular(RegularFile::External(id, *size))
            }
            Content::Symlink(target) => LeafContent::Symlink(OsStr::from_bytes(target).into()),
            Content::CharacterDevice(device) => LeafContent::CharacterDevice(device.to_raw()),
            Content::BlockDevice(device) => LeafContent::BlockDevice(device.to_raw()),
            Content::Fifo => LeafContent::Fifo,
            Content::Socket => LeafContent::Socket,
        };
        theirs.push_leaf(to_stat(&leaf.metadata), content);
    }
    theirs.root = to_directory(ours.root());
    theirs
}

fn to_directory(ours: Directory<'_>) -> tree::Directory<Sha512HashValue> {
    let mut theirs = tree::Directory::new(to_stat(&ours.metadata()));
    for (name, node) in ours.entries() {
        let inode = match node {
            Node::Directory(directory) => tree::Inode::Directory(Box::new(to_directory(directory))),
            Node::Leaf(id) => tree::Inode::leaf(composefs::generic_tree::LeafId(id.index())),
        };
        theirs.insert(OsStr::from_bytes(name), inode);
    }
    theirs
}

fn to_stat(metadata: &Metadata) -> Stat {
    let xattrs: BTreeMap<_, _> = metadata
        .xattrs
        .iter()
        .map(|(name, value)| (OsStr::from_bytes(name).into(), value.clone()))
        .collect();
    Stat {
        st_mode: metadata.mode.into(),
        st_uid: metadata.uid,
        st_gid: metadata.gid,
        st_mtim_sec: metadata.mtime.seconds,
        st_mtim_nsec: metadata.mtime.nanoseconds,
        xattrs,
    }
}

/// Their reading of a dump file.
pub fn parse_dump(dump: &[u8]) -> Result<TheirTree> {
    dumpfile::dumpfile_to_filesystem(std::str::from_utf8(dump)?)
}

/// Their dump file of a tree.
pub fn write_dump(theirs: &TheirTree) -> Result<Vec<u8>> {
    let mut dump = Vec::new();
    dumpfile::write_dumpfile(&mut dump, theirs)?;
    Ok(dump)
}

/// Their image of a tree, format V1.
pub fn write_image(theirs: TheirTree) -> Result<Box<[u8]>> {
    let valid = ValidatedFileSystem::new(theirs)?;
    Ok(mkfs_erofs_versioned(&valid, FormatVersion::V1))
}

/// Their reading of an image.
pub fn read_image(image: &[u8]) -> Result<TheirTree> {
    composefs::erofs::reader::erofs_to_filesystem(image)
}

/// Their digest of some bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    composefs::fsverity::compute_verity::<Sha512HashValue>(bytes).to_hex()
}

/// What composefs-oci does to a tree that it merged from layers.
pub fn transform_for_oci(theirs: &mut TheirTree) -> Result<()> {
    theirs.transform_for_oci(&Default::default())?;
    Ok(())
}

/// What composefs-boot does to such a tree before it boots. `selinux` is what the
/// files below `/etc/selinux` hold, by their path there.
pub fn transform_for_boot(theirs: &mut TheirTree, selinux: &[(&str, &[u8])]) -> Result<()> {
    let root = tempfile::tempdir()?;
    for (path, content) in selinux {
        let path = root.path().join("etc/selinux").join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(root.path()))?;
        std::fs::write(path, content)?;
    }
    theirs.transform_for_boot_from_dir(File::open(root.path())?)
}

/// The digest of the image that boots, from the dump file of a tree merged from layers.
pub fn boot_image_id(dump: &[u8]) -> Result<String> {
    let mut theirs = parse_dump(dump)?;
    transform_for_oci(&mut theirs)?;
    transform_for_boot(&mut theirs, &[])?;
    Ok(digest(&write_image(theirs)?))
}
