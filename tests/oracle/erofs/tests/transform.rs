//! From the tree of layers to the tree that boots: ours and theirs.

use hull_erofs::{dump, transform};
use hull_oracle::strategy::{self, Times};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_transformed_as_composefs_oci_and_boot_do(mut tree in strategy::image_tree(Times::Any)) {
        let mut theirs = hull_oracle::to_theirs(&tree);
        let ours = transform::oci_root(&mut tree);
        let result = hull_oracle::transform_for_oci(&mut theirs);
        prop_assert_eq!(ours.is_ok(), result.is_ok(), "{:?} and {:?}", ours, result);
        if ours.is_err() {
            // Both refuse it: there is nothing more to compare.
            return Ok(());
        }
        prop_assert!(dump::write(&tree) == hull_oracle::write_dump(&theirs).unwrap());

        let ours = transform::prepare_for_boot(&mut tree);
        let result = hull_oracle::transform_for_boot(&mut theirs, &[]);
        prop_assert_eq!(ours.is_ok(), result.is_ok(), "{:?} and {:?}", ours, result);
        if ours.is_err() {
            // Both refuse it: there is nothing more to compare.
            return Ok(());
        }
        prop_assert!(dump::write(&tree) == hull_oracle::write_dump(&theirs).unwrap());
    }

    #[test]
    fn labels_of_the_build_host_go_before_boot(mut tree in strategy::image_tree(Times::Any)) {
        let mut theirs = hull_oracle::to_theirs(&tree);
        let ours = transform::prepare_for_boot(&mut tree);
        prop_assert_eq!(ours.is_ok(), hull_oracle::transform_for_boot(&mut theirs, &[]).is_ok());
        if ours.is_err() {
            // Both refuse it: there is nothing more to compare.
            return Ok(());
        }
        prop_assert!(dump::write(&tree) == hull_oracle::write_dump(&theirs).unwrap());
    }
}
