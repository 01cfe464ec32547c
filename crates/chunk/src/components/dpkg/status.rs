//! The text files of dpkg's database.

use std::collections::BTreeMap;

/// What is needed of a package's stanza.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stanza {
    pub(super) package: Vec<u8>,
    pub(super) architecture: Vec<u8>,
    /// The source package; the package's own name where it says nothing else.
    pub(super) source: Vec<u8>,
}

/// The stanzas of `status`, or of a file in `status.d`.
pub(super) fn stanzas(text: &[u8]) -> Vec<Stanza> {
    let mut all = Vec::new();
    let mut stanza = Stanza::default();
    for line in text.split(|&byte| byte == b'\n').chain([&b""[..]]) {
        if line.trim_ascii().is_empty() {
            let mut done = std::mem::take(&mut stanza);
            if done.source.is_empty() {
                done.source.clone_from(&done.package);
            }
            if !done.package.is_empty() {
                all.push(done);
            }
            continue;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (field, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match field {
            b"Package" => stanza.package = value.to_vec(),
            b"Architecture" => stanza.architecture = value.to_vec(),
            // The version of the source follows in parentheses where it is another one.
            b"Source" => {
                let name = value.split(|&byte| byte == b' ').next();
                stanza.source = name.unwrap_or_default().to_vec();
            }
            _ => {}
        }
    }
    all
}

/// What was moved out of the way of another package's file: from the path to where it is, and who may keep the path.
pub(super) fn diversions(text: &[u8]) -> BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)> {
    let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    lines
        .chunks_exact(3)
        .map(|three| (three[0].to_vec(), (three[1].to_vec(), three[2].to_vec())))
        .collect()
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
        let found = diversions(b"/a\n/a.real\nother\n/b\n/b.real\n:\n");
        assert_eq!(found[&b"/a"[..]], (b"/a.real".to_vec(), b"other".to_vec()));
        assert_eq!(found.len(), 2);
    }
}
