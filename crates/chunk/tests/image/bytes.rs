//! When the bytes of an image change, and when they do not.

use std::fs;

use proptest::prelude::*;

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

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "(etc|opt|usr/lib)/[a-c]{1,2}(-x)?(\\.d/[a-c]{1,2}){0,2}";
    let content = proptest::collection::vec(any::<u8>(), 0..200);
    proptest::collection::btree_map(name, content, 0..12).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn one_content_is_one_image_in_whatever_order_it_came(
        (files, shuffled) in files().prop_flat_map(|files| (Just(files.clone()), Just(files).prop_shuffle())),
        threads in 1usize..5,
        max_layers in 1usize..5,
        time in 1i64..2_000_000_000,
    ) {
        let out = tempfile::tempdir().unwrap();
        let make = |files: &[(String, Vec<u8>)], threads, time, to| {
            let root = Root::system();
            for (name, content) in files {
                root.file(name, content);
                root.time(name, time);
            }
            let recipe = Recipe { threads, max_layers, ..Recipe::default() };
            recipe.make(root.path(), &out.path().join(to)).built.manifest
        };
        prop_assert_eq!(make(&files, 1, 1, "a"), make(&shuffled, threads, time, "b"));
    }
}
