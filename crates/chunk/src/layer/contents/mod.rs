//! The table of contents of a `zstd:chunked` layer, from which `containers/storage`
//! fetches only the files and the chunks of files that it does not have.
//!
//! After the frames of the archive come three frames that other programs skip
//! (RFC 8878, 3.1.2): the table, as compressed JSON; what is in the archive beside the
//! contents of files, as compressed tar-split; and a footer of 64 bytes that says
//! where those are, as the annotations of the layer do.

mod packed;
mod tar_split;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hull_erofs::tree::{Metadata, Timestamp};
use hull_oci::Digest;
use hull_oci::digest::{Algorithm, Hasher};
use serde::Serialize;

use self::packed::{Packed, Packer, begin_skipped};
use self::tar_split::Split;
use super::cutter::{Cut, Cutter};
use super::frames::{Blob, Ends, Frames, Hashed};
use super::tar::{self, Item};

/// The prefix of the annotations.
const ANNOTATION: &str = "io.github.containers.zstd-chunked";
const VERSION: u32 = 1;
/// The form of the table, in the annotation and the footer.
const TABLE_TYPE: u64 = 1;
const FOOTER_MAGIC: [u8; 8] = *b"GNUlInUx";
/// The longest table that clients read, in bytes before compression.
const TABLE_MAX: u64 = 150 << 20;
/// Who compresses a table: it takes 15 MB, which is more than all else that a thread needs.
static TABLES: Mutex<()> = Mutex::new(());
/// The years 1 to 9999, in seconds since 1970: what a time in JSON may say (RFC 3339).
const YEARS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;
/// The check value of tar-split: CRC-64 as in ISO 3309.
const CRC: crc::Crc<u64, crc::Table<16>> =
    crc::Crc::<u64, crc::Table<16>>::new(&crc::CRC_64_GO_ISO);

/// What the annotations of a layer say of its table.
pub(super) type Annotations = BTreeMap<String, String>;

/// Gathers the table while the archive is written.
pub(super) struct Contents {
    /// Entries of which the frames are not written yet, or the last.
    listed: VecDeque<Listed>,
    table: Table,
    split: Split,
}

/// An entry of the archive.
struct Listed {
    row: Row,
    payload: Option<Payload>,
}

