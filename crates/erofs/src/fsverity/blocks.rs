//! The blocks of contents that are in memory, hashed together.

use super::{BLOCK, BlockDigest, DIGESTS_PER_BLOCK, ObjectId, digests, measured};

/// A part of a file whose blocks are hashed: parts may be hashed at the same time,
/// then [appended](super::Hasher::append) in their order.
///
/// 64 bytes for every 4096 of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    pub(super) digests: Vec<BlockDigest>,
    pub(super) length: u64,
}

impl Blocks {
    /// Hashes a part that begins at a multiple of 4096 bytes in its file, and ends at
    /// one or with the file.
    pub fn hash<P: AsRef<[u8]>>(pieces: &[P]) -> Self {
        let mut list = List::default();
        let length = list.add(pieces);
        Self {
            digests: list.digests(),
            length,
        }
    }
}

/// The fs-verity digests of contents, each in pieces. Many small ones together are quicker than
/// one after the other.
pub fn digest_all<P: AsRef<[u8]>, C: AsRef<[P]>>(contents: &[C]) -> Vec<ObjectId> {
    let mut list = List::default();
    let lengths: Vec<u64> = contents
        .iter()
        .map(|pieces| list.add(pieces.as_ref()))
        .collect();
    let mut level = list.digests().into_iter();
    let mut trees: Vec<Vec<BlockDigest>> = lengths
        .iter()
        .map(|length| {
            let blocks = length.div_ceil(BLOCK as u64);
            level
                .by_ref()
                .take(usize::try_from(blocks).expect("they are in memory"))
                .collect()
        })
        .collect();
    while trees.iter().any(|digests| digests.len() > 1) {
        climb(&mut trees);
    }
    let roots = trees
        .iter()
        .map(|digests| digests.first().unwrap_or(&[0; ObjectId::LEN]));
    lengths
        .iter()
        .zip(roots)
        .map(|(length, root)| measured(*length, root))
        .collect()
}

/// Replaces the digests of each file that has more than one by those of the level of its Merkle tree above.
fn climb(trees: &mut [Vec<BlockDigest>]) {
    let mut list = List::default();
    for digests in trees.iter().filter(|digests| digests.len() > 1) {
        list.add(digests);
    }
    let mut above = list.digests().into_iter();
    for digests in trees.iter_mut().filter(|digests| digests.len() > 1) {
        let count = digests.len().div_ceil(DIGESTS_PER_BLOCK);
        *digests = above.by_ref().take(count).collect();
    }
}

/// Blocks of one content after the other. What is not whole in one piece is copied, and padded with zeros.
#[derive(Default)]
struct List<'a> {
    blocks: Vec<Block<'a>>,
    copied: Vec<[u8; BLOCK]>,
}

enum Block<'a> {
    Whole(&'a [u8; BLOCK]),
    /// The next one that was copied.
    Copied,
}

impl<'a> List<'a> {
    /// Adds a content; returns its length in bytes.
    fn add<P: AsRef<[u8]>>(&mut self, pieces: &'a [P]) -> u64 {
        let mut length = 0;
        // Bytes in the last block, if it was copied and has room.
        let mut filled = 0;
        for piece in pieces {
            let mut bytes = piece.as_ref();
            length += bytes.len() as u64;
            if filled > 0 {
                let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - filled));
                self.copied.last_mut().expect("it was begun")[filled..][..now.len()]
                    .copy_from_slice(now);
                filled = (filled + now.len()) % BLOCK;
                bytes = rest;
            }
            let (blocks, rest) = bytes.as_chunks();
            self.blocks.extend(blocks.iter().map(Block::Whole));
            if !rest.is_empty() {
                let mut block = [0; BLOCK];
                block[..rest.len()].copy_from_slice(rest);
                self.copied.push(block);
                self.blocks.push(Block::Copied);
                filled = rest.len();
            }
        }
        length
    }

    fn digests(self) -> Vec<BlockDigest> {
        let mut copied = self.copied.iter();
        let mut next = || copied.next().expect("each is in both lists");
        let blocks: Vec<&[u8; BLOCK]> = self
            .blocks
            .iter()
            .map(|block| match block {
                Block::Whole(block) => block,
                Block::Copied => next(),
            })
            .collect();
        digests(&blocks)
    }
}
