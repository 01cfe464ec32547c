//! Recognizing what a disk or a partition holds, by its magic numbers.

use std::fmt;
use std::fs::File;
use std::io;

use uuid::Uuid;

use crate::gpt::{self, read_some};
use crate::size::{MIB, Size};

/// How much of the start is looked at: the superblock of Btrfs ends there.
const HEAD: usize = 68 << 10;

/// What something that has a magic number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its kind, as people call it.
    pub kind: &'static str,
    /// Its label; empty without one.
    pub label: String,
    /// Its identifier, where it has one of 16 bytes.
    pub uuid: Option<Uuid>,
}

impl Signature {
    fn plain(kind: &'static str) -> Self {
        Signature {
            kind,
            label: String::new(),
            uuid: None,
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if !self.label.is_empty() {
            write!(f, " {:?}", self.label)?;
        }
        Ok(())
    }
}

/// Something that is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// What it is, for people.
    pub what: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            0 => f.write_str(&self.what),
            offset => write!(f, "{} at {}", self.what, Size(offset)),
        }
    }
}

/// Everything on a disk of `size` bytes that somebody might miss.
///
/// Empty only when there is no table, no file system, and nothing but zeros
/// in the first MiB.
pub fn survey(disk: &File, size: u64) -> io::Result<Vec<Found>> {
    let head = read_head(disk, 0)?;
    let mut found: Vec<Found> = recognize(&head)
        .iter()
        .map(|one| Found {
            offset: 0,
            what: one.to_string(),
        })
        .collect();
    if let Some(partitions) = gpt::look(disk, size)? {
        found.push(Found {
            offset: 0,
            what: table("GPT", partitions.len()),
        });
        for partition in partitions
            .iter()
            .filter(|partition| partition.offset < size)
        {
            describe_partition(disk, partition.offset, &partition.name, &mut found)?;
        }
    } else if let Some(starts) = mbr(&head) {
        found.push(Found {
            offset: 0,
            what: table("MBR", starts.len()),
        });
        for offset in starts.into_iter().filter(|offset| *offset < size) {
            describe_partition(disk, offset, "", &mut found)?;
        }
    }
    if found.is_empty() {
        found.extend(unknown_data(disk, size)?);
    }
    Ok(found)
}

/// The signatures at the start of a partition.
pub fn probe(disk: &File, offset: u64) -> io::Result<Vec<Signature>> {
    Ok(recognize(&read_head(disk, offset)?))
}

fn table(kind: &str, partitions: usize) -> String {
    match partitions {
        1 => format!("{kind} with 1 partition"),
        partitions => format!("{kind} with {partitions} partitions"),
    }
}

fn describe_partition(
    disk: &File,
    offset: u64,
    name: &str,
    found: &mut Vec<Found>,
) -> io::Result<()> {
    let signatures = probe(disk, offset)?;
    if signatures.is_empty() {
        let name = if name.is_empty() {
            String::new()
        } else {
            format!(" {name:?}")
        };
        found.push(Found {
            offset,
            what: format!("partition{name}"),
        });
    }
    found.extend(signatures.iter().map(|one| Found {
        offset,
        what: one.to_string(),
    }));
    Ok(())
}

fn unknown_data(disk: &File, size: u64) -> io::Result<Option<Found>> {
    let mut buffer = vec![0; usize::try_from(size.min(MIB)).unwrap_or(0)];
    for offset in [0, size.saturating_sub(MIB)] {
        let read = read_some(disk, &mut buffer, offset)?;
        if let Some(at) = buffer[..read].iter().position(|byte| *byte != 0) {
            let offset = offset + u64::try_from(at).unwrap_or(0);
            return Ok(Some(Found {
                offset,
                what: "data of an unknown kind".into(),
            }));
        }
    }
    Ok(None)
}

fn read_head(disk: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let read = read_some(disk, &mut head, offset)?;
    head.truncate(read);
    Ok(head)
}

/// Where the partitions of an MBR start, in bytes; `None` without one.
///
/// The protective entry of a GPT counts too: it may be all that is left.
fn mbr(head: &[u8]) -> Option<Vec<u64>> {
    if !has(head, 510, &[0x55, 0xaa]) || !fat(head).is_empty() {
        return None;
    }
    let entries = head
        .get(446..510)?
        .chunks_exact(16)
        .filter(|entry| entry[4] != 0);
    let starts: Vec<u64> = entries
        .map(|entry| {
            u64::from(u32::from_le_bytes([
                entry[8], entry[9], entry[10], entry[11],
            ])) * 512
        })
        .collect();
    (!starts.is_empty()).then_some(starts)
}

