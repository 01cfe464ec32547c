//! Direct I/O: bytes go from memory to the disk without the page cache.
//!
//! That saves the copy and the work for each page, and what runs on the machine keeps its files in the cache.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FsWord, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a write begins and ends at in the file, so that the rest of it begins at a block of most file systems. A multiple
/// of the sectors of most disks; others are written through the cache.
const BLOCK: usize = 4096;
/// The most parts that one call of the kernel takes (IOV_MAX).
const PARTS: usize = 1024;

/// ext4 (and ext2 and ext3, which have the same number) and XFS, from `linux/magic.h`.
const UNCHANGED: [FsWord; 2] = [0xEF53, 0x5846_5342];

/// What direct I/O to the files of a directory asks for, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct DirectIo {
    /// Where in memory a part of a write begins: at multiples of this.
    memory: usize,
    /// How long it is: a multiple of this, which [`BLOCK`] is a multiple of.
    length: usize,
}

impl DirectIo {
    /// That of the file system that a file is on; none where bytes should go through the cache.
    ///
    /// ext4 and XFS write bytes as they are. Others compress them, or make sums of them, and for direct I/O do without
    /// or copy all the same. Linux tells what it asks for since 6.1 (statx(2), `STATX_DIOALIGN`).
    pub fn of(file: impl AsFd) -> Option<Self> {
        let file_system = rustix::fs::fstatfs(&file).ok()?;
        if !UNCHANGED.contains(&file_system.f_type) {
            return None;
        }
        let wanted = StatxFlags::DIOALIGN;
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        // Zero where the file has no direct I/O: it is encrypted, or its data go to the journal.
        let [memory, length] = [stat.stx_dio_mem_align, stat.stx_dio_offset_align]
            .map(|bytes| usize::try_from(bytes).unwrap_or(0));
        (memory > 0 && length > 0 && BLOCK.is_multiple_of(length))
            .then_some(Self { memory, length })
    }
}

/// A file that is written in long pieces: past the page cache where that can be done.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    /// The same file, opened for direct I/O.
    direct: Option<(File, DirectIo)>,
}

impl DirectFile {
    /// Of a file that is open for writing; with nothing that tells of direct I/O, all goes through the cache.
    pub fn new(file: File, direct: Option<DirectIo>) -> Self {
        let direct = direct.and_then(|direct| Some((open_direct(&file).ok()?, direct)));
        Self { file, direct }
    }

    /// Writes the pieces one behind the other, from `offset`. Several threads may write to places that share no page,
    /// which are of 64 KiB on some machines.
    ///
    /// What begins at a multiple of 4096 in the file and is aligned in memory (see [`AlignedBuffer`]) goes past the
    /// cache, the rest through it. Nothing is durable by that: see [`crate::durable`].
    ///
    /// # Errors
    ///
    /// What the kernel says; some of the bytes may be written then.
    pub fn write_all_at<P: AsRef<[u8]>>(&self, pieces: &[P], offset: u64) -> io::Result<()> {
        let mut written = match &self.direct {
            Some((file, direct)) => {
                write_blocks(file, &whole_blocks(pieces, offset, *direct), offset)?
            }
            None => 0,
        };
        let mut at = offset + written as u64;
        for piece in pieces {
            let piece = piece.as_ref();
            let (done, rest) = piece.split_at(written.min(piece.len()));
            written -= done.len();
            self.file.write_all_at(rest, at)?;
            at += rest.len() as u64;
        }
        Ok(())
    }

    /// The file, for whoever reads it or writes a little.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file, when all is written.
    pub fn into_file(self) -> File {
        self.file
    }
}

fn open_direct(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// What of the pieces, from the first byte on, one call can write by direct I/O.
fn whole_blocks<P: AsRef<[u8]>>(pieces: &[P], offset: u64, direct: DirectIo) -> Vec<IoSlice<'_>> {
    if !offset.is_multiple_of(BLOCK as u64) {
        return Vec::new();
    }
    let pieces = pieces.iter().map(AsRef::as_ref);
    let pieces = pieces.filter(|piece| !piece.is_empty()).take(PARTS);
    let mut left = aligned_length(pieces.clone(), direct) / BLOCK * BLOCK;
    let parts = pieces.map_while(|piece| {
        let part = &piece[..piece.len().min(left)];
        left -= part.len();
        (!part.is_empty()).then(|| IoSlice::new(part))
    });
    parts.collect()
}

/// How many bytes from the first one on are of lengths, and at places in memory, that direct I/O takes.
fn aligned_length<'a>(pieces: impl Iterator<Item = &'a [u8]>, direct: DirectIo) -> usize {
    let mut length = 0;
    for piece in pieces {
        if !piece.as_ptr().addr().is_multiple_of(direct.memory) {
            break;
        }
        length += piece.len() / direct.length * direct.length;
        if !piece.len().is_multiple_of(direct.length) {
            break;
        }
    }
    length
}

