//! Block devices: loop devices, as root.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hull_disk::filesystem::Kind;
use hull_disk::install::{InstallError, Preparation, ToDisk};
use hull_disk::plan::SectorSize;
use hull_disk::size::GIB;
use hull_disk::target::TargetError;
use hull_sys::run::{Program, RunError};

use crate::check::{at, run};
use crate::system::{install, pattern, plain, request};

/// A loop device on a sparse file, as long as the value lives.
struct Loop {
    device: PathBuf,
    file: PathBuf,
    directory: tempfile::TempDir,
}

impl Loop {
    fn new(size: u64, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("backing");
        fs::File::create(&file).unwrap().set_len(size).unwrap();
        let mut arguments = options.to_vec();
        arguments.extend(["-f", "--show", file.to_str().unwrap()]);
        let device = PathBuf::from(run("losetup", arguments).trim());
        Loop {
            device,
            file,
            directory,
        }
    }

    fn request(&self) -> ToDisk {
        let workdir = Some(self.directory.path().into());
        ToDisk {
            size: None,
            workdir,
            ..request(&self.device)
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Program::new("losetup")
            .arg("-d")
            .arg(&self.device)
            .run()
            .ok();
    }
}

#[test]
fn a_device_gets_the_same_disk_as_a_file_for_each_file_system() {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let device = Loop::new(2 * GIB, &[]);
        // What was there before must not shine through.
        let file = fs::File::options().write(true).open(&device.file).unwrap();
        for mib in 0..64 {
            file.write_all_at(&pattern(1 << 20), mib << 25).unwrap();
        }
        let asked = ToDisk {
            filesystem: Some(kind),
            wipe: true,
            ..device.request()
        };
        let installed = install(asked, plain).unwrap();
        let verified = run("sgdisk", ["-v".as_ref(), device.device.as_os_str()]);
        assert!(verified.contains("No problems found"), "{verified}");
        let (_extracted, partition) = crate::check::extract(&device.file, &installed.plan.root);
        let partition = partition.to_str().unwrap();
        match kind {
            Kind::Ext4 => run("e2fsck", ["-f", "-n", partition]),
            Kind::Xfs => run("xfs_repair", ["-n", partition]),
            Kind::Btrfs => run("btrfs", ["check", "--readonly", partition]),
        };
        let (_extracted, esp) = crate::check::extract(&device.file, &installed.plan.esp);
        run("fsck.vfat", ["-n".as_ref(), esp.as_os_str()]);
        assert_eq!(fs::read_dir(device.directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_device_with_sectors_of_4096_bytes_gets_tables_in_that_unit() {
    let device = Loop::new(2 * GIB, &["-b", "4096"]);
    let installed = install(device.request(), plain).unwrap();
    assert_eq!(installed.plan.sector_size, SectorSize::B4096);
    let verified = run("sgdisk", ["-v".as_ref(), device.device.as_os_str()]);
    assert!(verified.contains("No problems found"), "{verified}");
    let (_extracted, esp) = crate::check::extract(&device.file, &installed.plan.esp);
    let checked = run("fsck.vfat", ["-n".as_ref(), "-v".as_ref(), esp.as_os_str()]);
    assert!(
        checked.contains("4096 bytes per logical sector"),
        "{checked}"
    );
    assert!(checked.contains("32 bit entries"), "{checked}");
    run(
        "e2fsck",
        ["-f", "-n", &at(&device.file, &installed.plan.root)],
    );
}

#[test]
fn a_device_with_a_file_system_is_refused_unless_it_may_be_wiped() {
    let device = Loop::new(2 * GIB, &[]);
    run(
        "mke2fs",
        [
            "-q",
            "-t",
            "ext4",
            "-L",
            "data",
            device.device.to_str().unwrap(),
        ],
    );
    let error = Preparation::new(device.request()).unwrap_err();
    assert!(
        matches!(error, InstallError::Target(TargetError::Holds { .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains("it holds ext4 \"data\"; --wipe"),
        "{error}"
    );
    install(
        ToDisk {
            wipe: true,
            ..device.request()
        },
        plain,
    )
    .unwrap();
}

#[test]
fn a_mounted_device_is_refused_even_if_it_may_be_wiped() {
    let device = Loop::new(2 * GIB, &[]);
    run(
        "mke2fs",
        ["-q", "-t", "ext4", device.device.to_str().unwrap()],
    );
    let mount = device.directory.path().join("mount point");
    fs::create_dir(&mount).unwrap();
    run("mount", [device.device.as_path(), &mount]);
    let result = Preparation::new(ToDisk {
        wipe: true,
        ..device.request()
    });
    run("umount", [&mount]);
    let error = result.unwrap_err();
    let expected = format!(
        "{} is mounted at {}",
        device.device.display(),
        mount.display()
    );
    assert!(
        matches!(error, InstallError::Target(TargetError::InUse { .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains(&expected),
        "{expected} is not in {error}"
    );
}

#[test]
fn a_device_that_a_program_claims_is_refused() {
    let device = Loop::new(2 * GIB, &[]);
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::EXCL;
    let _claim = rustix::fs::open(&device.device, flags, rustix::fs::Mode::empty()).unwrap();
    let error = Preparation::new(ToDisk {
        wipe: true,
        ..device.request()
    })
    .unwrap_err();
    assert!(
        matches!(error, InstallError::Target(TargetError::InUse { .. })),
        "{error}"
    );
}

#[test]
fn a_prepared_device_cannot_be_mounted() {
    let device = Loop::new(2 * GIB, &[]);
    run(
        "mke2fs",
        ["-q", "-t", "ext4", device.device.to_str().unwrap()],
    );
    let _preparation = Preparation::new(ToDisk {
        wipe: true,
        ..device.request()
    })
    .unwrap();
    let mount = device.directory.path().join("mount");
    fs::create_dir(&mount).unwrap();
    let error = Program::new("mount")
        .args([device.device.as_path(), &mount])
        .run()
        .unwrap_err();
    assert!(matches!(error, RunError::Failed { .. }), "{error}");
}

#[test]
fn a_link_to_a_device_is_followed_and_a_size_for_it_is_refused() {
    let device = Loop::new(2 * GIB, &[]);
    let link = device.directory.path().join("by-id");
    std::os::unix::fs::symlink(&device.device, &link).unwrap();
    let asked = ToDisk {
        target: link.clone(),
        ..device.request()
    };
    assert_eq!(
        Preparation::new(asked.clone()).unwrap().observation().size,
        Some(2 * GIB)
    );
    let error = Preparation::new(ToDisk {
        size: Some(GIB),
        ..asked
    })
    .unwrap_err();
    assert!(
        matches!(error, InstallError::SizeOfDevice { .. }),
        "{error}"
    );
}

#[test]
fn a_device_that_is_too_small_is_refused() {
    let device = Loop::new(GIB / 2, &[]);
    let error = Preparation::new(device.request()).unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("disk is too small"), "{text}");
}

#[test]
fn a_device_whose_writing_is_cut_has_no_partition_table() {
    let device = Loop::new(2 * GIB, &[]);
    install(device.request(), plain).unwrap();
    fn too_odd(root: &Path, esp: &Path) {
        plain(root, esp);
        std::os::unix::fs::symlink("x", esp.join("zz")).unwrap();
    }
    let asked = ToDisk {
        wipe: true,
        ..device.request()
    };
    install(asked, too_odd).unwrap_err();
    let mut first = vec![1; 4096];
    fs::File::open(&device.file)
        .unwrap()
        .read_exact_at(&mut first, 0)
        .unwrap();
    assert!(first.iter().all(|byte| *byte == 0));
}
