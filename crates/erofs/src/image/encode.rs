//! The bytes of a planned image, piece by piece.

use super::attributes::Attributes;
use super::directory::{Entry, encode_block, fill_block};
use super::format;
use super::inode::Body;
use super::order::{Place, Placed, ROOT, Source};
use super::plan::Plan;

/// What is encoded is handed on when there are so many bytes of it, or a little more.
const PIECE: usize = 64 << 10;

/// Makes an image, and hands its bytes to `take`: whole blocks.
pub(super) fn encode<E>(
    plan: &Plan<'_>,
    take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = Out {
        bytes: Vec::with_capacity(2 * PIECE),
        taken: 0,
        take,
    };
    encode_composefs_header(plan, &mut out.bytes);
    out.bytes.resize(format::SUPERBLOCK_AT, 0);
    encode_superblock(plan, &mut out.bytes);
    encode_inodes(plan, &mut out)?;
    out.pad_to(plan.inodes_end);
    for xattr in &plan.sharing.table {
        xattr.encode(&mut out.bytes);
        pad(&mut out.bytes, format::XATTR_UNIT);
        out.pass_on()?;
    }
    pad(&mut out.bytes, format::BLOCK);
    encode_blocks(plan, &mut out)?;
    (out.take)(&out.bytes)
}

/// The bytes of an image that were not taken yet.
///
/// They begin at a whole block of it: what aligns them need not know where they are.
struct Out<F> {
    bytes: Vec<u8>,
    /// How many were taken.
    taken: u64,
    take: F,
}

impl<F> Out<F> {
    /// Hands on whole blocks, once there are many.
    fn pass_on<E>(&mut self) -> Result<(), E>
    where
        F: FnMut(&[u8]) -> Result<(), E>,
    {
        if self.bytes.len() < PIECE {
            return Ok(());
        }
        let whole = self.bytes.len() - self.bytes.len() % PIECE;
        (self.take)(&self.bytes[..whole])?;
        self.bytes.drain(..whole);
        self.taken += whole as u64;
        Ok(())
    }

    fn pad_to(&mut self, end: u64) {
        pad_to(&mut self.bytes, end.saturating_sub(self.taken));
    }
}

fn encode_inodes<F, E>(plan: &Plan<'_>, out: &mut Out<F>) -> Result<(), E>
where
    F: FnMut(&[u8]) -> Result<(), E>,
{
    let mut attributes = Attributes::default();
    let mut block = Vec::new();
    let mut blocks_at = plan.blocks_start;
    let inodes = plan.order.sources.iter().zip(plan.offsets.iter());
    for (number, (source, offset)) in (0..).zip(inodes) {
        // None of those that were placed has too many attributes.
        let Some(mut inode) = plan.inode(source, &mut attributes) else {
            continue;
        };
        inode.blocks_at = blocks_at;
        blocks_at += inode.block_count() * format::BLOCK;
        out.pad_to(*offset);
        inode.encode_head(number, &mut out.bytes);
        attributes.encode(&plan.shared_at, &mut out.bytes);
        inode.encode_tail(&mut out.bytes);
        if let Source::Directory(index) = source {
            let placed = plan.order.placed(index);
            encode_directory_tail(plan, &placed, &mut block, &mut out.bytes);
        }
        out.pass_on()?;
    }
    Ok(())
}

fn encode_directory_tail<'a>(
    plan: &Plan<'a>,
    placed: &Placed<'a>,
    block: &mut Vec<Entry<'a>>,
    out: &mut Vec<u8>,
) {
    if placed.extent.tail == 0 {
        return;
    }
    let mut entries = entries(plan, placed).peekable();
    for _ in 0..=placed.extent.blocks {
        fill_block(&mut entries, block);
    }
    encode_block(block, out);
}

/// The blocks of directories, and those of symbolic links that are too long to be with their inode.
fn encode_blocks<F, E>(plan: &Plan<'_>, out: &mut Out<F>) -> Result<(), E>
where
    F: FnMut(&[u8]) -> Result<(), E>,
{
    let mut attributes = Attributes::default();
    let mut block = Vec::new();
    for source in plan.order.sources.iter() {
        if let Source::Directory(index) = source {
            let placed = plan.order.placed(index);
            let mut entries = entries(plan, &placed).peekable();
            for _ in 0..placed.extent.blocks {
                fill_block(&mut entries, &mut block);
                encode_block(&block, &mut out.bytes);
                pad(&mut out.bytes, format::BLOCK);
                out.pass_on()?;
            }
        } else if let Body::Symlink(target) = plan.order.inode(source).body
            && plan
                .inode(source, &mut attributes)
                .is_some_and(|inode| inode.is_long_symlink())
        {
            out.bytes.extend_from_slice(target);
            pad(&mut out.bytes, format::BLOCK);
            out.pass_on()?;
        }
    }
    Ok(())
}

fn entries<'a>(plan: &Plan<'a>, placed: &Placed<'a>) -> impl Iterator<Item = Entry<'a>> {
    let entries = plan.order.entries(placed);
    entries.map(|(name, place)| Entry {
        name,
        nid: nid(plan, place),
        file_type: plan.order.file_type(place),
    })
}

/// The number that an inode has by its place in the image.
fn nid(plan: &Plan<'_>, place: Place) -> u64 {
    plan.offsets.get(place as usize) / format::SLOT
}

fn encode_composefs_header(plan: &Plan<'_>, out: &mut Vec<u8>) {
    let flags = if plan.sharing.has_acl {
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
    let root = nid(plan, ROOT);
    out.extend(format::EROFS_MAGIC.to_le_bytes());
    out.extend([0; 4]); // checksum, which the feature bits don't announce
    out.extend((format::COMPAT_MTIME | format::COMPAT_XATTR_FILTER).to_le_bytes());
    out.extend([format::BLOCK_BITS, 0]);
    out.extend(&root.to_le_bytes()[..2]);
    out.extend((plan.offsets.len() as u64).to_le_bytes());
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
