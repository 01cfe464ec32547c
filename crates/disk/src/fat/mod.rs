//! FAT32 file systems that are written once, as Microsoft's "FAT: General
//! Overview of On-Disk Format" (1.03) describes them.
//!
//! The whole tree is known before anything is written, so each file and each
//! directory gets consecutive clusters in the order of the walk, and the same
//! tree gives the same bytes. Bytes in, bytes out: crate module
//! [`crate::esp`] reads and writes the disk.

mod boot_sector;
mod directory;
mod name;

use crate::plan::SectorSize;

pub(crate) use name::{NameError, check as check_name};

/// Where the reserved sectors end and the first table begins, in sectors.
const RESERVED_SECTORS: u32 = 32;

/// There are two copies of the table.
pub(crate) const TABLES: u32 = 2;

/// The least and the most clusters with which a file system is FAT32.
const CLUSTERS: std::ops::RangeInclusive<u32> = 65_525..=0x0fff_fff5;

/// The number of the first cluster, which is the root directory's.
const FIRST_CLUSTER: u32 = 2;

/// The end of a chain of clusters.
const END_OF_CHAIN: u32 = 0x0fff_ffff;

/// Why a tree does not fit into a file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatError {
    /// A partition of that size cannot be FAT32.
    #[error("a partition of {0} bytes cannot be FAT32")]
    Size(u64),
    /// The tree needs more clusters than there are.
    #[error("the files need {needed} bytes, the FAT file system has {there}")]
    Full {
        /// What they take, in whole clusters.
        needed: u64,
        /// What there is.
        there: u64,
    },
}

/// What is where in a file system of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    sector_size: u16,
    sectors_per_cluster: u8,
    total_sectors: u32,
    table_sectors: u32,
    clusters: u32,
}

impl Geometry {
    /// The geometry of a partition of `length` bytes.
    pub(crate) fn new(length: u64, sector_size: SectorSize) -> Result<Geometry, FatError> {
        let refuse = || FatError::Size(length);
        let sector_size = sector_size.bytes();
        let total_sectors = u32::try_from(length / u64::from(sector_size)).map_err(|_| refuse())?;
        let sectors_per_cluster = sectors_per_cluster(length, sector_size);
        let per_cluster = u64::from(sectors_per_cluster);
        let data_and_tables = total_sectors
            .checked_sub(RESERVED_SECTORS)
            .ok_or_else(refuse)?;
        // Each sector of a table stands for so many clusters, and there are two tables.
        let entries = u64::from(sector_size) / 4;
        let table = (u64::from(data_and_tables) + u64::from(FIRST_CLUSTER) * per_cluster)
            .div_ceil(per_cluster * entries + u64::from(TABLES));
        // So that clusters are aligned as the partition is.
        let table = table.next_multiple_of(per_cluster.div_ceil(u64::from(TABLES)));
        let table_sectors = u32::try_from(table).map_err(|_| refuse())?;
        let clusters = table_sectors
            .checked_mul(TABLES)
            .and_then(|tables| data_and_tables.checked_sub(tables))
            .map(|data| data / u32::from(sectors_per_cluster))
            .filter(|clusters| CLUSTERS.contains(clusters))
            .ok_or_else(refuse)?;
        Ok(Geometry {
            sector_size,
            sectors_per_cluster,
            total_sectors,
            table_sectors,
            clusters,
        })
    }

    /// The size of a cluster in bytes.
    pub(crate) fn cluster_size(&self) -> u64 {
        u64::from(self.sector_size) * u64::from(self.sectors_per_cluster)
    }

    /// The first byte of a copy of the table.
    pub(crate) fn table_offset(&self, copy: u32) -> u64 {
        let sector = u64::from(RESERVED_SECTORS) + u64::from(copy) * u64::from(self.table_sectors);
        sector * u64::from(self.sector_size)
    }

    /// The length of one copy of the table in bytes.
    pub(crate) fn table_length(&self) -> u64 {
        u64::from(self.table_sectors) * u64::from(self.sector_size)
    }

    /// The first byte of a cluster.
    pub(crate) fn cluster_offset(&self, cluster: u32) -> u64 {
        let index = u64::from(cluster.saturating_sub(FIRST_CLUSTER));
        self.table_offset(TABLES) + index * self.cluster_size()
    }
}

