//! How a disk is divided: a pure value, made before anything is written.

use std::fmt;

use uuid::{Uuid, uuid};

use crate::content::Content;
use crate::filesystem::Kind;
use crate::seed::Seed;
use crate::size::{GIB, MIB, Size, round_down, round_up};

/// The type of the EFI system partition (UEFI 2.10, 5.3.3).
pub const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");

/// The size of the EFI system partition where nothing else is asked for.
///
/// Each deployment keeps a kernel and an initrd there until it is collected.
/// A generic Debian initrd with firmware takes up to 250 MiB, so this holds
/// four of them; in a raw file, what is not used takes no space.
pub const DEFAULT_ESP: u64 = GIB;

/// Its size on disks under 8 GiB.
pub const SMALL_ESP: u64 = 512 * MIB;

/// The least it can have: FAT32 needs 65,525 clusters, and then some files.
pub const MIN_ESP: u64 = 64 * MIB;

/// The least that a root file system gets.
pub const MIN_ROOT: u64 = 512 * MIB;

/// The size of a new raw disk, unless its content needs more.
pub const DEFAULT_DISK: u64 = 10 * GIB;

/// The largest disk that is planned for, in bytes (1 EiB).
const MAX_DISK: u64 = 1 << 60;

/// Partitions lie between these two margins; the second holds the backup table.
const MARGIN: u64 = MIB;

/// The unit in which a disk is read and written, and in which its table counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes: raw files, and nearly all devices.
    B512,
    /// 4096 bytes: devices that say so.
    B4096,
}

impl SectorSize {
    /// The sector size of so many bytes; `None` for any but 512 and 4096.
    pub fn new(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(SectorSize::B512),
            4096 => Some(SectorSize::B4096),
            _ => None,
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> u16 {
        match self {
            SectorSize::B512 => 512,
            SectorSize::B4096 => 4096,
        }
    }
}

/// The machines that a disk can be made for: those that boot by UEFI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Architecture {
    /// The architecture by the name that OCI images use (that of Go).
    pub fn from_oci(name: &str) -> Option<Self> {
        match name {
            "amd64" => Some(Architecture::X86_64),
            "arm64" => Some(Architecture::Aarch64),
            "riscv64" => Some(Architecture::Riscv64),
            _ => None,
        }
    }

    /// Its name in Rust, which `match-architectures` of bootc's files uses.
    pub fn rust_name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
            Architecture::Riscv64 => "riscv64",
        }
    }

    /// The type of its root partition (Discoverable Partitions Specification).
    pub fn root_type(self) -> Uuid {
        match self {
            Architecture::X86_64 => uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            Architecture::Aarch64 => uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
            Architecture::Riscv64 => uuid!("72ec70a6-cf74-40e6-bd49-4bda08e8f224"),
        }
    }
}

/// The identifiers of one disk; they are known before its content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the partition table.
    pub disk: Uuid,
    /// Of the EFI system partition (its PARTUUID).
    pub esp_partition: Uuid,
    /// Of the root partition (its PARTUUID).
    pub root_partition: Uuid,
    /// Of the root file system (what `root=UUID=` names).
    pub root_filesystem: Uuid,
    /// What the root file system hashes its directories with, or its device UUID.
    pub root_seed: Uuid,
    /// The volume number of the FAT file system.
    pub esp_volume: u32,
}

impl Identity {
    /// The identifiers that follow from a seed.
    pub fn new(seed: &Seed) -> Self {
        Identity {
            disk: seed.uuid("disk"),
            esp_partition: seed.uuid("esp partition"),
            root_partition: seed.uuid("root partition"),
            root_filesystem: seed.uuid("root file system"),
            root_seed: seed.uuid("root seed"),
            esp_volume: seed.number("esp volume"),
        }
    }
}

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct Request {
    /// The size of the disk; `None`: as its content needs, at least [`DEFAULT_DISK`].
    pub disk_size: Option<u64>,
    /// The unit of the disk.
    pub sector_size: SectorSize,
    /// The size of the EFI system partition, where it was asked for.
    pub esp_size: Option<u64>,
    /// The size of the root partition; `None`: all that is left.
    pub root_size: Option<u64>,
    /// The root file system.
    pub filesystem: Kind,
    /// The machine.
    pub architecture: Architecture,
    /// What goes into the EFI system partition.
    pub esp_content: Content,
    /// What goes into the root file system.
    pub root_content: Content,
    /// The identifiers.
    pub identity: Identity,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number in the table, from 1.
    pub number: u32,
    /// Where it starts, in bytes from the start of the disk; a multiple of 1 MiB.
    pub offset: u64,
    /// How long it is, in bytes; a multiple of 1 MiB.
    pub length: u64,
    /// What it is for.
    pub type_guid: Uuid,
    /// Which it is (PARTUUID).
    pub guid: Uuid,
    /// Its name in the table, and the label of its file system.
    pub label: &'static str,
}

