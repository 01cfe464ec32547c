//! The reserved sectors: boot sector, FSInfo, and their copies.

use super::{FIRST_CLUSTER, Geometry, RESERVED_SECTORS, TABLES, Volume};

/// Where the copy of the first two sectors is.
const BACKUP: usize = 6;

/// All reserved sectors of a file system with so many free clusters.
pub(super) fn reserved(geometry: &Geometry, volume: &Volume, free: u32, next: u32) -> Vec<u8> {
    let sector = usize::from(geometry.sector_size);
    let count = usize::try_from(RESERVED_SECTORS).unwrap_or(BACKUP + 2);
    let mut bytes = vec![0; count * sector];
    for at in [0, BACKUP * sector] {
        boot(&mut bytes[at..at + sector], geometry, volume);
        information(&mut bytes[at + sector..at + 2 * sector], free, next);
    }
    bytes
}

fn put(sector: &mut [u8], at: usize, bytes: &[u8]) {
    sector[at..at + bytes.len()].copy_from_slice(bytes);
}

fn boot(sector: &mut [u8], geometry: &Geometry, volume: &Volume) {
    // A jump over the parameters; there is no boot code, firmware reads files.
    put(sector, 0, &[0xeb, 0x58, 0x90]);
    // What drivers of all ages accept.
    put(sector, 3, b"MSWIN4.1");
    put(sector, 11, &geometry.sector_size.to_le_bytes());
    put(sector, 13, &[geometry.sectors_per_cluster]);
    put(sector, 14, &RESERVED_SECTORS.to_le_bytes()[..2]);
    put(sector, 16, &TABLES.to_le_bytes()[..1]);
    // A fixed disk, with a geometry that nobody uses.
    put(sector, 21, &[0xf8]);
    put(sector, 24, &32u16.to_le_bytes());
    put(sector, 26, &64u16.to_le_bytes());
    put(sector, 28, &volume.hidden_sectors.to_le_bytes());
    put(sector, 32, &geometry.total_sectors.to_le_bytes());
    put(sector, 36, &geometry.table_sectors.to_le_bytes());
    put(sector, 44, &FIRST_CLUSTER.to_le_bytes());
    // FSInfo is in sector 1.
    put(sector, 48, &1u16.to_le_bytes());
    put(sector, 50, &[BACKUP.to_le_bytes()[0], 0]);
    put(sector, 64, &[0x80]);
    put(sector, 66, &[0x29]);
    put(sector, 67, &volume.serial.to_le_bytes());
    put(sector, 71, &volume.label);
    put(sector, 82, b"FAT32   ");
    put(sector, 510, &[0x55, 0xaa]);
}

fn information(sector: &mut [u8], free: u32, next: u32) {
    put(sector, 0, b"RRaA");
    put(sector, 484, b"rrAa");
    put(sector, 488, &free.to_le_bytes());
    put(sector, 492, &next.to_le_bytes());
    put(sector, 510, &[0x55, 0xaa]);
}
