//! The record of a layer: its entries, its bytes, its diff_id.

use std::io::{self, Write};

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, INLINE_MAX};
use hull_store::stream::{Chunk, StreamReader};
use hull_store::{Store, StoreError};

use super::entry::{Budget, Entry, Item};
use super::path::EntryName;
use super::tar::{BLOCK, Input, Kind, Member, Members, Next, SparseMap, TarError};
use crate::Digest;
use crate::digest::Hasher;

/// The content type of a layer's record, composefs-rs's own for layers.
pub const CONTENT_TYPE: u64 = u64::from_le_bytes(*b"ocilayer");

/// The stream that holds the record of the layer which comes as this blob.
///
/// Not upstream's `oci-layer-…`: that names an uncompressed layer by diff_id.
pub fn record_name(blob: &Digest) -> String {
    format!("hull-layer-{blob}")
}

/// The record of the layer that comes as this blob, if there is one.
pub fn find(store: &Store, blob: &Digest) -> Result<Option<ObjectId>, StoreError> {
    store.find_stream(&record_name(blob))
}

/// The named reference to the expanded content of the Nth sparse file, from 0.
pub(super) fn sparse_name(index: u64) -> String {
    format!("sparse:{index}")
}

/// Why the entries of a layer cannot be read from its record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record is not there, or not readable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive in it is none.
    #[error("the record {record} of a layer is damaged")]
    Tar {
        /// The record.
        record: ObjectId,
        /// What is wrong with it.
        source: TarError,
    },
    /// A file's content is not where the record should have it.
    #[error("the record {record} of a layer is damaged: entry {entry} has no content there")]
    Content {
        /// The record.
        record: ObjectId,
        /// The file.
        entry: EntryName,
    },
}

/// The entries of a layer in the order of its archive, read from its record alone.
///
/// After an error there are no more.
#[derive(Debug)]
pub struct Entries {
    record: ObjectId,
    members: Members<RecordInput>,
    budget: Budget,
    /// Sparse files with an object of their own so far.
    sparse: u64,
    ended: bool,
}

/// Opens the record of a layer to read its entries.
pub fn entries(store: &Store, record: &ObjectId) -> Result<Entries, RecordError> {
    Ok(Entries {
        record: *record,
        members: Members::new(RecordInput::new(open(store, record)?)),
        budget: Budget::default(),
        sparse: 0,
        ended: false,
    })
}

fn open(store: &Store, record: &ObjectId) -> Result<StreamReader, StoreError> {
    let reader = store.open_stream(record)?;
    reader.require_content_type(CONTENT_TYPE)?;
    Ok(reader)
}

impl Iterator for Entries {
    type Item = Result<Entry, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.read().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

impl Entries {
    fn read(&mut self) -> Result<Option<Entry>, RecordError> {
        let record = self.record;
        let damaged = |source| RecordError::Tar { record, source };
        let Some(member) = self.members.next().map_err(damaged)? else {
            return Ok(None);
        };
        self.budget.spend(&member).map_err(damaged)?;
        let content = self.content(&member)?;
        let item = match (member.kind, content) {
            (Kind::Directory, _) => Item::Directory,
            (Kind::HardLink(target), _) => Item::HardLink(target),
            (Kind::Symlink(target), _) => Item::Leaf(Content::Symlink(target)),
            (Kind::CharacterDevice(device), _) => Item::Leaf(Content::CharacterDevice(device)),
            (Kind::BlockDevice(device), _) => Item::Leaf(Content::BlockDevice(device)),
            (Kind::Fifo, _) => Item::Leaf(Content::Fifo),
            (Kind::Regular, Data::Inline(bytes)) => Item::Leaf(Content::Inline(bytes)),
            (Kind::Regular, Data::Object(id)) => Item::Leaf(Content::Object {
                id,
                size: member.stored,
            }),
            (Kind::Sparse(map), data) => {
                let content = self.expanded(&map, data);
                let entry = member.path.to_name();
                Item::Leaf(content.ok_or(RecordError::Content { record, entry })?)
            }
        };
        Ok(Some(Entry {
            path: member.path,
            metadata: member.metadata,
            item,
        }))
    }