impl Partition {
    /// The first byte after it.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// How a disk is going to be divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlan {
    /// The size of the disk in bytes.
    pub size: u64,
    /// The unit of the disk.
    pub sector_size: SectorSize,
    /// The EFI system partition: FAT32.
    pub esp: Partition,
    /// The root partition.
    pub root: Partition,
    /// The root file system.
    pub filesystem: Kind,
    /// The identifiers.
    pub identity: Identity,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The disk cannot hold it.
    #[error(
        "the disk is too small: {} are needed ({} for the EFI system partition, {} for the root file system), it has {} (missing: {})",
        Size(*.needed), Size(*.esp), Size(*.root), Size(*.there), exact_difference(*.needed, *.there)
    )]
    DiskTooSmall {
        /// What is needed in all, in bytes.
        needed: u64,
        /// Of it, the EFI system partition.
        esp: u64,
        /// Of it, the root partition.
        root: u64,
        /// The size of the disk.
        there: u64,
    },
    /// The EFI system partition cannot hold its files.
    #[error(
        "the EFI system partition is too small: its files need {}, {} were asked for; ask for more, at least {}",
        Size(*.needed), Size(*.there), Size(*.needed)
    )]
    EspTooSmall {
        /// What is needed, in bytes.
        needed: u64,
        /// What was asked for.
        there: u64,
    },
    /// The root partition cannot hold its files.
    #[error(
        "the root partition is too small: its files need {}, {} were asked for; ask for more, at least {}",
        Size(*.needed), Size(*.there), Size(*.needed)
    )]
    RootTooSmall {
        /// What is needed, in bytes.
        needed: u64,
        /// What was asked for.
        there: u64,
    },
    /// A number is beyond all disks.
    #[error("a disk of {} is more than hull can lay out", Size(*.0))]
    TooLarge(u64),
}

fn exact_difference(needed: u64, there: u64) -> Size {
    Size(needed.saturating_sub(there))
}

impl DiskPlan {
    /// Divides a disk.
    pub fn new(request: &Request) -> Result<DiskPlan, PlanError> {
        let root_needed = root_needed(request)?;
        let esp_length = esp_length(request)?;
        let root_wanted = root_wanted(request, root_needed)?;
        let needed = sum(&[MARGIN, esp_length, root_wanted, MARGIN])?;
        let size = match request.disk_size {
            Some(size) => round_down(size, request.sector_size.bytes().into()),
            None => default_size(request, needed)?,
        };
        if size > MAX_DISK {
            return Err(PlanError::TooLarge(size));
        }
        let end = round_down(size.saturating_sub(MARGIN), MIB);
        let root_offset = MARGIN + esp_length;
        let root_there = end.saturating_sub(root_offset);
        if root_there < root_wanted {
            let (esp, root, there) = (esp_length, root_wanted, size);
            return Err(PlanError::DiskTooSmall {
                needed,
                esp,
                root,
                there,
            });
        }
        let root_length = request.root_size.map_or(root_there, |_| root_wanted);
        Ok(DiskPlan {
            size,
            sector_size: request.sector_size,
            esp: esp_partition(&request.identity, esp_length),
            root: root_partition(request, root_offset, root_length),
            filesystem: request.filesystem,
            identity: request.identity.clone(),
        })
    }

    /// The partitions in the order of their numbers.
    pub fn partitions(&self) -> [&Partition; 2] {
        [&self.esp, &self.root]
    }
}

fn esp_partition(identity: &Identity, length: u64) -> Partition {
    Partition {
        number: 1,
        offset: MARGIN,
        length,
        type_guid: ESP_TYPE,
        guid: identity.esp_partition,
        label: "EFI-SYSTEM",
    }
}

fn root_partition(request: &Request, offset: u64, length: u64) -> Partition {
    Partition {
        number: 2,
        offset,
        length,
        type_guid: request.architecture.root_type(),
        guid: request.identity.root_partition,
        label: "root",
    }
}

