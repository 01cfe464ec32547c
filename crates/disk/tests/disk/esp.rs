//! The EFI system partition, as dosfstools and mtools see it.

use std::fs;
use std::path::Path;

use hull_disk::filesystem::Kind;
use hull_disk::install::ToDisk;
use hull_disk::size::MIB;

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
