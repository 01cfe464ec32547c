//! Making a stream.

use std::collections::BTreeMap;
use std::io::{self, Write};

use hull_erofs::ObjectId;
use zstd::stream::write::Encoder;

use super::format::{HEADER_LEN, INFO_LEN, Info, Range, write_header};
use super::spool::Spool;
use super::table::Table;
use crate::error::{During, StoreError};
use crate::object::ObjectWriter;
use crate::store::Store;

/// Inline bytes that are collected before they become a chunk, where the stream
/// stands at a multiple of [`ALIGNMENT`].
const CHUNK: usize = 4 * 1024 * 1024;
/// Where it does not: the most that is ever collected.
const CHUNK_MAX: usize = 4 * CHUNK;
/// Readers of tar files take a header, or a file and its padding, from one
/// chunk; those end at such multiples.
const ALIGNMENT: u64 = 512;
/// What zstd calls the default level, as upstream uses.
const LEVEL: i32 = 0;

/// Makes a stream from pieces in their order; [`crate::Session::put_stream`]
/// puts it into the store.
///
/// Its memory is bounded: inline bytes are compressed as they come, and go to a file without
/// a name once they are many; so do the names of objects. Same pieces, same bytes.
#[derive(Debug)]
pub struct StreamBuilder {
    content_type: u64,
    inline: Vec<u8>,
    /// The length of the original file so far.
    length: u64,
    objects: Table,
    targets: Table,
    /// Names to indices into `targets`.
    named: BTreeMap<Box<str>, u32>,
    chunks: Compressor,
}

impl StreamBuilder {
    pub(crate) fn new(store: &Store, content_type: u64) -> Self {
        let table = || Table::new(store);
        Self {
            content_type,
            inline: Vec::new(),
            length: 0,
            objects: table(),
            targets: table(),
            named: BTreeMap::new(),
            chunks: Compressor::new(store.clone()),
        }
    }

    /// The length of the original file so far, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes of the original file that the stream itself holds.
    ///
    /// The bytes of one call stay together for readers, up to 16 MiB: pass a
    /// record together with its padding.
    pub fn inline(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let full = self.inline.len() >= CHUNK && self.length.is_multiple_of(ALIGNMENT);
        if full || self.inline.len() + bytes.len() > CHUNK_MAX {
            self.flush()?;
        }
        let mut bytes = bytes;
        while bytes.len() > CHUNK_MAX {
            let (now, rest) = bytes.split_at(CHUNK_MAX);
            self.length += length(now);
            self.inline.extend_from_slice(now);
            self.flush()?;
            bytes = rest;
        }
        self.length += length(bytes);
        self.inline.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds the content of an object of `size` bytes.
    pub fn object(&mut self, id: &ObjectId, size: u64) -> Result<(), StoreError> {
        self.flush()?;
        let index = self.objects.index_of(id).during(writing)?;
        self.length = self.length.saturating_add(size);
        self.chunks.write(&i64::from(index).to_le_bytes())
    }

    /// Makes the stream keep an object that is no part of the original file.
    pub fn reference(&mut self, id: &ObjectId) -> Result<(), StoreError> {
        self.objects.index_of(id).during(writing).map(drop)
    }

    /// Makes the stream keep another stream or an image, by its object, under a
    /// name that readers find it by; one name has one target, the last.
    ///
    /// # Errors
    ///
    /// A name with a NUL, or longer than 4096 bytes.
    pub fn name(&mut self, name: &str, target: &ObjectId) -> Result<(), StoreError> {
        if name.len() > super::reader::MAX_NAME || name.contains('\0') {
            return Err(StoreError::InvalidName {
                what: "named reference of a stream",
                name: name.chars().take(300).collect(),
                reason: "it has a NUL or more than 4096 bytes",
            });
        }
        let index = self.targets.index_of(target).during(writing)?;
        self.named.insert(name.into(), index);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.inline.is_empty() {
            return Ok(());
        }
        let length = i64::try_from(self.inline.len())
            .expect("a chunk is limited to far less than 2^63 bytes");
        self.chunks.write(&(-length).to_le_bytes())?;
        self.chunks.write(&self.inline)?;
        self.inline.clear();
        Ok(())
    }

    /// Writes the file. The sections are in upstream's order, so that the same
    /// stream is the same object whoever writes it.
    pub(crate) fn write_to(mut self, out: &mut ObjectWriter<'_>) -> Result<(), StoreError> {
        self.flush()?;
        let named = named_references(&self.named).during(writing)?;
        let spool = self.chunks.finish()?;

        let mut at = 0;
        let mut section = |length: u64| {
            let start = at;
            at += length;
            Range { start, end: at }
        };
        section(HEADER_LEN as u64);
        let info = section(INFO_LEN as u64);
        let stream_refs = section(self.targets.byte_length());
        let object_refs = section(self.objects.byte_length());
        let named_refs = section(length(&named));
        let stream = section(spool.length());

        let mut head = write_header(info);
        Info {
            stream_refs,
            object_refs,
            stream,
            named_refs,
            content_type: self.content_type,
            stream_size: self.length,
        }
        .write(&mut head);
        out.append(&head)?;
        self.targets.copy_to(out)?;
        self.objects.copy_to(out)?;
        out.append(&named)?;
        spool.copy_to(out)
    }
}

pub(super) fn writing() -> String {
    "writing a stream".to_owned()
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits in 64 bits")
}

fn named_references(named: &BTreeMap<Box<str>, u32>) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new(), LEVEL)?;
    for (name, index) in named {
        write!(encoder, "{index}:{name}\0")?;
    }
    encoder.finish()
}

/// Compresses the chunks. The encoder is made at the first write, since making
/// it can fail.
struct Compressor {
    store: Store,
    encoder: Option<Encoder<'static, Spool>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    fn new(store: Store) -> Self {
        Self {
            store,
            encoder: None,
        }
    }

    fn encoder(&mut self) -> io::Result<&mut Encoder<'static, Spool>> {
        if self.encoder.is_none() {
            self.encoder = Some(Encoder::new(Spool::new(self.store.clone()), LEVEL)?);
        }
        Ok(self.encoder.as_mut().expect("it was made above"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.encoder()
            .and_then(|encoder| encoder.write_all(bytes))
            .during(writing)
    }

    fn finish(mut self) -> Result<Spool, StoreError> {
        self.encoder().during(writing)?;
        let encoder = self.encoder.expect("it was made above");
        encoder.finish().during(writing)
    }
}
