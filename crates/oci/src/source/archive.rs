//! Images in an `oci-archive:` file: an OCI image layout as an uncompressed tar.
//!
//! The archive is looked through once, without reading the blobs; each file of
//! the layout is then read from its place, by several threads at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::SourceError;
use super::layout::{Files, Layout};
use crate::reference::FileReference;

const BLOCK: u64 = 512;
/// The longest extended header or long name that is read, in bytes.
const MAX_EXTENSION: u64 = 64 << 10;
/// The most entries that are looked through.
const MAX_ENTRIES: u32 = 100_000;

/// Opens the image in an archive.
pub(super) fn open(reference: &FileReference) -> Result<Layout<Archive>, SourceError> {
    let archive = Archive::open(reference.path()).map_err(|source| SourceError::Read {
        path: reference.path().to_owned(),
        what: "cannot read the archive".to_owned(),
        source,
    })?;
    Layout::new(reference, "oci-archive", archive)
}

/// The files of a layout and where they are in the archive.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    places: HashMap<String, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
}

impl Archive {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let places = Scan::new(&file, metadata.len()).run()?;
        Ok(Self {
            file: Arc::new(file),
            places,
        })
    }
}

impl Files for Archive {
    fn open(&self, path: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>> {
        Ok(self.places.get(path).map(|place| {
            let reader: Box<dyn Read + Send> = Box::new(Section {
                file: Arc::clone(&self.file),
                place: *place,
            });
            (reader, place.length)
        }))
    }
}

/// A part of a file.
struct Section {
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

/// Goes from header to header.
struct Scan<'a> {
    file: &'a File,
    end: u64,
    offset: u64,
    /// What an extension says of the entry after it.
    long_name: Option<Vec<u8>>,
    long_size: Option<u64>,
}

impl<'a> Scan<'a> {
    fn new(file: &'a File, end: u64) -> Self {
        Self {
            file,
            end,
            offset: 0,
            long_name: None,
            long_size: None,
        }
    }

    /// Where the files of the layout are. Of two entries of one name the last
    /// counts, as when the archive is unpacked.
    fn run(mut self) -> io::Result<HashMap<String, Place>> {
        let mut places = HashMap::new();
        for _ in 0..MAX_ENTRIES {
            let Some(header) = self.read_header()? else {
                return Ok(places);
            };
            if let Some((name, place)) = self.take_entry(&header)? {
                places.insert(name, place);
            }
        }
        Err(invalid("it has too many entries for an image layout"))
    }

    fn read_header(&mut self) -> io::Result<Option<[u8; 512]>> {
        let mut header = [0; 512];
        if self.offset == self.end {
            return Ok(None);
        }
        self.file
            .read_exact_at(&mut header, self.offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => invalid("it is cut short"),
                _ => error,
            })?;
        if header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if self.offset == 0 && header.starts_with(&[0x1f, 0x8b]) {
            return Err(invalid("it is compressed; unpack it with gunzip first"));
        }
        if !is_checksum_right(&header) {
            return Err(invalid("it is no tar archive, or damaged"));
        }
        self.offset += BLOCK;
        Ok(Some(header))
    }

    /// Takes the entry that `header` begins, and moves past it.
    fn take_entry(&mut self, header: &[u8; 512]) -> io::Result<Option<(String, Place)>> {
        let own_size = number(&header[124..136]).ok_or_else(|| invalid("an entry has no size"))?;
        let kind = header[156];
        let is_extension = matches!(kind, b'L' | b'K' | b'x' | b'g');
        let length = match self.long_size {
            Some(size) if !is_extension => size,
            _ => own_size,
        };
        let place = Place {
            offset: self.offset,
            length,
        };
        self.offset = length
            .checked_next_multiple_of(BLOCK)
            .and_then(|padded| self.offset.checked_add(padded))
            .filter(|_| length <= self.end - self.offset)
            .ok_or_else(|| invalid("it is cut short"))?
            // The padding of the last entry may be missing.
            .min(self.end);
        match kind {
            b'L' => {
                let text = self.read_extension(place)?;
                let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
                self.long_name = Some(text[..end].to_vec());
                return Ok(None);
            }
            b'x' => {
                let text = self.read_extension(place)?;
                self.take_extended(&text)?;
                return Ok(None);
            }
            b'K' | b'g' => return Ok(None),
            _ => {}
        }
        let name = self.long_name.take().unwrap_or_else(|| own_name(header));
        self.long_size = None;
        if !matches!(kind, b'0' | 0) {
            return Ok(None);
        }
        let name = String::from_utf8(name).ok();
        Ok(name.map(|name| {
            let name = name.strip_prefix("./").unwrap_or(&name);
            (name.to_owned(), place)
        }))
    }

    fn read_extension(&self, place: Place) -> io::Result<Vec<u8>> {
        if place.length > MAX_EXTENSION {
            return Err(invalid("an extended header is too long"));
        }
        let mut text = vec![0; usize::try_from(place.length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut text, place.offset)?;
        Ok(text)
    }

    /// Records of the form `length key=value\n` (POSIX.1-2001, pax).
    fn take_extended(&mut self, mut text: &[u8]) -> io::Result<()> {
        let bad = || invalid("an extended header is malformed");
        while !text.is_empty() {
            let space = text.iter().position(|&b| b == b' ').ok_or_else(bad)?;
            let length: usize = std::str::from_utf8(&text[..space])
                .ok()
                .and_then(|digits| digits.parse().ok())
                .filter(|&length| length > space + 1 && length <= text.len())
                .ok_or_else(bad)?;
            let record = text[space + 1..length]
                .strip_suffix(b"\n")
                .ok_or_else(bad)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.long_name = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .and_then(|digits| digits.parse().ok());
                    self.long_size = Some(size.ok_or_else(bad)?);
                }
                _ => {}
            }
            text = &text[length..];
        }
        Ok(())
    }
}