/// A line of the table; names and order as other programs write them.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    #[serde(rename = "linkName", skip_serializing_if = "String::is_empty")]
    link: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(rename = "devMajor", skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(rename = "devMinor", skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
    #[serde(skip_serializing_if = "str::is_empty")]
    chunk_type: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where the content of a file is.
#[derive(Debug)]
struct Payload {
    digest: Digest,
    crc: u64,
    chunks: Vec<Chunk>,
    /// The frame after the last one.
    end: usize,
}

/// A part of a file, which is a frame.
#[derive(Debug)]
struct Chunk {
    frame: usize,
    size: u64,
    digest: Digest,
    zeros: bool,
}

impl Contents {
    /// What is too long for memory waits in files without names in `dir`.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            listed: VecDeque::new(),
            table: Table::new(dir)?,
            split: Split::new(dir)?,
        })
    }

    /// Lists an entry by what its header says; false if the table cannot hold it, as JSON has no bytes that are not text.
    pub(super) fn entry(
        &mut self,
        blocks: &[u8],
        path: &[u8],
        item: Item<'_>,
        (metadata, time): (&Metadata, Timestamp),
        ends: &mut Ends,
    ) -> io::Result<bool> {
        let Some(row) = row(path, item, metadata, time) else {
            return Ok(false);
        };
        self.split.segment(blocks)?;
        if row.size == 0 {
            self.split.file(&row.name, 0, None)?;
        }
        self.listed.push_back(Listed { row, payload: None });
        // Not only behind the content of files: there may be any number of others between two of them.
        self.settle(ends)?;
        Ok(true)
    }

    /// Writes the content of the last entry.
    pub(super) fn payload<'s, 'a>(
        &'s mut self,
        out: &'s mut Hashed<Frames<'a>>,
    ) -> io::Result<PayloadWriter<'s, 'a>> {
        let frame = out.inner.cut()?;
        Ok(PayloadWriter {
            contents: self,
            cutter: Cutter::default(),
            parts: Parts {
                out,
                whole: Hasher::new(Algorithm::Sha256),
                chunk: Hasher::new(Algorithm::Sha256),
                crc: CRC.digest(),
                chunks: Vec::new(),
                frame,
                size: 0,
            },
        })
    }

    /// Writes the rows of entries whose frames end at places that are known.
    fn settle(&mut self, ends: &mut Ends) -> io::Result<()> {
        let count = ends.count();
        let is_done = |listed: &Listed| match &listed.payload {
            Some(payload) => payload.end <= count,
            None => listed.row.size == 0,
        };
        while let Some(listed) = self.listed.front().filter(|listed| is_done(listed)) {
            self.table.add(listed, ends)?;
            // The next one begins there at the earliest.
            ends.forget_before(listed.payload.as_ref().map_or(0, |payload| payload.end));
            self.listed.pop_front();
        }
        Ok(())
    }

    /// Bytes that belong to no entry: what fills up a block, and the end.
    pub(super) fn filling(&mut self, bytes: &[u8]) {
        self.split.filling(bytes);
    }

    /// Writes the frames behind the archive. Nothing, if the table is longer than any client reads.
    pub(super) fn finish(mut self, blob: &mut Blob<'_>) -> io::Result<Option<Annotations>> {
        self.settle(&mut blob.ends)?;
        let one = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let (split, split_length) = self.split.finish()?;
        let (table, table_length) = self.table.finish(&split.digest)?;
        drop(one);
        if table_length > TABLE_MAX || u32::try_from(split.length).is_err() {
            return Ok(None);
        }
        let (packed_length, packed_split) = (table.length, split.length);
        let (checksum, split_checksum) = (table.digest, split.digest);
        let table_at = table.append_to(&mut blob.out)?;
        let split_at = split.append_to(&mut blob.out)?;
        let numbers = [
            table_at,
            packed_length,
            table_length,
            TABLE_TYPE,
            split_at,
            packed_split,
            split_length,
        ];
        let mut footer: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        footer.extend(FOOTER_MAGIC);
        begin_skipped(&mut blob.out, footer.len() as u64)?;
        blob.out.write_all(&footer)?;
        Ok(Some(
            [
                ("manifest-checksum", checksum.to_string()),
                (
                    "manifest-position",
                    format!("{table_at}:{packed_length}:{table_length}:{TABLE_TYPE}"),
                ),
                // Clients before containers/storage 1.55 take the digest from here.
                ("tarsplit-checksum", split_checksum.to_string()),
                (
                    "tarsplit-position",
                    format!("{split_at}:{packed_split}:{split_length}"),
                ),
            ]
            .map(|(key, value)| (format!("{ANNOTATION}.{key}"), value))
            .into(),
        ))
    }
}

/// The table, compressed as it comes: JSON with a version, the entries, and the digest of tar-split.
struct Table {
    packer: Packer,
    /// The length before compression. Behind the longest table that clients read nothing is kept.
    length: u64,
    row: Vec<u8>,
    begun: bool,
}

