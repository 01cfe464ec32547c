//! Reading tar archives: ustar, POSIX.1-2001 (PAX), GNU and old ones.
//!
//! `Members` takes header blocks from an `Input` and gives one `Member`
//! after the other, with everything that its headers say about it applied; the
//! data behind each member is the caller's to take. It keeps the raw blocks, so
//! that the archive can be given back bit for bit.
//!
//! Where programs disagree about what an archive means, the rule is that of
//! Go's `archive/tar`, with which podman, umoci, docker and containerd unpack
//! the same image: links, directories and special files have no data whatever
//! their size field says, a GNU long name wins over a PAX `path`, and global
//! PAX headers have no effect.

mod acl;
mod error;
mod header;
mod member;
mod pax;
mod sparse;
pub mod write;

use std::io;

use self::error::entry_error;
use self::header::Header;
use self::member::{kind, metadata, non_negative};
use self::pax::Extended;
use self::sparse::{MapBuilder, MapPlace};
use super::memory::Piece;
use super::path::{EntryName, EntryPath};

pub use acl::AclProblem;
pub use error::{Field, Problem, TarError};
pub(crate) use header::BLOCK;
pub(crate) use member::{Kind, Member};
pub use pax::PaxProblem;
pub(crate) use sparse::SparseMap;
pub use sparse::SparseProblem;

/// The longest extended header or long name, in bytes.
const EXTENSION_MAX: u64 = 1024 * 1024;
/// The most headers that may come before the entry that they are about.
const PENDING_MAX: usize = 16;

/// What [`Input::block`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// A block, now in the buffer.
    Block,
    /// The end of the archive.
    End,
    /// Something that is kept elsewhere and so is data, not a header.
    Object,
}

/// Where header blocks come from.
pub(crate) trait Input {
    /// Reads the next block; an archive that ends inside of it is an error of the kind `UnexpectedEof`.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<Next>;
    /// Fills the buffer with data that is in the archive itself.
    fn data(&mut self, bytes: &mut [u8]) -> io::Result<()>;
    /// Fills the buffer with what fills up a block; says how much of that there was, which may
    /// be less at the end of the archive.
    fn padding(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.data(bytes)?;
        Ok(bytes.len())
    }
}

/// The members of an archive, in its order.
#[derive(Debug)]
pub(crate) struct Members<I> {
    pub(crate) input: I,
    /// The blocks that were read since the last call of [`Self::next`], as they are in the archive.
    raw: Vec<u8>,
    /// A block that was read to see what it is.
    peeked: Option<[u8; BLOCK]>,
    /// How much of it was taken as data.
    peeked_at: usize,
    /// Bytes of the archive in front of the next block.
    offset: u64,
    /// The name of the last entry.
    last: Vec<u8>,
}

/// What was read in front of an entry's own header.
#[derive(Default)]
struct Pending {
    /// Where the extended header is in [`Members::raw`].
    extended: Option<std::ops::Range<usize>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    count: usize,
}

impl Pending {
    /// Whether an entry must follow; behind a global header none need to.
    fn awaits_entry(&self) -> bool {
        self.extended.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

impl<I: Input> Members<I> {
    pub(crate) fn new(input: I) -> Self {
        Self {
            input,
            raw: Vec::new(),
            peeked: None,
            peeked_at: 0,
            offset: 0,
            last: b"the beginning".to_vec(),
        }
    }

    /// The blocks behind the last answer of [`Self::next`], bit for bit.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Reads the next bytes of a member's data.
    pub(crate) fn take(&mut self, member: &Member, bytes: &mut [u8]) -> Result<(), TarError> {
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        let seen = self.copy_peeked(bytes);
        let taken = self.input.data(&mut bytes[seen..]);
        self.count_data(member, 0, taken)
    }

    /// Reads what fills up the last block of a member's data, `bytes` long. As in Go's reader, and so
    /// for podman, it may be missing where the archive ends behind the data; says how much was there.
    pub(crate) fn take_padding(
        &mut self,
        member: &Member,
        bytes: &mut [u8],
    ) -> Result<usize, TarError> {
        let seen = self.copy_peeked(bytes);
        let taken = self.input.padding(&mut bytes[seen..]);
        let count = seen + *taken.as_ref().unwrap_or(&0);
        self.count_data(member, count, taken.map(drop))?;
        Ok(count)
    }

    /// Copies bytes that were read to see what they are; how many.
    fn copy_peeked(&mut self, bytes: &mut [u8]) -> usize {
        let Some(block) = self.peeked else { return 0 };
        let seen = &block[self.peeked_at..];
        let count = seen.len().min(bytes.len());
        bytes[..count].copy_from_slice(&seen[..count]);
        self.peeked_at += count;
        if self.peeked_at == BLOCK {
            (self.peeked, self.peeked_at) = (None, 0);
        }
        count
    }

    /// Takes up to `limit` bytes of data that were read to see what they are; how many.
    pub(super) fn take_peeked(&mut self, limit: usize, pieces: &mut Vec<Piece>) -> usize {
        let Some(block) = self.peeked else { return 0 };
        let seen = &block[self.peeked_at..];
        let count = seen.len().min(limit);
        pieces.push(Piece::own(&seen[..count]));
        self.offset = self.offset.saturating_add(count as u64);
        self.peeked_at += count;
        if self.peeked_at == BLOCK {
            (self.peeked, self.peeked_at) = (None, 0);
        }
        count
    }

    /// Counts `count` bytes of a member's data that were taken from the input itself.
    pub(super) fn count_data(
        &mut self,
        member: &Member,
        count: usize,
        taken: io::Result<()>,
    ) -> Result<(), TarError> {
        self.offset = self.offset.saturating_add(count as u64);
        taken.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated {
                offset: self.offset,
                entry: member.path.to_name(),
            },
            _ => TarError::Read {
                offset: self.offset,
                source,
            },
        })
    }