/// How many bytes were written: a multiple of [`BLOCK`].
fn write_blocks(direct: &File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    if parts.is_empty() {
        return Ok(0);
    }
    loop {
        match rustix::io::pwritev(direct, parts, offset) {
            Ok(count) => return Ok(count / BLOCK * BLOCK),
            Err(Errno::INTR) => {}
            // Some disk below asks for more than was said.
            Err(Errno::INVAL) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Memory that begins where direct I/O wants it to.
#[derive(Debug, Default)]
pub struct AlignedBuffer(Vec<Page>);

#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Page([u8; BLOCK]);

impl AlignedBuffer {
    /// At least so many zeros: a multiple of 4096.
    pub fn zeroed(length: usize) -> Self {
        Self(vec![Page([0; BLOCK]); length.div_ceil(BLOCK)])
    }

    /// These bytes, and zeros behind them.
    pub fn copied(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy[..bytes.len()].copy_from_slice(bytes);
        copy
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const SECTORS: DirectIo = DirectIo {
        memory: 512,
        length: 512,
    };

    /// On a disk; `/tmp` may be memory.
    fn unnamed() -> DirectFile {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let direct = DirectIo::of(&file);
        DirectFile::new(file, direct)
    }

    fn content(file: &DirectFile) -> Vec<u8> {
        let mut content = Vec::new();
        let mut file = file.file();
        file.read_to_end(&mut content).unwrap();
        content
    }

    fn patterned(length: usize) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::zeroed(length);
        for (place, byte) in buffer.iter_mut().enumerate() {
            *byte = u8::try_from(place * 7 % 251).unwrap();
        }
        buffer
    }

    fn lengths(parts: &[IoSlice<'_>]) -> Vec<usize> {
        parts.iter().map(|part| part.len()).collect()
    }

    #[test]
    fn what_is_aligned_goes_past_the_cache_up_to_its_last_whole_block() {
        let buffer = patterned(5 * BLOCK);
        let pieces = [&buffer[512..BLOCK], &buffer[BLOCK..4 * BLOCK + 700]];
        assert_eq!(
            lengths(&whole_blocks(&pieces, 8192, SECTORS)),
            [BLOCK - 512, 3 * BLOCK + 512]
        );
        assert!(whole_blocks(&pieces, 8191, SECTORS).is_empty());
        assert!(whole_blocks(&[&buffer[1..]], 0, SECTORS).is_empty());
        assert!(whole_blocks(&[&buffer[..BLOCK - 1]], 0, SECTORS).is_empty());
        // Behind a piece that ends within a sector all goes through it.
        let pieces = [&buffer[..BLOCK + 1], &buffer[2 * BLOCK..]];
        assert_eq!(lengths(&whole_blocks(&pieces, 0, SECTORS)), [BLOCK]);
        // Where the disk's sectors are longer, and its memory is where it may be.
        let long = DirectIo {
            memory: 4,
            length: BLOCK,
        };
        let pieces = [
            &buffer[4..BLOCK + 4],
            &buffer[BLOCK..2 * BLOCK + 512],
            &buffer[..BLOCK],
        ];
        assert_eq!(lengths(&whole_blocks(&pieces, 0, long)), [BLOCK, BLOCK]);
        let pieces = [&buffer[..BLOCK], &[], &buffer[..BLOCK]];
        assert_eq!(lengths(&whole_blocks(&pieces, 0, SECTORS)), [BLOCK, BLOCK]);
    }

    #[test]
    fn one_call_takes_as_many_pieces_as_the_kernel_allows() {
        let buffer = patterned(BLOCK);
        let pieces = vec![&buffer[..]; PARTS + 10];
        assert_eq!(whole_blocks(&pieces, 0, SECTORS).len(), PARTS);
        let file = unnamed();
        file.write_all_at(&pieces, 0).unwrap();
        assert!(content(&file) == pieces.concat());
    }

    #[test]
    fn files_of_which_parts_cannot_be_written_directly_are_written_all_the_same() {
        let buffer = patterned(3 * BLOCK);
        // Memory has no disk; a file opened for reading cannot be written.
        let in_memory = tempfile::tempfile_in("/dev/shm").unwrap();
        assert!(DirectIo::of(&in_memory).is_none());
        let file = DirectFile::new(in_memory, None);
        file.write_all_at(&[&buffer[..], &buffer[..10]], 0).unwrap();
        assert!(content(&file) == [&buffer[..], &buffer[..10]].concat());
        let path = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let file = File::open(path.path()).unwrap();
        let direct = DirectIo::of(&file);
        let file = DirectFile::new(file, direct);
        file.write_all_at(&[&buffer[1..10]], 0).unwrap_err();
    }

    #[test]
    fn threads_may_write_places_of_one_file() {
        const LENGTH: usize = 16 * BLOCK;
        let (file, buffer) = (unnamed(), patterned(LENGTH));
        std::thread::scope(|scope| {
            for place in 0..8 {
                let (file, buffer) = (&file, &buffer);
                let offset = (place * LENGTH) as u64;
                scope.spawn(move || file.write_all_at(&[&buffer[..]], offset).unwrap());
            }
        });
        assert!(content(&file) == [&buffer[..]; 8].concat());
    }

    proptest! {
        #[test]
        fn a_file_has_what_was_written(
            cuts in prop::collection::vec((0..3 * BLOCK, prop::bool::weighted(0.8)), 0..12),
            start in prop_oneof![Just(0), Just(512), 0..BLOCK],
            offset in prop_oneof![Just(0), Just(BLOCK), 0..BLOCK],
        ) {
            let buffer = patterned(start + 40 * BLOCK);
            let mut at = start;
            let mut pieces = Vec::new();
            for (length, in_sectors) in cuts {
                let length = if in_sectors { length / SECTORS.length * SECTORS.length } else { length };
                pieces.push(&buffer[at..at + length]);
                at += length;
            }
            let file = unnamed();
            file.write_all_at(&pieces, offset as u64).unwrap();
            let written = [vec![0; if at > start { offset } else { 0 }], pieces.concat()].concat();
            prop_assert!(content(&file) == written);
        }
    }
}