impl Table {
    fn new(dir: &Path) -> io::Result<Self> {
        let mut table = Self {
            packer: Packer::new(dir)?,
            length: 0,
            row: Vec::new(),
            begun: false,
        };
        table.write(format!(r#"{{"version":{VERSION},"entries":["#).as_bytes())?;
        Ok(table)
    }

    /// Adds the rows of an entry, whose frames end where `ends` has it.
    fn add(&mut self, listed: &Listed, ends: &Ends) -> io::Result<()> {
        let mut text = std::mem::take(&mut self.row);
        for row in listed.rows(&|frame| ends.begin(frame)) {
            text.clear();
            if std::mem::replace(&mut self.begun, true) {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &row)?;
            self.write(&text)?;
        }
        self.row = text;
        Ok(())
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.length += text.len() as u64;
        match self.length > TABLE_MAX {
            true => Ok(()),
            false => self.packer.waiting.write_all(text),
        }
    }

    /// The compressed table, and its length before.
    fn finish(mut self, split: &Digest) -> io::Result<(Packed, u64)> {
        self.write(format!(r#"],"tarSplitDigest":"{split}"}}"#).as_bytes())?;
        Ok((self.packer.finish()?, self.length))
    }
}

fn row(path: &[u8], item: Item<'_>, metadata: &Metadata, time: Timestamp) -> Option<Row> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let nanoseconds = i32::try_from(time.nanoseconds).ok()?;
    if !YEARS.contains(&time.seconds) {
        return None;
    }
    let time = jiff::Timestamp::new(time.seconds, nanoseconds).ok()?;
    let (kind, link, size) = match item {
        Item::Directory => ("dir", &[][..], 0),
        Item::Regular(size) => ("reg", &[][..], size),
        // The clients know nothing of sparse entries.
        Item::Sparse(_) => return None,
        Item::HardLink(target) => ("hardlink", target, 0),
        Item::Symlink(target) => ("symlink", target, 0),
        Item::CharacterDevice(_) => ("char", &[][..], 0),
        Item::BlockDevice(_) => ("block", &[][..], 0),
        Item::Fifo => ("fifo", &[][..], 0),
    };
    let (major, minor) = match item {
        Item::CharacterDevice(device) | Item::BlockDevice(device) => (device.major, device.minor),
        _ => (0, 0),
    };
    let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| Some((text(name)?, STANDARD.encode(value)));
    Some(Row {
        kind,
        name: text(&tar::name(path, item))?,
        link: text(link)?,
        mode: metadata.mode.into(),
        size,
        uid: metadata.uid.into(),
        gid: metadata.gid.into(),
        time: Some(time.to_string()),
        major: major.into(),
        minor: minor.into(),
        xattrs: tar::xattrs(metadata)
            .iter()
            .map(xattr)
            .collect::<Option<_>>()?,
        ..Row::default()
    })
}

impl Listed {
    /// The row of the entry, and one for each further chunk. A large file has many: they are made one by one.
    fn rows(&self, offset: &impl Fn(usize) -> u64) -> impl Iterator<Item = Row> {
        let mut row = self.row.clone();
        let chunks = self.payload.as_ref().map_or(&[][..], |payload| {
            row.digest = Some(payload.digest);
            row.end_offset = offset(payload.end);
            &payload.chunks[..]
        });
        if let Some(first) = chunks.first() {
            row.offset = offset(first.frame);
        }
        // What is in one chunk has none in the table.
        if let [first, _, ..] = chunks {
            row = first.row(0, row, offset);
        }
        let mut at = 0;
        let others = chunks.windows(2).map(move |pair| {
            at += pair[0].size;
            let row = Row {
                kind: "chunk",
                name: self.row.name.clone(),
                ..Row::default()
            };
            pair[1].row(at, row, offset)
        });
        std::iter::once(row).chain(others)
    }
}

impl Chunk {
    /// The row with what it says of this chunk, which begins there in the file.
    fn row(&self, at: u64, row: Row, offset: &impl Fn(usize) -> u64) -> Row {
        Row {
            offset: offset(self.frame),
            chunk_size: self.size,
            chunk_offset: at,
            chunk_digest: Some(self.digest),
            chunk_type: if self.zeros { "zeros" } else { "" },
            ..row
        }
    }
}

/// Cuts the content of a file into chunks.
pub(super) struct PayloadWriter<'s, 'a> {
    contents: &'s mut Contents,
    cutter: Cutter,
    parts: Parts<'s, 'a>,
}

struct Parts<'s, 'a> {
    out: &'s mut Hashed<Frames<'a>>,
    whole: Hasher,
    chunk: Hasher,
    crc: crc::Digest<'static, u64, crc::Table<16>>,
    chunks: Vec<Chunk>,
    frame: usize,
    size: u64,
}

impl Parts<'_, '_> {
    fn take(&mut self, cut: Cut<'_>) -> io::Result<()> {
        match cut {
            Cut::Bytes(bytes) => {
                self.whole.update(bytes);
                self.chunk.update(bytes);
                self.crc.update(bytes);
                self.size += bytes.len() as u64;
                self.out.write_all(bytes)
            }
            Cut::End { zeros } => {
                let chunk = std::mem::replace(&mut self.chunk, Hasher::new(Algorithm::Sha256));
                let next = self.out.inner.cut()?;
                self.chunks.push(Chunk {
                    frame: std::mem::replace(&mut self.frame, next),
                    size: std::mem::take(&mut self.size),
                    digest: chunk.finish(),
                    zeros,
                });
                Ok(())
            }
        }
    }
}

impl PayloadWriter<'_, '_> {
    /// Ends the content.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.cutter.finish(&mut |cut| self.parts.take(cut))?;
        let payload = Payload {
            digest: self.parts.whole.finish(),
            crc: self.parts.crc.finalize(),
            chunks: self.parts.chunks,
            end: self.parts.frame,
        };
        if let Some(listed) = self.contents.listed.back_mut() {
            let (name, size) = (&listed.row.name, listed.row.size);
            self.contents.split.file(name, size, Some(payload.crc))?;
            listed.payload = Some(payload);
        }
        self.contents.settle(self.parts.out.inner.ends())
    }
}

impl Write for PayloadWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cutter.push(bytes, &mut |cut| self.parts.take(cut))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_without_content_do_not_wait_for_a_file_that_has_some() {
        let temp = tempfile::tempdir().unwrap();
        let mut contents = Contents::new(temp.path()).unwrap();
        let metadata = Metadata::default();
        for item in [Item::Regular(0), Item::Symlink(b"a"), Item::Directory] {
            let of_all = (&metadata, Timestamp::default());
            let listed = contents.entry(&[0; 512], b"b", item, of_all, &mut Ends::default());
            assert!(listed.unwrap());
            assert_eq!(contents.listed.len(), 0);
        }
        assert!(contents.table.begun);
    }

    #[test]
    fn each_chunk_of_a_file_has_a_row_and_what_is_in_one_chunk_has_one() {
        let chunk = |frame, zeros| Chunk {
            frame,
            size: 10,
            digest: Digest::sha256(&[]),
            zeros,
        };
        let rows = |chunks: Vec<Chunk>| -> Vec<_> {
            let payload = Payload {
                digest: Digest::sha256(&[]),
                crc: 0,
                end: 7,
                chunks,
            };
            let row = Row {
                kind: "reg",
                name: "a".to_owned(),
                ..Row::default()
            };
            let listed = Listed {
                row,
                payload: Some(payload),
            };
            let rows = listed.rows(&|frame| 100 * frame as u64);
            rows.map(|row| {
                assert_eq!(row.name, "a");
                let end = (row.digest.is_some(), row.end_offset);
                let place = (row.offset, row.chunk_offset, row.chunk_size);
                (row.kind, end, place, row.chunk_type)
            })
            .collect()
        };
        let one = rows(vec![chunk(3, false)]);
        assert_eq!(one, [("reg", (true, 700), (300, 0, 0), "")]);
        let three = rows(vec![chunk(3, false), chunk(4, true), chunk(6, false)]);
        let expected = [
            ("reg", (true, 700), (300, 0, 10), ""),
            ("chunk", (false, 0), (400, 10, 10), "zeros"),
            ("chunk", (false, 0), (600, 20, 10), ""),
        ];
        assert_eq!(three, expected);
    }
}
