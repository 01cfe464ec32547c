//! Bytes that somebody made up: no reader panics or takes long.

mod support;

use std::time::{Duration, Instant};

use hull_erofs::{Tree, dump, image};
use proptest::prelude::*;
use proptest::sample::Index;
use support::sample;

/// Far more than any of these inputs takes, far less than what grows without bound.
const LIMIT: Duration = Duration::from_secs(60);

/// Overwrites some places with bytes that are likely to mean something.
fn damage() -> impl Strategy<Value = Vec<(Index, Vec<u8>)>> {
    let bytes = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 1..3),
        1 => prop::sample::select(vec![vec![0], vec![0xff], vec![0xff; 4], vec![0; 8], vec![0xff; 8]]),
    ];
    prop::collection::vec((any::<Index>(), bytes), 1..6)
}

fn apply(original: &[u8], damage: &[(Index, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (place, new) in damage {
        let start = place.index(bytes.len());
        let end = bytes.len().min(start + new.len());
        bytes[start..end].copy_from_slice(&new[..end - start]);
    }
    bytes
}

/// What was read can be written or is refused, and takes no long time.
fn check(read: impl FnOnce() -> Option<Tree>) {
    let start = Instant::now();
    if let Some(tree) = read() {
        let text = dump::write(&tree);
        if let Ok(image) = image::write(&tree) {
            let again = image::read(&image).map(|tree| dump::write(&tree));
            assert!(again.is_ok_and(|again| again == text || !text.is_ascii()));
        }
    }
    assert!(start.elapsed() < LIMIT, "took {:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_image_is_read_or_refused(damage in damage()) {
        let image = apply(&image::write(&sample()).unwrap(), &damage);
        check(|| image::read(&image).ok());
        check(|| image::read_top_directory(&image, b"usr").ok().flatten());
    }

    #[test]
    fn a_damaged_dump_file_is_read_or_refused(damage in damage()) {
        let dump = apply(&dump::write(&sample()), &damage);
        check(|| dump::parse(&dump).ok());
    }

    #[test]
    fn blocks_in_another_order_are_read_or_refused(from in any::<Index>(), to in any::<Index>()) {
        let mut image = image::write(&sample()).unwrap();
        let slots = image.len() / 32;
        let (from, to) = (from.index(slots) * 32, to.index(slots) * 32);
        image.copy_within(from..from + 32, to);
        check(|| image::read(&image).ok());
    }

    #[test]
    fn random_bytes_behind_a_good_start_are_read_or_refused(
        noise in prop::collection::vec(any::<u8>(), 4096 * 3 - 1152),
    ) {
        let mut image = image::write(&sample()).unwrap();
        image.truncate(1152);
        image.extend(noise);
        let blocks = u32::try_from(image.len() / 4096).unwrap();
        image[1024 + 36..1024 + 40].copy_from_slice(&blocks.to_le_bytes());
        check(|| image::read(&image).ok());
    }

    #[test]
    fn random_text_is_no_dump_file(text in "(/[a-c/]{0,4} [0-9]{1,3} @?[0-7]{1,6}( [-0-9a/\\\\x=.]{1,5}){0,10}\n){0,6}") {
        check(|| dump::parse(text.as_bytes()).ok());
    }

    #[test]
    fn random_bytes_are_no_image(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert!(image::read(&bytes).is_err());
        check(|| dump::parse(&bytes).ok());
    }
}
