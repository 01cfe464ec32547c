//! What an image must carry to be booted, found in its tree.

use std::collections::BTreeSet;

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, Entry, Node, Tree};

use crate::loader;

/// A regular file of an image whose bytes are an object of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFile {
    /// The object.
    pub id: ObjectId,
    /// Its length in bytes.
    pub size: u64,
}

/// The files of an image that the boot loader and the firmware need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel's version: the name of its directory below /usr/lib/modules.
    pub kernel_version: String,
    /// The kernel.
    pub linux: StoredFile,
    /// The initrd.
    pub initrd: StoredFile,
}

/// An image that cannot be booted.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum NotBootable {
    /// No directory below /usr/lib/modules holds a kernel.
    #[error(
        "the image has no kernel: /usr/lib/modules/<version>/vmlinuz is missing; is it a bootable container image?"
    )]
    NoKernel,
    /// There is more than one kernel.
    #[error("the image has several kernels, below /usr/lib/modules: {}; leave exactly one in it", .0.join(", "))]
    SeveralKernels(Vec<String>),
    /// The kernel has no initrd beside it.
    #[error(
        "the image has no initrd: /usr/lib/modules/{0}/initramfs.img is missing; make it when the image is built (dracut --no-hostonly)"
    )]
    NoInitrd(String),
    /// A file that must be regular and not empty is something else.
    #[error("/{0} of the image is not a regular file with content")]
    NotAFile(String),
    /// systemd-boot is missing.
    #[error(
        "the image has no systemd-boot: /{0} is missing; install systemd-boot's EFI program in the image (Debian: systemd-boot-efi)"
    )]
    NoBootLoader(String),
    /// An architecture for which no EFI program is known.
    #[error("hull cannot boot the architecture {0:?}: it knows x86_64, aarch64 and riscv64")]
    UnknownArchitecture(String),
    /// A directory of the deployment has no place in the image to be mounted at.
    #[error(
        "/{0} of the image is missing or no directory; the machine's own /{0} is mounted there: make it a directory when the image is built"
    )]
    NoMountPoint(&'static str),
    /// The range in setup-root.version cannot be read.
    #[error(
        "/usr/lib/hull/setup-root.version of the image is not of the form formats=<lowest>-<highest>: {0:?}"
    )]
    BadSetupRootVersion(String),
    /// The image's setup-root cannot read what this hull writes.
    #[error(
        "the image's setup-root reads deployment records of the formats {lowest} to {highest}, this hull writes {}; use a hull of the image's age",
        crate::record::FORMAT
    )]
    OtherRecordFormat {
        /// The lowest format that it reads.
        lowest: u32,
        /// The highest.
        highest: u32,
    },
}

