//! Direct I/O: bytes go from memory to the disk without the page cache.
//!
//! That saves the copy and the work for each page, and what runs on the machine keeps its files in the cache.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What a write begins and ends at in the file: the block of the file systems, which no disk's is longer than.
const BLOCK: usize = 4096;
/// What a part of a write begins and ends at in memory: the least that any disk asks for. One may ask for more.
const IN_MEMORY: usize = 512;
/// The most parts that one call of the kernel takes (IOV_MAX).
const PARTS: usize = 1024;

/// From `linux/magic.h`: ext2, ext3 and ext4; and XFS.
const IN_PLACE: [i64; 2] = [0xEF53, 0x5846_5342];

/// A file that is written in long pieces: past the page cache where that can be done and pays.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    /// The same file, opened for direct I/O.
    direct: Option<File>,
}

impl DirectFile {
    /// Of a file that is open for writing.
    ///
    /// Direct I/O is used on ext4 and XFS. Elsewhere bytes written so would not be compressed, or the kernel copies
    /// them all the same.
    pub fn new(file: File) -> Self {
        let direct = if is_in_place(&file) {
            open_direct(&file).ok()
        } else {
            None
        };
        Self { file, direct }
    }

    /// Of a file that is read soon: all goes through the cache.
    pub fn cached(file: File) -> Self {
        Self { file, direct: None }
    }

    /// Writes the pieces one behind the other, from `offset`. Several threads may write to places that share no block.
    ///
    /// What is at both a multiple of 4096 in the file and aligned in memory (see [`AlignedBuffer`]) goes past the cache,
    /// the rest through it. Nothing is durable by that: see [`crate::durable`].
    ///
    /// # Errors
    ///
    /// What the kernel says; some of the bytes may be written then.
    pub fn write_all_at<P: AsRef<[u8]>>(&self, pieces: &[P], offset: u64) -> io::Result<()> {
        let mut written = match &self.direct {
            Some(direct) => write_blocks(direct, &whole_blocks(pieces, offset), offset)?,
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

/// Whether the file system writes what it gets as it is, so that memory can go to the disk.
fn is_in_place(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| IN_PLACE.contains(&found.f_type))
}

fn open_direct(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// What of the pieces, from the first byte on, one call can write by direct I/O.
fn whole_blocks<P: AsRef<[u8]>>(pieces: &[P], offset: u64) -> Vec<IoSlice<'_>> {
    if !offset.is_multiple_of(BLOCK as u64) {
        return Vec::new();
    }
    let pieces = pieces.iter().map(AsRef::as_ref);
    let pieces = pieces.filter(|piece| !piece.is_empty()).take(PARTS);
    let mut left = aligned_length(pieces.clone()) / BLOCK * BLOCK;
    let parts = pieces.map_while(|piece| {
        let part = &piece[..piece.len().min(left)];
        left -= part.len();
        (!part.is_empty()).then(|| IoSlice::new(part))
    });
    parts.collect()
}

/// How many bytes from the first one on are whole sectors, at places in memory that disks take.
fn aligned_length<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut length = 0;
    for piece in pieces {
        if !piece.as_ptr().addr().is_multiple_of(IN_MEMORY) {
            break;
        }
        length += piece.len() / IN_MEMORY * IN_MEMORY;
        if !piece.len().is_multiple_of(IN_MEMORY) {
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
            // This disk asks for more alignment.
            Err(Errno::INVAL) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Memory that begins where direct I/O wants it to.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    aligned: Range<usize>,
}

impl AlignedBuffer {
    /// So many zeros.
    pub fn zeroed(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK];
        // It may not be known, says its documentation; then the memory is as any.
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self {
            bytes,
            aligned: start..start + length,
        }
    }
}

/// Bytes where they are: they go through the cache.
impl From<Vec<u8>> for AlignedBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            aligned: 0..bytes.len(),
            bytes,
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.aligned.clone()]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.aligned.clone()]
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    /// On a disk; `/tmp` may be memory.
    fn unnamed() -> DirectFile {
        DirectFile::new(tempfile::tempfile_in("/var/tmp").unwrap())
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
            lengths(&whole_blocks(&pieces, 8192)),
            [BLOCK - 512, 3 * BLOCK + 512]
        );
        assert!(whole_blocks(&pieces, 8191).is_empty());
        assert!(whole_blocks(&[&buffer[1..]], 0).is_empty());
        assert!(whole_blocks(&[&buffer[..BLOCK - 1]], 0).is_empty());
        // Behind a piece that ends within a sector all goes through it.
        let pieces = [&buffer[..BLOCK + 1], &buffer[2 * BLOCK..]];
        assert_eq!(lengths(&whole_blocks(&pieces, 0)), [BLOCK]);
        let pieces = [&buffer[..BLOCK], &[], &buffer[..BLOCK]];
        assert_eq!(lengths(&whole_blocks(&pieces, 0)), [BLOCK, BLOCK]);
    }

    #[test]
    fn one_call_takes_as_many_pieces_as_the_kernel_allows() {
        let buffer = patterned(BLOCK);
        let pieces = vec![&buffer[..]; PARTS + 10];
        assert_eq!(whole_blocks(&pieces, 0).len(), PARTS);
        let file = unnamed();
        file.write_all_at(&pieces, 0).unwrap();
        assert!(content(&file) == pieces.concat());
    }

    #[test]
    fn files_of_which_parts_cannot_be_written_directly_are_written_all_the_same() {
        let buffer = patterned(3 * BLOCK);
        // Memory has no disk; a file opened for reading cannot be written.
        let file = DirectFile::new(tempfile::tempfile_in("/dev/shm").unwrap());
        assert!(file.direct.is_none());
        file.write_all_at(&[&buffer[..], &buffer[..10]], 0).unwrap();
        assert!(content(&file) == [&buffer[..], &buffer[..10]].concat());
        let path = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let file = DirectFile::new(File::open(path.path()).unwrap());
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
                let length = if in_sectors { length / IN_MEMORY * IN_MEMORY } else { length };
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
