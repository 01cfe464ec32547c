//! xxHash of 32 bits, which the filter over the names of xattrs is made with.

const PRIME1: u32 = 0x9e37_79b1;
const PRIME2: u32 = 0x85eb_ca77;
const PRIME3: u32 = 0xc2b2_ae3d;
const PRIME4: u32 = 0x27d4_eb2f;
const PRIME5: u32 = 0x1656_67b1;

/// XXH32 of `data`.
pub(super) fn xxh32(data: &[u8], seed: u32) -> u32 {
    let (stripes, rest) = data.as_chunks::<16>();
    let mut hash = if stripes.is_empty() {
        seed.wrapping_add(PRIME5)
    } else {
        converge(stripes, seed)
    };
    // The length enters modulo 2^32.
    let [b0, b1, b2, b3, ..] = (data.len() as u64).to_le_bytes();
    hash = hash.wrapping_add(u32::from_le_bytes([b0, b1, b2, b3]));
    let (words, bytes) = rest.as_chunks::<4>();
    for word in words {
        let lane = u32::from_le_bytes(*word).wrapping_mul(PRIME3);
        hash = hash.wrapping_add(lane).rotate_left(17).wrapping_mul(PRIME4);
    }
    for byte in bytes {
        let lane = u32::from(*byte).wrapping_mul(PRIME5);
        hash = hash.wrapping_add(lane).rotate_left(11).wrapping_mul(PRIME1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME3);
    hash ^ (hash >> 16)
}

fn converge(stripes: &[[u8; 16]], seed: u32) -> u32 {
    let mut lanes = [
        seed.wrapping_add(PRIME1).wrapping_add(PRIME2),
        seed.wrapping_add(PRIME2),
        seed,
        seed.wrapping_sub(PRIME1),
    ];
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            let input = u32::from_le_bytes(*word).wrapping_mul(PRIME2);
            *lane = lane
                .wrapping_add(input)
                .rotate_left(13)
                .wrapping_mul(PRIME1);
        }
    }
    lanes
        .into_iter()
        .zip([1, 7, 12, 18])
        .fold(0u32, |sum, (lane, turn)| {
            sum.wrapping_add(lane.rotate_left(turn))
        })
}

#[cfg(test)]
mod tests {
    use super::xxh32;

    #[test]
    fn gives_the_published_values() {
        assert_eq!(xxh32(b"", 0), 0x02cc_5d05);
        assert_eq!(xxh32(b"a", 0), 0x550d_7456);
        assert_eq!(xxh32(b"abc", 0), 0x32d1_53ff);
        assert_eq!(
            xxh32(b"Nobody inspects the spammish repetition", 0),
            0xe229_3b2f
        );
    }
}
