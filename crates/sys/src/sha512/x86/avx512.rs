//! Eight lanes, with AVX-512.

use std::arch::x86_64::*;

use super::super::constants::{ROUND, START};
use super::{BLOCK, BlockDigest, digests_in_lanes};

const LANES: usize = 8;
type Vector = __m512i;

digests_in_lanes!("avx512f,avx512bw");

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn splat(number: u64) -> Vector {
    _mm512_set1_epi64(number.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi64(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shift<const RIGHT: u32>(a: Vector) -> Vector {
    _mm512_srli_epi64::<RIGHT>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate<const RIGHT: i32, const LEFT: i32>(a: Vector) -> Vector {
    const { assert!(RIGHT + LEFT == 64) }
    _mm512_ror_epi64::<RIGHT>(a)
}

// The instruction takes the table of a function of three bits, by the number that they make.

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi64::<0b1001_0110>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn choose(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi64::<0b1100_1010>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi64::<0b1110_1000>(a, b, c)
}

/// The 16 big-endian words at `at` of each block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(blocks: &[&[u8; BLOCK]; LANES], at: usize) -> [Vector; 16] {
    let mut words = [splat(0); 16];
    for (part, words) in words.as_chunks_mut().0.iter_mut().enumerate() {
        *words = transpose(blocks.map(|block| {
            let bytes = &block[at + 64 * part..][..64];
            // SAFETY: the slice is as long as the vector, and the instruction takes any alignment.
            reverse(unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) })
        }));
    }
    words
}

/// The words of each lane, in big-endian bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(state: [Vector; 8]) -> [BlockDigest; LANES] {
    let mut digests = [[0; 64]; LANES];
    for (digest, vector) in digests.iter_mut().zip(transpose(state)) {
        // SAFETY: a digest is as long as the vector, and the instruction takes any alignment.
        unsafe { _mm512_storeu_si512(digest.as_mut_ptr().cast(), reverse(vector)) };
    }
    digests
}

/// Reverses the bytes of each number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn reverse(a: Vector) -> Vector {
    let (low, high) = (0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    _mm512_shuffle_epi8(
        a,
        _mm512_set_epi64(high, low, high, low, high, low, high, low),
    )
}

/// Rows to columns: of pairs, then of pairs of pairs, then of halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(rows: [Vector; 8]) -> [Vector; 8] {
    let low = |a, b| _mm512_unpacklo_epi64(a, b);
    let high = |a, b| _mm512_unpackhi_epi64(a, b);
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = [
        low(a, b),
        high(a, b),
        low(c, d),
        high(c, d),
        low(e, f),
        high(e, f),
        low(g, h),
        high(g, h),
    ];
    let low = |a, b| _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), b);
    let high =
        |a, b| _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), b);
    let [a, b, c, d, e, f, g, h] = pairs;
    let fours = [
        low(a, c),
        low(b, d),
        high(a, c),
        high(b, d),
        low(e, g),
        low(f, h),
        high(e, g),
        high(f, h),
    ];
    let low = |a, b| _mm512_shuffle_i64x2::<0x44>(a, b);
    let high = |a, b| _mm512_shuffle_i64x2::<0xee>(a, b);
    let [a, b, c, d, e, f, g, h] = fours;
    [
        low(a, e),
        low(b, f),
        low(c, g),
        low(d, h),
        high(a, e),
        high(b, f),
        high(c, g),
        high(d, h),
    ]
}
