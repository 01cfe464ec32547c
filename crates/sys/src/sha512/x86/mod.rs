//! The vector instructions of x86-64.

#![allow(
    unsafe_code,
    reason = "instructions that not all processors have, and loads and stores of vectors"
)]

mod avx2;
mod avx512;

use super::{BLOCK, BlockDigest};

/// A kind of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Four blocks at a time.
    Avx2,
    /// Eight blocks at a time.
    Avx512,
}

impl Way {
    /// Those that this processor has, the quickest first.
    pub(super) fn of_this_processor() -> impl Iterator<Item = Self> {
        let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let avx2 = is_x86_feature_detected!("avx2");
        [(avx512, Self::Avx512), (avx2, Self::Avx2)]
            .into_iter()
            .filter_map(|(is_there, way)| is_there.then_some(way))
    }

    /// Adds the digests of blocks; returns those that are left, which alone are quicker.
    pub(super) fn digest_blocks<'b, 'd>(
        self,
        blocks: &'b [&'d [u8; BLOCK]],
        digests: &mut Vec<BlockDigest>,
    ) -> &'b [&'d [u8; BLOCK]] {
        match self {
            // SAFETY: `of_this_processor`, which alone makes a way, saw that the processor has these instructions.
            Self::Avx2 => in_lanes(blocks, digests, |blocks| unsafe { avx2::digests(blocks) }),
            // SAFETY: as above.
            Self::Avx512 => in_lanes(blocks, digests, |blocks| unsafe { avx512::digests(blocks) }),
        }
    }
}

/// The quickest way that this processor has; returns the blocks that are left.
pub(super) fn digest_blocks<'b, 'd>(
    blocks: &'b [&'d [u8; BLOCK]],
    digests: &mut Vec<BlockDigest>,
) -> &'b [&'d [u8; BLOCK]] {
    match Way::of_this_processor().next() {
        Some(way) => way.digest_blocks(blocks, digests),
        None => blocks,
    }
}

/// All lanes together take as long as this many blocks alone, at most.
const WORTH: usize = 3;

fn in_lanes<'b, 'd, const LANES: usize>(
    blocks: &'b [&'d [u8; BLOCK]],
    digests: &mut Vec<BlockDigest>,
    of_lanes: impl Fn(&[&[u8; BLOCK]; LANES]) -> [BlockDigest; LANES],
) -> &'b [&'d [u8; BLOCK]] {
    let (groups, rest) = blocks.as_chunks();
    for group in groups {
        digests.extend(of_lanes(group));
    }
    if rest.len() < WORTH {
        return rest;
    }
    // Lanes that have no block of their own do what the first one does.
    let filled = std::array::from_fn(|lane| *rest.get(lane).unwrap_or(&rest[0]));
    digests.extend(&of_lanes(&filled)[..rest.len()]);
    &[]
}

/// Writes the digest function of a module that has vectors of `LANES` numbers and these operations on them.
macro_rules! digests_in_lanes {
    ($features:literal) => {
        /// The SHA-512 digests of blocks, one in each lane (FIPS 180-4, 6.4.2).
        #[target_feature(enable = $features)]
        pub(super) fn digests(blocks: &[&[u8; BLOCK]; LANES]) -> [BlockDigest; LANES] {
            let mut state = START.map(|word| splat(word));
            for at in (0..BLOCK).step_by(128) {
                compress(&mut state, load(blocks, at));
            }
            // The padding (5.1.2): one bit, zeros, and the length in bits.
            let mut padding = [splat(0); 16];
            padding[0] = splat(1 << 63);
            padding[15] = splat(8 * BLOCK as u64);
            compress(&mut state, padding);
            store(state)
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn compress(state: &mut [Vector; 8], mut words: [Vector; 16]) {
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
            for round in 0..80 {
                let at = round % 16;
                if round >= 16 {
                    let (early, late) = (words[(at + 1) % 16], words[(at + 14) % 16]);
                    let early = xor3(
                        rotate::<1, 63>(early),
                        rotate::<8, 56>(early),
                        shift::<7>(early),
                    );
                    let late = xor3(
                        rotate::<19, 45>(late),
                        rotate::<61, 3>(late),
                        shift::<6>(late),
                    );
                    words[at] = add(add(words[at], early), add(late, words[(at + 9) % 16]));
                }
                let sum_e = xor3(
                    rotate::<14, 50>(e),
                    rotate::<18, 46>(e),
                    rotate::<41, 23>(e),
                );
                let sum_a = xor3(
                    rotate::<28, 36>(a),
                    rotate::<34, 30>(a),
                    rotate::<39, 25>(a),
                );
                let input = add(splat(ROUND[round]), words[at]);
                let first = add(add(h, sum_e), add(choose(e, f, g), input));
                let second = add(sum_a, majority(a, b, c));
                (h, g, f, e) = (g, f, e, add(d, first));
                (d, c, b, a) = (c, b, a, add(first, second));
            }
            for (word, more) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                *word = add(*word, more);
            }
        }
    };
}
use digests_in_lanes;
