//! The bytes of a planned image.

use super::format;
use super::plan::Plan;

/// The image, all of it.
pub(super) fn encode(plan: &Plan<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(usize::try_from(plan.end).unwrap_or_default());
    encode_composefs_header(plan, &mut out);
    out.resize(format::SUPERBLOCK_AT, 0);
    encode_superblock(plan, &mut out);
    let nid = |place: usize| plan.inodes[place].offset / format::SLOT;
    for (number, inode) in (0u32..).zip(&plan.inodes) {
        pad_to(&mut out, inode.offset);
        inode.encode_head(number, &mut out);
        inode.xattrs.encode(&plan.shared_at, &mut out);
        inode.encode_tail(nid, &mut out);
    }
    pad_to(&mut out, plan.inodes_end);
    for xattr in &plan.shared {
        xattr.encode(&mut out);
        pad(&mut out, format::XATTR_UNIT);
    }
    pad(&mut out, format::BLOCK);
    for inode in &plan.inodes {
        inode.encode_blocks(nid, &mut out);
    }
    out
}

fn encode_composefs_header(plan: &Plan<'_>, out: &mut Vec<u8>) {
    let flags = if plan.has_acl {
        format::FLAG_HAS_ACL
    } else {
        0
    };
    for field in [
        format::COMPOSEFS_MAGIC,
        format::HEADER_VERSION,
        flags,
        format::COMPOSEFS_VERSION,
    ] {
        out.extend(field.to_le_bytes());
    }
}

fn encode_superblock(plan: &Plan<'_>, out: &mut Vec<u8>) {
    let end = out.len() + format::SUPERBLOCK_LEN;
    let (seconds, nanoseconds) = plan.build_time;
    let root = plan
        .inodes
        .first()
        .map_or(0, |root| root.offset / format::SLOT);
    out.extend(format::EROFS_MAGIC.to_le_bytes());
    out.extend([0; 4]); // checksum, which the feature bits don't announce
    out.extend((format::COMPAT_MTIME | format::COMPAT_XATTR_FILTER).to_le_bytes());
    out.extend([format::BLOCK_BITS, 0]);
    out.extend(&root.to_le_bytes()[..2]);
    out.extend((plan.inodes.len() as u64).to_le_bytes());
    out.extend(seconds.to_le_bytes());
    out.extend(nanoseconds.to_le_bytes());
    out.extend(&(plan.end / format::BLOCK).to_le_bytes()[..4]);
    out.extend([0; 4]); // inodes are counted from the first block
    out.extend(&(plan.inodes_end / format::BLOCK).to_le_bytes()[..4]);
    out.resize(end, 0);
}

/// Fills up with zeroes to a multiple of `unit`.
pub(super) fn pad(out: &mut Vec<u8>, unit: u64) {
    let end = (out.len() as u64).next_multiple_of(unit);
    pad_to(out, end);
}

fn pad_to(out: &mut Vec<u8>, end: u64) {
    out.resize(usize::try_from(end).unwrap_or_default().max(out.len()), 0);
}
