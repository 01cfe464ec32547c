//! What is in /var, and the lines of tmpfiles.d(5) that make it at each boot.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, Verdict};
use crate::root::{Kind, Root};

/// Later directories win over earlier ones for files of the same name.
const DIRECTORIES: [&str; 2] = ["usr/lib", "etc"];

/// The files of a `.d` directory as path and text, as systemd takes them together.
pub(crate) fn drop_ins(root: &Root, directory: &str) -> Vec<(String, String)> {
    let mut files = BTreeMap::new();
    for parent in DIRECTORIES {
        let directory = format!("{parent}/{directory}");
        for (path, name, _) in root.children(directory.as_bytes()) {
            if let Ok(path) = std::str::from_utf8(path)
                && path.ends_with(".conf")
            {
                files.insert(name.to_vec(), path.to_owned());
            }
        }
    }
    // A file that cannot be read, such as a link to /dev/null, makes nothing.
    let text = |path: String| Some((root.text(&path).ok()??, path));
    files
        .into_values()
        .filter_map(text)
        .map(|(text, path)| (path, text))
        .collect()
}

/// The fields of a line, in quotes or not.
pub(crate) fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (field, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        fields.push(field.to_owned());
        rest = after.trim_start();
    }
    fields
}

/// What lines of tmpfiles.d make.
#[derive(Debug, Default)]
struct Made {
    /// Single names.
    names: BTreeSet<Vec<u8>>,
    /// Directories that are copied with all that is in them.
    trees: BTreeSet<Vec<u8>>,
}

impl Made {
    fn read(root: &Root) -> Self {
        let mut made = Self::default();
        for (_, text) in drop_ins(root, "tmpfiles.d") {
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                made.line(&fields(line));
            }
        }
        made
    }

    fn line(&mut self, fields: &[String]) {
        let [kind, path, ..] = fields else {
            return;
        };
        let path = path.replace("%%", "%");
        let path = path.trim_matches('/').as_bytes().to_vec();
        match kind.chars().next() {
            Some('f' | 'F' | 'd' | 'D' | 'v' | 'q' | 'Q' | 'p' | 'L' | 'c' | 'b') => {
                self.names.insert(path);
            }
            Some('C') => {
                self.trees.insert(path);
            }
            _ => {}
        }
    }

    /// Whether a name is made; its directories are looked at before.
    fn makes(&self, path: &[u8]) -> bool {
        self.names.contains(path) || self.trees.contains(path)
    }
}

/// All that is in /var comes from tmpfiles.d.
pub(crate) fn var_tmpfiles(root: &Root) -> Verdict {
    let made = Made::read(root);
    let mut findings = Vec::new();
    directory(root, b"var", &made, &mut findings);
    findings.into()
}

fn directory(root: &Root, path: &[u8], made: &Made, findings: &mut Vec<Finding>) {
    for (path, _, kind) in root.children(path) {
        // /var/tmp is not part of images.
        if *kind == Kind::Mount || path == b"var/tmp" || made.trees.contains(path) {
            continue;
        }
        match kind {
            Kind::Directory if made.makes(path) || holds_made(path, made) => {
                directory(root, path, made, findings);
            }
            _ if made.makes(path) => {}
            _ => findings.push(finding(root, path, kind)),
        }
    }
}

/// A directory on the way to what is made is made, too.
fn holds_made(path: &[u8], made: &Made) -> bool {
    let inside = [path, b"/"].concat();
    [&made.names, &made.trees].iter().any(|set| {
        let next = set.range(inside.clone()..).next();
        next.is_some_and(|name| name.starts_with(&inside))
    })
}

fn finding(root: &Root, path: &[u8], kind: &Kind) -> Finding {
    let late = "machines get it when they are installed, and no update changes it";
    let problem = match kind {
        Kind::Directory => match root.below(path).count() {
            0 => format!("no line makes this directory: {late}"),
            count => format!("no line makes this directory with {count} names in it: {late}"),
        },
        _ => format!("no line makes it: {late}"),
    };
    let shown = crate::root::printable(path);
    let remedy = match kind {
        Kind::Directory => format!(
            "a line in /usr/lib/tmpfiles.d: d {shown} 0755 root root - -; what is in it belongs below /usr"
        ),
        Kind::Symlink(target) => format!(
            "a line in /usr/lib/tmpfiles.d: L {shown} - - - - {}",
            String::from_utf8_lossy(target)
        ),
        _ => "remove it at the end of the build, or keep it below /usr with a line in /usr/lib/tmpfiles.d that copies it (C)"
            .to_owned(),
    };
    Finding::new(path, problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, paths, problems};

    #[test]
    fn fields_are_split_and_quotes_taken_off() {
        assert_eq!(
            fields(" d  \"/var/a b\" 0755\t'x y'"),
            ["d", "/var/a b", "0755", "x y"]
        );
        assert_eq!(fields(""), [""; 0]);
        assert_eq!(fields("\"open"), ["open"]);
    }

    #[test]
    fn what_no_line_makes_is_found_once_per_directory() {
        let root = Builder::new()
            .file(
                "usr/lib/tmpfiles.d/a.conf",
                "# comment\nd /var/lib/made 0755\nC /var/lib/copied - - - - /usr/x\nL+ /var/link - - - - x\nf /var/spool/deep/file\nr /var/lib/removed\n",
            )
            .file("var/lib/made/file", "x")
            .file("var/lib/copied/any/file", "x")
            .file("var/lib/removed/a/b", "x")
            .file("var/spool/deep/file", "x")
            .file("var/tmp/any", "x")
            .link("var/link", "x")
            .link("var/other", "x");
        assert_eq!(
            paths(var_tmpfiles, &root),
            ["/var/lib/made/file", "/var/lib/removed", "/var/other"]
        );
        let found = problems(var_tmpfiles, &root);
        assert!(found.contains("directory with 2 names"), "{found}");
        assert!(found.contains("L /var/other - - - - x"), "{found}");
    }

    #[test]
    fn a_file_in_etc_takes_the_place_of_one_of_the_same_name() {
        let root = Builder::new()
            .file("usr/lib/tmpfiles.d/a.conf", "d /var/a\n")
            .directory("var/a");
        assert_eq!(paths(var_tmpfiles, &root), [""; 0]);
        let root = root.link("etc/tmpfiles.d/a.conf", "/dev/null");
        assert_eq!(paths(var_tmpfiles, &root), ["/var/a"]);
    }
}