/// A magic number and where it is.
type Magic = (usize, &'static [u8]);

/// What is recognized by a magic number alone.
const PLAIN: [(&str, &[Magic]); 11] = [
    ("LUKS", &[(0, b"LUKS\xba\xbe")]),
    (
        "LVM physical volume",
        &[(0, LVM), (512, LVM), (1024, LVM), (1536, LVM)],
    ),
    (
        "swap",
        &[
            (4086, b"SWAPSPACE2"),
            (4086, b"SWAP-SPACE"),
            (65526, b"SWAPSPACE2"),
        ],
    ),
    ("exfat", &[(3, b"EXFAT   ")]),
    ("ntfs", &[(3, b"NTFS    ")]),
    ("iso9660", &[(32769, b"CD001")]),
    ("squashfs", &[(0, b"hsqs")]),
    ("erofs", &[(1024, b"\xe2\xe1\xf5\xe0")]),
    ("f2fs", &[(1024, b"\x10\x20\xf5\xf2")]),
    (
        "Linux RAID member",
        &[(0, b"\xfc\x4e\x2b\xa9"), (4096, b"\xfc\x4e\x2b\xa9")],
    ),
    (
        "bcache",
        &[(
            4120,
            b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        )],
    ),
];

const LVM: &[u8] = b"LABELONE";

/// All signatures in the first bytes of a disk or partition.
fn recognize(head: &[u8]) -> Vec<Signature> {
    let mut found = fat(head);
    found.extend(ext(head));
    found.extend(has(head, 0, b"XFSB").then(|| labelled("xfs", head, 108, 12, 32)));
    found.extend(
        has(head, 0x1_0040, b"_BHRfS_M").then(|| labelled("btrfs", head, 0x1_012b, 256, 0x1_0020)),
    );
    for (kind, places) in PLAIN {
        if places.iter().any(|(at, magic)| has(head, *at, magic)) {
            found.push(Signature::plain(kind));
        }
    }
    found
}

fn fat(head: &[u8]) -> Vec<Signature> {
    let boots = has(head, 510, &[0x55, 0xaa]) && (has(head, 0, &[0xeb]) || has(head, 0, &[0xe9]));
    let label_at = if !boots {
        None
    } else if has(head, 82, b"FAT32   ") {
        Some(71)
    } else {
        [b"FAT12   ", b"FAT16   ", b"FAT     "]
            .iter()
            .any(|name| has(head, 54, *name))
            .then_some(43)
    };
    let found = label_at.map(|at| {
        let label = label(head, at, 11);
        let label = if label == "NO NAME" {
            String::new()
        } else {
            label
        };
        Signature {
            kind: "vfat",
            label,
            uuid: None,
        }
    });
    found.into_iter().collect()
}

fn ext(head: &[u8]) -> Option<Signature> {
    /// Features that ext2 and ext3 do not have.
    const EXTENTS_64BIT_FLEX: u32 = 0x40 | 0x80 | 0x200;
    const HAS_JOURNAL: u32 = 0x4;
    if !has(head, 1024 + 0x38, &[0x53, 0xef]) {
        return None;
    }
    let number = |at: usize| {
        let bytes = head.get(1024 + at..1024 + at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let kind = match (number(0x5c)?, number(0x60)?) {
        (_, incompatible) if incompatible & EXTENTS_64BIT_FLEX != 0 => "ext4",
        (compatible, _) if compatible & HAS_JOURNAL != 0 => "ext3",
        _ => "ext2",
    };
    Some(labelled(kind, head, 1024 + 0x78, 16, 1024 + 0x68))
}

fn labelled(
    kind: &'static str,
    head: &[u8],
    label_at: usize,
    length: usize,
    uuid_at: usize,
) -> Signature {
    let uuid = head
        .get(uuid_at..uuid_at + 16)
        .and_then(|bytes| Uuid::from_slice(bytes).ok());
    Signature {
        kind,
        label: label(head, label_at, length),
        uuid,
    }
}

fn label(head: &[u8], at: usize, length: usize) -> String {
    let bytes = head.get(at..at + length).unwrap_or_default();
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

fn has(head: &[u8], at: usize, magic: &[u8]) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (at, bytes) in parts {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn magic_numbers_are_recognized_where_they_belong() {
        let cases: [(&str, Vec<u8>); 6] = [
            ("LUKS", head(&[(0, b"LUKS\xba\xbe")])),
            ("LVM physical volume", head(&[(512, b"LABELONE")])),
            ("swap", head(&[(4086, b"SWAPSPACE2")])),
            ("xfs \"data\"", head(&[(0, b"XFSB"), (108, b"data")])),
            (
                "ext2 \"old\"",
                head(&[(1080, &[0x53, 0xef]), (1024 + 0x78, b"old")]),
            ),
            (
                "vfat \"EFI\"",
                head(&[
                    (0, &[0xeb]),
                    (510, &[0x55, 0xaa]),
                    (82, b"FAT32   "),
                    (71, b"EFI        "),
                ]),
            ),
        ];
        for (expected, head) in cases {
            let found: Vec<String> = recognize(&head).iter().map(ToString::to_string).collect();
            assert_eq!(found, [expected]);
        }
        assert!(recognize(&head(&[(1, b"XFSB")])).is_empty());
    }

    #[test]
    fn a_boot_sector_of_fat_is_no_partition_table() {
        let mut boot = head(&[(0, &[0xeb]), (510, &[0x55, 0xaa]), (82, b"FAT32   ")]);
        boot[450] = 0x83;
        assert_eq!(mbr(&boot), None);
        boot[0] = 0;
        assert_eq!(mbr(&boot).map(|starts| starts.len()), Some(1));
    }

    #[test]
    fn labels_are_quoted_so_that_they_cannot_write_on_a_terminal() {
        let signature = recognize(&head(&[(0, b"XFSB"), (108, b"a\x1b[2J")])).remove(0);
        assert_eq!(signature.to_string(), "xfs \"a\\u{1b}[2J\"");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_surveyed(start in prop::collection::vec(any::<u8>(), 0..6000), signed: bool) {
            use std::io::Write as _;
            let mut bytes = start;
            if signed && bytes.len() > 600 {
                bytes[510..520].copy_from_slice(b"\x55\xaaEFI PART");
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let size = u64::try_from(bytes.len()).unwrap();
            let found = survey(&file, size).unwrap();
            prop_assert_eq!(found.is_empty(), bytes.iter().all(|byte| *byte == 0));
        }
    }
}
