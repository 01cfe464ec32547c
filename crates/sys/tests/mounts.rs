//! Mounts in a namespace of their own. These need root.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use hull_sys::mount::{self, Change, Mount, Overlay, Upper, Verity};
use hull_sys::{loopdev, namespace};
use rustix::fs::CWD;
use rustix::io::Errno;

/// Runs a test in its own mount namespace, with a file system in memory at `path`.
fn in_namespace(test: impl FnOnce(&Path) + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts file systems: run it as root"
    );
    let temp = tempfile::tempdir().unwrap();
    namespace::with_private_mounts(|| {
        mount::tmpfs("test", 0o755)
            .unwrap()
            .attach(CWD, temp.path())
            .unwrap();
        test(temp.path());
    })
    .unwrap();
    assert!(std::fs::read_dir(temp.path()).unwrap().next().is_none());
}

fn directory(path: &Path) -> File {
    std::fs::create_dir_all(path).unwrap();
    File::open(path).unwrap()
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    File::create(path)?.write_all(text.as_bytes())
}

fn is_read_only(result: std::io::Result<()>) -> bool {
    result.is_err_and(|e| Errno::from_io_error(&e) == Some(Errno::ROFS))
}

#[test]
fn a_read_only_copy_leaves_the_original_writable() {
    in_namespace(|path| {
        let original = directory(&path.join("original"));
        directory(&path.join("copy"));
        let copy = Mount::copy(&original).unwrap();
        copy.change(&Change::READ_ONLY).unwrap();
        copy.attach(CWD, path.join("copy")).unwrap();
        assert!(is_read_only(write(&path.join("copy/file"), "x")));
        write(&path.join("original/file"), "x").unwrap();
        assert!(path.join("copy/file").exists());
        copy.change(&Change::WRITABLE).unwrap();
        write(&path.join("copy/file"), "y").unwrap();
    });
}

#[test]
fn a_copy_does_not_see_what_is_mounted_in_the_original() {
    in_namespace(|path| {
        let original = directory(&path.join("original"));
        directory(&path.join("original/sub"));
        directory(&path.join("copy"));
        let shared = Mount::copy(&original).unwrap();
        shared
            .change(&Change {
                propagation: Some(mount::Propagation::Shared),
                ..Change::default()
            })
            .unwrap();
        shared.attach(CWD, path.join("original")).unwrap();
        let copy = Mount::copy(File::open(path.join("original")).unwrap()).unwrap();
        copy.attach(CWD, path.join("copy")).unwrap();
        let inner = mount::tmpfs("inner", 0o755).unwrap();
        inner.attach(CWD, path.join("original/sub")).unwrap();
        write(&path.join("original/sub/file"), "x").unwrap();
        assert!(!path.join("copy/sub/file").exists());
    });
}

#[test]
fn a_replaced_mount_is_gone_and_the_new_one_is_at_its_place() {
    in_namespace(|path| {
        directory(&path.join("point"));
        let old = mount::tmpfs("old", 0o755).unwrap();
        old.attach(CWD, path.join("point")).unwrap();
        write(&path.join("point/old"), "x").unwrap();
        let new = mount::tmpfs("new", 0o755).unwrap();
        directory(&path.join("stage"));
        new.attach(CWD, path.join("stage")).unwrap();
        write(&path.join("stage/new"), "x").unwrap();
        new.replace(CWD, path.join("point")).unwrap();
        assert!(path.join("point/new").exists());
        assert!(!path.join("point/old").exists());
        assert!(!path.join("stage/new").exists());
        drop((old, new));
        mount::unmount(path.join("point")).unwrap();
        let left = std::fs::read_dir(path.join("point")).unwrap().count();
        assert_eq!(left, 0, "the old mount is still there");
    });
}

#[test]
fn a_file_system_that_is_read_only_becomes_writable() {
    in_namespace(|path| {
        directory(&path.join("point"));
        let mount = mount::tmpfs("old", 0o755).unwrap();
        mount.attach(CWD, path.join("point")).unwrap();
        rustix::mount::mount_remount(path.join("point"), rustix::mount::MountFlags::RDONLY, c"")
            .unwrap();
        assert!(is_read_only(write(&path.join("point/file"), "x")));
        mount::make_writable(&mount).unwrap();
        mount.change(&Change::WRITABLE).unwrap();
        write(&path.join("point/file"), "x").unwrap();
        mount::make_writable(&mount).unwrap();
    });
}

#[test]
fn an_overlay_keeps_changes_in_its_upper_directory() {
    in_namespace(|path| {
        let lower = directory(&path.join("lower"));
        write(&path.join("lower/file"), "old").unwrap();
        let data = directory(&path.join("data"));
        let changes = directory(&path.join("changes"));
        let work = directory(&path.join("work"));
        directory(&path.join("merged"));
        let overlay = Overlay {
            name: "test",
            lower: lower.as_fd(),
            data: data.as_fd(),
            upper: Some(Upper {
                changes: changes.as_fd(),
                work: work.as_fd(),
            }),
            verity: Verity::Unchecked,
        };
        let (mount, _) = mount::overlay(&overlay).unwrap();
        mount.attach(CWD, path.join("merged")).unwrap();
        write(&path.join("merged/file"), "new").unwrap();
        assert_eq!(std::fs::read(path.join("changes/file")).unwrap(), b"new");
        assert_eq!(std::fs::read(path.join("lower/file")).unwrap(), b"old");
    });
}

#[test]
fn an_overlay_without_upper_directory_is_read_only() {
    in_namespace(|path| {
        let lower = directory(&path.join("lower"));
        let data = directory(&path.join("data"));
        directory(&path.join("merged"));
        let overlay = Overlay {
            name: "test",
            lower: lower.as_fd(),
            data: data.as_fd(),
            upper: None,
            verity: Verity::Unchecked,
        };
        let (mount, _) = mount::overlay(&overlay).unwrap();
        mount.attach(CWD, path.join("merged")).unwrap();
        assert!(is_read_only(write(&path.join("merged/file"), "x")));
    });
}

#[test]
fn a_file_that_is_no_image_is_refused() {
    in_namespace(|path| {
        write(&path.join("image"), &"x".repeat(8192)).unwrap();
        let error = mount::erofs(File::open(path.join("image")).unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cannot mount erofs"), "{text}");
    });
}

#[test]
fn a_loop_device_gives_the_bytes_of_its_file_and_takes_none() {
    in_namespace(|_| {
        // In a directory of the disk: a file system in memory has no direct I/O.
        let disk = tempfile::tempdir().unwrap();
        write(&disk.path().join("file"), &"abcd".repeat(1024)).unwrap();
        let file = File::open(disk.path().join("file")).unwrap();
        let device = loopdev::attach_read_only(&file).unwrap();
        let mut bytes = [0; 4];
        File::from(device.try_clone().unwrap())
            .read_exact(&mut bytes)
            .unwrap();
        assert_eq!(&bytes, b"abcd");
        assert!(rustix::io::pwrite(&device, b"x", 0).is_err());
    });
}
