//! Dump files. That they are upstream's is tested beside upstream's code, in tests/oracle.

mod support;

use hull_erofs::dump::{self, Problem};
use hull_erofs::tree::{Content, Entry};
use support::{sample, show};

const ROOT: &str = "/ 0 40755 2 0 0 0 0.0 - - -\n";

fn problem(lines: &str) -> Problem {
    let error = dump::parse(format!("{ROOT}{lines}").as_bytes()).expect_err("the dump is wrong");
    assert_eq!(error.line, 1 + lines.lines().count(), "{error}");
    error.problem
}

#[test]
fn a_dump_file_is_read_back_as_the_tree() {
    let text = show(&sample());
    assert_eq!(show(&dump::parse(text.as_bytes()).unwrap()), text);
}

#[test]
fn bytes_that_no_terminal_shows_are_escaped() {
    let line = "/a\\x20b\\xff\\\\ 4 100644 1 0 0 0 0.0 - \\n\\r\\t= - user.\\x3d=\\x3d-\n";
    let tree = dump::parse(format!("{ROOT}{line}").as_bytes()).unwrap();
    let Some(Entry::Leaf(_, leaf)) = tree.lookup(b"/a b\xff\\") else {
        panic!("the name is not there");
    };
    assert_eq!(leaf.content, Content::Inline(b"\n\r\t="[..].into()));
    assert_eq!(&leaf.metadata.xattrs[&b"user.="[..]][..], b"=-");
    assert_eq!(show(&tree), format!("{ROOT}{line}"));
}

#[test]
fn a_lone_dash_is_no_empty_field() {
    let text = format!(
        "{ROOT}/a 1 100644 1 0 0 0 0.0 - \\x2d - user.a=-\n/b 1 120777 1 0 0 0 0.0 \\x2d - -\n"
    );
    assert_eq!(show(&dump::parse(text.as_bytes()).unwrap()), text);
}

#[test]
fn times_before_1970_are_read_in_both_spellings() {
    for seconds in ["-1", "18446744073709551615"] {
        let text = format!("/ 0 40755 2 0 0 0 {seconds}.5 - - -\n");
        let tree = dump::parse(text.as_bytes()).unwrap();
        assert_eq!(tree.root().metadata().mtime.seconds, -1);
        assert_eq!(show(&tree), "/ 0 40755 2 0 0 0 -1.5 - - -\n");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let file = "/a 0 100644 1 0 0 0 0.0 - - -\n";
    assert_eq!(problem(&format!("{file}{file}")), Problem::Duplicate);
    assert_eq!(problem(ROOT), Problem::Duplicate);
    assert_eq!(
        problem("/a/b 0 40755 2 0 0 0 0.0 - - -\n"),
        Problem::NoParent
    );
    assert_eq!(
        problem(&format!("{file}/a/b 0 40755 2 0 0 0 0.0 - - -\n")),
        Problem::NoParent
    );
    assert_eq!(
        problem("/a 0 @120000 - - - - 0.0 /b - -\n"),
        Problem::NoTarget("/b".into())
    );
    assert_eq!(
        problem("/a 5 100644 1 0 0 0 0.0 - - -\n"),
        Problem::NoContent
    );
    assert_eq!(
        problem("/a 5 100644 1 0 0 0 0.0 ab/cd - -\n"),
        Problem::NoContent
    );
    assert_eq!(
        problem("/a 0 40755 2 0 0 7 0.0 - - -\n"),
        Problem::Unexpected("rdev")
    );
    assert_eq!(
        problem("/a 0 10644 1 0 0 0 0.0 - x -\n"),
        Problem::Unexpected("content")
    );
    assert_eq!(
        problem("/a 0 100644 1 0 0 0 0.0 -\n"),
        Problem::Missing("content")
    );
    for (field, line) in [
        ("path", "a 0 40755 2 0 0 0 0.0 - - -\n"),
        ("path", "/a/../b 0 40755 2 0 0 0 0.0 - - -\n"),
        ("path", "/a\\x00 0 40755 2 0 0 0 0.0 - - -\n"),
        ("path", "//a 0 40755 2 0 0 0 0.0 - - -\n"),
        ("path", "/a\\q 0 40755 2 0 0 0 0.0 - - -\n"),
        ("size", "/a +1 100644 1 0 0 0 0.0 - - -\n"),
        ("mode", "/a 0 999 1 0 0 0 0.0 - - -\n"),
        ("mode", "/a 0 644 1 0 0 0 0.0 - - -\n"),
        ("mode", "/a 0 @40755 - - - - 0.0 / - -\n"),
        ("uid", "/a 0 100644 1 4294967296 0 0 0.0 - - -\n"),
        ("mtime", "/a 0 100644 1 0 0 0 0 - - -\n"),
        ("mtime", "/a 0 100644 1 0 0 0 0.1000000000 - - -\n"),
        ("digest", "/a 9 100644 1 0 0 0 0.0 ab/cd - abcd\n"),
        ("xattr", "/a 0 100644 1 0 0 0 0.0 - - - user.a\n"),
    ] {
        assert!(
            matches!(problem(line), Problem::Invalid { field: found, .. } if found == field),
            "{line}"
        );
    }
}

#[test]
fn the_first_entry_is_the_root() {
    let error = |text: &str| dump::parse(text.as_bytes()).unwrap_err().problem;
    assert_eq!(error(""), Problem::Empty);
    assert_eq!(error("\n \n"), Problem::Empty);
    assert_eq!(
        error("/a 0 40755 2 0 0 0 0.0 - - -\n"),
        Problem::RootNotFirst
    );
    assert_eq!(
        error("/ 0 100644 1 0 0 0 0.0 - - -\n"),
        Problem::RootNotFirst
    );
}
