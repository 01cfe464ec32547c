//! A small system to install, and the options to install it with.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use hull_disk::filesystem::Kind;
use hull_disk::install::{
    Facts, Fetched, InstallError, Installed, Phase, Preparation, Stage, StageError, ToDisk,
};
use hull_disk::plan::Architecture;
use hull_disk::size::GIB;

/// When the image was made: in 2024, and no multiple of two seconds.
pub(crate) const CREATED: u64 = 1_720_000_001;

/// What a staged system looks like.
pub(crate) type Fill = fn(root: &Path, esp: &Path);

/// Stages a system with a function instead of an image.
pub(crate) struct TestStage {
    pub(crate) fill: Fill,
    pub(crate) install_config: Vec<(String, String)>,
    pub(crate) facts: Option<Facts>,
    directories: Option<(OwnedFd, OwnedFd)>,
}

impl TestStage {
    pub(crate) fn new(fill: Fill) -> Self {
        TestStage {
            fill,
            install_config: Vec::new(),
            facts: None,
            directories: None,
        }
    }
}

impl Stage for TestStage {
    fn fetch(&mut self, root: OwnedFd, esp: OwnedFd) -> Result<Fetched, StageError> {
        self.directories = Some((root, esp));
        Ok(Fetched {
            digest: "sha256:0".into(),
            install_config: self.install_config.clone(),
            kernel_arguments: vec!["quiet".into(), "console=tty0".into()],
            created: CREATED,
        })
    }

    fn install(&mut self, facts: &Facts) -> Result<(), StageError> {
        let (root, esp) = self.directories.take().ok_or("install before fetch")?;
        (self.fill)(&path_of(&root), &path_of(&esp));
        self.facts = Some(facts.clone());
        Ok(())
    }
}

/// The directory that a handle stands for, by a path that lives as long.
fn path_of(handle: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd())).unwrap()
}

pub(crate) fn request(target: &Path) -> ToDisk {
    ToDisk {
        target: target.into(),
        architecture: Architecture::X86_64,
        filesystem: None,
        size: Some(2 * GIB),
        esp_size: None,
        root_size: None,
        wipe: false,
        kernel_arguments: Vec::new(),
        deleted_kernel_arguments: Vec::new(),
        workdir: None,
        random: [7; 32],
    }
}

pub(crate) fn install(request: ToDisk, fill: Fill) -> Result<Installed, InstallError> {
    install_with(request, &mut TestStage::new(fill), &mut |_| {})
}

pub(crate) fn install_with(
    request: ToDisk,
    stage: &mut TestStage,
    progress: &mut dyn FnMut(Phase),
) -> Result<Installed, InstallError> {
    Preparation::new(request)?.execute(stage, progress)
}

/// A disk in a directory of its own.
pub(crate) fn disk(kind: Kind, fill: Fill) -> (tempfile::TempDir, PathBuf, Installed) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.raw");
    let installed = install(
        ToDisk {
            filesystem: Some(kind),
            ..request(&path)
        },
        fill,
    )
    .unwrap();
    (directory, path, installed)
}

/// What every file system can hold by every tool.
pub(crate) fn plain(root: &Path, esp: &Path) {
    let objects = root.join("composefs/objects/ab");
    fs::create_dir_all(&objects).unwrap();
    fs::set_permissions(root.join("composefs"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(objects.join("cdef"), pattern(3_000_000)).unwrap();
    fs::write(objects.join("empty"), b"").unwrap();
    let var = root.join("state/os/default/var");
    fs::create_dir_all(var.join("tmp")).unwrap();
    fs::set_permissions(var.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir_all(var.join("lib/db")).unwrap();
    fs::write(var.join("lib/db/table"), b"rows\n").unwrap();
    chown(var.join("lib/db/table"), Some(100_001), Some(33)).unwrap();
    fs::set_permissions(var.join("lib/db/table"), fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("../../os/default/var", root.join("state/link")).unwrap();
    boot_files(esp);
}

/// Content with what only some tools can put in: attributes, hard links, blanks.
pub(crate) fn rich(root: &Path, esp: &Path) {
    plain(root, esp);
    let file = root.join("a name with blanks");
    fs::write(&file, b"text").unwrap();
    fs::hard_link(&file, root.join("second-name")).unwrap();
    let value = b"value\0with zero";
    rustix::fs::setxattr(
        &file,
        "trusted.hull",
        value,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "security.capability", &capability, flags).unwrap();
}

fn boot_files(esp: &Path) {
    for directory in [
        "EFI/BOOT",
        "EFI/systemd",
        "EFI/hull/0123456789abcdef",
        "loader/entries",
    ] {
        fs::create_dir_all(esp.join(directory)).unwrap();
    }
    fs::write(esp.join("EFI/BOOT/BOOTX64.EFI"), pattern(90_001)).unwrap();
    fs::write(esp.join("EFI/systemd/systemd-bootx64.efi"), pattern(90_001)).unwrap();
    fs::write(
        esp.join("EFI/hull/0123456789abcdef/linux"),
        pattern(12_000_000),
    )
    .unwrap();
    fs::write(
        esp.join("EFI/hull/0123456789abcdef/initrd"),
        pattern(50_000_000),
    )
    .unwrap();
    fs::write(esp.join("loader/loader.conf"), b"timeout 3\n").unwrap();
    fs::write(
        esp.join("loader/entries/hull-00000001+3-0.conf"),
        b"title Debian\n",
    )
    .unwrap();
}

/// Bytes without zeros or repetitions of a block.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24).to_le_bytes()[0] | 1
        })
        .collect()
}
