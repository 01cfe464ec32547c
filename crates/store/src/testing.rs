//! A store in memory for tests, and small images to put into it.

use std::os::fd::OwnedFd;

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};

use crate::{Store, Verity};

/// A store in a directory of its own, on tmpfs.
pub(crate) struct Scratch {
    pub(crate) temp: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = Store::create(open(temp.path()), Verity::WhereSupported).unwrap();
        Self { temp, store }
    }

    pub(crate) fn path(&self, inner: &str) -> std::path::PathBuf {
        self.temp.path().join(inner)
    }

    pub(crate) fn object_path(&self, id: &ObjectId) -> std::path::PathBuf {
        self.path("objects").join(id.to_object_path())
    }

    /// Replaces the content of a file in place, whatever its name says.
    pub(crate) fn overwrite(&self, id: &ObjectId, content: &[u8]) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.object_path(id)).unwrap();
        file.write_all(content).unwrap();
    }
}

pub(crate) fn open(path: &std::path::Path) -> OwnedFd {
    OwnedFd::from(std::fs::File::open(path).unwrap())
}

/// A content that no other seed gives, too long to be inline in an image.
pub(crate) fn content(seed: u32) -> Vec<u8> {
    let line = format!("content number {seed:08} of a file in an image\n");
    line.repeat(4).into_bytes()
}

/// An image with one file for each of these objects.
pub(crate) fn image(objects: &[(ObjectId, u64)]) -> Vec<u8> {
    let mut tree = Tree::default();
    let metadata = |mode| Metadata {
        mode,
        ..Metadata::default()
    };
    tree.set_directory_metadata(DirectoryId::ROOT, metadata(0o755));
    for (index, (id, size)) in objects.iter().enumerate() {
        let leaf = tree.add_leaf(Leaf {
            metadata: metadata(0o644),
            content: Content::Object {
                id: *id,
                size: *size,
            },
        });
        tree.put_leaf(DirectoryId::ROOT, format!("file{index}").as_bytes(), leaf);
    }
    hull_erofs::image::write(&tree).unwrap()
}
