//! Content digests, and a reader that vouches for what passes through it.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

/// The hash functions that the OCI image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which everyone uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The digest of a manifest, a config, a blob or an uncompressed layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Digest {
    /// `sha256:` and 64 digits.
    Sha256([u8; 32]),
    /// `sha512:` and 128 digits.
    Sha512([u8; 64]),
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// The digest of `bytes` by `algorithm`.
    pub fn compute(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Which hash function it is of.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The lower-case hexadecimal digits, without the algorithm.
    pub fn to_hex(&self) -> String {
        hex::encode(self.bytes())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A text that is no digest that hull accepts.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a digest: expected sha256: and 64, or sha512: and 128 lower-case hexadecimal digits"
)]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidDigest(text.chars().take(160).collect()))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

fn parse(text: &str) -> Option<Digest> {
    let (algorithm, digits) = text.split_once(':')?;
    if digits.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    match algorithm {
        "sha256" => decode(digits).map(Digest::Sha256),
        "sha512" => decode(digits).map(Digest::Sha512),
        _ => None,
    }
}

fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// Computes a [`Digest`] piece by piece.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// Computes SHA-256.
    Sha256(Sha256),
    /// Computes SHA-512.
    Sha512(Sha512),
}

impl Default for Hasher {
    /// SHA-256, which everyone uses.
    fn default() -> Self {
        Self::new(Algorithm::Sha256)
    }
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// What it has taken in, for [`restore`](Self::restore): to go on later.
    pub(crate) fn save(&self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.serialize().to_vec(),
            Self::Sha512(hasher) => hasher.serialize().to_vec(),
        }
    }

    /// The hasher that was saved after it had taken in `seen` bytes; none if that is
    /// no such hasher.
    ///
    /// Whether they were the right bytes is for its digest to tell.
    pub(crate) fn restore(algorithm: Algorithm, saved: &[u8], seen: u64) -> Option<Self> {
        // The state, how many blocks went into it, the length of the rest, the rest.
        let (blocks, block) = match algorithm {
            Algorithm::Sha256 => (32..40, 64),
            Algorithm::Sha512 => (64..80, 128),
        };
        let rest = u64::from(*saved.get(blocks.end)?);
        let mut count = [0; 16];
        count[..blocks.len()].copy_from_slice(saved.get(blocks)?);
        // A count that is not true could overflow later.
        if u128::from_le_bytes(count) != u128::from(seen / block) || rest != seen % block {
            return None;
        }
        Some(match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::deserialize(saved.try_into().ok()?).ok()?),
            Algorithm::Sha512 => Self::Sha512(Sha512::deserialize(saved.try_into().ok()?).ok()?),
        })
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

/// Content that is not what its descriptor says.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BlobError {
    /// The content ended early.
    #[error("{digest} is cut short: {got} of {expected} bytes came")]
    Truncated {
        /// What was read.
        digest: Digest,
        /// The length that its descriptor gives, in bytes.
        expected: u64,
        /// The bytes that came.
        got: u64,
    },
    /// There is more content than announced.
    #[error("{digest} is longer than the {expected} bytes that its descriptor gives")]
    TooLong {
        /// What was read.
        digest: Digest,
        /// The length that its descriptor gives, in bytes.
        expected: u64,
    },
    /// The content has another digest.
    #[error("wrong content: the digest is {actual}, but {digest} was asked for")]
    WrongDigest {
        /// What was read.
        digest: Digest,
        /// What the content's digest is.
        actual: Box<Digest>,
    },
    /// What is kept of it on this machine is not what it was.
    #[error("the part of {digest} that is kept in the spool is damaged: {reason}")]
    DamagedPart {
        /// The blob.
        digest: Digest,
        /// What came of reading it.
        reason: String,
    },
}

impl BlobError {
    /// What was read.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Truncated { digest, .. }
            | Self::TooLong { digest, .. }
            | Self::WrongDigest { digest, .. }
            | Self::DamagedPart { digest, .. } => digest,
        }
    }

    /// The error that a [`VerifyingReader`] put into an [`io::Error`], if it is one.
    pub fn find(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Passes content on while it checks its length and digest.
///
/// The end of the content is reported only after both proved right: a reader
/// that saw `Ok(0)` has seen exactly the content that the digest names. Until
/// then nothing that was read may be trusted. More than `size` bytes are never
/// passed on. After an error every further read gives the same error.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    seen: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading(Hasher),
    Verified(Hasher),
    Failed(BlobError),
}

