//! The fs-verity digest of a file, as the kernel measures it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha512};

/// The fs-verity digest (SHA-512, blocks of 4096 bytes) that names an object.
///
/// Written in upstream's notation it is of the algorithm `fsverity-sha512-12`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId([u8; Self::LEN]);

impl ObjectId {
    /// The length in bytes.
    pub const LEN: usize = 64;

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The 128 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        let mut text = String::with_capacity(2 * Self::LEN);
        push_hex(&self.0, &mut text);
        text
    }

    /// Where the object lies below `objects/`: two digits, a slash, 126 digits.
    pub fn to_object_path(&self) -> String {
        let (directory, name) = self.0.split_at(1);
        let mut path = String::with_capacity(2 * Self::LEN + 1);
        push_hex(directory, &mut path);
        path.push('/');
        push_hex(name, &mut path);
        path
    }
}

/// An image names each object three times, so this is worth being quick.
fn push_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// A text that is no object name: not 128 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an fs-verity SHA-512 digest: 128 lower-case hexadecimal digits are expected")]
pub struct InvalidObjectId(String);

impl FromStr for ObjectId {
    type Err = InvalidObjectId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidObjectId(text.chars().take(160).collect());
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

const BLOCK: usize = 4096;
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
/// One pass, one compression per byte of data, and a fixed amount of memory:
/// each level of the Merkle tree is a running hash, never a buffer.
#[derive(Clone)]
pub struct Hasher {
    block: Sha512,
    /// Bytes in the running block, below [`BLOCK`].
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
            block: Sha512::new(),
            filled: 0,
            length: 0,
            levels: std::array::from_fn(|_| Level::new()),
        }
    }

    /// Takes in the next bytes of the file, in pieces of any length.
    pub fn update(&mut self, mut data: &[u8]) {
        self.length += data.len() as u64;
        while !data.is_empty() {
            let (now, rest) = data.split_at(data.len().min(BLOCK - self.filled));
            self.block.update(now);
            self.filled += now.len();
            data = rest;
            if self.filled == BLOCK {
                self.finish_block();
            }
        }
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
            self.block.update(&ZEROES[self.filled..]);
            self.finish_block();
        }
        let root = self.root();
        let mut descriptor = [0; DESCRIPTOR_LEN];
        descriptor[..8].copy_from_slice(&DESCRIPTOR_HEAD);
        descriptor[8..16].copy_from_slice(&self.length.to_le_bytes());
        descriptor[16..16 + ObjectId::LEN].copy_from_slice(&root);
        ObjectId(Sha512::digest(descriptor).into())
    }

    fn finish_block(&mut self) {
        self.filled = 0;
        let digest = self.block.finalize_reset().into();
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

/// A part of a file whose blocks are hashed: parts may be hashed at the same time,
/// then [appended](Hasher::append) in their order.
///
/// 64 bytes for every 4096 of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    digests: Vec<[u8; ObjectId::LEN]>,
    length: u64,
}

impl Blocks {
    /// Hashes a part that begins at a multiple of 4096 bytes in its file, and ends at
    /// one or with the file.
    pub fn hash<P: AsRef<[u8]>>(pieces: &[P]) -> Self {
        let mut part = Parts::default();
        for piece in pieces {
            part.update(piece.as_ref());
        }
        part.finish()
    }
}

/// Bytes on their way into [`Blocks`].
#[derive(Default)]
struct Parts {
    digests: Vec<[u8; ObjectId::LEN]>,
    block: Sha512,
    filled: usize,
    length: u64,
}

impl Parts {
    fn update(&mut self, mut data: &[u8]) {
        self.length += data.len() as u64;
        while !data.is_empty() {
            let (now, rest) = data.split_at(data.len().min(BLOCK - self.filled));
            self.block.update(now);
            self.filled += now.len();
            data = rest;
            if self.filled == BLOCK {
                self.filled = 0;
                self.digests.push(self.block.finalize_reset().into());
            }
        }
    }

    fn finish(mut self) -> Blocks {
        if self.filled > 0 {
            self.block.update(&ZEROES[self.filled..]);
            self.digests.push(self.block.finalize_reset().into());
        }
        Blocks {
            digests: self.digests,
            length: self.length,
        }
    }
}

const ZEROES: [u8; BLOCK] = [0; BLOCK];

/// The fs-verity digest of these bytes.
pub fn digest(data: &[u8]) -> ObjectId {
    let mut hasher = Hasher::new();
    hasher.update(data);
    hasher.finalize()
}
