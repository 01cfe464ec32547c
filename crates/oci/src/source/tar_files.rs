//! The files in a tar archive, read from their places by several threads at once.
//!
//! The archive is looked through once, without reading the files' content.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::layer::TarError;
use crate::layer::tar::{BLOCK, Input, Kind, Members, Next};

/// The most entries that are looked through.
const MAX_ENTRIES: usize = 100_000;
/// The most links that lead to one file.
const MAX_LINKS: usize = 16;

/// The regular files of an archive and where they are in it. Of two entries of one
/// name the last counts, as when the archive is unpacked.
#[derive(Debug)]
pub(super) struct TarFiles {
    file: Arc<File>,
    nodes: HashMap<Vec<u8>, Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(Place),
    /// To this path, of the form that the keys have.
    Link(Vec<u8>),
}

/// A part of the archive, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl TarFiles {
    /// Looks through an archive that is not compressed.
    pub(super) fn scan(file: Arc<File>) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let input = Blocks {
            file: Arc::clone(&file),
            at: 0,
            end,
        };
        let nodes = scan(Members::new(input), end)?;
        Ok(Self { file, nodes })
    }

    /// The place of a regular file, which no link leads to.
    pub(super) fn find(&self, path: &str) -> Option<Place> {
        match self.nodes.get(path.as_bytes())? {
            Node::File(place) => Some(*place),
            Node::Link(_) => None,
        }
    }

    /// The same, through symbolic and hard links within the archive.
    pub(super) fn find_through_links(&self, path: &str) -> Option<Place> {
        let mut path = joined(b"", path.as_bytes())?;
        for _ in 0..=MAX_LINKS {
            match self.nodes.get(&path)? {
                Node::File(place) => return Some(*place),
                Node::Link(target) => path.clone_from(target),
            }
        }
        None
    }

    pub(super) fn read(&self, place: Place) -> Section {
        Section {
            file: Arc::clone(&self.file),
            place,
        }
    }
}

fn scan(mut members: Members<Blocks>, end: u64) -> io::Result<HashMap<Vec<u8>, Node>> {
    let mut nodes = HashMap::new();
    while let Some(member) = members.next().map_err(plainly)? {
        if nodes.len() == MAX_ENTRIES {
            return Err(invalid("it has too many entries for an archive of images"));
        }
        let offset = members.offset();
        let data = end
            .checked_sub(offset)
            .filter(|left| member.stored <= *left);
        let left = data.ok_or_else(|| invalid("it is cut short"))?;
        let path = member.path.as_bytes().to_vec();
        let node = match &member.kind {
            Kind::Regular => Some(Node::File(Place {
                offset,
                length: member.stored,
            })),
            Kind::HardLink(target) => Some(Node::Link(target.as_bytes().to_vec())),
            Kind::Symlink(target) => {
                let parent = member
                    .path
                    .split_last()
                    .map_or(&[][..], |(parent, _)| parent);
                joined(parent, target).map(Node::Link)
            }
            _ => None,
        };
        if let Some(node) = node {
            nodes.insert(path, node);
        }
        // The padding of the last entry may be missing.
        let padded = member.stored.next_multiple_of(BLOCK as u64).min(left);
        members.skip(padded);
        members.input.at = offset + padded;
    }
    Ok(nodes)
}

