//! Labels. That they are upstream's is tested beside upstream's code, in tests/oracle.

mod support;

use std::io;

use hull_erofs::selinux::{LabelError, label};
use hull_erofs::{ObjectId, Tree, dump};
use support::show;

/// A tree whose policy is in two objects: the configuration, and the patterns.
fn tree() -> Tree {
    let object = |digit: &str| {
        let path = format!("{}/{}", digit.repeat(2), digit.repeat(126));
        format!("0 100644 1 0 0 0 0.0 {path} - {}", digit.repeat(128))
    };
    let text = format!(
        "\
/ 0 40755 4 0 0 0 0.0 - - - security.selinux=build_host_t
/etc 0 40755 3 0 0 0 0.0 - - -
/etc/selinux 0 40755 3 0 0 0 0.0 - - -
/etc/selinux/config {config}
/etc/selinux/mine 0 40755 3 0 0 0 0.0 - - -
/etc/selinux/mine/contexts 0 40755 3 0 0 0 0.0 - - -
/etc/selinux/mine/contexts/files 0 40755 2 0 0 0 0.0 - - -
/etc/selinux/mine/contexts/files/file_contexts {contexts}
/usr 0 40755 2 0 0 0 0.0 - - -
/usr/a 1 100644 2 0 0 0 0.0 - a - security.selinux=build_host_t
/usr/b 0 @120000 - - - - 0.0 /usr/a - -
/usr/c 1 120777 1 0 0 0 0.0 a - -
",
        config = object("a"),
        contexts = object("b"),
    );
    dump::parse(text.as_bytes()).expect("it is a dump file")
}

fn reader(patterns: &str) -> impl FnMut(&ObjectId, u64) -> io::Result<Vec<u8>> {
    move |id, _| match id.as_bytes()[0] {
        0xaa => Ok(b"SELINUXTYPE=mine\n".to_vec()),
        _ => Ok(patterns.as_bytes().to_vec()),
    }
}

fn labels(tree: &Tree) -> Vec<(String, String)> {
    let text = show(tree);
    let fields = text.lines().filter_map(|line| {
        let (rest, label) = line.split_once("security.selinux=")?;
        Some((
            rest.split(' ').next().unwrap_or_default().to_owned(),
            label.to_owned(),
        ))
    });
    fields.collect()
}

#[test]
fn the_last_pattern_that_fits_path_and_type_gives_the_label() {
    let mut tree = tree();
    let patterns = "/.* any_t\n/usr/c -- file_t\n/usr/c -l link_t\n/etc(/.*)? <<none>>\n";
    assert!(label(&mut tree, reader(patterns)).unwrap());
    let expected = [
        ("/", "any_t"),
        ("/usr", "any_t"),
        ("/usr/a", "any_t"),
        ("/usr/c", "link_t"),
    ];
    let expected = expected.map(|(path, label)| (path.to_owned(), label.to_owned()));
    assert_eq!(labels(&tree), expected);
    assert!(
        !tree.hard_links().is_empty(),
        "names with one label stay one inode"
    );
}

#[test]
fn hard_links_with_different_labels_are_parted() {
    let mut tree = tree();
    label(&mut tree, reader("/usr/a a_t\n/usr/b b_t\n")).unwrap();
    let expected = [("/usr/a", "a_t"), ("/usr/b", "b_t")];
    assert_eq!(
        labels(&tree),
        expected.map(|(path, label)| (path.to_owned(), label.to_owned()))
    );
}

#[test]
fn without_a_policy_labels_of_the_build_host_go() {
    let mut tree = tree();
    let no_type = |_: &ObjectId, _| io::Result::Ok(b"SELINUX=disabled\n".to_vec());
    assert!(!label(&mut tree, no_type).unwrap());
    assert!(labels(&tree).is_empty());
}

#[test]
fn what_is_wrong_with_a_policy_is_said_and_nothing_is_changed() {
    let error = |reader: &mut dyn FnMut(&ObjectId, u64) -> io::Result<Vec<u8>>| {
        let mut tree = tree();
        let before = show(&tree);
        let error = label(&mut tree, reader).expect_err("the policy is wrong");
        assert_eq!(show(&tree), before);
        error
    };
    for (line, patterns) in [
        (1, "/usr"),
        (2, "\n/usr -x a_t"),
        (3, "# a\n\n/usr a_t b_t"),
    ] {
        let error = error(&mut reader(patterns));
        assert!(
            matches!(error, LabelError::Line { line: found, .. } if found == line),
            "{error}"
        );
    }
    let look_around = error(&mut reader("/usr/(?!bad).* a_t"));
    assert!(
        look_around.to_string().contains("look-around"),
        "{look_around}"
    );
    let endless = error(&mut reader("/((a{1000}){1000}){1000} a_t"));
    assert!(matches!(endless, LabelError::Pattern { .. }), "{endless}");
    let unreadable = error(&mut |_, _| Err(io::Error::other("no such object")));
    assert!(matches!(unreadable, LabelError::Read { path, .. } if path == "/etc/selinux/config"));

    let mut tree = tree();
    let selinux = tree.directory(b"/etc/selinux").unwrap().id();
    assert!(tree.remove(selinux, b"mine"));
    let missing = label(&mut tree, reader("")).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("/mine/contexts/files/file_contexts is no file"),
        "{missing}"
    );
}
