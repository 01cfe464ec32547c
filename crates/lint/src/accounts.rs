//! Users and groups, and the lines of sysusers.d(5) that make them.

use std::collections::BTreeSet;

use crate::finding::{Finding, Verdict};
use crate::root::Root;
use crate::tmpfiles::{drop_ins, fields};

/// Those that systemd itself always knows (nss-systemd(8)).
const ALWAYS: [&str; 3] = ["root", "nobody", "nogroup"];

/// What lines of sysusers.d make.
#[derive(Debug, Default)]
struct Made {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Made {
    fn read(root: &Root) -> Self {
        let mut made = Self::default();
        for (_, text) in drop_ins(root, "sysusers.d") {
            for line in text.lines().map(str::trim) {
                if !line.starts_with('#') {
                    made.line(&fields(line));
                }
            }
        }
        made
    }

    fn line(&mut self, fields: &[String]) {
        let [kind, name, rest @ ..] = fields else {
            return;
        };
        match kind.trim_end_matches('!') {
            // A user has a group of its name, unless the line gives it another: uid:gid.
            "u" => {
                self.users.insert(name.clone());
                self.groups.insert(name.clone());
            }
            "g" => {
                self.groups.insert(name.clone());
            }
            "m" => {
                self.users.insert(name.clone());
                self.groups.extend(rest.first().cloned());
            }
            _ => {}
        }
    }
}

/// The accounts of the image's files are made by sysusers.d, too.
pub(crate) fn sysusers(root: &Root) -> Verdict {
    let made = Made::read(root);
    let mut findings = Vec::new();
    let files = [
        ("etc/passwd", "user", "u", &made.users),
        ("etc/group", "group", "g", &made.groups),
    ];
    for (path, word, letter, known) in files {
        let text = match root.text(path) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                let remedy = "make it a text file (passwd(5), group(5))";
                findings.push(Finding::new(path.as_bytes(), error.to_string(), remedy));
                continue;
            }
        };
        for (name, number) in text.lines().filter_map(account) {
            if !known.contains(name) && !ALWAYS.contains(&name) {
                findings.push(Finding::new(
                    path.as_bytes(),
                    format!("no line of sysusers.d makes the {word} {name} ({number})"),
                    format!("a line in /usr/lib/sysusers.d: {letter} {name} {number}"),
                ));
            }
        }
    }
    findings.into()
}

/// Name and number of a line of passwd(5) or group(5).
fn account(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((name, fields.nth(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, problems};

    #[test]
    fn accounts_that_no_line_makes_are_found_with_the_line_that_would() {
        let root = Builder::new()
            .file(
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\nmade:x:100:100::/:/bin/false\nmine:x:1000:1000::/:/bin/sh\n",
            )
            .file("etc/group", "root:x:0:\nmade:x:100:\nwheel:x:10:mine\nextra:x:11:\n")
            .file(
                "usr/lib/sysusers.d/a.conf",
                "# c\nu! made 100 \"A user\" /\nm made wheel\n",
            );
        let found = problems(sysusers, &root);
        assert!(found.contains("makes the user mine (1000)"), "{found}");
        assert!(found.contains("sysusers.d: g extra 11"), "{found}");
        assert_eq!(found.lines().count(), 2, "{found}");
    }
}
