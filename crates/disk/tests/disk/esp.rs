//! The EFI system partition, as dosfstools and mtools see it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use hull_disk::content::Content;
use hull_disk::esp::{self, EspError};
use hull_disk::filesystem::Kind;
use hull_disk::install::ToDisk;
use hull_disk::plan::{Architecture, DiskPlan, Identity, Request, SectorSize};
use hull_disk::seed::Seed;
use hull_disk::size::MIB;
use proptest::prelude::*;

use crate::check::{extract, run};
use crate::system::{disk, install, pattern, plain, request};

#[test]
fn the_esp_is_a_clean_fat32_with_the_files_in_it() {
    let (_directory, path, installed) = disk(Kind::Ext4, plain);
    let esp = &installed.plan.esp;
    let (_extracted, partition) = extract(&path, esp);
    let checked = run(
        "fsck.vfat",
        ["-n".as_ref(), "-v".as_ref(), partition.as_os_str()],
    );
    assert!(checked.contains("32 bit entries"), "{checked}");
    let image = format!("{}@@{}", path.display(), esp.offset);
    let out = tempfile::tempdir().unwrap();
    run(
        "mcopy",
        ["-s", "-i", &image, "::/", out.path().to_str().unwrap()],
    );
    for (file, size) in [
        ("EFI/BOOT/BOOTX64.EFI", 90_001),
        ("EFI/hull/0123456789abcdef/linux", 12_000_000),
        ("EFI/hull/0123456789abcdef/initrd", 50_000_000),
    ] {
        assert!(
            fs::read(out.path().join(file)).unwrap() == pattern(size),
            "{file}"
        );
    }
    let entry = fs::read(out.path().join("loader/entries/hull-00000001+3-0.conf")).unwrap();
    assert_eq!(entry, b"title Debian\n");
    let listed = run("mdir", ["-i", &image, "::/loader"]);
    let volume = installed.plan.identity.esp_volume;
    let serial = format!("{:04X}-{:04X}", volume >> 16, volume & 0xffff);
    assert!(listed.contains(&serial), "{listed}");
    assert!(listed.contains("EFI-SYSTEM"), "{listed}");
    assert!(listed.contains("1980-01-01"), "{listed}");
}

#[test]
fn esps_of_all_sizes_are_fat32() {
    for size in [64 * MIB, 259 * MIB, 260 * MIB, 261 * MIB, 700 * MIB] {
        fn small(root: &Path, esp: &Path) {
            fs::write(root.join("file"), b"").unwrap();
            for number in 0..300 {
                let name = format!("a long name of a file, number {number}.conf");
                fs::write(esp.join(name), number.to_string()).unwrap();
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        let installed = install(
            ToDisk {
                esp_size: Some(size),
                ..request(&path)
            },
            small,
        )
        .unwrap();
        assert_eq!(installed.plan.esp.length, size);
        let (_extracted, partition) = extract(&path, &installed.plan.esp);
        let checked = run(
            "fsck.vfat",
            ["-n".as_ref(), "-v".as_ref(), partition.as_os_str()],
        );
        assert!(checked.contains("32 bit entries"), "{size}: {checked}");
        assert!(checked.contains("301 files"), "{size}: {checked}");
    }
}

/// Files by their paths, in directories of directories.
fn any_tree() -> impl Strategy<Value = BTreeMap<String, usize>> {
    let name = "[a-z0-9][a-zA-Z0-9 +_~.-]{0,28}[a-z0-9]";
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let size = prop_oneof![Just(0), Just(512), 0..100_000usize];
    prop::collection::btree_map(path, size, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_tree_is_read_back_by_others_as_it_was(tree in any_tree()) {
        let directory = tempfile::tempdir().unwrap();
        let (source, out) = (directory.path().join("source"), directory.path().join("out"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&out).unwrap();
        let mut lower = HashSet::new();
        let mut kept = Vec::new();
        for (path, size) in &tree {
            // Names that differ in case only, and files in place of directories, are refused elsewhere.
            let parents = source.join(path);
            if !lower.insert(path.to_lowercase()) || fs::create_dir_all(parents.parent().unwrap()).is_err() || parents.exists() {
                continue;
            }
            fs::write(source.join(path), pattern(*size)).unwrap();
            kept.push((path, *size));
        }
        let plan = DiskPlan::new(&Request {
            disk_size: None,
            sector_size: SectorSize::B512,
            esp_size: Some(64 * MIB),
            root_size: Some(512 * MIB),
            filesystem: Kind::Ext4,
            architecture: Architecture::X86_64,
            esp_content: Content::default(),
            root_content: Content::default(),
            identity: Identity::new(&Seed::new("tree")),
        }).unwrap();
        let path = directory.path().join("disk.raw");
        let disk = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        disk.set_len(plan.size).unwrap();
        let staged = fs::File::open(&source).unwrap();
        match esp::write(&plan, &disk, &staged) {
            // Directories of the tree may still differ in case only.
            Err(EspError::Name { .. }) => return Ok(()),
            result => result.unwrap(),
        }
        esp::verify(&plan, &disk, &staged).unwrap();
        let (_extracted, partition) = extract(&path, &plan.esp);
        run("fsck.vfat", ["-n".as_ref(), partition.as_os_str()]);
        let image = format!("{}@@{}", path.display(), plan.esp.offset);
        if !kept.is_empty() {
            run("mcopy", ["-s", "-i", &image, "::/", out.to_str().unwrap()]);
        }
        for (path, size) in kept {
            prop_assert!(fs::read(out.join(path)).unwrap() == pattern(size), "{}", path);
        }
    }
}
