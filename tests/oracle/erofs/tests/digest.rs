//! fs-verity digests: ours and theirs.

use hull_erofs::fsverity::{Hasher, digest};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_digest_is_what_composefs_computes(
        blocks in prop_oneof![0usize..4, 62usize..67, 126usize..131],
        off in prop_oneof![Just(0usize), Just(1), Just(4095), 0usize..4096],
        seed in any::<u8>(),
        piece in 1usize..20_000,
    ) {
        let data: Vec<u8> = (0..blocks * 4096 + off).map(|i| (i / 7) as u8 ^ seed).collect();
        let theirs = hull_oracle::digest(&data);
        prop_assert_eq!(digest(&data).to_hex(), theirs.clone());
        let mut hasher = Hasher::new();
        data.chunks(piece).for_each(|piece| hasher.update(piece));
        prop_assert_eq!(hasher.finalize().to_hex(), theirs);
    }
}

#[test]
fn a_file_that_needs_three_levels_of_hashes_is_digested_as_composefs_does() {
    for blocks in [64 * 64 - 1, 64 * 64, 64 * 64 + 1] {
        let data: Vec<u8> = (0..blocks * 4096).map(|i| (i / 4096) as u8).collect();
        assert_eq!(
            digest(&data).to_hex(),
            hull_oracle::digest(&data),
            "{blocks} blocks"
        );
    }
}
