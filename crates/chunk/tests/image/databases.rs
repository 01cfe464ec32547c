//! Packages of other systems than dpkg, as their own tools install them where these can be had.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use hull_chunk::components::Components;
use hull_chunk::scan::{Rules, Scan};
use hull_sys::run::Program;
use rusqlite::Connection;

use crate::world::{Made, Recipe, Root};

/// When packages were built.
const BUILT: i64 = 1_700_000_000;

struct Package {
    name: &'static str,
    source: &'static str,
    version: &'static str,
    files: Vec<(&'static str, &'static str)>,
}

fn alpha() -> Package {
    Package {
        name: "alpha-libs",
        source: "alpha",
        version: "1",
        files: vec![
            ("usr/bin/alpha", "alpha"),
            ("usr/share/alpha/data", "for alpha"),
        ],
    }
}

fn beta(version: &'static str) -> Package {
    Package {
        name: "beta",
        source: "beta",
        version,
        files: vec![
            ("usr/bin/beta", version),
            ("lib/libbeta.so", "found through the link /lib"),
            ("usr/lib/python3/beta.py", "pass"),
        ],
    }
}

/// A package system: its name in components, and how packages get into a root.
struct System {
    kind: &'static str,
    install: fn(&Root, &[Package]),
}

impl System {
    fn root(&self) -> Root {
        let root = Root::empty();
        fs::create_dir_all(root.at("usr/lib")).unwrap();
        root.link("lib", "usr/lib");
        (self.install)(&root, &[alpha(), beta("1")]);
        root.file("usr/lib/python3/__pycache__/beta.cpython-313.pyc", b"1");
        root.file("usr/share/alpha/made-at-installation", b"1");
        root.link("usr/bin/b", "beta");
        root.file("etc/machine", b"made here");
        root
    }

    /// What has its package's files changes with them, and nothing else does.
    fn assert_changes_stay_in_their_layers(&self) {
        let out = tempfile::tempdir().unwrap();
        let root = self.root();
        let make = |previous: Option<&Made>| {
            let recipe = Recipe {
                previous: previous.map(|made| made.plan.clone()),
                ..Recipe::default()
            };
            recipe.make(root.path(), &out.path().join("oci"))
        };
        let name = |name: &str| format!("{}/{name}", self.kind);
        let (alpha, beta) = (name("alpha"), name("beta"));
        let first = make(None);
        let names: Vec<_> = first.plan.places().into_keys().collect();
        assert_eq!(names, sorted([&alpha, &beta, "rest"]));

        root.file("usr/lib/python3/__pycache__/beta.cpython-313.pyc", b"2");
        fs::remove_file(root.at("usr/bin/b")).unwrap();
        root.link("usr/bin/b", "./beta");
        let second = make(Some(&first));
        assert_eq!(second.new_since(&first), [&beta]);

        root.file("usr/share/alpha/made-at-installation", b"2");
        let third = make(Some(&second));
        assert_eq!(third.new_since(&second), [&alpha]);

        (self.install)(&root, &[self::beta("2")]);
        let fourth = make(Some(&third));
        let changed = sorted(fourth.new_since(&third));
        assert_eq!(changed, sorted([&beta, "rest"]));
    }

