use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rustix::fs::XattrFlags;

use super::*;
use crate::scan::Rules;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> &Self {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        let mut file = fs::File::create(self.at(name)).unwrap();
        file.write_all(content).unwrap();
        self
    }

    fn dir(&self, name: &str) -> &Self {
        fs::create_dir_all(self.at(name)).unwrap();
        self
    }

    fn link(&self, name: &str, target: &str) -> &Self {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        symlink(target, self.at(name)).unwrap();
        self
    }

    fn xattr(&self, name: &str, key: &str, value: &str) -> &Self {
        let flags = XattrFlags::empty();
        rustix::fs::lsetxattr(self.at(name), key, value.as_bytes(), flags).unwrap();
        self
    }

    /// What dpkg's database lists for a package.
    fn list(&self, package: &str, list: &str) -> &Self {
        if !self.at("var/lib/dpkg/status").exists() {
            self.file("var/lib/dpkg/status", b"");
        }
        self.file(
            &format!("var/lib/dpkg/info/{package}.list"),
            list.as_bytes(),
        )
    }

    /// The path and the reason for which a package database is refused.
    fn refusal(&self) -> (String, String) {
        let error = Components::find(&self.scan(), None).unwrap_err();
        let ComponentsError::Database(error) = error else {
            panic!("another error: {error}");
        };
        let text = error.to_string();
        let (path, _) = text.split_once(": ").unwrap();
        let reason = std::error::Error::source(&error).unwrap();
        (path.to_owned(), reason.to_string())
    }

    fn scan(&self) -> Scan {
        let mut rules = Rules::default();
        rules.allow_boot = true;
        Scan::read(self.0.path(), &rules).unwrap()
    }

    /// The component of a path; nothing for a directory with something in it.
    fn component(&self, path: &str) -> Option<String> {
        let scan = self.scan();
        let components = Components::find(&scan, None).unwrap();
        let place = components.of_entry(scan.find(path.as_bytes()).unwrap())?;
        Some(components.all[place].name.clone())
    }

    fn assert(&self, expected: &[(&str, &str)]) {
        for (path, component) in expected {
            assert_eq!(self.component(path).as_deref(), Some(*component), "{path}");
        }
    }
}

#[test]
fn a_package_is_named_by_its_source_and_found_through_usrmerge_links() {
    let root = Root::new();
    root.dir("usr/lib").link("lib", "usr/lib");
    root.link("usr/lib64", "lib")
        .file("usr/lib/libz.so.1", b"z")
        .file("usr/lib/only-here", b"");
    root.list(
        "zlib1g:amd64",
        "/.\n/lib\n/lib/libz.so.1\n/usr/lib64/only-here\n/missing\n",
    );
    root.file(
        "var/lib/dpkg/status",
        b"Package: zlib1g\nSource: zlib (1:1.3)\nArchitecture: amd64\n",
    );
    root.assert(&[
        ("usr/lib/libz.so.1", "dpkg/zlib"),
        ("usr/lib/only-here", "dpkg/zlib"),
        ("var/lib/dpkg/info/zlib1g:amd64.list", "dpkg/zlib"),
        ("var/lib/dpkg/status", "rest"),
    ]);
}

#[test]
fn what_is_obviously_a_packages_own_goes_with_it() {
    let root = Root::new();
    root.file("usr/lib/python3/a.py", b"")
        .file("usr/lib/python3/__pycache__/a.cpython-313.pyc", b"")
        .file("usr/lib/a/made-at-installation", b"")
        .dir("usr/share/a-empty")
        .file("etc/alternatives/README", b"")
        .link("etc/alternatives/a", "/usr/bin/a.real")
        .link("usr/bin/a", "/etc/alternatives/a")
        .file("usr/bin/a.real", b"")
        .file("usr/local/bin/mine", b"")
        .file("etc/mine", b"");
    root.list(
        "a",
        "/usr/lib/python3/a.py\n/usr/bin/a.real\n/usr/lib/a\n/usr/share/a-empty\n/usr/bin\n/etc\n",
    );
    root.list("b", "/usr/bin\n/etc\n");
    root.assert(&[
        ("usr/lib/python3/__pycache__/a.cpython-313.pyc", "dpkg/a"),
        ("usr/lib/a/made-at-installation", "dpkg/a"),
        ("usr/share/a-empty", "dpkg/a"),
        ("etc/alternatives/a", "dpkg/a"),
        ("usr/bin/a", "dpkg/a"),
        ("usr/local/bin/mine", "rest"),
        ("etc/mine", "rest"),
    ]);
    assert_eq!(root.component("usr/lib/python3"), None);
}

