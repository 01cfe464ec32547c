//! The partition table, and the properties of a disk as a whole.

use std::fs;
use std::os::unix::fs::MetadataExt;

use hull_disk::filesystem::Kind;
use hull_disk::install::{Phase, Preparation, ToDisk};
use hull_disk::size::{GIB, MIB};

use crate::check::run;
use crate::system::{TestStage, disk, install, install_with, plain, request, rich};

#[test]
fn other_programs_find_the_partition_table_valid_and_as_planned() {
    let (_directory, path, installed) = disk(Kind::Ext4, plain);
    let path = path.to_str().unwrap();
    let verified = run("sgdisk", ["-v", path]);
    assert!(verified.contains("No problems found"), "{verified}");
    run("sfdisk", ["-V", path]);
    let dump = run("sfdisk", ["-d", path]);
    let identity = &installed.plan.identity;
    for expected in [
        "start=        2048, size=     1048576, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
            .to_owned(),
        "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709".to_owned(),
        format!("label-id: {}", identity.disk.to_string().to_uppercase()),
        format!("uuid={}", identity.esp_partition.to_string().to_uppercase()),
        format!(
            "uuid={}",
            identity.root_partition.to_string().to_uppercase()
        ),
        "name=\"EFI-SYSTEM\"".to_owned(),
        "name=\"root\"".to_owned(),
    ] {
        assert!(dump.contains(&expected), "{expected} is not in\n{dump}");
    }
}

#[test]
fn two_runs_at_different_times_give_the_same_bytes() {
    let make = || {
        let (directory, path, _) = disk(Kind::Ext4, rich);
        // Times on disk are in seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        (directory, path)
    };
    let ((_one, first), (_other, second)) = (make(), make());
    // Says at which byte, where they are not.
    run("cmp", [first, second]);
}

#[test]
fn other_options_give_other_identifiers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let one = install(request(&path), plain).unwrap();
    let kernel_arguments = vec!["debug".to_owned()];
    let other = ToDisk {
        kernel_arguments,
        wipe: true,
        ..request(&path)
    };
    let other = install(other, plain).unwrap();
    assert_ne!(one.plan.identity, other.plan.identity);
}

#[test]
fn a_raw_disk_takes_only_the_space_of_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let installed = install(
        ToDisk {
            size: None,
            ..request(&path)
        },
        plain,
    )
    .unwrap();
    assert_eq!(installed.plan.size, 10 * GIB);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 10 * GIB);
    assert!(
        metadata.blocks() * 512 < 100 * MIB,
        "{} KiB",
        metadata.blocks() / 2
    );
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["disk.raw"], "nothing else may stay behind");
}

#[test]
fn the_image_chooses_file_system_and_kernel_arguments_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let mut stage = TestStage::new(plain);
    let config =
        "[install]\nroot-fs-type = 'btrfs'\nkargs = ['from-config']\nkarg-deletes = ['quiet']\n";
    stage.install_config = vec![("50.toml".into(), config.into())];
    let asked = ToDisk {
        kernel_arguments: vec!["mine".into(), "console=ttyS0".into()],
        deleted_kernel_arguments: vec!["console=".into()],
        ..request(&path)
    };
    let installed = install_with(asked, &mut stage, &mut |_| {}).unwrap();
    assert_eq!(installed.plan.filesystem, Kind::Btrfs);
    let facts = stage.facts.unwrap();
    let root = format!("root=UUID={}", installed.plan.identity.root_filesystem);
    let expected = [&*root, "rw", "from-config", "mine", "console=ttyS0"];
    assert_eq!(facts.kernel_arguments, expected);
}

#[test]
fn a_preview_says_what_is_destroyed_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    install(request(&path), plain).unwrap();
    let before = fs::metadata(&path).unwrap();
    let preview = Preparation::new(ToDisk {
        wipe: true,
        ..request(&path)
    })
    .unwrap()
    .to_string();
    for expected in [
        "everything on it is destroyed",
        "GPT with 2 partitions",
        "vfat \"EFI-SYSTEM\" at 1 MiB",
        "ext4 \"root\" at 513 MiB",
    ] {
        assert!(
            preview.contains(expected),
            "{expected} is not in\n{preview}"
        );
    }
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn the_phases_come_in_order_and_writing_tells_the_plan() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let mut phases = Vec::new();
    let mut stage = TestStage::new(plain);
    let installed =
        install_with(request(&path), &mut stage, &mut |phase| phases.push(phase)).unwrap();
    let write = Phase::Write(Box::new(installed.plan));
    assert_eq!(phases, [Phase::Fetch, Phase::Stage, write, Phase::Verify]);
}
