//! From an uncompressed layer to objects and a record, in one pass.
//!
//! What the record holds:
//!
//! | in the archive | in the record |
//! |---|---|
//! | headers, maps of sparse files, padding, the end | inline, as they are |
//! | data of a file, up to 64 bytes | inline with its padding |
//! | longer data of a file | an object |
//! | data of a sparse file | as data of any file, without the holes |
//!
//! This is what composefs-rs makes of the same layer, so its tools read our
//! records; it refuses sparse files. Their expanded content is an object too,
//! which the record refers to by the name `sparse:N` for the Nth of them. So
//! a sparse file's data is kept twice, for the archive and for the image: such
//! files are rare in images, and small.

use std::io::{self, Read};
use std::sync::Arc;

use hull_erofs::tree::INLINE_MAX;
use hull_store::stream::StreamBuilder;
use hull_store::{ObjectId, ObjectWriter, SEGMENT, Session, StoreError, UnlinkedStream};

use super::entry::Budget;
use super::ledger::{Ledger, storing};
use super::memory::{BUFFER, Memory, Piece};
use super::path::EntryName;
use super::record::{CONTENT_TYPE, record_name, sparse_name};
use super::tar::{BLOCK, Input, Kind, Member, Members, Next, SparseMap, TarError};
use super::workers::{self, Work, Workers};
use crate::Digest;

/// The most bytes behind the end of the archive. Programs pad with zeros up to 1 MiB.
const TRAILER_MAX: u64 = 64 * 1024 * 1024;
/// The most sparse files of a layer.
const SPARSE_MAX: u64 = 100_000;

/// Why a layer cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The layer is not a tar archive that hull takes, or cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A file's content could not be stored.
    #[error("storing the content of {entry}")]
    Content {
        /// The file.
        entry: EntryName,
        /// Why.
        source: Box<StoreError>,
    },
    /// The record could not be written.
    #[error("writing the record of a layer")]
    Record(#[from] StoreError),
}

/// A layer whose objects are in the store and whose record has no name yet.
///
/// Dropped, it leaves objects that the next collection takes.
#[derive(Debug)]
#[must_use = "the layer is lost without its record"]
pub struct Imported {
    record: StreamBuilder,
    entries: u64,
}

impl Imported {
    /// The length of the uncompressed layer in bytes.
    pub fn length(&self) -> u64 {
        self.record.length()
    }

    /// How many entries the layer has.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Names the record after the blob that the layer came from, whose digest the caller has checked by now.
    ///
    /// On return the record and all its objects are on disk.
    pub fn commit(self, session: &Session, blob: &Digest) -> Result<ObjectId, StoreError> {
        session.put_stream(&record_name(blob), self.record)
    }

    /// Puts the record into the store, to be named after the blob, whose digest the caller has checked by now.
    pub(crate) fn put(
        self,
        session: &Session,
        blob: &Digest,
    ) -> Result<UnlinkedStream, StoreError> {
        session.put_unlinked_stream(&record_name(blob), self.record)
    }
}

/// Where the bytes of an uncompressed layer come from.
pub(crate) trait Feed {
    /// The next bytes; none at the end.
    fn next(&mut self) -> io::Result<Option<Piece>>;
}

/// A layer that is read by the thread that imports it.
struct Direct<'a> {
    reader: &'a mut dyn Read,
    memory: Arc<Memory>,
}

impl Feed for Direct<'_> {
    fn next(&mut self) -> io::Result<Option<Piece>> {
        self.memory.read(self.reader)
    }
}

/// Reads an uncompressed layer to its end, and puts the contents of its files into the store.
///
/// Memory is bounded whatever the layer holds. Nothing in the store refers to
/// the layer before [`Imported::commit`].
pub fn import(session: &Session, tar: &mut dyn Read) -> Result<Imported, ImportError> {
    workers::run(session, 1, |workers| {
        let memory = Arc::clone(workers.memory());
        let mut feed = Direct {
            reader: tar,
            memory,
        };
        import_with(workers, &mut feed)
    })
}