#[test]
fn a_directory_that_one_package_lists_is_not_its_own_where_others_have_files() {
    let root = Root::new();
    root.file("usr/bin/a", b"")
        .file("usr/bin/mine", b"")
        .file("usr/share/base/mine", b"");
    root.list("a", "/usr/bin/a\n");
    root.list("base", "/usr\n/usr/bin\n/usr/share/base\n");
    root.assert(&[
        ("usr/bin/mine", "rest"),
        ("usr/share/base/mine", "dpkg/base"),
    ]);
}

#[test]
fn a_large_database_is_no_component() {
    let root = Root::new();
    let large = vec![b'\n'; usize::try_from(LARGE_FILE).unwrap()];
    root.file("usr/lib/apk/db/installed", &large)
        .file("var/lib/dpkg/status", &large)
        .file("usr/lib/pacman/sync/core.db", &large)
        .dir("usr/lib/pacman/local");
    root.list("apk-tools", "/usr/lib/apk/db\n/usr/lib/pacman\n");
    for path in [
        "usr/lib/apk/db/installed",
        "var/lib/dpkg/status",
        "usr/lib/pacman/sync/core.db",
    ] {
        root.assert(&[(path, REST)]);
    }
}

#[test]
fn a_diverted_file_is_still_its_packages() {
    let root = Root::new();
    root.file("usr/bin/x", b"").file("usr/bin/x.distrib", b"");
    root.list("a", "/usr/bin/x\n").list("b", "/usr/bin/x\n");
    root.file(
        "var/lib/dpkg/diversions",
        b"/usr/bin/x\n/usr/bin/x.distrib\nb\n",
    );
    root.assert(&[
        ("usr/bin/x", "dpkg/b"),
        ("usr/bin/x.distrib", "dpkg/a"),
        ("var/lib/dpkg/diversions", "rest"),
    ]);
}

#[test]
fn distroless_images_have_a_file_for_each_package() {
    let root = Root::new();
    root.file("usr/lib/libssl.so.3", b"").file(
        "var/lib/dpkg/status.d/libssl3",
        b"Package: libssl3\nSource: openssl\nVersion: 3\n",
    );
    root.file(
        "var/lib/dpkg/status.d/libssl3.md5sums",
        b"0123456789abcdef0123456789abcdef  usr/lib/libssl.so.3\n",
    );
    root.assert(&[
        ("usr/lib/libssl.so.3", "dpkg/openssl"),
        ("var/lib/dpkg/status.d/libssl3", "dpkg/openssl"),
        ("var/lib/dpkg/status.d/libssl3.md5sums", "dpkg/openssl"),
    ]);
}

#[test]
fn the_author_of_the_image_has_the_first_word() {
    let root = Root::new();
    root.file("opt/app/bin/run", b"")
        .file("opt/app/data/big", b"")
        .file("opt/application", b"");
    root.list("a", "/opt/app/bin/run\n");
    root.xattr("opt/app", "user.component", "app")
        .xattr("opt/app/data", "user.component", "data, large")
        .xattr("opt/app/data/big", "user.update-interval", "weekly");
    root.assert(&[
        ("opt/app/bin/run", "xattr/app"),
        ("opt/app/data/big", "xattr/data%2C%20large"),
        ("opt/application", "rest"),
    ]);
    let scan = root.scan();
    let components = Components::find(&scan, None).unwrap();
    let data = components
        .all
        .iter()
        .find(|component| component.name.starts_with("xattr/data"));
    assert!((data.unwrap().frequency.rate - 365.0 / 7.0).abs() < 1e-9);
}

#[test]
fn a_database_that_is_too_long_is_refused_and_not_cut() {
    let root = Root::new();
    root.file("var/lib/dpkg/status", b"Package: a\n");
    let status = fs::File::options()
        .write(true)
        .open(root.at("var/lib/dpkg/status"));
    status.unwrap().set_len((256 << 20) + 1).unwrap();
    let (path, reason) = root.refusal();
    assert_eq!(path, "/var/lib/dpkg/status");
    assert_eq!(reason, "it is longer than 256 MiB");
}

#[test]
fn attributes_that_contradict_each_other_are_refused() {
    let root = Root::new();
    root.file("a", b"").file("b", b"");
    root.xattr("a", "user.update-interval", "weekly");
    assert!(Components::find(&root.scan(), None).is_err());
    root.xattr("a", "user.component", "x")
        .xattr("b", "user.component", "x")
        .xattr("b", "user.update-interval", "daily");
    let error = Components::find(&root.scan(), None).unwrap_err();
    assert!(error.to_string().starts_with("/b: "), "{error}");
}