    /// Bytes of the archive that were consumed.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Counts data that is kept elsewhere.
    pub(crate) fn skip(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes);
    }

    /// The next member; nothing at the end of the archive. The data of the one before must have been taken.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, TarError> {
        self.raw.clear();
        let begin = self.offset;
        let mut pending = Pending::default();
        loop {
            let Some(block) = self.header_block(&pending)? else {
                return Ok(None);
            };
            let header = Header::parse(&block).ok_or_else(|| TarError::NoHeader {
                offset: self.offset - BLOCK as u64,
                after: EntryName::new(&self.last),
            })?;
            if self.extension(&header, &mut pending, begin)? {
                continue;
            }
            let mut name = header.name();
            let member = self.member(&header, pending, &mut name, begin);
            self.last = name;
            return member.map(Some);
        }
    }

    /// Reads a block that is a header or the end: two blocks of zeros, or no more bytes.
    fn header_block(&mut self, pending: &Pending) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = match self.peeked.take() {
            Some(block) => block,
            None => {
                let mut block = [0; BLOCK];
                match self.read(&mut block)? {
                    Next::Block => {}
                    Next::End if pending.awaits_entry() => return Err(self.truncated()),
                    Next::End => return Ok(None),
                    Next::Object => return Err(self.no_header()),
                }
                block
            }
        };
        self.keep(&block);
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        if pending.awaits_entry() {
            return Err(self.truncated());
        }
        match self.read(&mut block)? {
            Next::End => Ok(None),
            Next::Block if block.iter().all(|&byte| byte == 0) => {
                self.keep(&block);
                Ok(None)
            }
            Next::Block | Next::Object => Err(self.no_header()),
        }
    }

    fn read(&mut self, block: &mut [u8; BLOCK]) -> Result<Next, TarError> {
        self.input
            .block(block)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => self.truncated(),
                _ => TarError::Read {
                    offset: self.offset,
                    source,
                },
            })
    }

    fn keep(&mut self, block: &[u8; BLOCK]) {
        self.raw.extend_from_slice(block);
        self.offset += BLOCK as u64;
    }

    /// Reads a block that must be there.
    fn inner_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        match self.read(&mut block)? {
            Next::Block => {
                self.keep(&block);
                Ok(block)
            }
            Next::End => Err(self.truncated()),
            Next::Object => Err(self.no_header()),
        }
    }

    fn truncated(&self) -> TarError {
        TarError::Truncated {
            offset: self.offset,
            entry: EntryName::new(&self.last),
        }
    }

    fn no_header(&self) -> TarError {
        TarError::NoHeader {
            offset: self.offset,
            after: EntryName::new(&self.last),
        }
    }

    /// Reads a header that is about the entry after it; false if this one is an entry itself.
    fn extension(
        &mut self,
        header: &Header<'_>,
        pending: &mut Pending,
        begin: u64,
    ) -> Result<bool, TarError> {
        let flag = header.type_flag();
        if !matches!(flag, b'x' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let name = header.name();
        let refused = |problem| entry_error(&name, begin, problem);
        pending.count += 1;
        let twice = match flag {
            b'x' => pending.extended.is_some(),
            b'L' => pending.long_name.is_some(),
            b'K' => pending.long_link.is_some(),
            _ => false,
        };
        if twice || pending.count > PENDING_MAX {
            return Err(refused(Problem::TooManyExtensions));
        }
        // An extended header that came before is about the entry, not about this header.
        let size = header
            .number(Field::Size)
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| refused(Problem::Number(Field::Size)))?;
        if size > EXTENSION_MAX {
            return Err(refused(Problem::ExtensionTooLong(size)));
        }
        let size = usize::try_from(size).map_err(|_| refused(Problem::ExtensionTooLong(size)))?;
        let start = self.raw.len();
        for _ in 0..size.div_ceil(BLOCK) {
            self.inner_block()?;
        }
        let data = &self.raw[start..start + size];
        match flag {
            b'x' => pending.extended = Some(start..start + size),
            b'g' => pax::check_global(data).map_err(|problem| refused(problem.into()))?,
            b'L' => pending.long_name = Some(until_nul(data).to_vec()),
            _ => pending.long_link = Some(until_nul(data).to_vec()),
        }
        Ok(true)
    }

    /// Makes an entry of its own header and those before it. `name` becomes the entry's name as soon as it is known.
    fn member(
        &mut self,
        header: &Header<'_>,
        pending: Pending,
        name: &mut Vec<u8>,
        begin: u64,
    ) -> Result<Member, TarError> {
        let Pending {
            extended,
            long_name,
            long_link,
            ..
        } = pending;
        if let Some(path) = &long_name {
            name.clone_from(path);
        }
        let extended = extended.map_or(&[][..], |range| &self.raw[range]);
        let mut extended = Extended::parse(extended)
            .map_err(|problem| entry_error(name, begin, problem.into()))?;
        if let Some(path) = extended.path.take() {
            *name = path;
        }
        let sparse_name = extended.sparse.take_name();
        if let Some(path) = long_name.or(sparse_name) {
            *name = path;
        }
        let name = &*name;
        let refused = |problem| entry_error(name, begin, problem);
        let link = long_link.or_else(|| extended.link_path.take());
        let link = link.as_deref().unwrap_or_else(|| header.link_name());
        let path = EntryPath::parse(name).map_err(|problem| refused(problem.into()))?;
        super::whiteout::check(&path).map_err(|problem| refused(problem.into()))?;
        let kind = kind(header, name, link).map_err(refused)?;
        if path.is_root() && kind != Kind::Directory {
            return Err(refused(Problem::Root));
        }

        let size = match extended.size {
            Some(size) => size,
            None => non_negative(header, Field::Size).map_err(refused)?,
        };
        let pax_sparse = std::mem::take(&mut extended.sparse).into_map();
        let pax_sparse = pax_sparse.map_err(|problem| refused(problem.into()))?;
        let metadata = metadata(header, extended).map_err(refused)?;

        let mut member = Member {
            path,
            metadata,
            kind,
            stored: 0,
        };
        match member.kind {
            Kind::Regular => {
                member.stored = size;
                self.sparse(header, pax_sparse, &mut member, name, begin)?;
            }
            _ if pax_sparse.is_some() => return Err(refused(SparseProblem::NoFile.into())),
            Kind::HardLink(_) if size > 0 && self.data_follows()? => member.stored = size,
            _ => {}
        }
        Ok(member)
    }

    /// Reads the sparse map of a regular file, if it has one.
    fn sparse(
        &mut self,
        header: &Header<'_>,
        pax: Option<(u64, MapPlace)>,
        member: &mut Member,
        name: &[u8],
        begin: u64,
    ) -> Result<(), TarError> {
        let refused = |problem: SparseProblem| entry_error(name, begin, problem.into());
        let (size, map) = match pax {
            Some((size, MapPlace::Given(numbers))) => {
                (size, MapBuilder::given(numbers).map_err(refused)?)
            }
            Some((size, MapPlace::BeforeData)) => {
                let mut map = MapBuilder::default();
                loop {
                    member.stored = member
                        .stored
                        .checked_sub(BLOCK as u64)
                        .ok_or_else(|| refused(SparseProblem::Length))?;
                    if map.text_block(&self.inner_block()?).map_err(refused)? {
                        break (size, map);
                    }
                }
            }
            None if header.type_flag() == b'S' => {
                let size = non_negative(header, Field::SparseSize)
                    .map_err(|problem| entry_error(name, begin, problem))?;
                let mut map = MapBuilder::default();
                let (pairs, mut more) = header.sparse_pairs();
                map.gnu_pairs(pairs).map_err(refused)?;
                while more {
                    let block = self.inner_block()?;
                    map.gnu_pairs(&block[..504]).map_err(refused)?;
                    more = block[504] != 0;
                    if more && block[0] == 0 {
                        // It says that there is more, and has nothing itself: that could go on for ever.
                        return Err(refused(SparseProblem::Malformed));
                    }
                }
                (size, map)
            }
            None => return Ok(()),
        };
        member.kind = Kind::Sparse(map.finish(size, member.stored).map_err(refused)?);
        Ok(())
    }

    /// Whether a hard link with a size has data: POSIX lets it, most programs write none whatever the size says.
    ///
    /// What is a header, or the end, is no data.
    fn data_follows(&mut self) -> Result<bool, TarError> {
        let mut block = [0; BLOCK];
        match self.read(&mut block)? {
            Next::End => return Ok(false),
            Next::Object => return Ok(true),
            Next::Block => {}
        }
        let header = Header::parse(&block).is_some() || block.iter().all(|&byte| byte == 0);
        self.peeked = Some(block);
        Ok(!header)
    }
}

fn until_nul(data: &[u8]) -> &[u8] {
    data.split(|&byte| byte == 0).next().unwrap_or_default()
}
