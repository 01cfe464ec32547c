//! Reading a stream. Its bytes may be anybody's: every length is checked, and
//! memory is bounded by the length of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take, Write};
use std::os::unix::fs::FileExt;

use hull_erofs::ObjectId;
use zstd::stream::read::Decoder;

use super::format::{HEADER_LEN, INFO_LEN, Info, Range, parse_header};
use super::{StreamError, StreamFault};
use crate::error::StoreError;
use crate::store::Store;

/// The longest name of a named reference in bytes.
pub(super) const MAX_NAME: usize = 4096;
/// All named references together, uncompressed. An image of 1000 layers has
/// less than 200 KiB of them.
const MAX_NAMES: u64 = 16 * 1024 * 1024;
/// A window of 128 MiB; streams are written with far less.
const WINDOW_LOG_MAX: u32 = 27;
/// The most that is handed out at once.
const PIECE: usize = 64 * 1024;

/// A piece of the original file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes that the stream itself holds: 1 to 65,536 of them. A long run comes
    /// as several pieces.
    Inline(&'a [u8]),
    /// The content of this object.
    Object(ObjectId),
}

/// What a stream refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) objects: Vec<ObjectId>,
    pub(crate) named: BTreeMap<Box<str>, ObjectId>,
}

/// Reads a stream: its named references at once, the rest piece by piece.
pub struct StreamReader {
    object: ObjectId,
    content_type: u64,
    length: u64,
    named: BTreeMap<Box<str>, ObjectId>,
    objects: ObjectList,
    chunks: Decoder<'static, BufReader<Take<File>>>,
    /// Inline bytes of the current chunk that were not handed out yet.
    inline_left: u64,
    /// Inline bytes seen so far, for the check against `length`.
    inline_seen: u64,
    piece: Vec<u8>,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader")
            .field("object", &self.object)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl StreamReader {
    /// Reads the head of the stream in `file`, which is the object of this name.
    pub fn open(file: File, object: ObjectId) -> Result<Self, StreamError> {
        Self::parse(file, object).map_err(|fault| StreamError { object, fault })
    }

    fn parse(mut file: File, object: ObjectId) -> Result<Self, StreamFault> {
        let (info, named) = parse_head(&file)?;
        let objects = ObjectList::open(&file, info.object_refs)?;
        let length = info.stream.within(file.metadata()?.len(), "stream")?;
        file.seek(SeekFrom::Start(info.stream.start))?;
        let mut chunks = Decoder::new(file.take(length))?;
        chunks.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self {
            object,
            content_type: info.content_type,
            length: info.stream_size,
            named,
            objects,
            chunks,
            inline_left: 0,
            inline_seen: 0,
            piece: vec![0; PIECE],
        })
    }

    /// The number that the writer gave to the kind of content.
    pub fn content_type(&self) -> u64 {
        self.content_type
    }

    /// Fails unless the content is of this kind.
    pub fn require_content_type(&self, expected: u64) -> Result<(), StreamError> {
        if self.content_type == expected {
            Ok(())
        } else {
            Err(self.damaged(StreamFault::ContentType {
                found: self.content_type,
                expected,
            }))
        }
    }

    /// The length of the original file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The objects that the stream keeps, in the order of their first use: 64 bytes for each.
    pub fn objects(&self) -> Result<Vec<ObjectId>, StreamError> {
        self.objects.all().map_err(|fault| self.damaged(fault))
    }

    /// The target of a named reference.
    pub fn named(&self, name: &str) -> Option<&ObjectId> {
        self.named.get(name)
    }

    /// All named references, sorted by name.
    pub fn names(&self) -> impl Iterator<Item = (&str, &ObjectId)> {
        self.named.iter().map(|(name, id)| (&**name, id))
    }

