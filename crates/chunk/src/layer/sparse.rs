//! Holes of sparse files.
//!
//! Where a file has holes on disk depends on how it was copied, so holes are
//! found by content: a file is written with holes if runs of zeros make up at
//! least half of it, and at least a mebibyte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit in which zeros are looked for, in bytes.
const UNIT: u64 = 65536;
/// The bytes at the beginning of a unit that are looked at first.
const PROBE: usize = 512;
/// What holes must save.
const HOLES_MIN: u64 = 1024 * 1024;
/// The most pieces of data; beyond it a file is written whole.
const SEGMENTS_MAX: usize = 50_000;

/// The pieces of a file that hold data; the rest is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segments {
    /// The length of the file.
    pub(super) size: u64,
    /// Offset and length of each piece, ascending.
    pub(super) pieces: Vec<(u64, u64)>,
}

impl Segments {
    /// The holes of a file; nothing if it is better written whole.
    pub(super) fn find(file: &File, size: u64) -> io::Result<Option<Self>> {
        if size < 2 * HOLES_MIN {
            return Ok(None);
        }
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let mut data = 0;
        let mut buffer = vec![0; usize::try_from(UNIT).unwrap_or(PROBE)];
        let mut offset = 0;
        while offset < size {
            let length = UNIT.min(size - offset);
            if !is_zero(file, offset, length, &mut buffer)? {
                data += length;
                match pieces.last_mut() {
                    Some((start, piece)) if *start + *piece == offset => *piece += length,
                    _ => pieces.push((offset, length)),
                }
                if data > size / 2 || size - data < HOLES_MIN || pieces.len() > SEGMENTS_MAX {
                    return Ok(None);
                }
            }
            offset += length;
        }
        Ok(Some(Self { size, pieces }))
    }

    /// The map as it stands in front of the data, padded to whole blocks.
    pub(super) fn map(&self) -> Vec<u8> {
        // Programs take the end of the file from a last piece of no length.
        let ends_in_hole = self
            .pieces
            .last()
            .is_none_or(|(offset, length)| offset + length < self.size);
        let end = ends_in_hole.then_some((self.size, 0));
        let pieces: Vec<_> = self.pieces.iter().copied().chain(end).collect();
        let mut map = format!("{}\n", pieces.len());
        for (offset, length) in pieces {
            map.push_str(&format!("{offset}\n{length}\n"));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(super::tar::BLOCK), 0);
        map
    }

    /// The bytes in the archive: the map and the data.
    pub(super) fn stored(&self) -> u64 {
        let data: u64 = self.pieces.iter().map(|(_, length)| length).sum();
        data + u64::try_from(self.map().len()).unwrap_or(0)
    }
}

fn is_zero(file: &File, offset: u64, length: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let length = usize::try_from(length).unwrap_or(PROBE);
    let probe = length.min(PROBE);
    file.read_exact_at(&mut buffer[..probe], offset)?;
    if buffer[..probe].iter().any(|&byte| byte != 0) {
        return Ok(false);
    }
    file.read_exact_at(&mut buffer[..length], offset)?;
    Ok(buffer[..length].iter().all(|&byte| byte == 0))
}
