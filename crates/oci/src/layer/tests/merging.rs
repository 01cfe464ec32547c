//! Layers on top of each other.

use hull_erofs::tree::{Device, Timestamp};

use super::archive::*;
use super::*;

fn merged(layers: &[&[Made]]) -> (Scratch, Tree) {
    let scratch = Scratch::new();
    let layers: Vec<_> = layers.iter().map(|members| tar(members)).collect();
    let tree = scratch.merge(&layers);
    (scratch, tree)
}

fn merged_paths(layers: &[&[Made]]) -> Vec<String> {
    paths(&merged(layers).1)
}

fn refused(layers: &[&[Made]]) -> String {
    let layers: Vec<_> = layers.iter().map(|members| tar(members)).collect();
    Scratch::new().try_merge(&layers).unwrap_err()
}

fn same_inode(tree: &Tree, a: &str, b: &str) -> bool {
    let id = |path: &str| match tree.lookup(path.as_bytes()) {
        Some(tree::Entry::Leaf(id, _)) => id,
        other => panic!("{path}: {other:?}"),
    };
    id(a) == id(b)
}

fn metadata(tree: &Tree, path: &str) -> tree::Metadata {
    tree.directory(path.as_bytes()).unwrap().metadata()
}

#[test]
fn a_later_layer_replaces_and_adds() {
    let (scratch, tree) = merged(&[
        &[directory("d"), file("d/a", "1"), file("d/b", "1")],
        &[file("d/b", "2"), file("d/c", "2")],
    ]);
    assert_eq!(paths(&tree), ["d/", "d/a", "d/b", "d/c"]);
    assert_eq!(scratch.read(leaf(&tree, "d/b")), b"2");
}

#[test]
fn a_whiteout_removes_from_lower_layers_only_whatever_its_place() {
    let lower = [directory("d"), file("d/x", "old"), file("d/y", "old")];
    for upper in [
        [file("d/.wh.x", ""), file("d/x", "new")],
        [file("d/x", "new"), file("d/.wh.x", "")],
    ] {
        let (scratch, tree) = merged(&[&lower, &upper]);
        assert_eq!(paths(&tree), ["d/", "d/x", "d/y"]);
        assert_eq!(scratch.read(leaf(&tree, "d/x")), b"new");
    }
    assert_eq!(
        merged_paths(&[&lower, &[file("d/.wh.x", "")]]),
        ["d/", "d/y"]
    );
    assert_eq!(merged_paths(&[&lower, &[file(".wh.d", "")]]), [""; 0]);
}

#[test]
fn a_whiteout_and_a_new_directory_of_that_name_leave_only_the_new() {
    let lower = [directory("d").mode(0o700), file("d/old", "")];
    for upper in [
        [file(".wh.d", ""), directory("d"), file("d/new", "")],
        [directory("d"), file("d/new", ""), file(".wh.d", "")],
    ] {
        let (_, tree) = merged(&[&lower, &upper]);
        assert_eq!(paths(&tree), ["d/", "d/new"]);
        assert_eq!(metadata(&tree, "d").mode, 0o755);
    }
}

#[test]
fn an_opaque_directory_hides_lower_entries_whatever_their_order() {
    let lower = [
        directory("usr"),
        directory("usr/a"),
        file("usr/a/old", ""),
        directory("usr/a/d"),
        file("usr/a/d/x", ""),
    ];
    for upper in [
        [
            directory("usr/a"),
            file("usr/a/.wh..wh..opq", ""),
            file("usr/a/new", ""),
        ],
        [
            directory("usr/a"),
            file("usr/a/new", ""),
            file("usr/a/.wh..wh..opq", ""),
        ],
        [
            file("usr/a/.wh..wh..opq", ""),
            file("usr/a/new", ""),
            directory("usr/a"),
        ],
    ] {
        assert_eq!(
            merged_paths(&[&lower, &upper]),
            ["usr/", "usr/a/", "usr/a/new"]
        );
    }
}

#[test]
fn an_opaque_root_hides_everything_below() {
    let lower = [file("a", ""), directory("d"), file("d/x", "")];
    assert_eq!(
        merged_paths(&[&lower, &[file("b", ""), file(".wh..wh..opq", "")]]),
        ["b"]
    );
}

