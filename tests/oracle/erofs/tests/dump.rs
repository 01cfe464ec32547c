//! Dump files: ours and theirs, byte for byte.

use hull_erofs::dump;
use hull_oracle::strategy::{self, Times};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_dump_file_of_a_tree_is_what_composefs_writes(tree in strategy::tree(Times::Any)) {
        let ours = dump::write(&tree);
        let theirs = hull_oracle::write_dump(&hull_oracle::to_theirs(&tree)).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
    }

    #[test]
    fn a_dump_file_says_the_same_to_composefs(tree in strategy::dumpable_tree()) {
        let ours = dump::write(&tree);
        let theirs = hull_oracle::write_dump(&hull_oracle::parse_dump(&ours).unwrap()).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
        let again = dump::write(&dump::parse(&theirs).unwrap());
        prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&ours));
    }
}
