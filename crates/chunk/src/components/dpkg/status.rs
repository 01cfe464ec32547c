//! The text files of dpkg's database.

use std::collections::BTreeMap;

/// A line that no program of dpkg's wrote so: the file is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct Damage {
    line: usize,
    reason: &'static str,
}

/// What is needed of a package's stanza.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stanza {
    pub(super) package: Vec<u8>,
    pub(super) architecture: Vec<u8>,
    /// The source package; the package's own name where it says nothing else.
    pub(super) source: Vec<u8>,
    /// Whether its files are there, all of them.
    pub(super) is_installed: bool,
}

/// The stanzas of `status`, or of a file in `status.d`.
pub(super) fn stanzas(text: &[u8]) -> Result<Vec<Stanza>, Damage> {
    let mut all = Vec::new();
    let mut stanza = Stanza::default();
    let mut is_begun = false;
    for (line, content) in lines(text).chain([(0, &b""[..])]) {
        let damage = |reason| Err(Damage { line, reason });
        if content.trim_ascii().is_empty() {
            let mut done = std::mem::take(&mut stanza);
            if done.source.is_empty() {
                done.source.clone_from(&done.package);
            }
            if std::mem::take(&mut is_begun) {
                if done.package.is_empty() {
                    return damage("the stanza before it names no package");
                }
                all.push(done);
            }
            continue;
        }
        is_begun = true;
        if content.starts_with(b" ") || content.starts_with(b"\t") {
            continue;
        }
        let colon = content.iter().position(|&byte| byte == b':');
        let Some(colon) = colon.filter(|&colon| colon > 0 && !content.contains(&0)) else {
            return damage("no field, nor what continues one");
        };
        let (field, value) = (&content[..colon], content[colon + 1..].trim_ascii());
        match field {
            b"Package" => stanza.package = value.to_vec(),
            b"Architecture" => stanza.architecture = value.to_vec(),
            // The version of the source follows in parentheses where it is another one.
            b"Source" => {
                let name = value.split(|&byte| byte == b' ').next();
                stanza.source = name.unwrap_or_default().to_vec();
            }
            b"Status" => stanza.is_installed = value.ends_with(b" installed"),
            _ => {}
        }
    }
    Ok(all)
}

/// The lines, counted from 1.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(text.split(|&byte| byte == b'\n'))
}

/// What was moved out of the way of another package's file: from the path to where it is, and who may keep the path.
pub(super) type Diversions = BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>;

/// What was moved out of the way.
pub(super) fn diversions(text: &[u8]) -> Result<Diversions, Damage> {
    let lines: Vec<&[u8]> = list(text).collect();
    let threes = lines.chunks_exact(3);
    if !threes.remainder().is_empty() || text.contains(&0) {
        return Err(Damage {
            line: lines.len(),
            reason: "a diversion has three lines",
        });
    }
    Ok(threes
        .map(|three| (three[0].to_vec(), (three[1].to_vec(), three[2].to_vec())))
        .collect())
}

/// Makes sure that a `.list` has paths, and nothing else.
pub(super) fn check_list(text: &[u8]) -> Result<(), Damage> {
    let is_path = |line: &[u8]| line.starts_with(b"/") && !line.contains(&0);
    let wrong = lines(text).find(|(_, line)| !line.is_empty() && !is_path(line));
    match wrong {
        Some((line, _)) => Err(Damage {
            line,
            reason: "no path",
        }),
        None => Ok(()),
    }
}

/// The paths of a `.list`.
pub(super) fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// The paths of a `.md5sums`, without their digests.
pub(super) fn summed(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(text).filter_map(|line| line.get(34..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_a_source_is_its_own() {
        let text = b"Package: jq\nArchitecture: amd64\nConffiles:\n /etc/x 00\n\n\
            Package: libssl3t64\nSource: openssl (3.5.1-1)\nArchitecture: amd64";
        let names: Vec<_> = stanzas(text)
            .unwrap()
            .into_iter()
            .map(|stanza| (stanza.package, stanza.source))
            .collect();
        assert_eq!(
            names,
            [
                (b"jq".to_vec(), b"jq".to_vec()),
                (b"libssl3t64".to_vec(), b"openssl".to_vec())
            ]
        );
    }

    #[test]
    fn sums_name_paths_without_their_slash() {
        let text = b"0123456789abcdef0123456789abcdef  usr/bin/jq\nshort\n";
        assert_eq!(summed(text).collect::<Vec<_>>(), [b"usr/bin/jq"]);
    }

    #[test]
    fn diversions_are_three_lines_each() {
        let found = diversions(b"/a\n/a.real\nother\n/b\n/b.real\n:\n").unwrap();
        assert_eq!(found[&b"/a"[..]], (b"/a.real".to_vec(), b"other".to_vec()));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn damage_is_told_with_its_line() {
        let told = |text: &[u8]| stanzas(text).unwrap_err().to_string();
        assert_eq!(
            told(b"Package: a\n\nVersion: 1\n\n"),
            "line 4: the stanza before it names no package"
        );
        for text in [&b"Package: a\n\0\0\0"[..], b"\nno field", b"\n: x"] {
            assert!(told(text).starts_with("line 2: no field"));
        }
        assert_eq!(
            check_list(b"/.\n/usr\n\0\0").unwrap_err().to_string(),
            "line 3: no path"
        );
        assert!(check_list(b"usr\n").is_err());
        check_list(b"/.\n/usr\n").unwrap();
        assert!(diversions(b"/a\n/a.real\n").is_err());
    }
}