#[test]
fn a_whiteout_of_a_layer_does_not_hide_what_a_later_one_brings() {
    let layers: [&[Made]; 3] = [&[file("x", "1")], &[file(".wh.x", "")], &[file("x", "3")]];
    assert_eq!(merged_paths(&layers), ["x"]);
}

#[test]
fn whiteouts_of_what_is_not_there_are_fine() {
    let upper = [
        file(".wh.x", ""),
        file("no/such/.wh.y", ""),
        file("no/.wh..wh..opq", ""),
        file("f/.wh.z", ""),
    ];
    assert_eq!(merged_paths(&[&[file("f", "")], &upper]), ["f"]);
    assert_eq!(merged_paths(&[&upper]), [""; 0]);
}

#[test]
fn a_whiteout_below_a_whiteout_is_fine() {
    let lower = [directory("foo"), file("foo/bar", "")];
    assert_eq!(
        merged_paths(&[&lower, &[file(".wh.foo", ""), file("foo/.wh.bar", "")]]),
        [""; 0]
    );
}

#[test]
fn whiteouts_through_a_symbolic_link_hide_what_it_leads_to() {
    let lower = [
        directory("usr/lib"),
        file("usr/lib/x", ""),
        file("usr/lib/y", ""),
        symlink("lib", "usr/lib"),
    ];
    assert_eq!(
        merged_paths(&[&lower, &[file("lib/.wh.x", "")]]),
        ["lib", "usr/", "usr/lib/", "usr/lib/y"]
    );
}

#[test]
fn a_whiteout_of_a_symbolic_link_leaves_what_it_leads_to() {
    let lower = [directory("d"), file("d/x", ""), symlink("l", "d")];
    assert_eq!(merged_paths(&[&lower, &[file(".wh.l", "")]]), ["d/", "d/x"]);
}

#[test]
fn missing_parents_are_made() {
    let (_, tree) = merged(&[&[file("opt/x/y", "")]]);
    assert_eq!(paths(&tree), ["opt/", "opt/x/", "opt/x/y"]);
    let expected = tree::Metadata {
        mode: 0o755,
        ..tree::Metadata::default()
    };
    for path in ["", "opt", "opt/x"] {
        assert_eq!(metadata(&tree, path), expected);
    }
}

#[test]
fn a_missing_parent_in_a_later_layer_keeps_the_directory_that_is_there() {
    let (_, tree) = merged(&[
        &[directory("d").mode(0o2750).owner(5, 6)],
        &[file("d/x", "")],
    ]);
    assert_eq!(
        (metadata(&tree, "d").mode, metadata(&tree, "d").uid),
        (0o2750, 5)
    );
    assert_eq!(
        metadata(&tree, "d").mtime,
        Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 0
        }
    );
}

#[test]
fn a_directory_whose_entry_comes_after_its_content_gets_its_metadata() {
    let (_, tree) = merged(&[&[file("d/x", ""), directory("d").mode(0o700)]]);
    assert_eq!(metadata(&tree, "d").mode, 0o700);
    assert_eq!(paths(&tree), ["d/", "d/x"]);
}

#[test]
fn a_directory_on_a_directory_keeps_the_entries_and_takes_the_new_metadata() {
    let (_, tree) = merged(&[
        &[
            directory("d").pax("SCHILY.xattr.user.old", "1"),
            file("d/x", ""),
        ],
        &[directory("d").mode(0o700).pax("SCHILY.xattr.user.new", "1")],
    ]);
    assert_eq!(paths(&tree), ["d/", "d/x"]);
    assert_eq!(metadata(&tree, "d").mode, 0o700);
    let metadata = metadata(&tree, "d");
    let names: Vec<_> = metadata.xattrs.keys().collect();
    assert_eq!(names, [&Box::from(&b"user.new"[..])]);
}

#[test]
fn a_file_replaces_a_directory_and_the_reverse() {
    let lower = [directory("d"), file("d/x", ""), file("f", "")];
    assert_eq!(
        merged_paths(&[
            &lower,
            &[file("d", "now a file"), directory("f"), file("f/x", "")]
        ]),
        ["d", "f/", "f/x"]
    );
}

#[test]
fn an_entry_below_a_file_makes_it_a_directory() {
    assert_eq!(
        merged_paths(&[&[file("a", "")], &[file("a/b", "")]]),
        ["a/", "a/b"]
    );
    assert_eq!(
        merged_paths(&[&[file("a", ""), file("a/b", "")]]),
        ["a/", "a/b"]
    );
}

