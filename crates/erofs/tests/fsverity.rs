//! Digests against those of `fsverity digest --hash-alg=sha512` (fsverity-utils 1.5).

use hull_erofs::ObjectId;
use hull_erofs::fsverity::{Blocks, Hasher, digest, digest_all};
use proptest::prelude::*;

/// Lengths around one block, around one level of hashes (64 blocks), and around two
/// (4096 blocks), and the digests of [`pattern`]s of that length.
const KNOWN: [(usize, &str); 10] = [
    (
        0,
        "ccf9e5aea1c2a64efa2f2354a6024b90dffde6bbc017825045dce374474e13d10adb9dadcc6ca8e17a3c075fbd31336e8f266ae6fa93a6c3bed66f9e784e5abf",
    ),
    (
        1,
        "9fcf5172b085b1c8f9365eecb37a1869e193a4705654a5829f11939cd01d5c0fd97276be8cd9d49f76cfc8dcfeb80f8128e3548a1de50b56912b9e3fc7bde27b",
    ),
    (
        11,
        "74b4db10b0a373dd168f8321a29008bd6c3a36c38cbb82d4c93bb426c687ed8e53136184d234bc632373ede15e98239562cc2f7611c5df522844f916f1677af0",
    ),
    (
        4_095,
        "aa1e0b02c27a70d540282f4383933a174935eae52fdbee813a9105c32ccb11fdad397bbd131ff238f4ed6885d0b48c45036e79fe99cf8d3c377325732602741c",
    ),
    (
        4_096,
        "7f87d0054d59aa09d4173fdd49627e71c524f6ece68222953c5917fc4651c2a305a392c771f5fc0c5c70cc1cc1651f3756a5770943a0104355321e03d8c034f7",
    ),
    (
        4_097,
        "b0a6d15dead4765fa775576f5fbc7ec28ce391e84d85d8c38ea8c605634ed5135d147cf374b589385ecf289a5c8e15b7b67deed7f122667f061dc99f3b6668e6",
    ),
    (
        262_144,
        "64bf43caf709d2817aac8e02f17616e8b48e305a715ece84ed7dbe7de2325ab3a13c5797cabe02d49245185c1bedee8d0f9ccc771d20cf0201d708ee761d4f4d",
    ),
    (
        262_145,
        "19496ccc1be4ba0c68af0877e73cd055b7e8247b55900f45d689e24d6867a5354527b7b1da79d589efc953939f2b3a69cc911fa0755ce77cf577e08e426a9611",
    ),
    (
        16_777_216,
        "33abf63eebc3f3f1e3f5f969a5d4038cc1a4473b06e9df3ac5de64166ba76bbb6cdf67f156dff1074cc823351cab46a03c197c0bc1549af3ffdcdb25ab740089",
    ),
    (
        16_777_217,
        "1f0340878c0f03e027093e736b18e66e0372f49240bad0f074f41a80174de7bad8f1894368410526ef51fd879740ed4a1159aec125eeeb92fbbec6e2b2de0885",
    ),
];

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i * 7 + i / 4096).to_le_bytes()[0])
        .collect()
}

#[test]
fn digests_are_those_of_fsverity_utils() {
    for (length, expected) in KNOWN {
        assert_eq!(
            digest(&pattern(length)).to_hex(),
            expected,
            "{length} bytes"
        );
    }
    let contents = KNOWN.map(|(length, _)| [pattern(length)]);
    let together: Vec<_> = digest_all(&contents).iter().map(ObjectId::to_hex).collect();
    assert_eq!(together, KNOWN.map(|(_, expected)| expected));
}

proptest! {
    #[test]
    fn pieces_of_any_length_make_the_same_digest(
        length in 0usize..600_000,
        pieces in prop::collection::vec(0usize..70_000, 0..20),
    ) {
        let data = pattern(length);
        let mut hasher = Hasher::new();
        let mut rest = &data[..];
        for piece in pieces {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            hasher.update(now);
            rest = later;
        }
        hasher.update(rest);
        prop_assert_eq!(hasher.length(), length as u64);
        prop_assert_eq!(hasher.finalize(), digest(&data));
    }

    #[test]
    fn zeros_by_number_make_the_same_digest_as_zeros(
        parts in prop::collection::vec((0usize..9000, 0u64..600_000), 0..6),
    ) {
        let (mut by_number, mut as_bytes) = (Hasher::new(), Hasher::new());
        for (data, zeros) in parts {
            for hasher in [&mut by_number, &mut as_bytes] {
                hasher.update(&pattern(data));
            }
            by_number.update_zeros(zeros);
            as_bytes.update(&vec![0; usize::try_from(zeros).unwrap()]);
        }
        prop_assert_eq!(by_number.length(), as_bytes.length());
        prop_assert_eq!(by_number.finalize(), as_bytes.finalize());
    }

    #[test]
    fn parts_that_are_hashed_alone_make_the_same_digest(
        length in 0usize..600_000,
        blocks in 1usize..100,
        piece in 1usize..9000,
    ) {
        let data = pattern(length);
        let mut hasher = Hasher::new();
        for part in data.chunks(blocks * 4096) {
            let pieces: Vec<_> = part.chunks(piece).collect();
            hasher.append(&Blocks::hash(&pieces));
        }
        prop_assert_eq!(hasher.length(), length as u64);
        prop_assert_eq!(hasher.finalize(), digest(&data));
    }

    #[test]
    fn contents_that_are_hashed_together_have_the_digests_that_they_have_alone(
        contents in prop::collection::vec((0usize..40_000, 1usize..9000), 0..12),
    ) {
        let data: Vec<_> = contents.iter().map(|(length, _)| pattern(*length)).collect();
        let pieces: Vec<Vec<&[u8]>> = data.iter().zip(&contents).map(|(data, (_, piece))| data.chunks(*piece).collect()).collect();
        let alone: Vec<_> = data.iter().map(|data| digest(data)).collect();
        prop_assert_eq!(digest_all(&pieces), alone);
    }

    #[test]
    fn an_object_id_is_read_back_from_its_digits(bytes in any::<[u8; 32]>()) {
        let id = ObjectId::from_bytes([bytes, bytes].concat().try_into().unwrap());
        prop_assert_eq!(id.to_hex().parse::<ObjectId>().unwrap(), id);
        prop_assert_eq!(id.to_object_path().replace('/', ""), id.to_hex());
    }
}

#[test]
fn an_object_id_has_128_lower_case_digits_and_nothing_else() {
    let good = "ab".repeat(64);
    assert!(good.parse::<ObjectId>().is_ok());
    for bad in [
        "",
        &good[1..],
        &good.to_uppercase(),
        &good.replace('a', "g"),
        &format!("{good}0"),
    ] {
        assert!(bad.parse::<ObjectId>().is_err(), "{bad:?}");
    }
}
