//! Ways out of the root, into places that matter, that nobody's list has.

use super::archive::*;
use super::breakouts::{OUT, PARENT, gives, refuses, with_etc};

#[test]
fn an_opaque_marker_through_a_link_empties_what_it_leads_to_inside_the_root() {
    let marker = [file("l/.wh..wh..opq", "")];
    let lower = |target: &str| with_etc([file("x", ""), symlink("l", target)]);
    gives(
        "inside",
        &[&lower("/etc"), &marker],
        &["etc/ 755", "l -> /etc", "x 644 \"\""],
    );
    gives("at the root itself", &[&lower("/"), &marker], &[]);
    gives(
        "where nothing is",
        &[&lower("/dne"), &marker],
        &[
            "etc/ 755",
            "etc/passwd 644 \"inside\"",
            "l -> /dne",
            "x 644 \"\"",
        ],
    );
    for target in ["..", "../..", "/..", "etc/../.."] {
        refuses(target, &[&lower(target), &marker], "l/.wh..wh..opq", OUT);
    }
}

#[test]
fn a_whiteout_of_a_link_out_of_the_root_goes_before_what_comes_through_it() {
    for upper in [
        [file(".wh.l", ""), file("l/x", "")],
        [file("l/x", ""), file(".wh.l", "")],
    ] {
        gives(
            "no link any more",
            &[&[symlink("l", "../..")], &upper],
            &["l/ 755", "l/x 644 \"\""],
        );
    }
}

#[test]
fn a_device_or_a_pipe_on_the_way_makes_room_or_is_refused_and_is_never_opened() {
    let on_the_way = || [device("null", b'3', 1, 3), member("pipe", b'6')];
    gives(
        "in its own place",
        &[&on_the_way(), &[file("null/x", ""), file("pipe/x", "")]],
        &[
            "null/ 755",
            "null/x 644 \"\"",
            "pipe/ 755",
            "pipe/x 644 \"\"",
        ],
    );
    for target in ["null", "pipe"] {
        let mut layer = on_the_way().to_vec();
        layer.extend([symlink("l", target), file("l/x", "")]);
        refuses(
            target,
            &[&layer],
            "l/x",
            "a symbolic link on its path leads to something that is no directory",
        );
        // A whiteout there hides nothing.
        gives(
            target,
            &[&layer[..3], &[file("l/.wh.x", "")]],
            &[&format!("l -> {target}"), "null 644 c 1:3", "pipe 644 p"],
        );
    }
}

#[test]
fn a_hard_link_to_the_root_by_any_name_is_refused() {
    for target in ["/", ".", "./", ""] {
        refuses(
            target,
            &[&with_etc([hard_link("l", target)])],
            "l",
            "its target \"/\" is a directory, which can't have a hard link",
        );
    }
    refuses(
        "through a link",
        &[&with_etc([symlink("r", "/"), hard_link("l", "r/etc")])],
        "l",
        "its target \"r/etc\" is a directory, which can't have a hard link",
    );
    // The link to the root is a link.
    gives(
        "to a link to it",
        &[&[symlink("r", "/"), hard_link("l", "r")]],
        &["l -> /", "r = l"],
    );
}

#[test]
fn directories_through_links_that_lead_to_links_are_made_inside_the_root_or_not_at_all() {
    // CVE-2021-38511.
    let chain = |end: &str| {
        [
            symlink("a", "b/c"),
            symlink("b", "d"),
            directory("d"),
            symlink("d/c", end),
            directory("a/made/deep"),
        ]
    };
    gives(
        "inside",
        &[&chain("../e")],
        &[
            "a -> b/c",
            "b -> d",
            "d/ 755",
            "d/c -> ../e",
            "e/ 755",
            "e/made/ 755",
            "e/made/deep/ 755",
        ],
    );
    for end in ["..//..", "../../e", "/../e", "../e/../../f"] {
        refuses(end, &[&chain(end)], "a/made/deep", OUT);
    }
}

#[test]
fn a_link_that_a_later_layer_changes_leads_nothing_out_that_came_before() {
    // CVE-2018-15664: what is checked is what is used.
    gives(
        "in time",
        &[
            &[directory("real"), symlink("l", "real"), file("l/x", "1")],
            &[symlink("l", "../..")],
        ],
        &["l -> ../..", "real/ 755", "real/x 644 \"1\""],
    );
    refuses(
        "too late, in the same layer as well",
        &[&[
            directory("real"),
            symlink("l", "real"),
            file("l/x", "1"),
            symlink("l", "../.."),
            file("l/x", "2"),
        ]],
        "l/x",
        OUT,
    );
}

#[test]
fn the_directories_of_a_system_may_be_links_inside_the_root_and_not_out_of_it() {
    for name in ["etc", "boot", "var", "usr", "sysroot"] {
        let through = format!("{name}/x");
        gives(
            name,
            &[&[symlink(name, "/real")], &[file(&through, "")]],
            &sorted([&format!("{name} -> /real"), "real/ 755", "real/x 644 \"\""]),
        );
        // Nothing goes through it: it is content, and what boots refuses it.
        gives(
            name,
            &[&[symlink(name, "../../real")]],
            &[&format!("{name} -> ../../real")],
        );
        refuses(
            name,
            &[&[symlink(name, "../../real")], &[file(&through, "")]],
            &through,
            OUT,
        );
    }
}

#[test]
fn a_directory_of_a_kernel_has_a_name() {
    refuses(
        "above",
        &[&[file("usr/lib/modules/../vmlinuz", "")]],
        "usr/lib/modules/../vmlinuz",
        PARENT,
    );
    let modules = ["usr/ 755", "usr/lib/ 755", "usr/lib/modules/ 755"];
    let expected = [&modules[..], &["usr/lib/modules/vmlinuz 644 \"\""]].concat();
    gives(
        "itself",
        &[&[file("usr/lib/modules/./vmlinuz", "")]],
        &expected,
    );
    gives(
        "none",
        &[&[file("usr/lib/modules//vmlinuz", "")]],
        &expected,
    );
}

fn sorted<const N: usize>(mut lines: [&str; N]) -> [&str; N] {
    lines.sort_unstable();
    lines
}
