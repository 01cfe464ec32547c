//! Targets and contents that cannot be, and disks that fill up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hull_disk::filesystem::Kind;
use hull_disk::install::{InstallError, Preparation, ToDisk};
use hull_disk::plan::PlanError;
use hull_disk::size::{GIB, MIB};
use hull_disk::target::TargetError;
use hull_sys::run::Program;

use crate::check::run;
use crate::system::{install, pattern, plain, request};

/// All causes of an error, as a person sees them.
fn told(error: &InstallError) -> String {
    let mut text = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        text = format!("{text}: {source}");
        cause = source;
    }
    text
}

#[test]
fn a_file_that_holds_something_is_refused_and_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    fs::write(&path, b"do not lose").unwrap();
    let error = install(request(&path), plain).unwrap_err();
    let text = told(&error);
    assert!(
        text.contains("notes.txt is not empty") && text.contains("--wipe"),
        "{text}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"do not lose");
}

#[test]
fn a_file_of_zeros_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    fs::File::create(&path).unwrap().set_len(GIB).unwrap();
    let preview = Preparation::new(request(&path)).unwrap().to_string();
    assert!(preview.contains("it is empty"), "{preview}");
}

#[test]
fn targets_that_are_no_disks_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    symlink(&file, &link).unwrap();
    let cases = [
        (directory.path(), "a directory"),
        (Path::new("/dev/null"), "a character device"),
        (&link, "a symbolic link"),
        (Path::new("/"), "no path of a file"),
        (
            Path::new("/nowhere/disk.raw"),
            "cannot open /nowhere/disk.raw",
        ),
    ];
    for (path, expected) in cases {
        let text = told(&Preparation::new(request(path)).unwrap_err());
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let asked = ToDisk {
        size: Some(500 * MIB),
        ..request(&path)
    };
    let error = Preparation::new(asked).unwrap_err();
    let text = told(&error);
    assert!(
        text.contains("disk is too small") && text.contains("it has 500 MiB"),
        "{text}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_is_too_small_for_the_content_leaves_nothing_behind() {
    fn large(root: &Path, esp: &Path) {
        plain(root, esp);
        fs::File::create(root.join("sparse"))
            .unwrap()
            .set_len(GIB)
            .unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let error = install(
        ToDisk {
            size: Some(GIB + 100 * MIB),
            ..request(&path)
        },
        large,
    )
    .unwrap_err();
    let too_small = |source: &PlanError| matches!(source, PlanError::DiskTooSmall { .. });
    assert!(
        matches!(&error, InstallError::Plan { source, .. } if too_small(source)),
        "{error}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_esp_content_that_fat_cannot_hold_is_refused_by_name() {
    fn linked(_: &Path, esp: &Path) {
        symlink("x", esp.join("link")).unwrap();
    }
    fn forbidden(_: &Path, esp: &Path) {
        fs::write(esp.join("a:b"), b"").unwrap();
    }
    fn same(_: &Path, esp: &Path) {
        fs::write(esp.join("a"), b"").unwrap();
        fs::write(esp.join("A"), b"").unwrap();
    }
    for (fill, expected) in [
        (
            linked as fn(&Path, &Path),
            "/link cannot go onto the EFI system partition",
        ),
        (forbidden, "/a:b cannot go onto the EFI system partition"),
        (
            same,
            "/a cannot go onto the EFI system partition: another name in its directory",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let text = told(&install(request(&directory.path().join("disk.raw")), fill).unwrap_err());
        assert!(text.contains(expected), "{expected} is not in {text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

/// A tmpfs of a size, as long as the value lives.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let option = format!("size={size}");
        let path = directory.path().to_str().unwrap();
        run("mount", ["-t", "tmpfs", "-o", &option, "tmpfs", path]);
        Tmpfs(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Program::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .run()
            .ok();
    }
}

#[test]
fn a_target_file_system_without_room_is_found_before_writing() {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let (small, workdir) = (Tmpfs::new(40 * MIB), tempfile::tempdir().unwrap());
        let path = small.path().join("disk.raw");
        let asked = ToDisk {
            filesystem: Some(kind),
            workdir: Some(workdir.path().into()),
            ..request(&path)
        };
        let error = install(asked, plain).unwrap_err();
        assert!(
            matches!(&error, InstallError::NoSpace { .. }),
            "{kind}: {}",
            told(&error)
        );
        assert!(
            told(&error).contains("are needed, 40 MiB are free"),
            "{}",
            told(&error)
        );
        assert_eq!(fs::read_dir(small.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(workdir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_target_file_system_that_fills_up_while_writing_leaves_no_target() {
    fn filler() -> &'static Path {
        Path::new("filler")
    }
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let (small, workdir) = (Tmpfs::new(200 * MIB), tempfile::tempdir().unwrap());
        let path = small.path().join("disk.raw");
        let asked = ToDisk {
            filesystem: Some(kind),
            workdir: Some(workdir.path().into()),
            ..request(&path)
        };
        let target = small.path().to_owned();
        let mut stage = crate::system::TestStage::new(plain);
        let error = crate::system::install_with(asked, &mut stage, &mut |phase| {
            // Somebody else takes the room that was there when it was looked at.
            if matches!(phase, hull_disk::install::Phase::Write(_)) {
                fs::write(target.join(filler()), vec![1; 136 << 20]).unwrap();
            }
        })
        .unwrap_err();
        let text = told(&error);
        assert!(
            text.contains("No space left on device") || text.contains("os error 28"),
            "{kind}: {text}"
        );
        let names: Vec<_> = fs::read_dir(small.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, [filler().as_os_str()], "{kind}");
        assert_eq!(fs::read_dir(workdir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let appearing = path.clone();
    let mut stage = crate::system::TestStage::new(plain);
    let error = crate::system::install_with(request(&path), &mut stage, &mut |phase| {
        if phase == hull_disk::install::Phase::Verify {
            fs::write(&appearing, b"somebody's").unwrap();
        }
    })
    .unwrap_err();
    assert!(
        matches!(error, InstallError::Target(TargetError::Appeared { .. })),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_a_killed_run_left_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    fs::write(directory.path().join(".disk.raw.partial"), pattern(5000)).unwrap();
    fs::create_dir_all(directory.path().join(".hull-install-disk.raw/root/half")).unwrap();
    install(request(&path), plain).unwrap();
    let verified = run("sgdisk", ["-v".as_ref(), path.as_os_str()]);
    assert!(verified.contains("No problems found"), "{verified}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_disk_that_does_not_keep_what_was_written_is_found_out() {
    for (offset, expected) in [
        (512 + 60, "partition table at byte 0 reads back differently"),
        (2 * GIB - 100, "reads back differently"),
        (
            MIB + 100,
            "file system of the EFI system partition reads back differently",
        ),
        (
            20 * MIB,
            "on the EFI system partition reads back differently",
        ),
        (513 * MIB + 1024 + 0x68, "root file system of"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        let partial = directory.path().join(".disk.raw.partial");
        let mut stage = crate::system::TestStage::new(plain);
        let error = crate::system::install_with(request(&path), &mut stage, &mut |phase| {
            if phase == hull_disk::install::Phase::Verify {
                use std::os::unix::fs::FileExt;
                let disk = fs::File::options()
                    .read(true)
                    .write(true)
                    .open(&partial)
                    .unwrap();
                let mut byte = [0];
                disk.read_exact_at(&mut byte, offset).unwrap();
                disk.write_all_at(&[!byte[0]], offset).unwrap();
            }
        })
        .unwrap_err();
        let text = told(&error);
        assert!(
            text.contains(expected),
            "{offset}: {expected} is not in {text}"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