#[test]
fn kernels_initramfs_and_large_files_are_for_themselves() {
    let root = Root::new();
    let large = vec![0; usize::try_from(LARGE_FILE).unwrap()];
    root.file("usr/lib/modules/6/vmlinuz", b"")
        .file("usr/lib/modules/6/initramfs.img", b"")
        .file("opt/large", &large)
        .file("opt/small", &large[1..]);
    root.list(
        "linux",
        "/usr/lib/modules/6/vmlinuz\n/usr/lib/modules/6/initramfs.img\n",
    );
    root.assert(&[
        ("usr/lib/modules/6/vmlinuz", "dpkg/linux"),
        ("usr/lib/modules/6/initramfs.img", "initramfs"),
        ("opt/large", "file/opt/large"),
        ("opt/small", "rest"),
    ]);
}

#[test]
fn names_of_one_inode_go_where_a_package_has_one_of_them() {
    let root = Root::new();
    root.file("etc/first", b"x");
    root.dir("usr/bin");
    fs::hard_link(root.at("etc/first"), root.at("usr/bin/x")).unwrap();
    root.list("a", "/usr/bin/x\n");
    root.assert(&[("etc/first", "dpkg/a"), ("usr/bin/x", "dpkg/a")]);
}

#[test]
fn links_that_lead_in_circles_or_out_of_the_root_are_the_rests() {
    let root = Root::new();
    root.dir("opt")
        .link("opt/a", "b")
        .link("opt/b", "a")
        .link("opt/out", "../../../../etc/passwd")
        .link("opt/gone", "nowhere");
    for path in ["opt/a", "opt/b", "opt/out", "opt/gone"] {
        root.assert(&[(path, REST)]);
    }
}

#[test]
fn times_are_those_of_packages_or_fixed() {
    let root = Root::new();
    root.file("usr/bin/a", b"").file("etc/made-here", b"");
    root.file(
        "usr/share/doc/a/changelog.Debian",
        b"a (1) x; urgency=low\n\n -- A <a@b>  Mon, 01 Jan 2024 00:00:00 +0000\n",
    );
    root.list(
        "a",
        "/usr\n/usr/bin\n/usr/bin/a\n/usr/share/doc/a/changelog.Debian\n",
    );
    let scan = root.scan();
    let built = 1_704_067_200;
    for (latest, expected) in [(None, built), (Some(5), 5), (Some(i64::MAX), built)] {
        let components = Components::find(&scan, latest).unwrap();
        let time = |path: &[u8]| components.time(&scan, scan.find(path).unwrap());
        // The file is newer than the package: the installation wrote it.
        assert_eq!(time(b"usr/bin/a").seconds, expected);
        for path in [&b"etc/made-here"[..], b"usr/bin", b""] {
            assert_eq!(time(path), FIXED_TIME);
        }
        assert_eq!(components.newest, Some(built));
    }
}

#[test]
fn a_list_that_leads_nowhere_claims_nothing() {
    let root = Root::new();
    root.file("usr/bin/a", b"").file("etc/x", b"");
    root.file("var/lib/dpkg/info/a.md5sums", b"\xff\n\n");
    root.list("a", "//\n/..\n/usr/bin/../../..\n");
    root.assert(&[("usr/bin/a", REST), ("etc/x", REST)]);
}

#[test]
fn a_database_of_dpkg_that_is_damaged_is_refused_with_its_path() {
    let status = "Package: a\nStatus: install ok installed\n";
    let zeros = "\0\0\0\0";
    for (file, content, reason) in [
        ("status", zeros, "line 1: no field, nor what continues one"),
        (
            "info/a.list",
            "",
            "it is empty, and the package is installed",
        ),
        ("info/a.list", zeros, "line 1: no path"),
        (
            "diversions",
            "/one line",
            "line 1: a diversion has three lines",
        ),
        (
            "status.d/b",
            zeros,
            "line 1: no field, nor what continues one",
        ),
    ] {
        let root = Root::new();
        root.file("var/lib/dpkg/status", status.as_bytes());
        root.list("a", "/.\n");
        let path = format!("var/lib/dpkg/{file}");
        root.file(&path, content.as_bytes());
        assert_eq!(root.refusal(), (format!("/{path}"), reason.to_owned()));
    }
    let root = Root::new();
    root.list("a", "/.\n");
    fs::remove_file(root.at("var/lib/dpkg/status")).unwrap();
    assert_eq!(root.refusal().0, "/var/lib/dpkg/status");
}