/// The path that `target` means in the directory `parent`, without `.` and `..`;
/// nothing if it leaves the archive.
fn joined(parent: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let absolute = target.starts_with(b"/");
    let parent = if absolute { &[][..] } else { parent };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in parent
        .split(|&b| b == b'/')
        .chain(target.split(|&b| b == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// The tar reader speaks of layers; here it reads the archive around them.
fn plainly(error: TarError) -> io::Error {
    match error {
        TarError::Read { source, .. } => source,
        TarError::Truncated { .. } => invalid("it is cut short"),
        TarError::NoHeader { offset, .. } => invalid(&format!(
            "it is no tar archive, or damaged at byte {offset}"
        )),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// The blocks of an archive; whoever reads it may move on.
struct Blocks {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Input for Blocks {
    fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<Next> {
        if self.at >= self.end {
            return Ok(Next::End);
        }
        self.data(block)?;
        Ok(Next::Block)
    }

    fn data(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.at)?;
        self.at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Section {
    file: Arc<File>,
    place: Place,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.place.length).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.place.offset)?;
        let advanced = u64::try_from(count).expect("usize fits into u64");
        self.place.offset += advanced;
        self.place.length -= advanced;
        Ok(count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn header(name: &[u8], size: usize, kind: u8) -> [u8; 512] {
        let mut header = [0; 512];
        header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        fix(&mut header);
        header
    }

    fn fix(header: &mut [u8]) {
        header[148..156].fill(b' ');
        let sum: u32 = header[..512].iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }

    /// An entry of an archive with its content and padding.
    pub(in crate::source) fn entry(name: &[u8], content: &[u8], kind: u8) -> Vec<u8> {
        let mut bytes = header(name, content.len(), kind).to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    /// A symbolic (`2`) or hard (`1`) link.
    pub(in crate::source) fn link(name: &[u8], target: &[u8], kind: u8) -> Vec<u8> {
        let mut bytes = header(name, 0, kind).to_vec();
        bytes[157..157 + target.len()].copy_from_slice(target);
        fix(&mut bytes);
        bytes
    }

    fn pax(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        entry(b"pax", format!("{length}{rest}").as_bytes(), b'x')
    }

    /// An archive in a file without a name.
    pub(in crate::source) fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    fn scanned(bytes: &[u8]) -> io::Result<TarFiles> {
        TarFiles::scan(file(bytes))
    }

    fn read(files: &TarFiles, place: Option<Place>) -> Vec<u8> {
        let mut content = Vec::new();
        files
            .read(place.unwrap())
            .read_to_end(&mut content)
            .unwrap();
        content
    }

    #[test]
    fn long_names_are_read_in_both_dialects() {
        let name = format!("blobs/sha512/{}", "a".repeat(128));
        let gnu = [
            entry(b"././@LongLink", format!("{name}\0").as_bytes(), b'L'),
            entry(b"cut", b"content", b'0'),
        ]
        .concat();
        let posix = [pax("path", &name), entry(b"cut", b"content", b'0')].concat();
        for bytes in [gnu, posix] {
            let files = scanned(&bytes).unwrap();
            assert_eq!(read(&files, files.find(&name)), b"content");
        }
    }

    #[test]
    fn a_size_in_the_extended_header_counts_once() {
        // CVE-2025-62518: the size of the header block would show what is hidden in the content.
        let hidden = entry(b"index.json", b"hidden", b'0');
        let mut outer = header(b"blob", 0, b'0').to_vec();
        outer.extend(&hidden);
        let bytes = [
            pax("size", &hidden.len().to_string()),
            outer,
            entry(b"next", b"x", b'0'),
        ]
        .concat();
        let files = scanned(&bytes).unwrap();
        assert_eq!(files.find("index.json"), None);
        assert_eq!(read(&files, files.find("next")), b"x");
    }

    #[test]
    fn an_archive_that_is_cut_short_or_damaged_is_refused() {
        let whole = entry(b"oci-layout", &[b'x'; 600], b'0');
        assert!(scanned(&whole).is_ok());
        for length in [1, 511, 513, 1000] {
            assert!(scanned(&whole[..length]).is_err(), "{length}");
        }
        let mut damaged = whole;
        damaged[3] ^= 1;
        let error = scanned(&damaged).unwrap_err().to_string();
        assert!(error.contains("no tar archive"), "{error}");
    }

    #[test]
    fn links_lead_to_files_within_the_archive_only() {
        let bytes = [
            entry(b"a/layer.tar", b"content", b'0'),
            link(b"b/layer.tar", b"../a/layer.tar", b'2'),
            link(b"c/layer.tar", b"b/layer.tar", b'1'),
            link(b"out", b"../../etc/passwd", b'2'),
            link(b"loop", b"loop", b'2'),
        ]
        .concat();
        let files = scanned(&bytes).unwrap();
        for name in ["a/layer.tar", "b/layer.tar", "./c/layer.tar"] {
            assert_eq!(read(&files, files.find_through_links(name)), b"content");
        }
        for name in ["out", "loop", "missing", "../a/layer.tar"] {
            assert_eq!(files.find_through_links(name), None, "{name}");
        }
        assert_eq!(files.find("b/layer.tar"), None);
    }

    proptest! {
        #[test]
        fn any_change_of_an_archive_is_read_or_refused(
            changes in proptest::collection::vec((0usize..4096, any::<u8>()), 0..8),
            repair: bool,
        ) {
            let mut bytes = [
                pax("path", "blobs/sha256/x"),
                entry(b"a", &[1; 700], b'0'),
                entry(b"b", &[2; 10], b'0'),
                link(b"c", b"a", b'2'),
            ]
            .concat();
            for (place, byte) in changes {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            if repair {
                fix(&mut bytes);
            }
            if let Ok(files) = scanned(&bytes) {
                let length = u64::try_from(bytes.len()).unwrap();
                for node in files.nodes.values() {
                    if let Node::File(place) = node {
                        prop_assert!(place.offset + place.length <= length);
                    }
                }
            }
        }
    }
}