/// The same for one of several layers, whose contents go into the store through threads
/// that they share.
pub(crate) fn import_with(
    workers: &Workers<'_>,
    feed: &mut dyn Feed,
) -> Result<Imported, ImportError> {
    let mut importer = Importer {
        workers,
        members: Members::new(TarInput::new(feed)),
        ledger: Ledger::new(workers.session().stream(CONTENT_TYPE)),
        batch: Batch::default(),
        budget: Budget::default(),
        sparse: 0,
    };
    loop {
        let member = importer.members.next()?;
        importer.ledger.inline(importer.members.raw())?;
        let Some(member) = member else { break };
        importer.budget.spend(&member)?;
        importer.content(&member)?;
        importer.settle()?;
    }
    importer.trailer()?;
    importer.flush();
    Ok(Imported {
        record: importer.ledger.finish()?,
        entries: importer.budget.entries,
    })
}

/// Small contents that go to a thread together.
#[derive(Default)]
struct Batch {
    contents: Vec<(u64, Vec<Piece>)>,
    bytes: u64,
    /// The buffer of the layer that the first one began in.
    since: u64,
}

impl Batch {
    const BYTES: u64 = 128 << 10;
    const CONTENTS: usize = 64;
    /// Buffers that are not free before the batch is done.
    const BUFFERS: u64 = 2;

    fn is_due(&self, buffer: u64) -> bool {
        self.bytes >= Self::BYTES
            || self.contents.len() >= Self::CONTENTS
            || (!self.contents.is_empty() && buffer - self.since >= Self::BUFFERS)
    }
}

struct Importer<'a, 's> {
    workers: &'a Workers<'s>,
    members: Members<TarInput<'a>>,
    ledger: Ledger,
    batch: Batch,
    budget: Budget,
    /// Sparse files with an object of their own so far.
    sparse: u64,
}

