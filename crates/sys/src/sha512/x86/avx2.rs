//! Four lanes, with AVX2.

use std::arch::x86_64::*;

use super::super::constants::{ROUND, START};
use super::{BLOCK, BlockDigest, digests_in_lanes};

const LANES: usize = 4;
type Vector = __m256i;

digests_in_lanes!("avx2");

#[inline]
#[target_feature(enable = "avx2")]
fn splat(number: u64) -> Vector {
    _mm256_set1_epi64x(number.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi64(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const RIGHT: i32>(a: Vector) -> Vector {
    _mm256_srli_epi64::<RIGHT>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const RIGHT: i32, const LEFT: i32>(a: Vector) -> Vector {
    const { assert!(RIGHT + LEFT == 64) }
    _mm256_or_si256(_mm256_srli_epi64::<RIGHT>(a), _mm256_slli_epi64::<LEFT>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_xor_si256(c, _mm256_and_si256(a, _mm256_xor_si256(b, c)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_xor_si256(
        _mm256_and_si256(a, b),
        _mm256_and_si256(c, _mm256_xor_si256(a, b)),
    )
}

/// The 16 big-endian words at `at` of each block.
#[inline]
#[target_feature(enable = "avx2")]
fn load(blocks: &[&[u8; BLOCK]; LANES], at: usize) -> [Vector; 16] {
    let mut words = [splat(0); 16];
    for (part, words) in words.as_chunks_mut().0.iter_mut().enumerate() {
        *words = transpose(blocks.map(|block| {
            let bytes = &block[at + 32 * part..][..32];
            // SAFETY: the slice is as long as the vector, and the instruction takes any alignment.
            reverse(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
        }));
    }
    words
}

/// The words of each lane, in big-endian bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn store(state: [Vector; 8]) -> [BlockDigest; LANES] {
    let mut digests = [[0; 64]; LANES];
    for (part, words) in state.as_chunks().0.iter().enumerate() {
        for (digest, vector) in digests.iter_mut().zip(transpose(*words)) {
            let bytes = &mut digest[32 * part..][..32];
            // SAFETY: the slice is as long as the vector, and the instruction takes any alignment.
            unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), reverse(vector)) };
        }
    }
    digests
}

/// Reverses the bytes of each number.
#[inline]
#[target_feature(enable = "avx2")]
fn reverse(a: Vector) -> Vector {
    let (low, high) = (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    _mm256_shuffle_epi8(a, _mm256_setr_epi64x(low, high, low, high))
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [Vector; 4]) -> [Vector; 4] {
    let low = |a, b| _mm256_unpacklo_epi64(a, b);
    let high = |a, b| _mm256_unpackhi_epi64(a, b);
    let [even, odd, even_below, odd_below] = [
        low(rows[0], rows[1]),
        high(rows[0], rows[1]),
        low(rows[2], rows[3]),
        high(rows[2], rows[3]),
    ];
    [
        _mm256_permute2x128_si256::<0x20>(even, even_below),
        _mm256_permute2x128_si256::<0x20>(odd, odd_below),
        _mm256_permute2x128_si256::<0x31>(even, even_below),
        _mm256_permute2x128_si256::<0x31>(odd, odd_below),
    ]
}