impl<R: Read> VerifyingReader<R> {
    /// Reads `inner`, which must hold `size` bytes with that digest.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        let state = State::Reading(Hasher::new(digest.algorithm()));
        Self {
            inner,
            digest,
            size,
            seen: 0,
            state,
        }
    }

    /// Reads the rest of such content, of which `seen` bytes went into `hasher` before.
    pub(crate) fn resume(inner: R, digest: Digest, size: u64, hasher: Hasher, seen: u64) -> Self {
        Self {
            inner,
            digest,
            size,
            seen,
            state: State::Reading(hasher),
        }
    }

    /// The bytes seen so far, and the hasher that took them in; none when they are wrong.
    pub(crate) fn seen(&self) -> Option<(u64, &Hasher)> {
        match &self.state {
            State::Reading(hasher) | State::Verified(hasher) => Some((self.seen, hasher)),
            State::Failed(_) => None,
        }
    }

    /// Whether the end came, and length and digest were right.
    pub(crate) fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified(_))
    }

    fn conclude(&mut self) -> io::Result<usize> {
        let mut probe = [0];
        let excess = self.inner.read(&mut probe)?;
        if excess != 0 {
            return self.fail(BlobError::TooLong {
                digest: self.digest,
                expected: self.size,
            });
        }
        if let State::Reading(hasher) = &self.state {
            let actual = hasher.clone().finish();
            if actual != self.digest {
                return self.fail(BlobError::WrongDigest {
                    digest: self.digest,
                    actual: Box::new(actual),
                });
            }
            self.state = State::Verified(hasher.clone());
        }
        Ok(0)
    }

    fn fail(&mut self, error: BlobError) -> io::Result<usize> {
        self.state = State::Failed(error.clone());
        Err(io::Error::other(error))
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let hasher = match &mut self.state {
            State::Reading(hasher) => hasher,
            State::Verified(_) => return Ok(0),
            State::Failed(error) => return Err(io::Error::other(error.clone())),
        };
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = self.size - self.seen;
        if left == 0 {
            return self.conclude();
        }
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.inner.read(&mut buffer[..room])?;
        if count == 0 {
            return self.fail(BlobError::Truncated {
                digest: self.digest,
                expected: self.size,
                got: self.seen,
            });
        }
        hasher.update(&buffer[..count]);
        self.seen += u64::try_from(count).expect("usize fits into u64");
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_digest_is_parsed_strictly() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(digest, Digest::sha256(b"abc"));
        for bad in [
            hex.to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha512:{hex}"),
            format!("md5:{}", &hex[..32]),
            "sha256:../../../etc/passwd".to_owned(),
            format!("SHA256:{hex}"),
            format!("sha256:{hex} "),
            String::new(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    fn read_all(content: &[u8], digest: Digest, size: u64) -> (Vec<u8>, io::Result<()>) {
        let mut reader = VerifyingReader::new(content, digest, size);
        let mut out = Vec::new();
        let result = reader.read_to_end(&mut out).map(drop);
        let again = reader.read(&mut [0; 8]);
        assert_eq!(again.is_err(), result.is_err(), "the verdict must last");
        (out, result)
    }

    #[test]
    fn truncated_content_is_an_error_at_its_end() {
        let (_, result) = read_all(b"ab", Digest::sha256(b"abc"), 3);
        let error = result.unwrap_err();
        let expected = BlobError::Truncated {
            digest: Digest::sha256(b"abc"),
            expected: 3,
            got: 2,
        };
        assert_eq!(BlobError::find(&error), Some(&expected));
    }

    #[test]
    fn content_past_the_announced_size_is_never_passed_on() {
        let (out, result) = read_all(b"abcd", Digest::sha256(b"abcd"), 3);
        assert_eq!(out, b"abc");
        let error = result.unwrap_err();
        assert!(matches!(
            BlobError::find(&error),
            Some(BlobError::TooLong { .. })
        ));
    }

    #[test]
    fn empty_content_is_verified_too() {
        assert!(read_all(b"", Digest::sha256(b""), 0).1.is_ok());
        assert!(read_all(b"", Digest::sha256(b"x"), 0).1.is_err());
    }

    proptest! {
        #[test]
        fn a_hash_goes_on_where_it_was_saved(
            content in proptest::collection::vec(any::<u8>(), 0..500),
            cut: prop::sample::Index,
            long: bool,
        ) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let (begin, rest) = content.split_at(cut.index(content.len() + 1));
            let mut hasher = Hasher::new(algorithm);
            hasher.update(begin);
            let seen = u64::try_from(begin.len()).unwrap();
            let mut restored = Hasher::restore(algorithm, &hasher.save(), seen).unwrap();
            prop_assert!(Hasher::restore(algorithm, &hasher.save(), seen + 1).is_none());
            restored.update(rest);
            prop_assert_eq!(restored.finish(), Digest::compute(algorithm, &content));
        }

        #[test]
        fn a_damaged_hasher_is_read_without_panic(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            length in 0usize..260,
            seen in 0u64..1000,
            long: bool,
        ) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&vec![1; usize::try_from(seen).unwrap()]);
            let mut saved = hasher.save();
            for (place, byte) in damage {
                let place = place.index(saved.len());
                saved[place] = byte;
            }
            if length < 200 {
                saved.resize(length, 0);
            }
            if let Some(mut hasher) = Hasher::restore(algorithm, &saved, seen) {
                hasher.update(&[0; 200]);
                hasher.finish();
            }
        }

        #[test]
        fn digests_survive_a_round_trip_through_text(content: Vec<u8>, long: bool) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let digest = Digest::compute(algorithm, &content);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }

        #[test]
        fn content_ends_well_exactly_if_digest_and_size_are_right(
            content in proptest::collection::vec(any::<u8>(), 0..300),
            claimed in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let size = u64::try_from(claimed.len()).unwrap();
            let (out, result) = read_all(&content, Digest::sha256(&claimed), size);
            prop_assert_eq!(result.is_ok(), content == claimed);
            prop_assert!(out.len() <= claimed.len());
            prop_assert!(content.starts_with(&out));
        }
    }
}