fn own_name(header: &[u8; 512]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let is_ustar = header[257..263] == *b"ustar\0";
    match until_nul(&header[345..500]) {
        prefix if is_ustar && !prefix.is_empty() => [prefix, b"/", name].concat(),
        _ => name.to_vec(),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

fn is_checksum_right(header: &[u8; 512]) -> bool {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(place, &byte)| match place {
            148..156 => u64::from(b' '),
            _ => u64::from(byte),
        })
        .sum();
    number(&header[148..156]) == Some(sum)
}

/// Octal digits between blanks, or a number in base 256 (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        return field[1..].iter().try_fold(0u64, |number, &byte| {
            number.checked_mul(256)?.checked_add(u64::from(byte))
        });
    }
    let digits = until_nul(field.trim_ascii_start()).trim_ascii();
    digits.iter().try_fold(0u64, |number, &digit| {
        let digit = char::from(digit).to_digit(8)?;
        number.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::layout::tests::Memory;
    use super::*;
    use crate::manifest::Descriptor;
    use crate::reference::Reference;
    use crate::source::Source;

    fn header(name: &[u8], size: usize, kind: u8) -> [u8; 512] {
        let mut header = [0; 512];
        header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = kind;
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    fn entry(name: &[u8], content: &[u8], kind: u8) -> Vec<u8> {
        let mut bytes = header(name, content.len(), kind).to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
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

    fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn scan(bytes: &[u8]) -> io::Result<HashMap<String, Place>> {
        Archive::open(write(bytes).path()).map(|archive| archive.places)
    }

    fn read(bytes: &[u8], name: &str) -> Option<Vec<u8>> {
        let archive = Archive::open(write(bytes).path()).unwrap();
        let mut content = Vec::new();
        archive
            .open(name)
            .unwrap()?
            .0
            .read_to_end(&mut content)
            .unwrap();
        Some(content)
    }

    #[test]
    fn a_layout_is_read_from_its_places_in_the_archive() {
        let mut memory = Memory::default();
        let one = memory.add_blob(b"one");
        memory.put_index(json!([one]));
        let mut bytes = entry(b"blobs/", b"", b'5');
        for (name, content) in &memory.0 {
            bytes.extend(entry(format!("./{name}").as_bytes(), content, b'0'));
        }
        bytes.resize(bytes.len() + 1024, 0);
        let file = write(&bytes);
        let text = format!("oci-archive:{}", file.path().display());
        let Reference::Archive(reference) = Reference::parse(&text).unwrap() else {
            panic!("an archive is expected");
        };
        let layout = super::open(&reference).unwrap();
        assert_eq!(layout.root().unwrap().bytes, b"one");
        let descriptor = Descriptor {
            media_type: String::new(),
            digest: crate::Digest::sha256(b"one"),
            size: 3,
            annotations: Default::default(),
        };
        let mut content = Vec::new();
        let mut blob = crate::source::blob(&layout, &descriptor).unwrap();
        blob.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"one");
    }

    #[test]
    fn long_names_are_read_in_both_dialects() {
        let name = format!("blobs/sha512/{}", "a".repeat(128));
        let gnu = [
            entry(b"././@LongLink", format!("{name}\0").as_bytes(), b'L'),
            entry(b"cut", b"content", b'0'),
        ]
        .concat();
        assert_eq!(read(&gnu, &name).unwrap(), b"content");
        let posix = [pax("path", &name), entry(b"cut", b"content", b'0')].concat();
        assert_eq!(read(&posix, &name).unwrap(), b"content");
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
        let places = scan(&bytes).unwrap();
        assert!(!places.contains_key("index.json"));
        assert_eq!(read(&bytes, "next").unwrap(), b"x");
    }

    #[test]
    fn an_archive_that_is_cut_short_or_compressed_is_refused() {
        let whole = entry(b"oci-layout", &[b'x'; 600], b'0');
        assert!(scan(&whole).is_ok());
        for length in [1, 511, 513, 1000] {
            assert!(scan(&whole[..length]).is_err(), "{length}");
        }
        let mut packed = whole.clone();
        packed[..2].copy_from_slice(&[0x1f, 0x8b]);
        assert!(scan(&packed).unwrap_err().to_string().contains("gunzip"));
        let mut damaged = whole;
        damaged[3] ^= 1;
        assert!(scan(&damaged).is_err());
    }

    #[test]
    fn links_and_other_entries_are_no_files_of_the_layout() {
        for kind in [b'1', b'2', b'3', b'6'] {
            assert!(scan(&entry(b"index.json", b"", kind)).unwrap().is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_change_of_an_archive_is_read_or_refused(
            changes in proptest::collection::vec((0usize..4096, any::<u8>()), 0..8),
            fix: bool,
        ) {
            let mut bytes = [
                pax("path", "blobs/sha256/x"),
                entry(b"a", &[1; 700], b'0'),
                entry(b"b", &[2; 10], b'0'),
            ]
            .concat();
            for (place, byte) in changes {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            if fix {
                let sum: u32 = bytes[..512].iter().enumerate()
                    .map(|(place, &byte)| if (148..156).contains(&place) { 32 } else { u32::from(byte) })
                    .sum();
                bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
            if let Ok(places) = scan(&bytes) {
                let length = u64::try_from(bytes.len()).unwrap();
                for place in places.values() {
                    prop_assert!(place.offset + place.length <= length);
                }
            }
        }
    }
}