#[test]
fn a_directory_replaces_a_symbolic_link() {
    let lower = [directory("usr/lib"), symlink("lib", "usr/lib")];
    assert_eq!(
        merged_paths(&[&lower, &[directory("lib"), file("lib/x", "")]]),
        ["lib/", "lib/x", "usr/", "usr/lib/"]
    );
}

#[test]
fn the_last_of_two_entries_of_one_path_wins() {
    let (scratch, tree) = merged(&[&[file("x", "1"), file("x", "2").mode(0o600)]]);
    assert_eq!(scratch.read(leaf(&tree, "x")), b"2");
    assert_eq!(leaf(&tree, "x").metadata.mode, 0o600);
    assert_eq!(tree.leaves().count(), 1);
}

#[test]
fn hard_links_share_an_inode_and_its_metadata() {
    let (_, tree) = merged(&[&[
        file("a", "x").mode(0o4755),
        hard_link("b", "a").mode(0).owner(9, 9),
        hard_link("c", "./b"),
    ]]);
    assert!(same_inode(&tree, "a", "b") && same_inode(&tree, "b", "c"));
    assert_eq!(
        (
            leaf(&tree, "b").metadata.mode,
            leaf(&tree, "b").metadata.uid
        ),
        (0o4755, 0)
    );
    assert_eq!(tree.leaves().count(), 1);
}

#[test]
fn hard_links_lead_to_files_of_lower_layers_and_survive_them() {
    let layers: [&[Made]; 3] = [
        &[file("a", "old")],
        &[hard_link("b", "a")],
        &[file("a", "new")],
    ];
    let (scratch, tree) = merged(&layers);
    assert_eq!(scratch.read(leaf(&tree, "b")), b"old");
    assert_eq!(scratch.read(leaf(&tree, "a")), b"new");
    assert!(!same_inode(&tree, "a", "b"));
    let (_, tree) = merged(&layers[..2]);
    assert!(same_inode(&tree, "a", "b"));
}

#[test]
fn a_hard_link_may_lead_to_a_symbolic_link_or_a_device() {
    let (_, tree) = merged(&[&[
        symlink("s", "gone"),
        hard_link("h", "s"),
        device("c", b'3', 0, 0),
        hard_link("d", "c"),
    ]]);
    assert!(same_inode(&tree, "s", "h"));
    assert!(same_inode(&tree, "c", "d"));
    let zero = Device { major: 0, minor: 0 };
    assert_eq!(leaf(&tree, "c").content, Content::CharacterDevice(zero));
}

#[test]
fn a_hard_link_s_target_is_looked_up_through_symbolic_links_inside_the_root() {
    let (_, tree) = merged(&[&[
        file("usr/lib/x", ""),
        symlink("lib", "/usr/lib"),
        hard_link("y", "lib/x"),
    ]]);
    assert!(same_inode(&tree, "y", "usr/lib/x"));
}

#[test]
fn hard_links_to_nothing_are_refused_by_name() {
    for (layers, name) in [
        (vec![vec![hard_link("a", "missing")]], "missing"),
        (
            vec![vec![hard_link("a", "later"), file("later", "")]],
            "later",
        ),
        (vec![vec![hard_link("a", "no/such/file")]], "no/such/file"),
        (
            vec![
                vec![file("gone", "")],
                vec![file(".wh.gone", ""), hard_link("a", "gone")],
            ],
            "gone",
        ),
        (
            vec![
                vec![file("gone", "")],
                vec![hard_link("a", "gone"), file(".wh.gone", "")],
            ],
            "gone",
        ),
        (
            vec![
                vec![file("d/gone", "")],
                vec![file("d/.wh..wh..opq", ""), hard_link("a", "d/gone")],
            ],
            "d/gone",
        ),
    ] {
        let layers: Vec<&[Made]> = layers.iter().map(Vec::as_slice).collect();
        let error = refused(&layers);
        assert!(
            error.contains("entry \"a\"")
                && error.contains(&format!("its target {name:?} does not exist")),
            "{error}"
        );
    }
}

#[test]
fn hard_links_to_directories_and_to_themselves_are_refused_by_name() {
    let error = refused(&[&[directory("d"), hard_link("a", "d")]]);
    assert!(
        error.contains("entry \"a\"") && error.contains("\"d\" is a directory"),
        "{error}"
    );
    let error = refused(&[&[hard_link("a", "/")]]);
    assert!(
        error.contains("entry \"a\"") && error.contains("is a directory"),
        "{error}"
    );
    let error = refused(&[&[file("a", ""), hard_link("a", "./a")]]);
    assert!(
        error.contains("entry \"a\"") && error.contains("hard link to itself"),
        "{error}"
    );
}

