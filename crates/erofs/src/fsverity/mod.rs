//! The fs-verity digest of a file, as the kernel measures it.

mod blocks;
mod id;

use std::fmt;

use hull_sys::sha512::{BLOCK, BlockDigest, digest_blocks};
use sha2::{Digest, Sha512};

pub use blocks::{Blocks, digest_all};
pub use id::{InvalidObjectId, ObjectId};

const DIGESTS_PER_BLOCK: usize = BLOCK / ObjectId::LEN;

/// Eleven levels of 64 digests each hold 2^66 blocks: more than a length in
/// bytes of 64 bits can name.
const MAX_LEVELS: usize = 11;

/// `fs_verity_descriptor` up to the root hash: version 1, SHA-512 (2), blocks of
/// 2^12 bytes, no salt, four reserved bytes; the length of the data follows.
const DESCRIPTOR_HEAD: [u8; 8] = [1, 2, 12, 0, 0, 0, 0, 0];
/// The whole `fs_verity_descriptor`.
const DESCRIPTOR_LEN: usize = 256;

/// Computes the fs-verity digest of a file that arrives in pieces.
///
/// One pass, one compression per byte of data, and a fixed amount of memory beside
/// that of the piece: each level of the Merkle tree is a running hash, never a buffer.
#[derive(Clone)]
pub struct Hasher {
    /// The block that is not whole yet.
    block: [u8; BLOCK],
    /// Bytes in it, below [`BLOCK`].
    filled: usize,
    length: u64,
    levels: [Level; MAX_LEVELS],
}

/// One level of the Merkle tree above the data.
#[derive(Clone)]
struct Level {
    block: Sha512,
    /// Digests in the running block of this level.
    filled: usize,
    /// Whole blocks of this level already handed to the level above.
    completed: u64,
    /// The last digest that this level received: the root, if it stays the only one.
    last: [u8; ObjectId::LEN],
}

impl Level {
    fn new() -> Self {
        Self {
            block: Sha512::new(),
            filled: 0,
            completed: 0,
            last: [0; ObjectId::LEN],
        }
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Hasher {
    /// A hasher that has seen nothing: the digest of the empty file.
    pub fn new() -> Self {
        Self {
            block: [0; BLOCK],
            filled: 0,
            length: 0,
            levels: std::array::from_fn(|_| Level::new()),
        }
    }

    /// Takes in the next bytes of the file, in pieces of any length.
    pub fn update(&mut self, mut data: &[u8]) {
        self.length += data.len() as u64;
        if self.filled > 0 {
            let (now, rest) = data.split_at(data.len().min(BLOCK - self.filled));
            self.block[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            data = rest;
            if self.filled < BLOCK {
                return;
            }
            self.finish_block();
        }
        let (blocks, rest) = data.as_chunks();
        for blocks in blocks.chunks(AT_ONCE) {
            let blocks: Vec<&[u8; BLOCK]> = blocks.iter().collect();
            for digest in digests(&blocks) {
                self.push(0, digest);
            }
        }
        self.block[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// Takes in the next bytes of the file, whose blocks were hashed before.
    ///
    /// # Panics
    ///
    /// When what came before was not of whole blocks: then these bytes begin in
    /// the middle of one.
    pub fn append(&mut self, blocks: &Blocks) {
        let before = self.length % (BLOCK as u64);
        assert!(before == 0, "{before} bytes of a block came before");
        self.length += blocks.length;
        for digest in &blocks.digests {
            self.push(0, *digest);
        }
    }

    /// Takes in so many zeros, as a hole reads: 64 times as quick as [`Self::update`],
    /// since the digest of a block of zeros is known.
    pub fn update_zeros(&mut self, mut count: u64) {
        let before = (BLOCK - self.filled) % BLOCK;
        let partial = usize::try_from(count).map_or(before, |count| count.min(before));
        self.update(&ZEROES[..partial]);
        count -= partial as u64;
        let digest = Sha512::digest(ZEROES).into();
        while count >= BLOCK as u64 {
            self.length += BLOCK as u64;
            self.push(0, digest);
            count -= BLOCK as u64;
        }
        let rest = usize::try_from(count).expect("it is less than a block");
        self.update(&ZEROES[..rest]);
    }

    /// How many bytes were taken in so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of all that was taken in.
    pub fn finalize(mut self) -> ObjectId {
        if self.filled > 0 {
            self.block[self.filled..].fill(0);
            self.finish_block();
        }
        let root = self.root();
        measured(self.length, &root)
    }

    fn finish_block(&mut self) {
        self.filled = 0;
        let digest = Sha512::digest(self.block).into();
        self.push(0, digest);
    }

    /// Adds a digest to a level, and completes blocks upwards as they fill up.
    fn push(&mut self, mut level: usize, mut digest: [u8; ObjectId::LEN]) {
        loop {
            let Level {
                block,
                filled,
                completed,
                last,
            } = &mut self.levels[level];
            block.update(digest);
            *filled += 1;
            *last = digest;
            if *filled < DIGESTS_PER_BLOCK {
                return;
            }
            digest = block.finalize_reset().into();
            *filled = 0;
            *completed += 1;
            level += 1;
        }
    }

    /// The root hash: the digest of the first level that is a single block; for a
    /// file of one block its own digest, for the empty file zeroes.
    fn root(&mut self) -> [u8; ObjectId::LEN] {
        for level in 0..MAX_LEVELS {
            let Level {
                block,
                filled,
                completed,
                last,
            } = &mut self.levels[level];
            match (*completed, *filled) {
                (0, 0) => break,
                (0, 1) => return *last,
                (_, 0) => {}
                (_, filled_now) => {
                    block.update(&ZEROES[filled_now * ObjectId::LEN..]);
                    *filled = 0;
                    *completed += 1;
                    let digest = block.finalize_reset().into();
                    self.push(level + 1, digest);
                }
            }
        }
        [0; ObjectId::LEN]
    }
}

/// Blocks of a piece that are hashed together: enough to keep all lanes busy.
const AT_ONCE: usize = 64;

fn digests(blocks: &[&[u8; BLOCK]]) -> Vec<BlockDigest> {
    let mut digests = Vec::with_capacity(blocks.len());
    digest_blocks(blocks, &mut digests);
    digests
}

/// The digest of a file: that of its descriptor, which has its length and its root hash.
fn measured(length: u64, root: &BlockDigest) -> ObjectId {
    let mut descriptor = [0; DESCRIPTOR_LEN];
    descriptor[..8].copy_from_slice(&DESCRIPTOR_HEAD);
    descriptor[8..16].copy_from_slice(&length.to_le_bytes());
    descriptor[16..16 + ObjectId::LEN].copy_from_slice(root);
    ObjectId::from_bytes(Sha512::digest(descriptor).into())
}

const ZEROES: [u8; BLOCK] = [0; BLOCK];

/// The fs-verity digest of these bytes.
pub fn digest(data: &[u8]) -> ObjectId {
    let mut hasher = Hasher::new();
    hasher.update(data);
    hasher.finalize()
}
