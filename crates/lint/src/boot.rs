//! Kernel, initrd and boot loader.

use std::collections::BTreeSet;
use std::io;

use hull_boot::kernel::{NotBootable, check_setup_root};
use hull_boot::loader;

use crate::finding::{Finding, Verdict};
use crate::initrd::{self, Contents};
use crate::root::{Kind, Root, printable};

const MODULES: &str = "usr/lib/modules";
const VERSION_FILE: &str = "usr/lib/hull/setup-root.version";
const NO_INITRD: Verdict = Verdict::NotApplicable("there is no initrd to look into");

/// How EFI programs begin, which kernels for it are.
const EFI_MAGIC: &[u8] = b"MZ";

/// The directories that hold a kernel.
fn kernels(root: &Root) -> BTreeSet<&[u8]> {
    root.children(MODULES.as_bytes())
        .filter(|(_, _, kind)| matches!(kind, Kind::Directory | Kind::Mount))
        .map(|(path, _, _)| path)
        .filter(|path| root.children(path).any(|(_, name, _)| name == b"vmlinuz"))
        .collect()
}

/// One kernel at most.
pub(crate) fn kernel(root: &Root) -> Verdict {
    let kernels = kernels(root);
    if kernels.len() < 2 {
        return None.into();
    }
    let findings = kernels.into_iter().map(|path| {
        Finding::new(
            path,
            "one of several kernels",
            "leave exactly one: remove the packages of the others",
        )
    });
    findings.collect::<Vec<_>>().into()
}

/// The first kernel's directory, where it can be used as a name.
fn the_kernel(root: &Root) -> Option<String> {
    let first = kernels(root).into_iter().next()?;
    String::from_utf8(first.to_vec()).ok()
}

/// Kernels and their initrds are regular files that firmware and kernel can use.
pub(crate) fn kernel_initramfs(root: &Root) -> Verdict {
    let kernels = kernels(root);
    if kernels.is_empty() {
        return Some(no_kernel(root)).into();
    }
    let mut findings = Vec::new();
    for directory in kernels {
        let Ok(directory) = std::str::from_utf8(directory) else {
            continue;
        };
        findings.extend(check_kernel(root, &format!("{directory}/vmlinuz")));
        findings.extend(check_initrd(root, &format!("{directory}/initramfs.img")));
    }
    findings.into()
}

fn no_kernel(root: &Root) -> Finding {
    let mut names = root
        .children(b"boot")
        .filter_map(|(_, name, _)| std::str::from_utf8(name).ok());
    let finding = |problem: String, remedy: String| {
        let problem = format!("there is no kernel, VERSION/vmlinuz{problem}");
        Finding::new(MODULES.as_bytes(), problem, remedy)
    };
    let install = || "install a kernel; it belongs beside its modules".to_owned();
    if let Some(version) = names.find_map(|name| name.strip_prefix("vmlinuz-")) {
        return finding(
            format!("; there is /boot/vmlinuz-{version}"),
            format!("mv /boot/vmlinuz-{version} /{MODULES}/{version}/vmlinuz"),
        );
    }
    let uki = root
        .below(b"boot")
        .find(|(path, _)| path.to_ascii_lowercase().ends_with(b".efi"));
    match uki {
        Some((path, _)) => finding(
            format!(
                "; hull does not start unified kernel images, such as {}",
                printable(path)
            ),
            install(),
        ),
        None => finding(String::new(), install()),
    }
}

fn check_kernel(root: &Root, path: &str) -> Option<Finding> {
    let finding = |problem: &str, remedy| Some(Finding::new(path.as_bytes(), problem, remedy));
    let place = "put the kernel itself here, not a link";
    match root.get(path) {
        Some(Kind::Regular(0)) => finding("it is empty", place),
        Some(Kind::Regular(_)) => match root.start(path, 2) {
            Ok(Some(start)) if start == EFI_MAGIC => None,
            Ok(_) => finding(
                "it is no EFI program, so systemd-boot cannot start it",
                "take a kernel with CONFIG_EFI_STUB, not compressed with gzip",
            ),
            Err(error) => finding(&format!("it cannot be read: {error}"), place),
        },
        _ => finding("it is no regular file", place),
    }
}

fn check_initrd(root: &Root, path: &str) -> Option<Finding> {
    let remedy = "make it when the image is built: dracut --no-hostonly --kver VERSION /usr/lib/modules/VERSION/initramfs.img";
    let finding = |problem: &str| Some(Finding::new(path.as_bytes(), problem, remedy));
    match root.get(path) {
        None => finding("there is no initrd beside the kernel"),
        Some(Kind::Regular(0)) => finding("it is empty"),
        Some(Kind::Regular(_)) => match open_initrd(root, path) {
            Ok(_) => None,
            Err(error) => finding(&format!("the kernel cannot unpack it: {error}")),
        },
        Some(_) => finding("it is no regular file"),
    }
}