/// Finds the one kernel of an image and its initrd.
pub fn find(tree: &Tree) -> Result<BootFiles, NotBootable> {
    let mut versions = BTreeSet::new();
    if let Some(modules) = tree.directory(b"usr/lib/modules") {
        for (name, node) in modules.entries() {
            let Node::Directory(directory) = node else {
                continue;
            };
            if directory.get(b"vmlinuz").is_some() {
                versions.insert(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    let mut versions = versions.into_iter();
    let kernel_version = versions.next().ok_or(NotBootable::NoKernel)?;
    let others: Vec<_> = versions.collect();
    if !others.is_empty() {
        let all = std::iter::once(kernel_version).chain(others).collect();
        return Err(NotBootable::SeveralKernels(all));
    }
    let directory = format!("usr/lib/modules/{kernel_version}");
    let linux = stored_file(tree, &format!("{directory}/vmlinuz"))?.ok_or(NotBootable::NoKernel)?;
    let initrd = stored_file(tree, &format!("{directory}/initramfs.img"))?
        .ok_or_else(|| NotBootable::NoInitrd(kernel_version.clone()))?;
    Ok(BootFiles {
        kernel_version,
        linux,
        initrd,
    })
}

/// Checks that what the initrd mounts of a deployment has a place in the image:
/// /etc and /var as directories. Links are not followed, for what the machine keeps
/// must not end up in other places of the image.
pub fn check_mount_points(tree: &Tree) -> Result<(), NotBootable> {
    let missing = ["etc", "var"]
        .into_iter()
        .find(|path| tree.directory(path.as_bytes()).is_none());
    missing.map_or(Ok(()), |path| Err(NotBootable::NoMountPoint(path)))
}

/// Finds the image's systemd-boot for an architecture.
pub fn find_boot_loader(tree: &Tree, architecture: &str) -> Result<StoredFile, NotBootable> {
    let path = loader::systemd_boot_path(architecture)
        .ok_or_else(|| NotBootable::UnknownArchitecture(architecture.to_owned()))?;
    stored_file(tree, &path)?.ok_or(NotBootable::NoBootLoader(path))
}

fn stored_file(tree: &Tree, path: &str) -> Result<Option<StoredFile>, NotBootable> {
    match tree.lookup(path.as_bytes()) {
        None => Ok(None),
        Some(Entry::Leaf(_, leaf)) => match leaf.content {
            Content::Object { id, size } => Ok(Some(StoredFile { id, size })),
            _ => Err(NotBootable::NotAFile(path.to_owned())),
        },
        Some(Entry::Directory(_)) => Err(NotBootable::NotAFile(path.to_owned())),
    }
}

/// The text of `/usr/lib/hull/setup-root.version`, checked against the record
/// format that this hull writes.
pub fn check_setup_root(version_file: &str) -> Result<(), NotBootable> {
    let bad = || NotBootable::BadSetupRootVersion(version_file.chars().take(80).collect());
    let (lowest, highest) = version_file
        .lines()
        .find_map(|line| line.trim().strip_prefix("formats="))
        .and_then(|range| range.split_once('-'))
        .ok_or_else(bad)?;
    let lowest: u32 = lowest.trim().parse().map_err(|_| bad())?;
    let highest: u32 = highest.trim().parse().map_err(|_| bad())?;
    if (lowest..=highest).contains(&crate::record::FORMAT) {
        Ok(())
    } else {
        Err(NotBootable::OtherRecordFormat { lowest, highest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_erofs::tree::{DirectoryId, Leaf, Metadata};

    fn put(tree: &mut Tree, path: &str, content: Content) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content,
        });
        let mut directory = DirectoryId::ROOT;
        for part in parent.split('/') {
            let part = part.as_bytes();
            directory = match tree.directory_at(directory).get(part) {
                Some(Node::Directory(inner)) => inner.id(),
                Some(Node::Leaf(_)) => panic!("{part:?} is no directory"),
                None => tree.put_directory(directory, part, Metadata::default()),
            };
        }
        tree.put_leaf(directory, name.as_bytes(), leaf);
    }

    fn object(size: u64) -> Content {
        Content::Object {
            id: ObjectId::from_bytes([1; ObjectId::LEN]),
            size,
        }
    }

    fn bootable() -> Tree {
        let mut tree = Tree::default();
        put(&mut tree, "usr/lib/modules/6.12/vmlinuz", object(10));
        put(&mut tree, "usr/lib/modules/6.12/initramfs.img", object(20));
        tree
    }

    #[test]
    fn the_kernel_and_its_initrd_are_found() {
        let found = find(&bootable()).unwrap();
        assert_eq!(found.kernel_version, "6.12");
        assert_eq!((found.linux.size, found.initrd.size), (10, 20));
    }

    #[test]
    fn an_image_without_a_kernel_is_refused() {
        assert_eq!(find(&Tree::default()), Err(NotBootable::NoKernel));
    }

    #[test]
    fn an_image_with_two_kernels_is_refused_and_both_are_named() {
        let mut tree = bootable();
        put(&mut tree, "usr/lib/modules/6.13/vmlinuz", object(10));
        let error = find(&tree).unwrap_err().to_string();
        assert!(error.contains("6.12, 6.13"), "{error}");
    }

    #[test]
    fn a_directory_of_leftover_modules_is_no_second_kernel() {
        let mut tree = bootable();
        put(&mut tree, "usr/lib/modules/6.13/modules.dep", object(10));
        assert!(find(&tree).is_ok());
    }

    #[test]
    fn a_kernel_that_is_a_link_or_lies_behind_one_is_refused() {
        let link = |target: &[u8]| Content::Symlink(target.into());
        let mut tree = bootable();
        put(
            &mut tree,
            "usr/lib/modules/6.12/vmlinuz",
            link(b"/boot/vmlinuz"),
        );
        let path = "usr/lib/modules/6.12/vmlinuz".to_owned();
        assert_eq!(find(&tree), Err(NotBootable::NotAFile(path)));
        let mut tree = bootable();
        put(
            &mut tree,
            "usr/lib/modules/6.12/initramfs.img",
            link(b"../x"),
        );
        assert!(matches!(find(&tree), Err(NotBootable::NotAFile(_))));
        let mut tree = Tree::default();
        put(&mut tree, "usr/lib/modules/6.12", link(b".."));
        put(&mut tree, "usr/lib/vmlinuz", object(10));
        assert_eq!(find(&tree), Err(NotBootable::NoKernel));
    }

    #[test]
    fn a_machine_s_own_directories_need_directories_in_the_image() {
        let mut tree = bootable();
        assert_eq!(
            check_mount_points(&tree),
            Err(NotBootable::NoMountPoint("etc"))
        );
        put(&mut tree, "etc/hosts", object(1));
        put(&mut tree, "run/var/x", object(1));
        let var = Content::Symlink(b"run/var".as_slice().into());
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content: var,
        });
        tree.put_leaf(DirectoryId::ROOT, b"var", leaf);
        assert_eq!(
            check_mount_points(&tree),
            Err(NotBootable::NoMountPoint("var"))
        );
        tree.remove(DirectoryId::ROOT, b"var");
        put(&mut tree, "var/lib/x", object(1));
        assert_eq!(check_mount_points(&tree), Ok(()));
    }

    #[test]
    fn an_image_without_initrd_is_refused() {
        let mut tree = Tree::default();
        put(&mut tree, "usr/lib/modules/6.12/vmlinuz", object(10));
        assert_eq!(find(&tree), Err(NotBootable::NoInitrd("6.12".into())));
    }

    #[test]
    fn an_image_without_systemd_boot_is_refused() {
        let error = find_boot_loader(&bootable(), "amd64").unwrap_err();
        assert!(matches!(error, NotBootable::NoBootLoader(_)));
    }

    #[test]
    fn a_setup_root_of_another_age_is_refused() {
        assert!(check_setup_root("formats=1-1\n").is_ok());
        assert!(matches!(
            check_setup_root("formats=7-9"),
            Err(NotBootable::OtherRecordFormat { .. })
        ));
        assert!(check_setup_root("formats=").is_err());
    }
}
