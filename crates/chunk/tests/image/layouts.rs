//! Layouts that exist, with what runs left in them that did not come to their end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use hull_oci::Digest;

use crate::world::{Recipe, Root};

fn blobs(layout: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The names of the blobs that have another content than they say.
fn wrong(layout: &Path) -> Vec<PathBuf> {
    let is_wrong = |path: &PathBuf| {
        let digest = Digest::sha256(&fs::read(path).unwrap()).to_hex();
        path.file_name().unwrap() != &*digest
    };
    blobs(layout).into_iter().filter(is_wrong).collect()
}

fn write(path: &Path, content: &[u8]) {
    File::create(path).unwrap().write_all(content).unwrap();
}

#[test]
fn what_a_run_left_half_written_in_a_layout_is_written_again() {
    let root = Root::system();
    let scratch = tempfile::tempdir().unwrap();
    let layout = scratch.path().join("layout");
    let first = Recipe::default().make(root.path(), &layout);
    let names = blobs(&layout);
    // Layers, configuration and manifest.
    assert!(names.len() > first.built.layers.len() + 1);
    for path in &names {
        let whole = fs::read(path).unwrap();
        let mut other = whole.clone();
        other[whole.len() / 2..].fill(0xff);
        for left in [&b""[..], &whole[..whole.len() / 2], &other] {
            write(path, left);
            assert_eq!(wrong(&layout), std::slice::from_ref(path));
            let again = Recipe::default().make(root.path(), &layout);
            assert_eq!(again.built.manifest, first.built.manifest);
            assert_eq!(wrong(&layout), [] as [PathBuf; 0]);
        }
    }
    assert_eq!(blobs(&layout).len(), names.len());
    assert!(
        Recipe::default()
            .differences(root.path(), &layout)
            .is_empty()
    );
}

#[test]
fn blobs_that_a_layout_has_are_not_written_again() {
    let root = Root::system();
    let scratch = tempfile::tempdir().unwrap();
    let layout = scratch.path().join("layout");
    let inodes = || -> Vec<u64> {
        use std::os::unix::fs::MetadataExt;
        let mut all: Vec<_> = blobs(&layout);
        all.sort();
        let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
        all.iter().map(inode).collect()
    };
    Recipe::default().make(root.path(), &layout);
    let first = inodes();
    Recipe::default().make(root.path(), &layout);
    assert_eq!(inodes(), first);
}
