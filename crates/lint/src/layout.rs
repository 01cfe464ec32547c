//! Directories that every system needs, and files that say what it is.

use crate::finding::{Finding, Verdict};
use crate::root::{Kind, Root};

/// `/var/run` is a link.
pub(crate) fn var_run(root: &Root) -> Verdict {
    let odd = match root.get("var/run") {
        None | Some(Kind::Symlink(_)) => None,
        Some(_) => Some(Finding::new(
            b"var/run",
            "it is no symbolic link",
            "make it one: rm -r /var/run && ln -s /run /var/run",
        )),
    };
    odd.into()
}

/// One of `/etc` and `/usr/etc`.
pub(crate) fn etc_usretc(root: &Root) -> Verdict {
    let both = root.get("etc").is_some() && root.get("usr/etc").is_some();
    both.then(|| {
        Finding::new(
            b"usr/etc",
            "there is /etc, too",
            "move what is in /usr/etc to /etc",
        )
    })
    .into()
}

/// Whether the image is made for ostree.
fn has_ostree(root: &Root) -> bool {
    let marks = [
        "usr/bin/ostree",
        "usr/lib/ostree/prepare-root.conf",
        "usr/lib/ostree/ostree-prepare-root",
        "sysroot/ostree",
        "ostree",
    ];
    marks.iter().any(|path| root.get(path).is_some())
}

/// `/sysroot`, and `/ostree` where it is of use.
pub(crate) fn baseimage_root(root: &Root) -> Verdict {
    let mut findings = Vec::new();
    if !root.is_directory("sysroot") {
        findings.push(Finding::new(
            b"sysroot",
            "there is no such directory",
            "mkdir /sysroot; hull chunk --bootc makes it, too",
        ));
    }
    let link = Kind::Symlink(b"sysroot/ostree"[..].into());
    if has_ostree(root) && root.get("ostree") != Some(&link) {
        findings.push(Finding::new(
            b"ostree",
            "the image has ostree, and this is no link to sysroot/ostree",
            "ln -s sysroot/ostree /ostree",
        ));
    }
    findings.into()
}

/// The directories that systemd expects.
pub(crate) fn api_base_directories(root: &Root) -> Verdict {
    let missing = ["dev", "proc", "run", "sys", "tmp", "var"]
        .into_iter()
        .filter(|path| !root.is_directory(path))
        .map(|path| {
            Finding::new(
                path.as_bytes(),
                "there is no such directory",
                format!("mkdir /{path}; hull chunk --bootc makes it, too"),
            )
        });
    missing.collect::<Vec<_>>().into()
}

const PREPARE_ROOT: &str = hull_boot::modes::PREPARE_ROOT_PATH;

/// `[composefs] enabled` of ostree's file.
pub(crate) fn baseimage_composefs(root: &Root) -> Verdict {
    if !has_ostree(root) {
        return Verdict::NotApplicable("the image has no ostree");
    }
    let remedy = "write `enabled = yes` under [composefs], for machines that boot with ostree";
    let finding = |problem: String| Some(Finding::new(PREPARE_ROOT.as_bytes(), problem, remedy));
    match root.text(PREPARE_ROOT) {
        Ok(None) => finding("there is no such file".to_owned()),
        Ok(Some(text)) if enables_composefs(&text) => None,
        Ok(Some(_)) => finding("it does not turn composefs on".to_owned()),
        Err(error) => finding(error.to_string()),
    }
    .into()
}

/// The last value counts, as in GLib's key files.
fn enables_composefs(text: &str) -> bool {
    let mut group = "";
    let mut enabled = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            group = name;
        } else if let Some((key, value)) = line.split_once('=')
            && group == "composefs"
            && key.trim() == "enabled"
        {
            enabled = ["yes", "true", "1", "maybe", "signed", "verity"].contains(&value.trim());
        }
    }
    enabled
}

/// A name for the boot menu.
pub(crate) fn os_release(root: &Root) -> Verdict {
    let path = "usr/lib/os-release";
    let finding = |problem: String| {
        let remedy = "set PRETTY_NAME there; without it the boot menu says Linux";
        Some(Finding::new(path.as_bytes(), problem, remedy))
    };
    match root.text(path) {
        Ok(None) => finding("there is no such file".to_owned()),
        Ok(Some(text)) => match has_pretty_name(&text) {
            true => None,
            false => finding("it has no PRETTY_NAME".to_owned()),
        },
        Err(error) => finding(error.to_string()),
    }
    .into()
}

