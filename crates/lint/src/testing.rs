//! Roots for tests.

use std::fs::{self, File};
use std::io::Write;

use crate::finding::Verdict;
use crate::root::Root;

/// A temporary root file system.
pub(crate) struct Builder(tempfile::TempDir);

impl Builder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        fs::create_dir_all(self.path().join(path)).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(path).unwrap();
        file.write_all(content.as_ref()).unwrap();
        self
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
        self
    }

    pub(crate) fn read(&self) -> Root {
        Root::read(self.path()).unwrap()
    }
}

/// The paths that a lint finds something wrong with, sorted.
pub(crate) fn paths(lint: fn(&Root) -> Verdict, root: &Builder) -> Vec<String> {
    let Verdict::Checked(findings) = lint(&root.read()) else {
        panic!("the lint was not applicable");
    };
    let mut paths: Vec<_> = findings.into_iter().map(|finding| finding.path).collect();
    paths.sort();
    paths
}

/// What a lint says is wrong, for messages that have to name something.
pub(crate) fn problems(lint: fn(&Root) -> Verdict, root: &Builder) -> String {
    let Verdict::Checked(findings) = lint(&root.read()) else {
        panic!("the lint was not applicable");
    };
    let lines = findings.into_iter().map(|finding| {
        format!(
            "{}: {}: {}\n",
            finding.path, finding.problem, finding.remedy
        )
    });
    lines.collect()
}