    /// The next piece of the original file; `None` after the last.
    ///
    /// # Errors
    ///
    /// Damage; among that, more inline bytes than the whole file should have.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, StreamError> {
        if self.inline_left == 0 {
            match self
                .next_instruction()
                .map_err(|fault| self.damaged(fault))?
            {
                Instruction::End => return Ok(None),
                Instruction::Object(id) => return Ok(Some(Chunk::Object(id))),
                Instruction::Inline(length) => self.inline_left = length,
            }
        }
        let count = usize::try_from(self.inline_left).map_or(PIECE, |left| left.min(PIECE));
        let read = self.chunks.read_exact(&mut self.piece[..count]);
        read.map_err(|error| self.damaged(error.into()))?;
        self.inline_left -= count as u64;
        Ok(Some(Chunk::Inline(&self.piece[..count])))
    }

    fn next_instruction(&mut self) -> Result<Instruction, StreamFault> {
        let mut bytes = [0; 8];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.chunks.read(&mut bytes[filled..])? {
                0 if filled == 0 => return Ok(Instruction::End),
                0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                count => filled += count,
            }
        }
        let value = i64::from_le_bytes(bytes);
        match u64::try_from(value) {
            Ok(index) => self.objects.at(index).map(Instruction::Object),
            Err(_) => self
                .take_inline(value.unsigned_abs())
                .map(Instruction::Inline),
        }
    }

    /// Counts inline bytes before any of them is decompressed.
    fn take_inline(&mut self, length: u64) -> Result<u64, StreamFault> {
        self.inline_seen = self.inline_seen.saturating_add(length);
        if self.inline_seen > self.length {
            return Err(StreamFault::Length {
                found: self.inline_seen,
                expected: self.length,
            });
        }
        Ok(length)
    }

    /// Writes the original file to `out`: the bytes that the stream was made of.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] names an object that is not there; damage is
    /// found at the latest at the end, when the length does not fit.
    pub fn copy_to(&mut self, store: &Store, out: &mut impl Write) -> Result<(), StoreError> {
        let stream = self.object;
        let writing = |error| StoreError::io(format!("writing out stream object {stream}"), error);
        let mut written: u64 = 0;
        while let Some(chunk) = self.next_chunk()? {
            match chunk {
                Chunk::Inline(bytes) => {
                    written += bytes.len() as u64;
                    out.write_all(bytes).map_err(writing)?;
                }
                Chunk::Object(id) => {
                    let left = self.length.saturating_sub(written);
                    // One byte more than there can be shows that it is too long.
                    let mut object = store.open_object(&id)?.take(left.saturating_add(1));
                    written += std::io::copy(&mut object, out).map_err(writing)?;
                }
            }
            self.check_length(written, written <= self.length)?;
        }
        self.check_length(written, written == self.length)
    }

    fn check_length(&self, found: u64, fits: bool) -> Result<(), StoreError> {
        if fits {
            return Ok(());
        }
        let expected = self.length;
        Err(self.damaged(StreamFault::Length { found, expected }).into())
    }

    fn damaged(&self, fault: StreamFault) -> StreamError {
        StreamError {
            object: self.object,
            fault,
        }
    }
}

enum Instruction {
    End,
    Inline(u64),
    Object(ObjectId),
}

impl References {
    /// Reads what the stream in `file` refers to, and nothing of its content.
    pub(crate) fn read(file: &File, object: ObjectId) -> Result<Self, StreamError> {
        let read = || {
            let (info, named) = parse_head(file)?;
            let objects = ObjectList::open(file, info.object_refs)?.all()?;
            Ok(Self { objects, named })
        };
        read().map_err(|fault| StreamError { object, fault })
    }
}

/// The list of a stream's objects, of which a window is in memory. It only moves on: first
/// uses come in the order of the list, and what was used before is looked up by itself.
struct ObjectList {
    file: File,
    start: u64,
    count: u64,
    window: Vec<ObjectId>,
    window_start: u64,
}

/// How many objects are read at once.
const WINDOW: u64 = 4096;

impl ObjectList {
    fn open(file: &File, range: Range) -> Result<Self, StreamFault> {
        let section = "object references";
        let length = range.within(file.metadata()?.len(), section)?;
        if length % ObjectId::LEN as u64 != 0 {
            return Err(StreamFault::SectionLength { section, length });
        }
        Ok(Self {
            file: file.try_clone()?,
            start: range.start,
            count: length / ObjectId::LEN as u64,
            window: Vec::new(),
            window_start: 0,
        })
    }

