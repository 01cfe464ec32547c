//! A file system that is full. Needs root, to mount one that is small.

use std::io::Write;
use std::path::Path;

use hull_store::{Kind, StoreError};
use hull_sys::namespace;
use rustix::mount::MountFlags;

use crate::scratch::{assert_sound, check, collect, on_ext4, pull, store_in};

/// Mounts a tmpfs of so many KiB on a directory and does the work there.
fn on_small_tmpfs(kib: u32, work: fn(&Path)) {
    let temp = tempfile::tempdir().unwrap();
    namespace::with_private_mounts(|| {
        let size = std::ffi::CString::new(format!("size={kib}k")).unwrap();
        rustix::mount::mount("tmpfs", temp.path(), "tmpfs", MountFlags::empty(), &*size)
            .expect("this test mounts a tmpfs: run it as root");
        work(temp.path());
    })
    .expect("this test makes a mount namespace: run it as root");
}

/// Fills the disk in an object, a stream and a pull; each time the error says so,
/// what was there is whole, and once there is space the same works.
fn a_full_disk_is_survived(directory: &Path) {
    let store = store_in(directory);
    let session = store.session().unwrap();
    pull(&session, "old", 0..10).unwrap();

    let error = loop {
        let mut writer = session.writer();
        if let Err(error) = writer.append(&vec![1; 64 << 20]) {
            break error;
        }
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().contains("an object"), "{error}");

    // A program that another test starts at this moment shares the writer's file until it
    // runs; what that took is free only then.
    let mut fillers = Vec::new();
    let error = (2..100).find_map(|byte| {
        fillers.push(fill(directory, byte));
        session.put(&vec![byte; 1 << 20]).err()
    });
    let error = error.expect("a full disk stays full");
    let StoreError::NoSpace { writing, .. } = &error else {
        panic!("{error:?}");
    };
    // ext4 may already lack the block for the directory that the object goes to.
    let named = ["object ", "the directory objects/"];
    assert!(
        named.iter().any(|name| writing.starts_with(name)),
        "{writing}"
    );

    let error = pull(&session, "new", 5..4000).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert_sound(&store);
    assert_eq!(store.refs(Kind::Image).unwrap().len(), 1);

    for filler in fillers {
        std::fs::remove_file(filler).unwrap();
    }
    pull(&session, "new", 5..40).unwrap();
    drop(session);
    collect(&store);
    assert_eq!(check(&store).findings, []);
    assert_eq!(store.refs(Kind::Image).unwrap().len(), 2);
}

/// Writes a file until there is no space.
fn fill(directory: &Path, number: u8) -> std::path::PathBuf {
    let path = directory.join(format!("filler{number}"));
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 64 << 10, 4096, 512] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

#[test]
fn a_full_tmpfs_is_survived() {
    on_small_tmpfs(8 * 1024, a_full_disk_is_survived);
}

#[test]
fn a_full_ext4_is_survived() {
    on_ext4(16, "512", a_full_disk_is_survived);
}
