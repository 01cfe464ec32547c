//! The documentation names the test that holds each promise: those tests are there.

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The tests that a page names, each with the end of its file's path.
fn named(page: &str) -> Vec<(String, String)> {
    let mut tests = Vec::new();
    for line in page.lines() {
        let mut file = None;
        // What is between backticks.
        for text in line.split('`').skip(1).step_by(2) {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if text.ends_with(".rs") {
                file = Some(text);
            } else if let Some(file) = file
                && text.matches('_').count() >= 3
                && text.chars().all(is_name)
            {
                tests.push((file.to_owned(), text.to_owned()));
            }
        }
    }
    tests
}

#[test]
fn the_tests_that_the_documentation_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for name in std::fs::read_dir(root.join("crates")).unwrap() {
        for part in ["src", "tests"] {
            let directory = name.as_ref().unwrap().path().join(part);
            if directory.is_dir() {
                sources(&directory, &mut files);
            }
        }
    }
    for (page, at_least) in [("hostile.md", 100), ("pull.md", 30)] {
        let text = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
        let tests = named(&text);
        assert!(tests.len() >= at_least, "{page} names {}", tests.len());
        for (file, test) in tests {
            let declared = format!("fn {test}(");
            let is_there = files
                .iter()
                .filter(|path| path.ends_with(&file))
                .any(|path| std::fs::read_to_string(path).unwrap().contains(&declared));
            assert!(is_there, "{page}: no {test} in {file}");
        }
    }
}