    fn at(&mut self, index: u64) -> Result<ObjectId, StreamFault> {
        if index >= self.count {
            let count = usize::try_from(self.count).unwrap_or(usize::MAX);
            return Err(StreamFault::ObjectIndex { index, count });
        }
        if index >= self.window_start + self.window.len() as u64 {
            self.window = self.read(index, WINDOW.min(self.count - index))?;
            self.window_start = index;
        }
        let in_window = index.checked_sub(self.window_start);
        let in_window = in_window.and_then(|index| self.window.get(usize::try_from(index).ok()?));
        if let Some(id) = in_window {
            return Ok(*id);
        }
        let mut bytes = [0; ObjectId::LEN];
        let place = self.start + index * ObjectId::LEN as u64;
        self.file.read_exact_at(&mut bytes, place)?;
        Ok(ObjectId::from_bytes(bytes))
    }

    fn all(&self) -> Result<Vec<ObjectId>, StreamFault> {
        self.read(0, self.count)
    }

    fn read(&self, index: u64, count: u64) -> Result<Vec<ObjectId>, StreamFault> {
        let start = self.start + index * ObjectId::LEN as u64;
        let end = start + count * ObjectId::LEN as u64;
        read_digests(&self.file, Range { start, end }, end, "object references")
    }
}

fn parse_head(file: &File) -> Result<(Info, BTreeMap<Box<str>, ObjectId>), StreamFault> {
    let length = file.metadata()?.len();
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)?;
    let range = parse_header(&header)?;
    // It may grow one day: what is behind the known part is ignored.
    let info_length = range.within(length, "info")?;
    if info_length < INFO_LEN as u64 {
        return Err(StreamFault::SectionLength {
            section: "info",
            length: info_length,
        });
    }
    let mut info = [0; INFO_LEN];
    file.read_exact_at(&mut info, range.start)?;
    let info = Info::parse(&info);
    let targets = read_digests(file, info.stream_refs, length, "stream references")?;
    let named = read_section(file, info.named_refs, length, "named references")?;
    let named = parse_named(&named, &targets)?;
    Ok((info, named))
}

/// Reads a section into memory; it is never longer than the file.
fn read_section(
    file: &File,
    range: Range,
    length: u64,
    section: &'static str,
) -> Result<Vec<u8>, StreamFault> {
    let count = range.within(length, section)?;
    let impossible = StreamFault::SectionLength {
        section,
        length: count,
    };
    let count = usize::try_from(count).map_err(|_| impossible)?;
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

fn read_digests(
    file: &File,
    range: Range,
    length: u64,
    section: &'static str,
) -> Result<Vec<ObjectId>, StreamFault> {
    let bytes = read_section(file, range, length, section)?;
    let (digests, rest) = bytes.as_chunks();
    if rest.is_empty() {
        Ok(digests.iter().copied().map(ObjectId::from_bytes).collect())
    } else {
        Err(StreamFault::SectionLength {
            section,
            length: bytes.len() as u64,
        })
    }
}

fn parse_named(
    compressed: &[u8],
    targets: &[ObjectId],
) -> Result<BTreeMap<Box<str>, ObjectId>, StreamFault> {
    let fault = StreamFault::NamedReferences;
    let mut decoder = Decoder::new(compressed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let text = hull_sys::dir::read_at_most(decoder, MAX_NAMES)?;
    let mut named = BTreeMap::new();
    let Some((last, records)) = text.split_last() else {
        return Ok(named);
    };
    if *last != 0 {
        return Err(fault("the last one is cut off"));
    }
    for record in records.split(|&byte| byte == 0) {
        let record = std::str::from_utf8(record).map_err(|_| fault("one is not UTF-8"))?;
        let (index, name) = record.split_once(':').ok_or(fault("one has no colon"))?;
        let index: usize = index.parse().map_err(|_| fault("one has no number"))?;
        let target = targets
            .get(index)
            .ok_or(fault("one leads to a number that is not listed"))?;
        named.insert(name.into(), *target);
    }
    Ok(named)
}