fn open_initrd(root: &Root, path: &str) -> io::Result<Contents> {
    match root.open(path)? {
        Some(file) => initrd::read(file),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The initrd of the first kernel, with what is in it; nothing where there is none, or a broken one,
/// which `kernel-initramfs` says.
fn initrd(root: &Root) -> Option<(String, Contents)> {
    let path = format!("{}/initramfs.img", the_kernel(root)?);
    let contents = open_initrd(root, &path).ok()?;
    Some((path, contents))
}

/// What `setup-root.version` says is true, and of use to this hull.
pub(crate) fn setup_root(root: &Root) -> Verdict {
    let version = match root.text(VERSION_FILE) {
        Ok(None) => return Verdict::NotApplicable("the image does not say that it has setup-root"),
        Ok(Some(text)) => check_setup_root(&text).map_err(|e: NotBootable| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let mut findings = Vec::new();
    if let Err(problem) = version {
        let remedy = "install hull's files of one version: make install DESTDIR=…";
        findings.push(Finding::new(VERSION_FILE.as_bytes(), problem, remedy));
    }
    if let Some((path, contents)) = initrd(root)
        && !contents.setup_root
        && contents.unknown.is_none()
    {
        findings.push(Finding::new(
            path.as_bytes(),
            format!(
                "it has no setup-root, though /{VERSION_FILE} says so: the machine will not boot"
            ),
            format!("make the initrd anew {}", module_remedy(root)),
        ));
    }
    findings.into()
}

/// Which part of the image puts setup-root into an initrd that is made in it.
fn module_remedy(root: &Root) -> &'static str {
    let dracut = root.get("usr/lib/dracut/modules.d/51hull/module-setup.sh");
    let hook = root.get("usr/share/initramfs-tools/hooks/hull");
    match (dracut, hook) {
        (None, None) => {
            "with hull's dracut module or its hook for initramfs-tools, which the image does not have"
        }
        (Some(_), _) => "with dracut, now that hull's module is there",
        (None, Some(_)) => "with update-initramfs, now that hull's hook is there",
    }
}

/// setup-root is in the initrd.
pub(crate) fn second_initrd(root: &Root) -> Verdict {
    if root.get(VERSION_FILE).is_some() {
        return None.into();
    }
    let Some((path, contents)) = initrd(root) else {
        return NO_INITRD;
    };
    let problem = match contents.setup_root {
        true => format!("it has setup-root, and there is no /{VERSION_FILE}: hull adds a second one"),
        false => "it has no setup-root: hull adds a second initrd that does, with the setup-root of the hull that installs".to_owned(),
    };
    let remedy = format!(
        "this works; to have it in one, install hull's files and make the initrd {}",
        module_remedy(root)
    );
    Some(Finding::new(path.as_bytes(), problem, remedy)).into()
}

/// What the root is mounted with.
pub(crate) fn initrd_modules(root: &Root) -> Verdict {
    let (Some((path, contents)), Some(kernel)) = (initrd(root), the_kernel(root)) else {
        return NO_INITRD;
    };
    if contents.unknown.is_some() {
        return Verdict::NotApplicable("the initrd is compressed as lint cannot unpack it");
    }
    let Ok(Some(builtin)) = root.text(&format!("{kernel}/modules.builtin")) else {
        return Verdict::NotApplicable("there is no modules.builtin beside the kernel");
    };
    let missing = [("erofs", contents.erofs), ("overlay", contents.overlay)]
        .into_iter()
        .filter(|(name, in_initrd)| !in_initrd && !builtin.contains(&format!("/{name}.ko")));
    let findings = missing.map(|(name, _)| {
        Finding::new(
            path.as_bytes(),
            format!("neither the kernel nor the initrd has the module {name}, without which the root cannot be mounted"),
            "dracut --no-hostonly --add-drivers \"erofs overlay loop\", or the names in /etc/initramfs-tools/modules",
        )
    });
    findings.collect::<Vec<_>>().into()
}

/// systemd-boot for any of the architectures: which one the root is for is not known.
pub(crate) fn systemd_boot(root: &Root) -> Verdict {
    let paths: Vec<String> = ["x86_64", "aarch64", "riscv64"]
        .into_iter()
        .filter_map(loader::systemd_boot_path)
        .collect();
    let there = paths.iter().find(|path| root.get(path).is_some());
    let Some(path) = there else {
        return Some(Finding::new(
            b"usr/lib/systemd/boot/efi",
            "there is no systemd-boot*.efi, which an installation puts onto the disk",
            "install it (Debian: systemd-boot-efi, Fedora: systemd-boot-unsigned)",
        ))
        .into();
    };
    let start = match root.get(path) {
        Some(Kind::Regular(_)) => root.start(path, 2).ok().flatten(),
        _ => None,
    };
    let fine = start.as_deref() == Some(EFI_MAGIC);
    (!fine)
        .then(|| {
            let remedy = "install the package with systemd-boot again";
            Finding::new(path.as_bytes(), "it is no EFI program", remedy)
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::tests::cpio;
    use crate::testing::{Builder, paths, problems};

    const KERNEL: &str = "usr/lib/modules/6.12/vmlinuz";
    const INITRD: &str = "usr/lib/modules/6.12/initramfs.img";
    const SETUP_ROOT: &str = "usr/lib/hull/setup-root";

    fn bootable() -> Builder {
        Builder::new()
            .file(KERNEL, "MZ and so on")
            .file(INITRD, cpio(&["init", SETUP_ROOT]))
            .file(
                "usr/lib/modules/6.12/modules.builtin",
                "kernel/fs/overlayfs/overlay.ko\n",
            )
    }

    #[test]
    fn a_bootable_image_has_nothing_wrong_with_it() {
        let root = bootable()
            .file(VERSION_FILE, "formats=1-1\n")
            .file("usr/lib/systemd/boot/efi/systemd-bootx64.efi", "MZ");
        for lint in [
            kernel,
            kernel_initramfs,
            setup_root,
            second_initrd,
            systemd_boot,
        ] {
            assert_eq!(problems(lint, &root), "");
        }
    }

    #[test]
    fn two_kernels_are_found_and_both_are_named_but_not_leftover_modules() {
        let root = bootable().file("usr/lib/modules/6.11/modules.dep", "x");
        assert_eq!(paths(kernel, &root), [""; 0]);
        let root = root.file("usr/lib/modules/6.13/vmlinuz", "MZ");
        let expected = ["/usr/lib/modules/6.12", "/usr/lib/modules/6.13"];
        assert_eq!(paths(kernel, &root), expected);
    }

    #[test]
    fn an_image_without_a_kernel_is_found() {
        assert_eq!(
            paths(kernel_initramfs, &Builder::new()),
            ["/usr/lib/modules"]
        );
        let uki = Builder::new().file("boot/EFI/Linux/x.efi", "MZ");
        let problem = problems(kernel_initramfs, &uki);
        assert!(problem.contains("/boot/EFI/Linux/x.efi"), "{problem}");
        let debian = Builder::new().file("boot/vmlinuz-6.12-amd64", "MZ");
        let problem = problems(kernel_initramfs, &debian);
        let remedy = "mv /boot/vmlinuz-6.12-amd64 /usr/lib/modules/6.12-amd64/vmlinuz";
        assert!(problem.contains(remedy), "{problem}");
    }

    #[test]
    fn kernels_that_no_loader_starts_are_found() {
        for (content, reason) in [("", "empty"), ("\u{1f}\u{8b}", "no EFI program")] {
            let root = bootable().file(KERNEL, content);
            let problem = problems(kernel_initramfs, &root);
            assert!(problem.contains(reason), "{problem}");
        }
        let root = Builder::new()
            .file("boot/vmlinuz", "MZ")
            .file(INITRD, cpio(&[]))
            .link(KERNEL, "/boot/vmlinuz");
        assert_eq!(paths(kernel_initramfs, &root), [format!("/{KERNEL}")]);
    }

    #[test]
    fn initrds_that_are_missing_or_damaged_are_found() {
        let root = Builder::new().file(KERNEL, "MZ");
        assert_eq!(paths(kernel_initramfs, &root), [format!("/{INITRD}")]);
        for content in ["", "no archive", "070701"] {
            let root = bootable().file(INITRD, content);
            assert_eq!(
                paths(kernel_initramfs, &root),
                [format!("/{INITRD}")],
                "{content}"
            );
        }
    }

    #[test]
    fn an_image_that_claims_setup_root_without_having_it_is_found() {
        let root = bootable()
            .file(INITRD, cpio(&["init"]))
            .file(VERSION_FILE, "formats=1-1\n");
        let problem = problems(setup_root, &root);
        assert!(problem.contains("will not boot"), "{problem}");
        assert!(problem.contains("does not have"), "{problem}");
        let root = bootable().file(VERSION_FILE, "formats=7-9\n");
        assert_eq!(paths(setup_root, &root), [format!("/{VERSION_FILE}")]);
    }

    #[test]
    fn an_initrd_without_setup_root_is_one_that_hull_adds_a_second_one_to() {
        let root = bootable().file(INITRD, cpio(&["init"]));
        assert!(matches!(
            setup_root(&root.read()),
            Verdict::NotApplicable(_)
        ));
        assert_eq!(paths(second_initrd, &root), [format!("/{INITRD}")]);
    }

    #[test]
    fn modules_that_neither_the_kernel_nor_the_initrd_has_are_found() {
        let problem = problems(initrd_modules, &bootable());
        assert!(
            problem.contains("module erofs") && !problem.contains("module overlay"),
            "{problem}"
        );
        let root = bootable().file(INITRD, cpio(&["usr/lib/modules/6.12/erofs.ko.zst"]));
        assert_eq!(paths(initrd_modules, &root), [""; 0]);
    }

    #[test]
    fn a_missing_or_damaged_boot_loader_is_found() {
        assert_eq!(
            paths(systemd_boot, &Builder::new()),
            ["/usr/lib/systemd/boot/efi"]
        );
        let path = "usr/lib/systemd/boot/efi/systemd-bootaa64.efi";
        let root = Builder::new().file(path, "MZ");
        assert_eq!(paths(systemd_boot, &root), [""; 0]);
        let root = Builder::new().file(path, "");
        assert_eq!(paths(systemd_boot, &root), [format!("/{path}")]);
    }
}
