//! What a build leaves behind, and what belongs to one machine only.

use crate::finding::{Finding, Verdict};
use crate::root::{Kind, Root};

/// Log files with content.
pub(crate) fn var_log(root: &Root) -> Verdict {
    let logs = root
        .below(b"var/log")
        .filter_map(|(path, kind)| match kind {
            Kind::Regular(size @ 1..) => Some(Finding::new(
                path,
                format!("a log of the build, {size} bytes"),
                "remove it at the end of the build: find /var/log -type f -delete",
            )),
            _ => None,
        });
    logs.collect::<Vec<_>>().into()
}

/// What is in `/boot`.
pub(crate) fn nonempty_boot(root: &Root) -> Verdict {
    if !root.is_directory("boot") {
        let missing = Finding::new(
            b"boot",
            "there is no such directory",
            "mkdir /boot; hull chunk --bootc makes it, too",
        );
        return Some(missing).into();
    }
    let inside = root
        .children(b"boot")
        .filter(|(_, name, _)| !name.eq_ignore_ascii_case(b"efi"));
    let findings = inside.map(|(path, _, _)| {
        Finding::new(
            path,
            "no machine uses it, and hull chunk refuses it",
            "empty /boot; kernel and initrd belong into /usr/lib/modules/VERSION, as vmlinuz and initramfs.img",
        )
    });
    findings.collect::<Vec<_>>().into()
}

/// Empty files that an engine put in the place of its own.
pub(crate) fn buildah_injected(root: &Root) -> Verdict {
    if root.is_running() {
        return Verdict::NotApplicable("these files belong to the running container");
    }
    let empty = ["etc/hostname", "etc/resolv.conf"]
        .into_iter()
        .filter(|path| root.get(path) == Some(&Kind::Regular(0)))
        .map(|path| {
            Finding::new(
                path.as_bytes(),
                "an empty file, which building with buildah or podman leaves",
                format!("remove it from the finished root: rm /{path}"),
            )
        });
    empty.collect::<Vec<_>>().into()
}

/// What is in `/run` and `/tmp`.
pub(crate) fn nonempty_run_tmp(root: &Root) -> Verdict {
    let mut findings = Vec::new();
    for directory in ["run", "tmp"] {
        for (path, _, kind) in root.children(directory.as_bytes()) {
            let inside = root.below(path).count();
            // A directory that only holds what is mounted by the engine is its doing.
            if *kind == Kind::Mount || (inside > 0 && only_mounts(root, path)) {
                continue;
            }
            let problem = match (kind, inside) {
                (Kind::Directory, 0) => "a directory that no machine will see".to_owned(),
                (Kind::Directory, count) => {
                    format!("a directory with {count} names in it, which no machine will see")
                }
                _ => "a file that no machine will see".to_owned(),
            };
            let remedy =
                "remove it at the end of the build; what a service needs there, tmpfiles.d makes";
            findings.push(Finding::new(path, problem, remedy));
        }
    }
    findings.into()
}

fn only_mounts(root: &Root, path: &[u8]) -> bool {
    root.below(path)
        .all(|(_, kind)| matches!(kind, Kind::Mount | Kind::Directory))
        && root.below(path).any(|(_, kind)| *kind == Kind::Mount)
}

/// A number in `/etc/machine-id`.
pub(crate) fn machine_id(root: &Root) -> Verdict {
    let path = "etc/machine-id";
    let remedy = "empty it: : >/etc/machine-id; the first boot makes one (machine-id(5))";
    let finding = |problem: String| Some(Finding::new(path.as_bytes(), problem, remedy));
    match root.text(path) {
        Ok(None) => None,
        Ok(Some(text)) => match text.trim() {
            "" | "uninitialized" => None,
            _ => finding("it has a number, which all machines would share".to_owned()),
        },
        Err(error) => finding(error.to_string()),
    }
    .into()
}

/// Private keys of an ssh server.
pub(crate) fn ssh_host_keys(root: &Root) -> Verdict {
    let keys = root
        .children(b"etc/ssh")
        .filter(|(_, name, kind)| {
            name.starts_with(b"ssh_host_")
                && name.ends_with(b"_key")
                && matches!(kind, Kind::Regular(1..))
        })
        .map(|(path, _, _)| {
            Finding::new(
                path,
                "a private key, which everybody has who can pull the image",
                "remove it with its .pub; a service makes keys at the first boot (ssh-keygen -A)",
            )
        });
    keys.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, paths};

    #[test]
    fn logs_with_content_are_found_at_any_depth() {
        let root = Builder::new()
            .file("var/log/dpkg.log", "x")
            .file("var/log/apt/term.log", "x")
            .file("var/log/empty.log", "")
            .link("var/log/link", "dpkg.log");
        assert_eq!(
            paths(var_log, &root),
            ["/var/log/apt/term.log", "/var/log/dpkg.log"]
        );
    }

    #[test]
    fn boot_has_to_be_there_and_may_have_nothing_but_efi() {
        assert_eq!(paths(nonempty_boot, &Builder::new()), ["/boot"]);
        let root = Builder::new().file("boot/EFI/Linux/x.efi", "MZ");
        assert_eq!(paths(nonempty_boot, &root), [""; 0]);
        let root = root.file("boot/vmlinuz-6", "MZ");
        assert_eq!(paths(nonempty_boot, &root), ["/boot/vmlinuz-6"]);
    }

    #[test]
    fn empty_files_of_a_build_are_found() {
        let root = Builder::new()
            .file("etc/hostname", "")
            .file("etc/resolv.conf", "nameserver 192.0.2.1\n");
        assert_eq!(paths(buildah_injected, &root), ["/etc/hostname"]);
    }

    #[test]
    fn leftovers_in_run_and_tmp_are_found_once_per_directory() {
        let root = Builder::new()
            .file("run/lock/a", "x")
            .file("run/lock/b", "x")
            .file("tmp/.X11", "");
        assert_eq!(paths(nonempty_run_tmp, &root), ["/run/lock", "/tmp/.X11"]);
        let clean = Builder::new().directory("run").directory("tmp");
        assert_eq!(paths(nonempty_run_tmp, &clean), [""; 0]);
    }

    #[test]
    fn a_number_of_one_machine_is_found() {
        for (text, found) in [
            ("", false),
            ("uninitialized\n", false),
            ("0123456789abcdef0123456789abcdef\n", true),
        ] {
            let root = Builder::new().file("etc/machine-id", text);
            assert_eq!(!paths(machine_id, &root).is_empty(), found, "{text:?}");
        }
        assert_eq!(paths(machine_id, &Builder::new()), [""; 0]);
    }

    #[test]
    fn private_keys_of_an_ssh_server_are_found() {
        let root = Builder::new()
            .file("etc/ssh/ssh_host_rsa_key", "secret")
            .file("etc/ssh/ssh_host_rsa_key.pub", "public")
            .file("etc/ssh/ssh_host_ed25519_key", "")
            .file("etc/ssh/sshd_config", "x");
        assert_eq!(paths(ssh_host_keys, &root), ["/etc/ssh/ssh_host_rsa_key"]);
    }
}
