//! The root file systems, as their own programs see them.

use hull_disk::filesystem::Kind;
use hull_disk::install::ToDisk;

use crate::check::{at, debugfs, extract, run};
use crate::system::{CREATED, disk, install, pattern, plain, request, rich};

#[test]
fn ext4_holds_owners_modes_links_attributes_and_times() {
    let (directory, path, installed) = disk(Kind::Ext4, rich);
    let root = &installed.plan.root;
    run("e2fsck", ["-f", "-n", &at(&path, root)]);
    let table = debugfs(&path, root, "stat /state/os/default/var/lib/db/table");
    assert!(table.contains("Mode:  04751"), "{table}");
    assert!(table.contains("User: 100001   Group:    33"), "{table}");
    let time = format!("mtime: 0x{CREATED:08x}:00000000");
    assert!(table.contains(&time), "{table}");
    for other in ["ctime", "atime", "crtime"] {
        let time = format!("{other}: 0x{CREATED:08x}");
        assert!(table.contains(&time), "{time} is not in\n{table}");
    }
    let tmp = debugfs(&path, root, "stat /state/os/default/var/tmp");
    assert!(tmp.contains("Mode:  01777"), "{tmp}");
    let link = debugfs(&path, root, "stat /state/link");
    assert!(
        link.contains("Fast link dest: \"../../os/default/var\""),
        "{link}"
    );
    let named = debugfs(&path, root, "stat \"/a name with blanks\"");
    assert!(named.contains("Links: 2"), "{named}");
    assert!(named.contains("trusted.hull (15)"), "{named}");
    assert!(named.contains("security.capability (20)"), "{named}");
    let out = directory.path().join("object");
    debugfs(
        &path,
        root,
        &format!("dump /composefs/objects/ab/cdef {}", out.display()),
    );
    assert!(std::fs::read(out).unwrap() == pattern(3_000_000));
}

#[test]
fn ext4_has_the_verity_feature_the_label_and_nothing_left_to_initialize() {
    let (_directory, path, installed) = disk(Kind::Ext4, plain);
    let (_extracted, partition) = extract(&path, &installed.plan.root);
    let printed = run("dumpe2fs", [partition]);
    let features = printed
        .lines()
        .find(|line| line.starts_with("Filesystem features:"))
        .unwrap();
    for feature in ["verity", "metadata_csum", "64bit", "has_journal"] {
        assert!(features.contains(feature), "{features}");
    }
    assert!(
        !features.contains("orphan_file"),
        "the host's configuration got in: {features}"
    );
    assert!(
        printed.contains("Filesystem volume name:   root"),
        "{printed}"
    );
    let uuid = installed.plan.identity.root_filesystem.to_string();
    assert!(
        printed.contains(&format!("Filesystem UUID:          {uuid}")),
        "{printed}"
    );
    let group_zero = printed
        .lines()
        .find(|line| line.starts_with("Group 0:"))
        .unwrap();
    assert!(group_zero.contains("ITABLE_ZEROED"), "{group_zero}");
}

#[test]
fn xfs_holds_owners_modes_links_and_data() {
    let (_directory, path, installed) = disk(Kind::Xfs, plain);
    let (_extracted, partition) = extract(&path, &installed.plan.root);
    let partition = partition.to_str().unwrap();
    run("xfs_repair", ["-n", partition]);
    let print = |path: &str| {
        let select = format!("path {path}");
        let fields = "print core.mode core.uid core.gid core.size";
        run("xfs_db", ["-r", "-c", &select, "-c", fields, partition])
    };
    let table = print("/state/os/default/var/lib/db/table");
    for expected in [
        "core.mode = 0104751",
        "core.uid = 100001",
        "core.gid = 33",
        "core.size = 5",
    ] {
        assert!(table.contains(expected), "{table}");
    }
    assert!(print("/state/os/default/var/tmp").contains("core.mode = 041777"));
    assert!(print("/composefs").contains("core.mode = 040700"));
    assert!(print("/composefs/objects/ab/cdef").contains("core.size = 3000000"));
    assert!(print("/state/link").contains("core.mode = 0120777"));
    let uuid = run("xfs_db", ["-r", "-c", "uuid", "-c", "label", partition]);
    assert!(
        uuid.contains(&installed.plan.identity.root_filesystem.to_string()),
        "{uuid}"
    );
    assert!(uuid.contains("label = \"root\""), "{uuid}");
}

#[test]
fn xfs_by_an_old_tool_refuses_what_it_would_lose_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let asked = ToDisk {
        filesystem: Some(Kind::Xfs),
        ..request(&path)
    };
    let result = install(asked, rich);
    if run("mkfs.xfs", ["-V"]).contains("version 6.1.") {
        let error = result.unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        for expected in [
            "mkfs.xfs version 6.1",
            "/a name with blanks",
            "has a blank",
            "xfsprogs 6.17",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    } else {
        result.unwrap();
    }
}

#[test]
fn btrfs_is_clean_and_holds_the_files() {
    let (_directory, path, installed) = disk(Kind::Btrfs, rich);
    let (extracted, partition) = extract(&path, &installed.plan.root);
    let partition = partition.to_str().unwrap();
    run("btrfs", ["check", "--readonly", partition]);
    let shown = run("btrfs", ["filesystem", "show", partition]);
    assert!(
        shown.contains(&installed.plan.identity.root_filesystem.to_string()),
        "{shown}"
    );
    assert!(shown.contains("Label: 'root'"), "{shown}");
    let out = extracted.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(
        "btrfs",
        [
            "restore",
            "--metadata",
            "--xattr",
            partition,
            out.to_str().unwrap(),
        ],
    );
    assert!(std::fs::read(out.join("composefs/objects/ab/cdef")).unwrap() == pattern(3_000_000));
    use std::os::unix::fs::MetadataExt;
    let table = std::fs::metadata(out.join("state/os/default/var/lib/db/table")).unwrap();
    assert_eq!(
        (table.mode() & 0o7777, table.uid(), table.gid()),
        (0o4751, 100_001, 33)
    );
}