impl<'s> Importer<'_, 's> {
    /// Takes the data of an entry and its padding.
    fn content(&mut self, member: &Member) -> Result<(), ImportError> {
        let mut expansion = match &member.kind {
            Kind::Sparse(map) => self.expansion(map)?,
            _ => None,
        };
        if member.stored <= INLINE_MAX as u64 {
            self.inline_data(member, expansion.as_mut())?;
        } else {
            match &mut expansion {
                Some(expansion) => self.object_twice(member, expansion)?,
                None if member.stored <= SEGMENT as u64 => self.whole_object(member)?,
                None => self.object_in_segments(member)?,
            }
            self.padding(member)?;
        }
        if let Some(expansion) = expansion {
            let id = expansion
                .finish()
                .map_err(|source| storing(&member.path.to_name(), source))?;
            self.ledger.record.name(&sparse_name(self.sparse), &id)?;
            self.sparse += 1;
        }
        Ok(())
    }

    fn inline_data(
        &mut self,
        member: &Member,
        expansion: Option<&mut Expansion<'_>>,
    ) -> Result<(), ImportError> {
        if member.stored == 0 {
            return Ok(());
        }
        let mut block = [0; BLOCK];
        let size = usize::try_from(member.stored).expect("it is at most 64");
        self.members.take(member, &mut block[..size])?;
        let padding = self.members.take_padding(member, &mut block[size..])?;
        self.ledger.inline(&block[..size + padding])?;
        if let Some(expansion) = expansion {
            expansion
                .write(&block[..size])
                .map_err(|source| storing(&member.path.to_name(), source))?;
        }
        Ok(())
    }

    fn whole_object(&mut self, member: &Member) -> Result<(), ImportError> {
        if self.batch.contents.is_empty() {
            self.batch.since = self.members.input.buffers;
        }
        let pieces = self.pieces(member, member.stored)?;
        let ticket = self.ledger.object(member.stored, member.path.to_name());
        self.batch.contents.push((ticket, pieces));
        self.batch.bytes += member.stored;
        Ok(())
    }

    fn object_in_segments(&mut self, member: &Member) -> Result<(), ImportError> {
        self.flush();
        let assembly = self.workers.session().assemble(member.stored);
        let assembly = assembly.map_err(|source| storing(&member.path.to_name(), source))?;
        let assembly = Arc::new(assembly);
        let ticket = self.ledger.object(member.stored, member.path.to_name());
        for place in 0..member.stored.div_ceil(SEGMENT as u64) {
            let left = member.stored - place * SEGMENT as u64;
            let work = Work::Segment {
                ticket,
                assembly: Arc::clone(&assembly),
                place,
                pieces: self.pieces(member, left.min(SEGMENT as u64))?,
            };
            self.workers.put(work, self.ledger.sender());
            self.ledger.settle_ready()?;
        }
        Ok(())
    }

    /// The object of a sparse file's data as the archive has it, and that of the file.
    fn object_twice(
        &mut self,
        member: &Member,
        expansion: &mut Expansion<'_>,
    ) -> Result<(), ImportError> {
        let entry = member.path.to_name();
        let mut writer = self.workers.session().writer();
        let mut left = member.stored;
        while left > 0 {
            let pieces = self.pieces(member, left.min(BUFFER as u64))?;
            let has_room = self.workers.guard().check_room(self.workers.session());
            has_room.map_err(|source| storing(&entry, source))?;
            for piece in &pieces {
                let bytes = piece.as_ref();
                writer
                    .append(bytes)
                    .and_then(|()| expansion.write(bytes))
                    .map_err(|source| storing(&entry, source))?;
                left -= bytes.len() as u64;
            }
        }
        let (id, _) = writer.finish().map_err(|source| storing(&entry, source))?;
        self.ledger.known_object(id, member.stored, entry)
    }

    /// The next bytes of a member's data, at most a segment of them.
    fn pieces(&mut self, member: &Member, count: u64) -> Result<Vec<Piece>, TarError> {
        let count = usize::try_from(count).expect("a segment is in memory");
        let mut pieces = Vec::with_capacity(1 + count / BUFFER);
        let left = count - self.members.take_peeked(count, &mut pieces);
        let taken = self.members.input.pieces(left, &mut pieces);
        self.members.count_data(member, left, taken)?;
        Ok(pieces)
    }

    fn padding(&mut self, member: &Member) -> Result<(), ImportError> {
        let used = usize::try_from(member.stored % BLOCK as u64).expect("it is below 512");
        if used > 0 {
            let mut block = [0; BLOCK];
            let padding = &mut block[used..];
            let count = self.members.take_padding(member, padding)?;
            self.ledger.inline(&padding[..count])?;
        }
        Ok(())
    }

    /// Hands on what is due, and takes what is done; waits where much is on its way.
    fn settle(&mut self) -> Result<(), ImportError> {
        if self.batch.is_due(self.members.input.buffers) {
            self.flush();
        }
        self.ledger.settle_ready()?;
        while self.ledger.is_full() {
            self.flush();
            self.ledger.settle_some()?;
        }
        Ok(())
    }

    fn flush(&mut self) {
        let Batch { contents, .. } = std::mem::take(&mut self.batch);
        if !contents.is_empty() {
            self.workers
                .put(Work::Contents(contents), self.ledger.sender());
        }
    }

    /// Begins the object of a sparse file; nothing if the image keeps the file inline.
    fn expansion(&mut self, map: &SparseMap) -> Result<Option<Expansion<'s>>, TarError> {
        self.workers.guard().count_holes(map.holes())?;
        if map.size <= INLINE_MAX as u64 {
            return Ok(None);
        }
        if self.sparse == SPARSE_MAX {
            return Err(TarError::TooMuch {
                what: "sparse files",
                limit: SPARSE_MAX,
            });
        }
        Ok(Some(Expansion::new(self.workers.session().writer(), map)))
    }

    /// Keeps what follows the end of the archive: it is part of the layer's bytes, and of no entry.
    fn trailer(&mut self) -> Result<(), ImportError> {
        let mut length = 0;
        loop {
            let offset = self.members.offset() + length;
            let piece = self.members.input.rest();
            let piece = piece.map_err(|source| TarError::Read { offset, source })?;
            let Some(piece) = piece else { return Ok(()) };
            length += piece.len() as u64;
            if length > TRAILER_MAX {
                let what = "bytes behind the end of its archive";
                return Err(TarError::TooMuch {
                    what,
                    limit: TRAILER_MAX,
                }
                .into());
            }
            self.ledger.inline(piece.as_ref())?;
            self.settle()?;
        }
    }
}