/// 4 KiB, or one sector where that would make too few clusters.
fn sectors_per_cluster(length: u64, sector_size: u16) -> u8 {
    if length >= 260 * crate::size::MIB && sector_size == 512 {
        8
    } else {
        1
    }
}

/// A file or directory of the tree, before it has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    File { name: String, size: u32 },
    Directory { name: String, children: Vec<Node> },
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        match self {
            Node::File { name, .. } | Node::Directory { name, .. } => name,
        }
    }
}

/// Consecutive clusters; none for an empty file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    first: u32,
    count: u32,
}

/// The bytes of a directory, and where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first byte, from the start of the partition.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A file system in which every file and directory has its place.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    /// Reserved sectors and directories; the tables are [`Layout::table`].
    pub(crate) pieces: Vec<Piece>,
    /// Where the contents of each file begin, in the order of the walk.
    pub(crate) files: Vec<u64>,
    /// All chains, in the order of their clusters.
    chains: Vec<Extent>,
}

/// What a file system is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Volume {
    pub(crate) label: [u8; 11],
    pub(crate) serial: u32,
    /// Where the partition starts on the disk, in sectors.
    pub(crate) hidden_sectors: u32,
}

impl Layout {
    /// Gives everything below the root directory its place.
    pub(crate) fn new(
        geometry: Geometry,
        volume: &Volume,
        children: &[Node],
    ) -> Result<Layout, FatError> {
        let mut layout = Layout {
            geometry,
            pieces: Vec::new(),
            files: Vec::new(),
            chains: Vec::new(),
        };
        layout.check_room(children)?;
        layout.directory(children, None, Some(&volume.label));
        let used = layout.next_cluster() - FIRST_CLUSTER;
        let reserved = boot_sector::reserved(
            &geometry,
            volume,
            geometry.clusters - used,
            layout.next_cluster(),
        );
        layout.pieces.push(Piece {
            offset: 0,
            bytes: reserved,
        });
        Ok(layout)
    }

    /// The beginning of the table: what follows it is zero.
    pub(crate) fn table(&self) -> Vec<u8> {
        let mut table = Vec::new();
        let mut push = |entry: u32| table.extend(entry.to_le_bytes());
        // The media byte, and a volume that was left clean.
        push(0x0fff_fff8);
        push(END_OF_CHAIN);
        for chain in &self.chains {
            for cluster in chain.first + 1..chain.first + chain.count {
                push(cluster);
            }
            push(END_OF_CHAIN);
        }
        table
    }

    fn next_cluster(&self) -> u32 {
        self.chains
            .last()
            .map_or(FIRST_CLUSTER, |last| last.first + last.count)
    }

    /// Fails before anything has a place when there is not one for everything,
    /// so that no sum of clusters overflows later.
    fn check_room(&self, children: &[Node]) -> Result<(), FatError> {
        let cluster = self.geometry.cluster_size();
        let needed = clusters_of(children, true, cluster);
        let there = u64::from(self.geometry.clusters);
        if needed > there {
            let (needed, there) = (needed * cluster, there * cluster);
            return Err(FatError::Full { needed, there });
        }
        Ok(())
    }

    fn allocate(&mut self, bytes: u64) -> Extent {
        let count = u32::try_from(bytes.div_ceil(self.geometry.cluster_size()));
        // Checked by `check_room`.
        let extent = Extent {
            first: self.next_cluster(),
            count: count.unwrap_or(u32::MAX),
        };
        if extent.count > 0 {
            self.chains.push(extent);
        }
        extent
    }

    /// Places a directory, then what is in it, and returns its first cluster.
    fn directory(
        &mut self,
        children: &[Node],
        parent: Option<u32>,
        label: Option<&[u8; 11]>,
    ) -> u32 {
        let length = directory::length(children, label.is_some());
        let extent = self.allocate(length);
        let mut writer = directory::Writer::new(children);
        match (label, parent) {
            (Some(label), _) => writer.label(label),
            (None, parent) => writer.dots(extent.first, parent.unwrap_or(0)),
        }
        // Of a directory right below the root, `..` has the number 0.
        let as_parent = if label.is_some() { 0 } else { extent.first };
        for child in children {
            match child {
                Node::File { name, size } => {
                    let place = self.allocate((*size).into());
                    let first = if place.count == 0 { 0 } else { place.first };
                    self.files.push(self.geometry.cluster_offset(place.first));
                    writer.file(name, first, *size);
                }
                Node::Directory { name, children } => {
                    let first = self.directory(children, Some(as_parent), None);
                    writer.directory(name, first);
                }
            }
        }
        let mut bytes = writer.finish();
        let whole = u64::from(extent.count) * self.geometry.cluster_size();
        bytes.resize(usize::try_from(whole).unwrap_or(bytes.len()), 0);
        self.pieces.push(Piece {
            offset: self.geometry.cluster_offset(extent.first),
            bytes,
        });
        extent.first
    }
}

