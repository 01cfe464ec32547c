//! The partition table: a GUID partition table with its protective MBR (UEFI 2.10, 5.2 and 5.3).
//!
//! It is written in two parts. [`Table::write_body`] writes the entries and the
//! backup table; [`Table::write_head`] writes the first two sectors, without
//! which no firmware and no kernel sees a partition. So a disk whose writing
//! was cut never looks like a whole one.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use gptman::{GPT, GPTPartitionEntry};
use uuid::Uuid;

use crate::plan::{DiskPlan, Partition};
use crate::size::MIB;

/// A table, ready to be written.
#[derive(Debug)]
pub struct Table {
    ends: Ends,
    head: usize,
}

/// Why a table was not written.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The plan does not make a valid table.
    #[error("the partition table cannot be made")]
    Invalid(#[source] gptman::Error),
    /// The disk could not be written or read.
    #[error("cannot access the partition table at byte {offset} of the disk")]
    Access {
        /// The first byte of the part of it.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was read back is not what was written.
    #[error("the partition table at byte {offset} reads back differently: the disk is faulty")]
    Differs {
        /// The first byte of the part of it.
        offset: u64,
    },
}

impl Table {
    /// The table of a plan.
    pub fn new(plan: &DiskPlan) -> Result<Table, GptError> {
        let sector_size = u64::from(plan.sector_size.bytes());
        let mut ends =
            Ends::new(plan.size).map_err(|source| GptError::Access { offset: 0, source })?;
        let mut table = GPT::new_from(&mut ends, sector_size, plan.identity.disk.to_bytes_le())
            .map_err(GptError::Invalid)?;
        for partition in plan.partitions() {
            table[partition.number] = entry(partition, sector_size);
        }
        GPT::write_protective_mbr_into(&mut ends, sector_size).map_err(GptError::Invalid)?;
        table.write_into(&mut ends).map_err(GptError::Invalid)?;
        Ok(Table {
            ends,
            head: 2 * usize::from(plan.sector_size.bytes()),
        })
    }

    /// Writes all but the first two sectors; not flushed.
    pub fn write_body(&self, disk: &File) -> Result<(), GptError> {
        let (_, entries) = self.ends.front.get_ref().split_at(self.head);
        let offset = u64::try_from(self.head).unwrap_or(0);
        write_at(disk, entries, offset)?;
        write_at(disk, self.ends.back.get_ref(), self.ends.back_offset)
    }

    /// Writes the first two sectors; not flushed.
    ///
    /// Everything else must be on disk before.
    pub fn write_head(&self, disk: &File) -> Result<(), GptError> {
        let (head, _) = self.ends.front.get_ref().split_at(self.head);
        write_at(disk, head, 0)
    }

    /// Reads the whole table back and compares it.
    pub fn verify(&self, disk: &File) -> Result<(), GptError> {
        compare_at(disk, self.ends.front.get_ref(), 0)?;
        compare_at(disk, self.ends.back.get_ref(), self.ends.back_offset)
    }
}

fn entry(partition: &Partition, sector_size: u64) -> GPTPartitionEntry {
    GPTPartitionEntry {
        partition_type_guid: partition.type_guid.to_bytes_le(),
        unique_partition_guid: partition.guid.to_bytes_le(),
        starting_lba: partition.offset / sector_size,
        ending_lba: (partition.end() / sector_size).saturating_sub(1),
        attribute_bits: 0,
        partition_name: partition.label.into(),
    }
}

fn write_at(disk: &File, bytes: &[u8], offset: u64) -> Result<(), GptError> {
    disk.write_all_at(bytes, offset)
        .map_err(|source| GptError::Access { offset, source })
}

fn compare_at(disk: &File, bytes: &[u8], offset: u64) -> Result<(), GptError> {
    let mut read = vec![0; bytes.len()];
    disk.read_exact_at(&mut read, offset)
        .map_err(|source| GptError::Access { offset, source })?;
    if read == bytes {
        Ok(())
    } else {
        Err(GptError::Differs { offset })
    }
}

/// The first and the last MiB of a disk, in memory: where its tables are.
#[derive(Debug)]
struct Ends {
    size: u64,
    position: u64,
    front: Cursor<Vec<u8>>,
    back: Cursor<Vec<u8>>,
    back_offset: u64,
}

impl Ends {
    fn new(size: u64) -> io::Result<Self> {
        let back_offset = size.checked_sub(MIB).filter(|offset| *offset >= MIB);
        let back_offset = back_offset.ok_or(io::ErrorKind::InvalidInput)?;
        let length = usize::try_from(MIB).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = || Cursor::new(vec![0; length]);
        Ok(Ends {
            size,
            position: 0,
            front: end(),
            back: end(),
            back_offset,
        })
    }

    /// The part at the position, and how much of a buffer fits into it.
    fn part(&mut self, wanted: usize) -> io::Result<(&mut Cursor<Vec<u8>>, usize)> {
        let (part, inside) = match self.position.checked_sub(self.back_offset) {
            Some(inside) => (&mut self.back, inside),
            None => (&mut self.front, self.position),
        };
        let left = MIB.checked_sub(inside).ok_or(io::ErrorKind::InvalidInput)?;
        part.set_position(inside);
        Ok((
            part,
            usize::try_from(left).map_or(wanted, |left| wanted.min(left)),
        ))
    }
}

impl Read for Ends {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (part, fitting) = self.part(buffer.len())?;
        let read = part.read(&mut buffer[..fitting])?;
        self.position += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}

impl Write for Ends {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let (part, fitting) = self.part(buffer.len())?;
        let written = part.write(&buffer[..fitting])?;
        self.position += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Ends {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// One partition of a table that somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The first byte.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its name.
    pub name: String,
}

/// The most entries of a foreign table that are looked at.
const MAX_ENTRIES: u32 = 1024;

/// Reads the partitions of whatever primary table is on a disk of `size` bytes.
///
/// `None` without one. Checksums are not looked at, because a damaged table
/// still says that the disk held something. Bounded, whatever the disk says.
pub fn look(disk: &File, size: u64) -> io::Result<Option<Vec<Seen>>> {
    for sector_size in [512, 4096] {
        let mut header = [0; 92];
        if read_some(disk, &mut header, sector_size)? < header.len()
            || !header.starts_with(b"EFI PART")
        {
            continue;
        }
        return read_entries(disk, size, sector_size, &header).map(Some);
    }
    Ok(None)
}

fn read_entries(
    disk: &File,
    size: u64,
    sector_size: u64,
    header: &[u8; 92],
) -> io::Result<Vec<Seen>> {
    let first = u64_at(header, 72).saturating_mul(sector_size);
    let count = u32_at(header, 80).min(MAX_ENTRIES);
    let stride = u64::from(u32_at(header, 84));
    let mut seen = Vec::new();
    if stride < 128 || first >= size {
        return Ok(seen);
    }
    for index in 0..u64::from(count) {
        let mut entry = [0; 128];
        let offset = first.saturating_add(index.saturating_mul(stride));
        if offset >= size || read_some(disk, &mut entry, offset)? < entry.len() {
            break;
        }
        seen.extend(parse_entry(&entry, sector_size));
    }
    Ok(seen)
}

fn parse_entry(entry: &[u8; 128], sector_size: u64) -> Option<Seen> {
    let mut type_guid = [0; 16];
    type_guid.copy_from_slice(&entry[..16]);
    let type_guid = Uuid::from_bytes_le(type_guid);
    if type_guid.is_nil() {
        return None;
    }
    let (start, end) = (u64_at(entry, 32), u64_at(entry, 40));
    let units: Vec<u16> = entry[56..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Seen {
        offset: start.saturating_mul(sector_size),
        length: end
            .saturating_add(1)
            .saturating_sub(start)
            .saturating_mul(sector_size),
        type_guid,
        name: String::from_utf16_lossy(&units),
    })
}

/// Reads up to the end of the file or the buffer.
pub(crate) fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let position = offset.saturating_add(u64::try_from(filled).unwrap_or(0));
        match file.read_at(&mut buffer[filled..], position) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}