/// The content of a sparse file with its holes, on the way into the store.
struct Expansion<'s> {
    writer: ObjectWriter<'s>,
    segments: std::vec::IntoIter<(u64, u64)>,
    size: u64,
    /// Bytes written so far.
    at: u64,
    /// Bytes of the current segment that are still to come.
    left: u64,
}

impl<'s> Expansion<'s> {
    fn new(writer: ObjectWriter<'s>, map: &SparseMap) -> Self {
        Self {
            writer,
            segments: map.segments.clone().into_iter(),
            size: map.size,
            at: 0,
            left: 0,
        }
    }

    /// Takes in the next bytes as the archive packs them; no more than the map has.
    fn write(&mut self, packed: &[u8]) -> Result<(), StoreError> {
        let mut rest = packed;
        while !rest.is_empty() {
            if self.left == 0 {
                let Some((offset, length)) = self.segments.next() else {
                    break;
                };
                self.zeros_to(offset)?;
                self.left = length;
            }
            let count = usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
            let (now, after) = rest.split_at(count);
            self.writer.append(now)?;
            self.at += count as u64;
            self.left -= count as u64;
            rest = after;
        }
        Ok(())
    }

    fn zeros_to(&mut self, end: u64) -> Result<(), StoreError> {
        self.writer.append_zeros(end.saturating_sub(self.at))?;
        self.at = self.at.max(end);
        Ok(())
    }

    fn finish(mut self) -> Result<ObjectId, StoreError> {
        self.zeros_to(self.size)?;
        self.writer.finish().map(|(id, _)| id)
    }
}

/// An archive as it comes in.
struct TarInput<'a> {
    feed: &'a mut dyn Feed,
    /// What was not taken yet of the last piece.
    piece: Option<Piece>,
    /// How many pieces came so far.
    buffers: u64,
}

impl<'a> TarInput<'a> {
    fn new(feed: &'a mut dyn Feed) -> Self {
        Self {
            feed,
            piece: None,
            buffers: 0,
        }
    }

    /// Makes sure that there are bytes; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        while self.piece.as_ref().is_none_or(|piece| piece.len() == 0) {
            // A used one is free before the next is waited for.
            self.piece = None;
            match self.feed.next()? {
                None => return Ok(false),
                piece => self.piece = piece,
            }
            self.buffers += 1;
        }
        Ok(true)
    }

    /// All that is there; nothing at the end.
    fn rest(&mut self) -> io::Result<Option<Piece>> {
        self.fill()?;
        Ok(self.piece.take())
    }

    /// Copies the next bytes; says how many, which are fewer than fit only at the end.
    fn up_to(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() && self.fill()? {
            let piece = self.piece.as_mut().expect("it was filled");
            let there = piece.as_ref();
            let count = there.len().min(bytes.len() - done);
            bytes[done..done + count].copy_from_slice(&there[..count]);
            piece.advance(count);
            done += count;
        }
        Ok(done)
    }

    /// Takes the next `count` bytes as they are.
    fn pieces(&mut self, count: usize, pieces: &mut Vec<Piece>) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let piece = self.piece.as_mut().expect("it was filled");
            let front = piece.split_to(left);
            left -= front.len();
            pieces.push(front);
        }
        Ok(())
    }
}

impl Input for TarInput<'_> {
    fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<Next> {
        // Nothing more is the end; less than a block is not.
        if !self.fill()? {
            return Ok(Next::End);
        }
        self.data(block)?;
        Ok(Next::Block)
    }

    fn data(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self.up_to(bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn padding(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.up_to(bytes)
    }
}