fn clusters_of(children: &[Node], is_root: bool, cluster: u64) -> u64 {
    let own = directory::length(children, is_root).div_ceil(cluster);
    let below = children.iter().map(|child| match child {
        Node::File { size, .. } => u64::from(*size).div_ceil(cluster),
        Node::Directory { children, .. } => clusters_of(children, false, cluster),
    });
    below.fold(own, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::{GIB, MIB};

    #[test]
    fn partitions_of_all_sizes_have_the_clusters_of_fat32_inside_of_them() {
        let sizes = (64..1100).map(|mib| (mib * MIB, SectorSize::B512));
        let large = (260..1100).map(|mib| (mib * MIB, SectorSize::B4096));
        for (length, sector) in sizes.chain(large).chain([(512 * GIB, SectorSize::B512)]) {
            let geometry = Geometry::new(length, sector).unwrap();
            let last = geometry.clusters + FIRST_CLUSTER;
            assert!(
                geometry.cluster_offset(last) <= length,
                "{length}: {geometry:?}"
            );
            let entries = geometry.table_length() / 4;
            assert!(entries >= u64::from(last), "{length}: {geometry:?}");
            // No more than a few clusters are given away.
            assert!(length - geometry.cluster_offset(last) < 2 * geometry.cluster_size());
        }
    }

    #[test]
    fn a_partition_that_is_too_small_or_too_large_is_refused() {
        let sizes = [(0, SectorSize::B512), (32 * MIB, SectorSize::B512)];
        for (length, sector) in sizes
            .into_iter()
            .chain([(u64::MAX, SectorSize::B512), (100 * MIB, SectorSize::B4096)])
        {
            assert_eq!(Geometry::new(length, sector), Err(FatError::Size(length)));
        }
    }

    #[test]
    fn files_that_do_not_fit_are_refused_with_the_numbers() {
        let geometry = Geometry::new(64 * MIB, SectorSize::B512).unwrap();
        let volume = Volume {
            label: *b"TEST       ",
            serial: 1,
            hidden_sectors: 0,
        };
        let file = |number: u32| Node::File {
            name: number.to_string(),
            size: u32::MAX,
        };
        let many: Vec<Node> = (0..9).map(file).collect();
        let error = Layout::new(geometry, &volume, &many).unwrap_err();
        let FatError::Full { needed, there } = error else {
            panic!("{error}")
        };
        assert!(needed > 9 * u64::from(u32::MAX) && there < 64 * MIB);
    }

    #[test]
    fn every_cluster_has_one_owner_and_chains_end() {
        let geometry = Geometry::new(64 * MIB, SectorSize::B512).unwrap();
        let volume = Volume {
            label: *b"TEST       ",
            serial: 1,
            hidden_sectors: 0,
        };
        let file = |name: &str, size| Node::File {
            name: name.into(),
            size,
        };
        let inner = vec![file("empty", 0), file("one", 1), file("long", 5000)];
        let tree = [
            Node::Directory {
                name: "EFI".into(),
                children: inner,
            },
            file("last", 512),
        ];
        let layout = Layout::new(geometry, &volume, &tree).unwrap();
        let table: Vec<u32> = layout
            .table()
            .chunks_exact(4)
            .map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
            .collect();
        let end = END_OF_CHAIN;
        // Root, EFI, one, ten clusters of long, last.
        let long = [6, 7, 8, 9, 10, 11, 12, 13, 14, end];
        let expected = [&[0x0fff_fff8, end, end, end, end][..], &long, &[end]].concat();
        assert_eq!(table, expected);
        assert_eq!(layout.files.len(), 4);
    }
}
