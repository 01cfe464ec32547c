//! A record of tar-split, as podman's store has one for each layer, with a layer's files at hand.
#![no_main]

use std::fs::File;
use std::os::fd::OwnedFd;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static LAYER: TempDir = layer();
}

/// The files that the records of the corpus name.
fn layer() -> TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").expect("there is memory for a layer");
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("usr")).expect("it is a new directory");
    std::fs::write(path("usr/file"), b"content").expect("it is a new directory");
    std::fs::write(path("empty"), b"").expect("it is a new directory");
    std::os::unix::fs::symlink("usr", path("lib")).expect("it is a new directory");
    std::os::unix::fs::symlink("/etc/passwd", path("out")).expect("it is a new directory");
    dir
}

fuzz_target!(|record: &[u8]| {
    let dir = LAYER.with(|layer| File::open(layer.path()).expect("it is there"));
    if let Ok((foretold, actual)) = hull_oci::fuzzing::tar_split(record, OwnedFd::from(dir)) {
        assert_eq!(foretold, actual);
    }
});
