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
mod header;
mod pax;
mod sparse;
pub mod write;

use std::io;

use hull_erofs::tree::{Device, Metadata, Timestamp};

use self::header::Header;
use self::pax::Extended;
use self::sparse::{MapBuilder, MapPlace};
use super::memory::Piece;
use super::path::{EntryName, EntryPath, InvalidPath};
use super::whiteout::InvalidWhiteout;

pub use acl::AclProblem;
pub(crate) use header::BLOCK;
pub use pax::PaxProblem;
pub(crate) use sparse::SparseMap;
pub use sparse::SparseProblem;

/// The longest extended header or long name, in bytes.
const EXTENSION_MAX: u64 = 1024 * 1024;
/// The most headers that may come before the entry that they are about.
const PENDING_MAX: usize = 16;
/// The longest target of a symbolic link, in bytes.
const TARGET_MAX: usize = 4095;
/// Largest device numbers of Linux: 12 and 20 bits.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;

/// A number in a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Permissions.
    Mode,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// Length of the data.
    Size,
    /// Time of modification.
    Mtime,
    /// Major number of a device.
    DeviceMajor,
    /// Minor number of a device.
    DeviceMinor,
    /// Length of a sparse file with its holes.
    SparseSize,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive itself could not be read (or decompressed, or downloaded).
    #[error("the layer cannot be read from byte {offset} on")]
    Read {
        /// Bytes of the uncompressed archive before the failure.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The archive ends inside of something.
    #[error("the layer is cut off before byte {offset}, in or after {entry}")]
    Truncated {
        /// How far it should have gone at least.
        offset: u64,
        /// What it ends in.
        entry: EntryName,
    },
    /// A block that should be a header is none.
    #[error("the layer has no tar header at byte {offset}, behind {after}")]
    NoHeader {
        /// Where the block is.
        offset: u64,
        /// The last entry that could be read.
        after: EntryName,
    },
    /// An entry that hull does not take.
    #[error("entry {entry} (byte {offset} of the layer): {problem}")]
    Entry {
        /// Its name, as far as it is known.
        entry: EntryName,
        /// Where its first header is.
        offset: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// More entries or more metadata than a layer may have.
    #[error("the layer has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The most that is taken.
        limit: u64,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its path.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// The path that a hard link leads to.
    #[error("the target {target} of the hard link is refused: {reason}")]
    Target {
        /// The target.
        target: EntryName,
        /// Why.
        reason: InvalidPath,
    },
    /// A symbolic link to nothing, to more than Linux can hold, or with a NUL byte.
    #[error("the target of the symbolic link is empty, too long or has a NUL byte")]
    SymlinkTarget,
    /// A name that begins as a whiteout and is none.
    #[error(transparent)]
    Whiteout(#[from] InvalidWhiteout),
    /// A number in its header block.
    #[error("{0:?} in its header is not a valid number")]
    Number(Field),
    /// A type that images do not hold.
    #[error("type {} is not supported ({meaning})", char::from(*flag).escape_default())]
    Type {
        /// The type flag.
        flag: u8,
        /// What it stands for.
        meaning: &'static str,
    },
    /// The root of the file system is no directory.
    #[error("the root must be a directory")]
    Root,
    /// Its extended header.
    #[error(transparent)]
    Pax(#[from] PaxProblem),
    /// Its sparse map.
    #[error(transparent)]
    Sparse(#[from] SparseProblem),
    /// A header in front of it that is too long.
    #[error("a header in front of it has {0} bytes, more than {EXTENSION_MAX}")]
    ExtensionTooLong(u64),
    /// Two headers of one kind, or very many, in front of it.
    #[error("it has more headers in front of it than one of each kind")]
    TooManyExtensions,
}

/// What kind of thing an entry is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Directory,
    /// With [`Member::stored`] bytes.
    Regular,
    /// With holes; [`Member::stored`] bytes are in the archive.
    Sparse(SparseMap),
    /// To another entry, this one's metadata says nothing.
    HardLink(EntryPath),
    Symlink(Box<[u8]>),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// An entry of an archive, without its data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) path: EntryPath,
    pub(crate) metadata: Metadata,
    pub(crate) kind: Kind,
    /// Bytes of data that follow in the archive, without their padding.
    pub(crate) stored: u64,
}

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

fn entry_error(name: &[u8], offset: u64, problem: Problem) -> TarError {
    TarError::Entry {
        entry: EntryName::new(name),
        offset,
        problem,
    }
}

fn until_nul(data: &[u8]) -> &[u8] {
    data.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn non_negative(header: &Header<'_>, field: Field) -> Result<u64, Problem> {
    let number = header
        .number(field)
        .and_then(|number| u64::try_from(number).ok());
    number.ok_or(Problem::Number(field))
}

/// An owner or a group; the largest number stands for "leave it as it is" in system calls and is none.
fn owner_id(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|&id| id != u32::MAX)
}

fn kind(header: &Header<'_>, name: &[u8], link: &[u8]) -> Result<Kind, Problem> {
    let flag = header.type_flag();
    Ok(match flag {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::Regular,
        b'S' if header.is_gnu() => Kind::Regular,
        b'1' => Kind::HardLink(EntryPath::parse(link).map_err(|reason| Problem::Target {
            target: EntryName::new(link),
            reason,
        })?),
        b'2' => {
            if link.is_empty() || link.len() > TARGET_MAX || link.contains(&0) {
                return Err(Problem::SymlinkTarget);
            }
            Kind::Symlink(link.into())
        }
        b'3' => Kind::CharacterDevice(device(header)?),
        b'4' => Kind::BlockDevice(device(header)?),
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => {
            return Err(Problem::Type {
                flag,
                meaning: meaning(flag),
            });
        }
    })
}

fn meaning(flag: u8) -> &'static str {
    match flag {
        b'S' => "a sparse file outside of a GNU archive",
        b'D' => "the list of a directory in an incremental backup",
        b'M' => "the continuation of a multi-volume archive",
        b'N' => "old long names",
        b'V' => "the label of a volume",
        b'A' | b'E' | b'I' | b'X' => "an extension of Solaris or star",
        _ => "unknown",
    }
}

fn device(header: &Header<'_>) -> Result<Device, Problem> {
    let number = |field, max| {
        let number = header
            .number(field)
            .and_then(|number| u32::try_from(number).ok());
        number
            .filter(|&number| number <= max)
            .ok_or(Problem::Number(field))
    };
    Ok(Device {
        major: number(Field::DeviceMajor, MAJOR_MAX)?,
        minor: number(Field::DeviceMinor, MINOR_MAX)?,
    })
}

/// The metadata of an entry: what the extended header says wins over the block.
fn metadata(header: &Header<'_>, extended: Extended) -> Result<Metadata, Problem> {
    let number = |field| header.number(field).ok_or(Problem::Number(field));
    let id = |field, extended: Option<u32>| match extended {
        Some(id) => Ok(id),
        None => number(field).and_then(|id| owner_id(id).ok_or(Problem::Number(field))),
    };
    // Some writers put the type into the upper bits.
    let mode =
        u16::try_from(number(Field::Mode)? & 0o7777).map_err(|_| Problem::Number(Field::Mode))?;
    let mtime = match extended.mtime {
        Some(mtime) => mtime,
        None => Timestamp {
            seconds: number(Field::Mtime)?,
            nanoseconds: 0,
        },
    };
    Ok(Metadata {
        mode,
        uid: id(Field::Uid, extended.uid)?,
        gid: id(Field::Gid, extended.gid)?,
        mtime,
        xattrs: extended.into_xattrs()?,
    })
}