    /// Takes a member's data as the archive has it.
    fn content(&mut self, member: &Member) -> Result<Data, RecordError> {
        let record = self.record;
        let damaged = |source| RecordError::Tar { record, source };
        let mut block = [0; BLOCK];
        if member.stored <= INLINE_MAX as u64 {
            let size = usize::try_from(member.stored).expect("it is at most 64");
            if size > 0 {
                let (data, padding) = block.split_at_mut(size);
                let taken = self.members.take(member, data);
                taken.map_err(damaged)?;
                let taken = self.members.take_padding(member, padding);
                taken.map_err(damaged)?;
            }
            return Ok(Data::Inline(block[..size].into()));
        }
        let entry = || member.path.to_name();
        let id = self
            .members
            .input
            .take_object()
            .map_err(|source| RecordError::Tar {
                record,
                source: TarError::Read {
                    offset: self.members.offset(),
                    source,
                },
            })?;
        let id = id.ok_or_else(|| RecordError::Content {
            record,
            entry: entry(),
        })?;
        self.members.skip(member.stored);
        let used = usize::try_from(member.stored % BLOCK as u64).expect("it is below 512");
        if used > 0 {
            self.members
                .take_padding(member, &mut block[used..])
                .map_err(damaged)?;
        }
        Ok(Data::Object(id))
    }

    /// The content of a sparse file with its holes.
    fn expanded(&mut self, map: &SparseMap, data: Data) -> Option<Content> {
        if map.size > INLINE_MAX as u64 {
            let id = *self.members.input.reader.named(&sparse_name(self.sparse))?;
            self.sparse += 1;
            return Some(Content::Object { id, size: map.size });
        }
        match data {
            Data::Inline(packed) => Some(Content::Inline(map.expand(&packed)?.into_boxed_slice())),
            Data::Object(_) => None,
        }
    }
}

/// Data as the archive has it.
enum Data {
    Inline(Box<[u8]>),
    Object(ObjectId),
}

/// The archive in a record.
#[derive(Debug)]
struct RecordInput {
    reader: StreamReader,
    piece: Vec<u8>,
    /// How much of the piece was taken.
    taken: usize,
    /// An object that comes next.
    object: Option<ObjectId>,
}

impl RecordInput {
    fn new(reader: StreamReader) -> Self {
        Self {
            reader,
            piece: Vec::new(),
            taken: 0,
            object: None,
        }
    }

    /// Makes sure that there are inline bytes or an object, unless the record is at its end.
    fn advance(&mut self) -> io::Result<()> {
        if self.taken < self.piece.len() || self.object.is_some() {
            return Ok(());
        }
        self.piece.clear();
        self.taken = 0;
        match self.reader.next_chunk().map_err(io::Error::other)? {
            Some(Chunk::Inline(bytes)) => self.piece.extend_from_slice(bytes),
            Some(Chunk::Object(id)) => self.object = Some(id),
            None => {}
        }
        Ok(())
    }

    /// The object that comes next, if one does.
    fn take_object(&mut self) -> io::Result<Option<ObjectId>> {
        self.advance()?;
        Ok(self.object.take())
    }
}

impl Input for RecordInput {
    fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<Next> {
        self.advance()?;
        if self.object.is_some() {
            return Ok(Next::Object);
        }
        if self.piece.is_empty() {
            return Ok(Next::End);
        }
        self.data(block)?;
        Ok(Next::Block)
    }

    fn data(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self.padding(bytes)? == bytes.len() {
            true => Ok(()),
            // The end, or an object where there should be bytes.
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn padding(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            self.advance()?;
            let there = &self.piece[self.taken..];
            if there.is_empty() {
                break;
            }
            let count = there.len().min(bytes.len() - done);
            bytes[done..done + count].copy_from_slice(&there[..count]);
            self.taken += count;
            done += count;
        }
        Ok(done)
    }
}

/// Writes the uncompressed layer to `out`, bit for bit as it was imported.
pub fn export(store: &Store, record: &ObjectId, out: &mut impl Write) -> Result<(), StoreError> {
    open(store, record)?.copy_to(store, out)
}

/// Why a layer is not the one that its image names.
#[derive(Debug, thiserror::Error)]
pub enum DiffIdError {
    /// The layer cannot be given back.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is another one.
    #[error(
        "the layer with record {record} has the diff_id {actual}, its image says {expected}; pull the image again"
    )]
    Differs {
        /// The record.
        record: ObjectId,
        /// What the image's configuration says.
        expected: Box<Digest>,
        /// What the layer's bytes give.
        actual: Box<Digest>,
    },
}

/// Compares the digest of the uncompressed layer with what its image's configuration says; reads all of its objects.
pub fn verify_diff_id(
    store: &Store,
    record: &ObjectId,
    expected: &Digest,
) -> Result<(), DiffIdError> {
    let mut hash = HashWriter(Hasher::new(expected.algorithm()));
    export(store, record, &mut hash)?;
    let actual = hash.0.finish();
    if actual == *expected {
        return Ok(());
    }
    Err(DiffIdError::Differs {
        record: *record,
        expected: Box::new(*expected),
        actual: Box::new(actual),
    })
}

/// Hashes what is written to it.
struct HashWriter(Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