    /// No file of a package is newer than the package.
    fn assert_times_are_of_the_build(&self) {
        let root = self.root();
        let scan = Scan::read(root.path(), &Rules::default()).unwrap();
        let components = Components::find(&scan, None).unwrap();
        for path in ["usr/bin/beta", "usr/lib/libbeta.so", "usr/bin/b"] {
            let place = scan.find(path.as_bytes()).unwrap();
            assert_eq!(components.time(&scan, place).seconds, BUILT, "{path}");
        }
    }
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_unstable();
    names
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn assert_refused(root: &Root, path: &str, why: &str) {
    let scan = Scan::read(root.path(), &Rules::default()).unwrap();
    let error = Components::find(&scan, None).unwrap_err();
    let error: &dyn Error = &error;
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let shown: Vec<_> = causes.map(ToString::to_string).collect();
    let shown = shown.join(": ");
    assert!(shown.starts_with(path), "{shown}");
    assert!(shown.contains(why), "{shown}");
}

const RPMDB: &str = "usr/lib/sysimage/rpm/rpmdb.sqlite";

/// Builds packages and installs them with rpm.
fn rpm(root: &Root, packages: &[Package]) {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    let define = |name: &str, value: &str| format!("--define={name} {value}");
    for package in packages {
        let specification = at(&format!("{}.spec", package.name));
        write(&specification, &package.specification());
        Program::new("rpmbuild")
            .env("SOURCE_DATE_EPOCH", BUILT.to_string())
            .arg("-bb")
            .arg(define("_topdir", &at("build").display().to_string()))
            .arg(define("_rpmdir", &at("out").display().to_string()))
            .arg(define("__os_install_post", "%{nil}"))
            .arg(define("use_source_date_epoch_as_buildtime", "1"))
            .arg(&specification)
            .run()
            .unwrap();
    }
    let built = fs::read_dir(at("out/noarch")).unwrap();
    // Debian's rpm wants to hear that this is not for Debian.
    let install = Program::new("rpm")
        .arg("--root")
        .arg(root.path())
        .arg("--dbpath=/usr/lib/sysimage/rpm")
        .arg("--force-debian")
        .arg("--nodeps")
        .arg("--upgrade");
    let install = built.fold(install, |rpm, file| rpm.arg(file.unwrap().path()));
    install.run().unwrap();
}

/// Opens the database to change it; its indices may then say something else.
fn open_rpmdb(root: &Root) -> Connection {
    let database = Connection::open(root.at(RPMDB)).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database
}

impl Package {
    fn specification(&self) -> String {
        let (name, source, version) = (self.name, self.source, self.version);
        let (of_binary, binary) = match name == source {
            true => (String::new(), String::new()),
            false => (
                format!("-n {name}"),
                format!("%package -n {name}\nSummary: x\n%description -n {name}\n"),
            ),
        };
        let mut text = format!(
            "Name: {source}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: x\n\
             BuildArch: noarch\n%description\n{binary}%install\n"
        );
        for (path, content) in &self.files {
            text += &format!(
                "mkdir -p $(dirname %{{buildroot}}/{path})\n\
                 printf %%s '{content}' > %{{buildroot}}/{path}\n"
            );
        }
        text += &format!("%files {of_binary}\n%ghost /etc/machine\n");
        for (path, _) in &self.files {
            text += &format!("/{path}\n");
        }
        text + "%changelog\n* Tue Nov 14 2023 A <a@example.org> - 1-1\n- New.\n"
    }
}

const RPM: System = System {
    kind: "rpm",
    install: rpm,
};

#[test]
fn a_package_of_rpm_changes_its_layer_and_the_rest() {
    RPM.assert_changes_stay_in_their_layers();
    RPM.assert_times_are_of_the_build();
}

#[test]
fn a_database_of_rpm_is_read_from_an_image_too_and_nothing_is_written_beside_it() {
    let root = RPM.root();
    let out = tempfile::tempdir().unwrap();
    let state = || -> Vec<_> {
        let scan = Scan::read(root.path(), &Rules::default()).unwrap();
        scan.entries.iter().collect()
    };
    let before = state();
    let first = Recipe::default().make(root.path(), &out.path().join("first"));
    assert_eq!(state(), before);
    let again = Recipe::default().make_again(&out.path().join("first"), &out.path().join("again"));
    assert_eq!(again.built.manifest, first.built.manifest);
}

/// A program that was killed left changes beside the database, that are to count.
#[test]
fn changes_beside_the_database_of_rpm_are_read_with_it() {
    let (root, killed) = (RPM.root(), RPM.root());
    let database = open_rpmdb(&root);
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    let sql = "DELETE FROM Packages WHERE hnum = (SELECT hnum FROM Name WHERE key = 'beta')";
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    let log = format!("{RPMDB}-wal");
    killed.file(RPMDB, &fs::read(root.at(RPMDB)).unwrap());
    killed.file(&log, &fs::read(root.at(&log)).unwrap());
    let out = tempfile::tempdir().unwrap();
    let made = Recipe::default().make(killed.path(), &out.path().join("oci"));
    let names: Vec<_> = made.plan.places().into_keys().collect();
    assert_eq!(names, ["rest", "rpm/alpha"]);
}

#[test]
fn a_database_of_rpm_that_is_broken_is_named() {
    let root = RPM.root();
    let path = format!("/{RPMDB}: ");
    let whole = fs::read(root.at(RPMDB)).unwrap();
    for (sql, why) in [
        ("UPDATE Packages SET blob = x'00'", "length"),
        (
            "DROP TABLE Packages; CREATE VIEW Packages AS SELECT 1 AS hnum, x'00' AS blob",
            "no table",
        ),
    ] {
        open_rpmdb(&root).execute_batch(sql).unwrap();
        assert_refused(&root, &path, why);
        root.file(RPMDB, &whole);
    }
    root.file(RPMDB, &whole[..whole.len() / 2]);
    assert_refused(&root, &path, "malformed");
    root.file(RPMDB, b"no database at all");
    assert_refused(&root, &path, "not a database");
}

#[test]
fn databases_of_rpm_in_old_formats_are_named() {
    let root = Root::empty();
    root.file("var/lib/rpm/Packages", b"0");
    assert_refused(&root, "/var/lib/rpm/Packages: ", "Berkeley DB");
}

/// Writes what apk does: its programs are not in Debian.
fn apk(root: &Root, packages: &[Package]) {
    let database = "lib/apk/db/installed";
    let known = fs::read_to_string(root.at(database)).unwrap_or_default();
    let mut text: String = known
        .split_inclusive("\n\n")
        .filter(|old| {
            let is = |new: &Package| old.contains(&format!("\nP:{}\n", new.name));
            !packages.iter().any(is)
        })
        .collect();
    for package in packages {
        text += &format!(
            "C:Q1{:027}=\nP:{}\nV:{}-r0\nA:x86_64\nt:{BUILT}\no:{}\n",
            0, package.name, package.version, package.source
        );
        for (path, content) in &package.files {
            let (directory, name) = path.rsplit_once('/').unwrap();
            text += &format!(
                "F:{directory}\nM:0:0:755\nR:{name}\na:0:0:755\nZ:Q1{:027}=\n",
                0
            );
            root.file(path, content.as_bytes());
        }
        text.push('\n');
    }
    root.file(database, text.as_bytes());
    root.file("lib/apk/db/scripts.tar", text.as_bytes());
}

const APK: System = System {
    kind: "apk",
    install: apk,
};

#[test]
fn a_package_of_apk_changes_its_layer_and_the_rest() {
    APK.assert_changes_stay_in_their_layers();
    APK.assert_times_are_of_the_build();
}

#[test]
fn a_database_of_apk_that_is_broken_is_named() {
    let root = APK.root();
    root.file("lib/apk/db/installed", b"P:alpha\nF:usr\nR\n");
    assert_refused(&root, "/usr/lib/apk/db/installed: ", "line 3");
}

/// Installs packages with pacman, that need no more than a description.
fn pacman(root: &Root, packages: &[Package]) {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    write(
        &at("pacman.conf"),
        "[options]\nArchitecture = auto\nSigLevel = Never\n",
    );
    fs::create_dir_all(root.at("var/lib/pacman")).unwrap();
    for package in packages {
        let tree = at(package.name);
        for (path, content) in &package.files {
            // pacman does not follow links to directories.
            let path = match path.starts_with("lib/") {
                true => tree.join("usr").join(path),
                false => tree.join(path),
            };
            write(&path, content);
        }
        let information = format!(
            "pkgname = {}\npkgbase = {}\npkgver = {}-1\nbuilddate = {BUILT}\narch = any\n",
            package.name, package.source, package.version
        );
        write(&tree.join(".PKGINFO"), &information);
        let archive = at(&format!("{}.pkg.tar", package.name));
        let tar = Program::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(&archive);
        let tar = tar.arg("--directory").arg(&tree).arg(".PKGINFO");
        let tops = fs::read_dir(&tree)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let tops = tops.filter(|name| name != ".PKGINFO");
        tops.fold(tar, |tar, name| tar.arg(name)).run().unwrap();
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        Program::new("pacman")
            .arg("--noconfirm")
            .arg("--noscriptlet")
            .arg("--noprogressbar")
            .arg(option("root", root.path()))
            .arg(option("dbpath", &root.at("var/lib/pacman")))
            .arg(option("config", &at("pacman.conf")))
            .arg(option("logfile", &at("log")))
            .arg(option("cachedir", &at("cache")))
            .arg("--upgrade")
            .arg(&archive)
            .run()
            .unwrap();
    }
}

const PACMAN: System = System {
    kind: "alpm",
    install: pacman,
};

#[test]
fn a_package_of_pacman_changes_its_layer_and_the_rest() {
    PACMAN.assert_changes_stay_in_their_layers();
    PACMAN.assert_times_are_of_the_build();
}

#[test]
fn a_database_of_pacman_that_is_broken_or_of_another_version_is_named() {
    let root = PACMAN.root();
    root.file("var/lib/pacman/local/beta-1-1/desc", b"%VERSION%\n1\n");
    let local = "/var/lib/pacman/local";
    assert_refused(&root, &format!("{local}/beta-1-1/desc: "), "%NAME%");
    root.file("var/lib/pacman/local/ALPM_DB_VERSION", b"10\n");
    assert_refused(&root, &format!("{local}/ALPM_DB_VERSION: "), "10");
}
