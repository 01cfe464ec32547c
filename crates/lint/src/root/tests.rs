use super::*;
use crate::testing::Builder;

fn resolved(root: &Root, path: &str) -> Option<String> {
    let (path, _) = root.resolve(path.as_bytes())?;
    Some(printable(path))
}

#[test]
fn links_are_followed_inside_of_the_root_only() {
    let builder = Builder::new()
        .file("etc/passwd", "inside")
        .directory("a/b")
        .link("a/b/absolute", "/etc/passwd")
        .link("a/b/above", "../../../../../etc/passwd")
        .link("a/b/beside", "./absolute")
        .link("lib", "a/b")
        .link("a/b/loop", "loop")
        .link("a/b/gone", "nowhere");
    let root = builder.read();
    for path in ["a/b/absolute", "a/b/above", "a/b/beside", "lib/beside"] {
        assert_eq!(
            resolved(&root, path).as_deref(),
            Some("/etc/passwd"),
            "{path}"
        );
        assert_eq!(
            root.text(path).unwrap().as_deref(),
            Some("inside"),
            "{path}"
        );
    }
    for path in ["a/b/loop", "a/b/gone", "nothing", "etc/passwd/x"] {
        assert_eq!(resolved(&root, path), None, "{path}");
    }
    assert_eq!(resolved(&root, "lib/..").as_deref(), Some("/a"));
}

#[test]
fn what_is_in_a_directory_is_not_what_is_beside_it() {
    let root = Builder::new()
        .file("a/one", "")
        .file("a/two/three", "")
        .file("a-b", "")
        .file("a.c/x", "")
        .read();
    let names: Vec<_> = root
        .children(b"a")
        .map(|(_, name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(root.below(b"a").count(), 3);
}

#[test]
fn only_regular_files_are_read_and_only_so_much_of_them() {
    let large = vec![b'x'; usize::try_from(MAX_TEXT).unwrap() + 1];
    let builder = Builder::new().file("large", large).directory("directory");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        builder.path().join("pipe"),
        FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let root = builder.read();
    for path in ["large", "directory", "pipe"] {
        assert!(root.text(path).is_err(), "{path}");
    }
    assert_eq!(root.text("gone").unwrap(), None);
    assert_eq!(
        root.start("large", 3).unwrap().as_deref(),
        Some(&b"xxx"[..])
    );
}

#[test]
fn a_root_that_is_not_there_is_an_error_with_its_path() {
    let error = Root::read(Path::new("/nowhere/root")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/root"), "{error}");
}