/// What the EFI system partition gets: what was asked for, or enough for four
/// times what it holds now, because later deployments add to it.
fn esp_length(request: &Request) -> Result<u64, PlanError> {
    let content = request.esp_content;
    // A cluster is at most 32 KiB, and each entry wastes less than one.
    let held = sum(&[content.bytes, content.entries.saturating_mul(32 << 10)])?;
    let least = sum(&[held, held / 64, MIB])?.max(MIN_ESP);
    let least = round_up(least, MIB).ok_or(PlanError::TooLarge(least))?;
    match request.esp_size {
        Some(asked) => {
            let there = round_down(asked, MIB);
            if there < least || there < fat_minimum(request.sector_size) {
                let needed = least.max(fat_minimum(request.sector_size));
                return Err(PlanError::EspTooSmall {
                    needed,
                    there: asked,
                });
            }
            Ok(there)
        }
        None => {
            let small = request.disk_size.is_some_and(|size| size < 8 * GIB);
            let default = if small { SMALL_ESP } else { DEFAULT_ESP };
            let room = least.checked_mul(4).ok_or(PlanError::TooLarge(least))?;
            Ok(if small {
                default.max(least)
            } else {
                default.max(room)
            })
        }
    }
}

/// Under this, a FAT file system of this sector size has too few clusters to be FAT32.
fn fat_minimum(sector_size: SectorSize) -> u64 {
    match sector_size {
        SectorSize::B512 => MIN_ESP,
        SectorSize::B4096 => 260 * MIB,
    }
}

/// The least that holds the content, with the file system's own structures.
fn root_needed(request: &Request) -> Result<u64, PlanError> {
    let Content { bytes, entries } = request.root_content;
    let inodes = entries.saturating_mul(request.filesystem.bytes_per_entry());
    let needed = sum(&[
        bytes,
        bytes / 16,
        inodes,
        request.filesystem.fixed_overhead(),
    ])?;
    // mke2fs makes one inode for every 16 KiB of the file system.
    let needed = needed.max(entries.saturating_mul(request.filesystem.bytes_per_inode()));
    round_up(needed.max(MIN_ROOT), MIB).ok_or(PlanError::TooLarge(needed))
}

fn root_wanted(request: &Request, needed: u64) -> Result<u64, PlanError> {
    match request.root_size {
        None => Ok(needed),
        Some(asked) if round_down(asked, MIB) < needed => Err(PlanError::RootTooSmall {
            needed,
            there: asked,
        }),
        Some(asked) => Ok(round_down(asked, MIB)),
    }
}

/// A new raw disk holds its system three times: the booted one, the next, and
/// what is in flight; in whole GiB.
fn default_size(request: &Request, needed: u64) -> Result<u64, PlanError> {
    let size = match request.root_size {
        Some(_) => return Ok(needed),
        None => sum(&[
            needed,
            request.root_content.bytes,
            request.root_content.bytes,
        ])?,
    };
    round_up(size.max(DEFAULT_DISK), GIB).ok_or(PlanError::TooLarge(size))
}

fn sum(numbers: &[u64]) -> Result<u64, PlanError> {
    let total = numbers
        .iter()
        .try_fold(0u64, |total, number| total.checked_add(*number));
    total
        .filter(|total| *total <= MAX_DISK)
        .ok_or(PlanError::TooLarge(u64::MAX))
}

impl fmt::Display for DiskPlan {
    /// The partitions in lines; with `{:#}`, their identifiers too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let volume = self.identity.esp_volume;
        let volume = format!("{:04X}-{:04X}", volume >> 16, volume & 0xffff);
        let filesystem = self.identity.root_filesystem.to_string();
        write!(
            f,
            "GPT on {}, sectors of {} bytes",
            Size(self.size),
            self.sector_size.bytes()
        )?;
        if f.alternate() {
            write!(f, ", {}", self.identity.disk)?;
        }
        writeln!(f)?;
        line(f, &self.esp, "FAT32", &volume)?;
        line(f, &self.root, self.filesystem.name(), &filesystem)
    }
}

