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

use std::io::{self, BufRead, BufReader, Read};

use hull_erofs::tree::INLINE_MAX;
use hull_store::stream::StreamBuilder;
use hull_store::{ObjectId, ObjectWriter, Session, StoreError};

use super::entry::Budget;
use super::path::EntryName;
use super::record::{CONTENT_TYPE, record_name, sparse_name};
use super::tar::{BLOCK, Input, Kind, Member, Members, Next, SparseMap, TarError};
use crate::Digest;

/// Data up to this many bytes is put into the store from memory.
const IN_MEMORY: u64 = 128 * 1024;
/// The unit in which longer data is handed on.
const BUFFER: usize = 128 * 1024;
/// The most bytes behind the end of the archive. Programs pad with zeros up to 1 MiB.
const TRAILER_MAX: u64 = 64 * 1024 * 1024;
/// The most bytes that all sparse files of a layer may leave out: those are hashed as well.
const HOLES_MAX: u64 = 64 * 1024 * 1024 * 1024;
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
}

/// Reads an uncompressed layer to its end, and puts the contents of its files into the store.
///
/// Memory is bounded whatever the layer holds. Nothing in the store refers to
/// the layer before [`Imported::commit`].
pub fn import(session: &Session, tar: &mut dyn Read) -> Result<Imported, ImportError> {
    let mut importer = Importer {
        session,
        members: Members::new(TarInput(BufReader::with_capacity(BUFFER, tar))),
        record: session.stream(CONTENT_TYPE),
        budget: Budget::default(),
        holes: 0,
        sparse: 0,
        buffer: Vec::new(),
    };
    loop {
        let member = importer.members.next()?;
        importer.record.inline(importer.members.raw())?;
        let Some(member) = member else { break };
        importer.budget.spend(&member)?;
        importer.content(&member)?;
    }
    importer.trailer()?;
    Ok(Imported {
        record: importer.record,
        entries: importer.budget.entries,
    })
}

struct Importer<'a> {
    session: &'a Session,
    members: Members<TarInput<'a>>,
    record: StreamBuilder,
    budget: Budget,
    /// Bytes of holes so far.
    holes: u64,
    /// Sparse files with an object of their own so far.
    sparse: u64,
    buffer: Vec<u8>,
}

impl<'a> Importer<'a> {
    /// Takes the data of an entry and its padding.
    fn content(&mut self, member: &Member) -> Result<(), ImportError> {
        let mut expansion = match &member.kind {
            Kind::Sparse(map) => self.expansion(map)?,
            _ => None,
        };
        if member.stored <= INLINE_MAX as u64 {
            self.inline_data(member, expansion.as_mut())?;
        } else {
            let id = match &mut expansion {
                None if member.stored <= IN_MEMORY => self.object_from_memory(member)?,
                expansion => self.object_in_pieces(member, expansion.as_mut())?,
            };
            self.record.object(&id, member.stored)?;
            self.padding(member)?;
        }
        if let Some(expansion) = expansion {
            let id = expansion
                .finish()
                .map_err(|source| storing(member, source))?;
            self.record.name(&sparse_name(self.sparse), &id)?;
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
        self.members.take(member, &mut block)?;
        self.record.inline(&block)?;
        if let Some(expansion) = expansion {
            let size = usize::try_from(member.stored).expect("it is at most 64");
            expansion
                .write(&block[..size])
                .map_err(|source| storing(member, source))?;
        }
        Ok(())
    }

    fn object_from_memory(&mut self, member: &Member) -> Result<ObjectId, ImportError> {
        let size = usize::try_from(member.stored).expect("it is at most 128 KiB");
        self.buffer.resize(size, 0);
        self.members.take(member, &mut self.buffer)?;
        self.session
            .put(&self.buffer)
            .map_err(|source| storing(member, source))
    }

    fn object_in_pieces(
        &mut self,
        member: &Member,
        mut expansion: Option<&mut Expansion<'_>>,
    ) -> Result<ObjectId, ImportError> {
        let mut writer = self.session.writer();
        let mut left = member.stored;
        while left > 0 {
            let piece = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            self.buffer.resize(piece, 0);
            self.members.take(member, &mut self.buffer)?;
            writer
                .append(&self.buffer)
                .map_err(|source| storing(member, source))?;
            if let Some(expansion) = expansion.as_deref_mut() {
                expansion
                    .write(&self.buffer)
                    .map_err(|source| storing(member, source))?;
            }
            left -= piece as u64;
        }
        let (id, _) = writer.finish().map_err(|source| storing(member, source))?;
        Ok(id)
    }

    fn padding(&mut self, member: &Member) -> Result<(), ImportError> {
        let used = usize::try_from(member.stored % BLOCK as u64).expect("it is below 512");
        if used > 0 {
            let mut block = [0; BLOCK];
            self.members.take(member, &mut block[used..])?;
            self.record.inline(&block[used..])?;
        }
        Ok(())
    }

    /// Begins the object of a sparse file; nothing if the image keeps the file inline.
    fn expansion(&mut self, map: &SparseMap) -> Result<Option<Expansion<'a>>, TarError> {
        self.holes = self.holes.saturating_add(map.holes());
        if self.holes > HOLES_MAX {
            return Err(TarError::TooMuch {
                what: "bytes of holes in sparse files",
                limit: HOLES_MAX,
            });
        }
        if map.size <= INLINE_MAX as u64 {
            return Ok(None);
        }
        if self.sparse == SPARSE_MAX {
            return Err(TarError::TooMuch {
                what: "sparse files",
                limit: SPARSE_MAX,
            });
        }
        Ok(Some(Expansion::new(self.session.writer(), map)))
    }

    /// Keeps what follows the end of the archive: it is part of the layer's bytes, and of no entry.
    fn trailer(&mut self) -> Result<(), ImportError> {
        let mut length = 0;
        loop {
            let offset = self.record.length();
            let bytes = self.members.input.buffered();
            let bytes = bytes.map_err(|source| TarError::Read { offset, source })?;
            if bytes.is_empty() {
                return Ok(());
            }
            let count = bytes.len();
            length += count as u64;
            if length > TRAILER_MAX {
                let what = "bytes behind the end of its archive";
                return Err(TarError::TooMuch {
                    what,
                    limit: TRAILER_MAX,
                }
                .into());
            }
            self.record.inline(bytes)?;
            self.members.input.0.consume(count);
        }
    }
}

fn storing(member: &Member, source: StoreError) -> ImportError {
    ImportError::Content {
        entry: member.path.to_name(),
        source: Box::new(source),
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
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while self.at < end {
            let left = end - self.at;
            let count = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.writer.append(&ZEROS[..count])?;
            self.at += count as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ObjectId, StoreError> {
        self.zeros_to(self.size)?;
        self.writer.finish().map(|(id, _)| id)
    }
}

/// An archive as it comes in.
struct TarInput<'a>(BufReader<&'a mut dyn Read>);

impl TarInput<'_> {
    /// The next bytes, as many as are there; none at the end.
    fn buffered(&mut self) -> io::Result<&[u8]> {
        while let Err(error) = self.0.fill_buf() {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(self.0.buffer())
    }
}

impl Input for TarInput<'_> {
    fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<Next> {
        // Nothing more is the end; less than a block is not.
        if self.buffered()?.is_empty() {
            return Ok(Next::End);
        }
        self.0.read_exact(block)?;
        Ok(Next::Block)
    }

    fn data(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(bytes)
    }
}
