//! The name of an object.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The fs-verity digest (SHA-512, blocks of 4096 bytes) that names an object.
///
/// Written in upstream's notation it is of the algorithm `fsverity-sha512-12`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
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
