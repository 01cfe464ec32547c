//! The entries of a directory.

use super::super::format::FileType;
use super::Fault;
use super::layout::{Image, RawInode};
use crate::limits;

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: FileType,
}

/// All entries but those for the directory itself and for `parent`, in order.
pub(super) fn read<'a>(
    image: &Image<'a>,
    directory: &RawInode,
    parent: u64,
) -> Result<Vec<Entry<'a>>, Fault> {
    let [blocks, tail] = image.content(directory)?;
    let mut entries = Vec::new();
    for block in blocks
        .chunks(4096)
        .chain(Some(tail).filter(|tail| !tail.is_empty()))
    {
        read_block(block, &mut entries)?;
    }
    if !entries.is_sorted_by(|a, b| a.name < b.name) {
        return Err(Fault::Invalid(
            "the names in the directory are not in order",
        ));
    }
    let mut seen = (false, false);
    for Entry {
        name,
        nid,
        file_type,
    } in &entries
    {
        let leads_to = match *name {
            b"." => {
                seen.0 = true;
                directory.nid
            }
            b".." => {
                seen.1 = true;
                parent
            }
            _ => continue,
        };
        if *nid != leads_to || *file_type != FileType::Directory {
            return Err(Fault::Invalid(
                "'.' or '..' of the directory leads elsewhere",
            ));
        }
    }
    if seen != (true, true) {
        return Err(Fault::Invalid("the directory lacks '.' or '..'"));
    }
    entries.retain(|entry| !matches!(entry.name, b"." | b".."));
    Ok(entries)
}

/// A block starts with entries of a fixed length, the names follow. The first name
/// starts where the entries end, the last one ends at a NUL or with the block.
fn read_block<'a>(block: &'a [u8], entries: &mut Vec<Entry<'a>>) -> Result<(), Fault> {
    let invalid = Fault::Invalid("a block of the directory is no list of names");
    let (heads, _) = block.as_chunks::<12>();
    let name_at = |head: &[u8; 12]| usize::from(u16::from_le_bytes([head[8], head[9]]));
    let names_at = heads.first().map_or(0, name_at);
    let count = names_at / 12;
    let Some(heads) = heads
        .get(..count)
        .filter(|heads| !heads.is_empty() && names_at % 12 == 0)
    else {
        return Err(invalid);
    };
    for (index, head) in heads.iter().enumerate() {
        let name = match heads.get(index + 1) {
            Some(next) => block.get(name_at(head)..name_at(next)),
            None => block
                .get(name_at(head)..)
                .and_then(|rest| rest.split(|b| *b == 0).next()),
        };
        let name = name.filter(|name| is_name(name));
        let [n0, n1, n2, n3, n4, n5, n6, n7, _, _, file_type, _] = *head;
        let file_type = FileType::from_entry_type(file_type);
        let (Some(name), Some(file_type)) = (name, file_type) else {
            return Err(invalid);
        };
        let nid = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        entries.push(Entry {
            name,
            nid,
            file_type,
        });
    }
    Ok(())
}

fn is_name(name: &[u8]) -> bool {
    (1..=limits::NAME).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0)
}
