//! SHA-512 of many blocks of 4096 bytes, several of them at a time.
//!
//! fs-verity hashes each block of a file by itself (Linux' Documentation/filesystems/fsverity.rst,
//! "Merkle tree"). So a processor can take one block into each lane of its vector registers and do
//! for all of them what it would do for one: four lanes with AVX2, eight with AVX-512.

mod constants;
#[cfg(target_arch = "x86_64")]
mod x86;

use sha2::{Digest, Sha512};

/// The length of a block in bytes.
pub const BLOCK: usize = 4096;

/// The SHA-512 digest of a block.
pub type BlockDigest = [u8; 64];

/// Adds the digests of these blocks to `digests`, in their order.
pub fn digest_blocks(blocks: &[&[u8; BLOCK]], digests: &mut Vec<BlockDigest>) {
    #[cfg(target_arch = "x86_64")]
    let blocks = x86::digest_blocks(blocks, digests);
    digests.extend(blocks.iter().map(|block| digest(block)));
}

/// One block by itself.
fn digest(block: &[u8; BLOCK]) -> BlockDigest {
    Sha512::digest(block).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_by_one(blocks: &[&[u8; BLOCK]]) -> Vec<BlockDigest> {
        blocks.iter().map(|block| digest(block)).collect()
    }

    /// So many blocks, no two of them alike.
    fn content(count: usize, seed: u64) -> Vec<u8> {
        let words =
            (0..count * BLOCK / 8).map(|at| (at as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.flat_map(u64::to_be_bytes).collect()
    }

    #[test]
    fn the_digest_of_a_block_is_that_of_sha512sum() {
        // head -c 4096 /dev/zero | sha512sum
        let expected = "2d23913d3759ef01704a86b4bee3ac8a29002313ecc98a7424425a78170f2195\
                        77822fd77e4ae96313547696ad7d5949b58e12d5063ef2ee063b595740a3a12d";
        let mut digests = Vec::new();
        digest_blocks(&[&[0; BLOCK]; 9], &mut digests);
        let hex = |digest: BlockDigest| -> String {
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(
            digests.into_iter().map(hex).collect::<Vec<_>>(),
            [expected; 9]
        );
    }

    #[test]
    fn whatever_their_number_blocks_have_the_digests_that_they_have_alone() {
        let content = content(35, 0);
        let blocks: Vec<&[u8; BLOCK]> = content.as_chunks().0.iter().collect();
        for count in 0..=blocks.len() {
            let mut digests = vec![[7; 64]];
            digest_blocks(&blocks[..count], &mut digests);
            assert_eq!(digests[0], [7; 64]);
            assert_eq!(digests[1..], one_by_one(&blocks[..count]), "{count} blocks");
        }
    }

    proptest! {
        #[test]
        fn each_way_of_this_processor_agrees_with_one_block_after_the_other(seed: u64, count in 0_usize..20) {
            let content = content(count, seed);
            let blocks: Vec<&[u8; BLOCK]> = content.as_chunks().0.iter().collect();
            let expected = one_by_one(&blocks);
            #[cfg(target_arch = "x86_64")]
            for way in x86::Way::of_this_processor() {
                let mut digests = Vec::new();
                let left = way.digest_blocks(&blocks, &mut digests);
                digests.extend(left.iter().map(|block| digest(block)));
                prop_assert_eq!(&digests, &expected, "{:?}", way);
            }
        }
    }
}
