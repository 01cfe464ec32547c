//! Identifiers that follow from a seed, so that the same input gives the same disk.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What all identifiers of one disk are derived from.
///
/// For a disk image: the digest of the image and of all that goes in beside
/// it, so that two builds are equal. For a disk of a machine: random bytes,
/// because two disks with the same identifiers in one machine are mixed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed of any bytes.
    pub fn new(material: impl AsRef<[u8]>) -> Self {
        let hash = Sha256::new_with_prefix(b"hull disk seed\0").chain_update(material.as_ref());
        Seed(hash.finalize().into())
    }

    /// The identifier for one purpose, as a UUID of version 8 (RFC 9562 5.8).
    pub fn uuid(&self, purpose: &str) -> Uuid {
        let hash: [u8; 32] = self.hash(purpose);
        let (first, _) = hash.split_at(16);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(first);
        Uuid::new_v8(bytes)
    }

    /// A number for one purpose; never zero.
    pub fn number(&self, purpose: &str) -> u32 {
        let hash = self.hash(purpose);
        u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]).max(1)
    }

    fn hash(&self, purpose: &str) -> [u8; 32] {
        Sha256::new_with_prefix(self.0)
            .chain_update(purpose.as_bytes())
            .finalize()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_from_seed_and_purpose_alone() {
        let seed = Seed::new("a");
        assert_eq!(seed.uuid("root"), Seed::new("a").uuid("root"));
        assert_ne!(seed.uuid("root"), seed.uuid("esp"));
        assert_ne!(seed.uuid("root"), Seed::new("b").uuid("root"));
        assert_eq!(seed.uuid("root").get_version_num(), 8);
        assert_ne!(seed.number("volume"), 0);
    }
}
