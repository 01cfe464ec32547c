//! When the bytes of an image change, and when they do not.

use std::fs;

use crate::world::{Recipe, Root};

#[test]
fn times_of_the_build_and_threads_change_nothing() {
    let out = tempfile::tempdir().unwrap();
    let (one, other) = (Root::system(), Root::system());
    for name in [
        "etc/machine",
        "opt/large",
        "usr/bin/b",
        "usr/bin",
        "usr",
        "var/lib/dpkg/status",
    ] {
        other.time(name, 1_790_000_000);
    }
    other.time("var/lib/dpkg/info/alpha.list", 1_790_000_000);
    other.time(
        "usr/lib/python3/__pycache__/beta.cpython-313.pyc",
        1_790_000_000,
    );
    let a = Recipe::default().make(one.path(), &out.path().join("a"));
    let recipe = Recipe {
        threads: 1,
        ..Recipe::default()
    };
    let b = recipe.make(other.path(), &out.path().join("b"));
    assert_eq!(a.built.manifest, b.built.manifest);
}

#[test]
fn an_upgraded_package_changes_its_layer_and_the_rest() {
    let out = tempfile::tempdir().unwrap();
    let root = Root::system();
    let before = Recipe::default().make(root.path(), &out.path().join("oci"));
    root.package(
        "beta",
        "2",
        &[
            ("usr/bin/beta", &b"beta 2"[..]),
            ("usr/lib/python3/beta.py", b"pass"),
        ],
    );
    let recipe = Recipe {
        previous: Some(before.plan.clone()),
        ..Recipe::default()
    };
    let after = recipe.make(root.path(), &out.path().join("oci"));
    let mut changed = after.new_since(&before);
    changed.sort_unstable();
    assert_eq!(changed, ["dpkg/beta", "rest"]);
    assert_eq!(after.layer_of("dpkg/alpha"), before.layer_of("dpkg/alpha"));
}

#[test]
fn what_belongs_to_a_package_is_in_its_component() {
    let out = tempfile::tempdir().unwrap();
    let root = Root::system();
    let before = Recipe::default().make(root.path(), &out.path().join("oci"));
    assert_eq!(
        before.plan.places().into_keys().collect::<Vec<_>>(),
        ["dpkg/alpha", "dpkg/beta", "file/opt/large", "rest"]
    );
    // The compiled file, the symbolic link and the files of the database.
    root.file("usr/lib/python3/__pycache__/beta.cpython-313.pyc", b"again");
    fs::remove_file(root.at("usr/bin/b")).unwrap();
    root.link("usr/bin/b", "./beta");
    root.file("var/lib/dpkg/info/beta.postinst", b"true");
    let after = Recipe::default().make(root.path(), &out.path().join("oci"));
    assert_eq!(after.new_since(&before), ["dpkg/beta"]);
}

#[test]
fn the_order_in_which_files_were_made_changes_nothing() {
    let out = tempfile::tempdir().unwrap();
    let digests = [[3, 1, 2], [1, 2, 3]].map(|order| {
        let root = Root::empty();
        for number in order {
            root.file(&format!("etc/{number}"), b"x");
        }
        let to = out.path().join(format!("{}", order[0]));
        Recipe::default().make(root.path(), &to).built.manifest
    });
    assert_eq!(digests[0], digests[1]);
}