fn has_pretty_name(text: &str) -> bool {
    let value = |line: &str| {
        line.trim()
            .strip_prefix("PRETTY_NAME=")
            .map(|value| !value.trim_matches(['"', '\'', ' ']).is_empty())
    };
    text.lines().filter_map(value).next_back() == Some(true)
}

/// `/usr/bin/hull`.
pub(crate) fn hull_program(root: &Root) -> Verdict {
    let missing = !matches!(root.resolve(b"usr/bin/hull"), Some((_, Kind::Regular(1..))));
    missing
        .then(|| {
            Finding::new(
                b"usr/bin/hull",
                "there is no such program: the machine runs, and cannot upgrade itself",
                "put hull into the image: make install DESTDIR=… in hull's sources",
            )
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, paths};

    #[test]
    fn var_run_that_is_a_directory_is_found() {
        let link = Builder::new().link("var/run", "/run");
        assert_eq!(paths(var_run, &link), [""; 0]);
        assert_eq!(paths(var_run, &Builder::new()), [""; 0]);
        let directory = Builder::new().directory("var/run");
        assert_eq!(paths(var_run, &directory), ["/var/run"]);
    }

    #[test]
    fn etc_in_two_places_is_found() {
        let one = Builder::new().directory("etc");
        assert_eq!(paths(etc_usretc, &one), [""; 0]);
        assert_eq!(paths(etc_usretc, &one.directory("usr/etc")), ["/usr/etc"]);
    }

    #[test]
    fn sysroot_is_needed_and_the_link_for_ostree_only_with_ostree() {
        assert_eq!(paths(baseimage_root, &Builder::new()), ["/sysroot"]);
        let root = Builder::new().directory("sysroot");
        assert_eq!(paths(baseimage_root, &root), [""; 0]);
        let root = root.file("usr/bin/ostree", "x");
        assert_eq!(paths(baseimage_root, &root), ["/ostree"]);
        let root = root.link("ostree", "sysroot/ostree");
        assert_eq!(paths(baseimage_root, &root), [""; 0]);
    }

    #[test]
    fn directories_of_the_kernel_that_are_missing_or_links_are_found() {
        let root = Builder::new()
            .directory("dev")
            .directory("proc")
            .directory("run")
            .directory("sys")
            .link("tmp", "var/tmp");
        assert_eq!(paths(api_base_directories, &root), ["/tmp", "/var"]);
    }

    #[test]
    fn composefs_has_to_be_turned_on_only_where_there_is_ostree() {
        let none = baseimage_composefs(&Builder::new().read());
        assert!(matches!(none, Verdict::NotApplicable(_)), "{none:?}");
        for (text, found) in [
            ("[composefs]\nenabled = yes\n", false),
            ("[composefs]\nenabled=no\n", true),
            ("[root]\nenabled = yes\n", true),
        ] {
            let root = Builder::new().file(PREPARE_ROOT, text);
            assert_eq!(
                !paths(baseimage_composefs, &root).is_empty(),
                found,
                "{text}"
            );
        }
        let root = Builder::new().file("usr/bin/ostree", "x");
        assert_eq!(
            paths(baseimage_composefs, &root),
            ["/usr/lib/ostree/prepare-root.conf"]
        );
    }

    #[test]
    fn a_system_without_a_name_is_found() {
        let path = "usr/lib/os-release";
        assert_eq!(paths(os_release, &Builder::new()).len(), 1);
        let root = Builder::new().file(path, "NAME=x\nPRETTY_NAME=\"\"\n");
        assert_eq!(paths(os_release, &root).len(), 1);
        let root = Builder::new().file(path, "PRETTY_NAME='Example 1'\n");
        assert_eq!(paths(os_release, &root), [""; 0]);
    }

    #[test]
    fn an_image_without_hull_is_found() {
        assert_eq!(paths(hull_program, &Builder::new()), ["/usr/bin/hull"]);
        let root = Builder::new().file("usr/bin/hull", "program");
        assert_eq!(paths(hull_program, &root), [""; 0]);
    }
}