#[test]
fn entries_below_a_symbolic_link_go_where_it_leads() {
    let lower = [
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("usr/lib64", "../lib"),
        symlink("abs", "/usr/lib"),
    ];
    let upper = [
        file("lib/a", ""),
        file("usr/lib64/b", ""),
        file("abs/c", ""),
        file("usr/lib/d", ""),
    ];
    assert_eq!(
        merged_paths(&[&lower, &upper]),
        [
            "abs",
            "lib",
            "usr/",
            "usr/lib/",
            "usr/lib/a",
            "usr/lib/b",
            "usr/lib/c",
            "usr/lib/d",
            "usr/lib64"
        ]
    );
    let both: Vec<Made> = lower.into_iter().chain(upper).collect();
    assert_eq!(merged_paths(&[&both]).len(), 9);
}

#[test]
fn what_a_dangling_symbolic_link_leads_to_is_made() {
    assert_eq!(
        merged_paths(&[&[symlink("l", "a/b"), file("l/x", "")]]),
        ["a/", "a/b/", "a/b/x", "l"]
    );
}

#[test]
fn a_symbolic_link_that_becomes_another_is_followed_anew() {
    let layer = [
        directory("a"),
        directory("b"),
        symlink("l", "a"),
        file("l/1", ""),
        symlink("l", "b"),
        file("l/2", ""),
    ];
    assert_eq!(merged_paths(&[&layer]), ["a/", "a/1", "b/", "b/2", "l"]);
}

#[test]
fn the_root_s_entry_gives_the_root_its_metadata() {
    let (_, tree) = merged(&[&[directory("./").mode(0o711).owner(1, 2)], &[file("x", "")]]);
    assert_eq!(
        (tree.root().metadata().mode, tree.root().metadata().gid),
        (0o711, 2)
    );
}

#[test]
fn an_image_without_usr_or_without_anything_is_a_tree() {
    assert_eq!(merged_paths(&[&[file("bin", "")]]), ["bin"]);
    assert_eq!(merged_paths(&[]), [""; 0]);
    assert_eq!(merged_paths(&[&[], &[]]), [""; 0]);
}

#[test]
fn attributes_of_overlay_are_kept_as_content() {
    let (_, tree) = merged(&[&[file("f", "")
        .pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")
        .pax("SCHILY.xattr.user.overlay.opaque", "y")]]);
    assert_eq!(leaf(&tree, "f").metadata.xattrs.len(), 2);
}

#[test]
fn the_tree_holds_no_leaf_that_nothing_leads_to() {
    let (_, tree) = merged(&[
        &[file("a", "1"), file("b", "1"), file("d/c", "1")],
        &[file(".wh.a", ""), file("b", "2"), file(".wh.d", "")],
    ]);
    assert_eq!(tree.leaves().count(), 1);
}

#[test]
fn a_record_of_another_kind_is_refused() {
    let scratch = Scratch::new();
    let session = scratch.session();
    let id = session.put_stream("other", session.stream(7)).unwrap();
    let error = chain(&crate::layer::merge(&scratch.store, &[id]).unwrap_err());
    assert!(error.contains("content type"), "{error}");
}

#[test]
fn of_many_layers_the_one_that_is_refused_is_named() {
    let scratch = Scratch::new();
    let mut records: Vec<_> = (0..40)
        .map(|number| scratch.layer(&tar(&[file(format!("f{number}"), "")])))
        .collect();
    let tree = crate::layer::merge(&scratch.store, &records).unwrap();
    assert_eq!(tree.root().entries().count(), 40);
    records[3] = scratch.layer(&tar(&[hard_link("bad", "f30")]));
    let error = crate::layer::merge(&scratch.store, &records)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("entry \"bad\"") && error.contains(&records[3].to_hex()),
        "{error}"
    );
    std::fs::remove_file(
        scratch
            ._directory
            .path()
            .join("objects")
            .join(records[1].to_object_path()),
    )
    .unwrap();
    let error = crate::layer::merge(&scratch.store, &records)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("missing") && error.contains(&records[1].to_hex()),
        "{error}"
    );
}
