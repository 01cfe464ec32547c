//! Headers of the archive, as hull-oci writes them.

use hull_erofs::tree::{Device, Metadata, Timestamp};
use hull_oci::layer::tar::write::Head;
pub(super) use hull_oci::layer::tar::write::{END, padding};

use super::sparse::Segments;

/// The unit of an archive, in bytes.
pub(super) const BLOCK: usize = 512;

/// What an entry of the archive is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'a> {
    Directory,
    Regular(u64),
    Sparse(&'a Segments),
    HardLink(&'a [u8]),
    Symlink(&'a [u8]),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// The path of an entry as its header has it: of a directory with a slash at its end.
///
/// `path` is without slashes at its ends; the root is empty.
pub(super) fn name(path: &[u8], item: Item<'_>) -> Vec<u8> {
    match item {
        Item::Directory => [if path.is_empty() { b"." } else { path }, b"/"].concat(),
        _ => path.to_vec(),
    }
}

/// The extended attributes that the header of an entry has.
///
/// Those of a hard link are its target's, and written all the same: programs that give
/// each name its owner again lose the capabilities by that.
pub(super) fn xattrs(metadata: &Metadata) -> Vec<(Vec<u8>, Vec<u8>)> {
    let xattrs = metadata.xattrs.iter();
    xattrs
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

/// What comes before the data of an entry.
///
/// The metadata of a hard link is that of its target, and written all the same, for programs that look.
pub(super) fn header(
    path: &[u8],
    item: Item<'_>,
    metadata: &Metadata,
    mtime: Timestamp,
) -> Vec<u8> {
    let (name, xattrs) = (name(path, item), xattrs(metadata));
    let mut head = Head {
        path: &name,
        mode: metadata.mode.into(),
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: (mtime.seconds, mtime.nanoseconds),
        xattrs: &xattrs,
        ..Head::default()
    };
    let records;
    match item {
        Item::Directory => head.kind = b'5',
        Item::Regular(size) => (head.kind, head.size) = (b'0', size),
        Item::Sparse(segments) => {
            (head.kind, head.size) = (b'0', segments.stored());
            records = sparse_records(&name, segments);
            head.records = &records;
        }
        Item::HardLink(target) => (head.kind, head.link) = (b'1', target),
        Item::Symlink(target) => (head.kind, head.link) = (b'2', target),
        Item::CharacterDevice(device) => {
            (head.kind, head.device) = (b'3', (device.major, device.minor));
        }
        Item::BlockDevice(device) => {
            (head.kind, head.device) = (b'4', (device.major, device.minor));
        }
        Item::Fifo => head.kind = b'6',
    }
    head.to_blocks()
}

/// A sparse file in GNU's version 1.0: its map is in front of the data.
fn sparse_records(name: &[u8], segments: &Segments) -> [(&'static [u8], Vec<u8>); 4] {
    [
        (b"GNU.sparse.major", b"1".to_vec()),
        (b"GNU.sparse.minor", b"0".to_vec()),
        (b"GNU.sparse.name", name.to_vec()),
        (
            b"GNU.sparse.realsize",
            segments.size.to_string().into_bytes(),
        ),
    ]
}
