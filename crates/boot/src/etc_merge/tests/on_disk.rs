//! Versions that are directories, and the merge that is written.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use hull_erofs::tree::MAX_DEPTH;

use super::*;

fn on_disk(path: &Path, files: &Files) {
    fs::create_dir_all(path).unwrap();
    for (name, entry) in files {
        let path = path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mode = match entry {
            Entry::Directory(mode) => {
                fs::create_dir_all(&path).unwrap();
                mode
            }
            Entry::File(mode, text) => {
                let dir = fs::File::open(path.parent().unwrap()).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                hull_sys::durable::write_new(&dir, name, 0o600, text.as_bytes()).unwrap();
                mode
            }
            Entry::Link(target) => {
                symlink(target, &path).unwrap();
                continue;
            }
        };
        fs::set_permissions(&path, fs::Permissions::from_mode((*mode).into())).unwrap();
    }
}

fn open(path: &Path) -> std::os::fd::OwnedFd {
    fs::File::open(path).unwrap().into()
}

#[test]
fn what_is_written_has_content_permissions_owner_times_and_attributes() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test changes owners: run it as root"
    );
    let temp = tempfile::tempdir().unwrap();
    let mine_path = temp.path().join("mine");
    on_disk(
        &mine_path,
        &files([
            ("d", Entry::Directory(0o2750)),
            ("d/file", Entry::File(0o4711, "x".repeat(100_000))),
            ("link", link("../target")),
        ]),
    );
    let file = mine_path.join("d/file");
    std::os::unix::fs::chown(&file, Some(12), Some(34)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4711)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "user.test", b"value", flags).unwrap();
    let time = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 7));
    fs::File::open(&file).unwrap().set_times(time).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        mine_path.join("fifo"),
        rustix::fs::FileType::Fifo,
        0o640.into(),
        0,
    )
    .unwrap();

    let theirs = etc(&files([("new", super::tests::file("theirs"))]));
    let mine = EtcTree::scan(open(&mine_path)).unwrap();
    let plan = plan(Some(&EtcTree::empty()), &mine, &theirs, Policy::Mine).unwrap();
    let target = temp.path().join("deployment");
    fs::create_dir(&target).unwrap();
    execute(&plan, &mine, &theirs, open(&target)).unwrap();

    let written = target.join("etc/d/file");
    let stat = fs::metadata(&written).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777),
        (12, 34, 0o4711)
    );
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_000_000, 7));
    assert_eq!(stat.len(), 100_000);
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&written, "user.test", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
    let mode = fs::metadata(target.join("etc/d")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o2750);
    let read = fs::read_link(target.join("etc/link")).unwrap();
    assert_eq!(read.to_str(), Some("../target"));
    assert_eq!(
        fs::read_to_string(target.join("etc/new")).unwrap(),
        "theirs"
    );
    assert!(target.join("etc/fifo").exists());
    assert!(!target.join("etc.new").exists());
    // The written tree is the one that was planned.
    let again = EtcTree::scan(open(&target.join("etc"))).unwrap();
    let plan = crate::etc_merge::plan(Some(&again), &again, &theirs, Policy::Mine).unwrap();
    assert_eq!(plan.conflicts, []);
}

#[test]
fn an_etc_that_is_there_is_never_replaced() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("etc/mine")).unwrap();
    let (mine, theirs) = (EtcTree::empty(), EtcTree::empty());
    let plan = plan(None, &mine, &theirs, Policy::Mine).unwrap();
    let error = execute(&plan, &mine, &theirs, open(temp.path())).unwrap_err();
    assert!(matches!(error, ExecuteError::Commit(_)), "{error}");
    assert!(temp.path().join("etc/mine").exists());
}

#[test]
fn directories_nested_beyond_reason_are_an_error_with_a_path() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("d/".repeat(MAX_DEPTH))).unwrap();
    let error = EtcTree::scan(open(temp.path())).unwrap_err().to_string();
    assert!(error.contains("/d/d/d"), "{error}");
    assert!(error.contains("nested too deeply"), "{error}");
}

#[test]
fn an_etc_as_deep_as_an_image_can_be_is_merged() {
    let temp = tempfile::tempdir().unwrap();
    // `/etc` itself is one of the directories.
    let below = "d/".repeat(MAX_DEPTH - 1);
    fs::create_dir_all(temp.path().join("mine").join(&below)).unwrap();
    fs::create_dir(temp.path().join("deployment")).unwrap();
    let mine = EtcTree::scan(open(&temp.path().join("mine"))).unwrap();
    let theirs = EtcTree::empty();
    let plan = plan(Some(&EtcTree::empty()), &mine, &theirs, Policy::Mine).unwrap();
    let target = temp.path().join("deployment");
    execute(&plan, &mine, &theirs, open(&target)).unwrap();
    assert!(target.join("etc").join(&below).is_dir());
}