fn line(f: &mut fmt::Formatter<'_>, part: &Partition, kind: &str, identifier: &str) -> fmt::Result {
    let Partition {
        number,
        offset,
        length,
        label,
        ..
    } = part;
    write!(
        f,
        "  {number} {label:<10} {:>9} at {} MiB  {kind}",
        Size(*length),
        offset / MIB
    )?;
    if f.alternate() {
        write!(f, " {identifier}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> Request {
        Request {
            disk_size: None,
            sector_size: SectorSize::B512,
            esp_size: None,
            root_size: None,
            filesystem: Kind::Ext4,
            architecture: Architecture::X86_64,
            esp_content: Content {
                bytes: 100 * MIB,
                entries: 10,
            },
            root_content: Content {
                bytes: GIB,
                entries: 20_000,
            },
            identity: Identity::new(&Seed::new("test")),
        }
    }

    #[test]
    fn a_new_raw_disk_has_room_for_upgrades() {
        let plan = DiskPlan::new(&request()).unwrap();
        assert_eq!(plan.size, 10 * GIB);
        assert_eq!((plan.esp.offset, plan.esp.length), (MIB, GIB));
        assert_eq!(
            (plan.root.offset, plan.root.end()),
            (GIB + MIB, 10 * GIB - MIB)
        );
        let large = Content {
            bytes: 20 * GIB,
            entries: 1,
        };
        let plan = DiskPlan::new(&Request {
            root_content: large,
            ..request()
        })
        .unwrap();
        assert!(plan.root.length > 60 * GIB, "{plan}");
    }

    #[test]
    fn a_disk_that_cannot_hold_the_content_is_refused_with_the_numbers() {
        let error = DiskPlan::new(&Request {
            disk_size: Some(GIB),
            ..request()
        })
        .unwrap_err();
        let PlanError::DiskTooSmall {
            needed,
            esp,
            root,
            there,
        } = error.clone()
        else {
            panic!("{error}")
        };
        assert_eq!(there, GIB);
        assert_eq!(esp, SMALL_ESP);
        assert_eq!(needed, esp + root + 2 * MIB);
        let text = error.to_string();
        assert!(
            text.contains("too small") && text.contains("it has 1 GiB"),
            "{text}"
        );
        DiskPlan::new(&Request {
            disk_size: Some(needed),
            ..request()
        })
        .unwrap();
        let below = Request {
            disk_size: Some(needed - 1),
            ..request()
        };
        assert!(matches!(
            DiskPlan::new(&below),
            Err(PlanError::DiskTooSmall { .. })
        ));
    }

    #[test]
    fn an_esp_that_cannot_hold_its_files_is_refused() {
        let error = DiskPlan::new(&Request {
            esp_size: Some(80 * MIB),
            ..request()
        })
        .unwrap_err();
        assert!(matches!(error, PlanError::EspTooSmall { .. }), "{error}");
        let sectors = SectorSize::B4096;
        let request = Request {
            esp_size: Some(128 * MIB),
            sector_size: sectors,
            ..request()
        };
        let error = DiskPlan::new(&request).unwrap_err();
        assert_eq!(
            error,
            PlanError::EspTooSmall {
                needed: 260 * MIB,
                there: 128 * MIB
            }
        );
    }

    #[test]
    fn a_plan_prints_every_partition_with_place_and_identity() {
        let plan = DiskPlan::new(&request()).unwrap();
        assert_eq!(
            plan.to_string(),
            "GPT on 10 GiB, sectors of 512 bytes\n  \
             1 EFI-SYSTEM     1 GiB at 1 MiB  FAT32\n  \
             2 root         8.9 GiB at 1025 MiB  ext4\n"
        );
        let identified = format!("{plan:#}");
        assert!(
            identified.contains(&plan.identity.root_filesystem.to_string()),
            "{identified}"
        );
        assert!(
            identified.contains(&plan.identity.disk.to_string()),
            "{identified}"
        );
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let size = || {
            prop_oneof![
                0..1u64 << 62,
                (0..300_000u64).prop_map(|m| m * MIB + 12_345)
            ]
        };
        let content = || (0..1u64 << 45, 0..1u64 << 24);
        (
            prop::option::of(size()),
            prop::bool::ANY,
            prop::option::of(size()),
            prop::option::of(size()),
            prop::sample::select(vec![Kind::Ext4, Kind::Xfs, Kind::Btrfs]),
            content(),
            content(),
        )
            .prop_map(
                |(disk_size, large, esp_size, root_size, filesystem, esp, root)| Request {
                    disk_size,
                    sector_size: if large {
                        SectorSize::B4096
                    } else {
                        SectorSize::B512
                    },
                    esp_size,
                    root_size,
                    filesystem,
                    esp_content: Content {
                        bytes: esp.0,
                        entries: esp.1,
                    },
                    root_content: Content {
                        bytes: root.0,
                        entries: root.1,
                    },
                    ..request()
                },
            )
    }

    proptest! {
        #[test]
        fn partitions_are_aligned_apart_inside_and_large_enough(request in any_request()) {
            let Ok(plan) = DiskPlan::new(&request) else { return Ok(()) };
            let sector = u64::from(plan.sector_size.bytes());
            let mut free_from = MARGIN;
            for partition in plan.partitions() {
                prop_assert_eq!(partition.offset % MIB, 0);
                prop_assert_eq!(partition.length % MIB, 0);
                prop_assert!(partition.offset >= free_from);
                free_from = partition.end();
            }
            // The backup table: 32 sectors of entries at 512 bytes, and its header.
            let table = 128 * 128 + sector;
            prop_assert!(free_from + table <= plan.size);
            prop_assert!(plan.root.length >= request.root_content.bytes);
            prop_assert!(plan.esp.length >= request.esp_content.bytes);
            if let Some(size) = request.disk_size {
                prop_assert!(plan.size <= size);
            }
        }
    }
}
