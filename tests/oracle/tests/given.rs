//! A dump file that somebody else names, such as that of a whole Debian image.

use hull_erofs::{dump, fsverity, image, transform};
use hull_oracle::strategy;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

/// The environment variable with the path of a dump file of a tree merged from layers.
const DUMP: &str = "HULL_ORACLE_DUMP";

#[test]
fn the_images_of_the_given_dump_file_are_what_composefs_writes() {
    let Some(path) = std::env::var_os(DUMP) else {
        println!("{DUMP} names no dump file: nothing to compare");
        return;
    };
    let dump = std::fs::read(&path).unwrap();
    let mut tree = dump::parse(&dump).unwrap();
    let theirs = hull_oracle::parse_dump(&dump).unwrap();
    let ours = image::write(&tree).unwrap();
    assert!(
        ours == *hull_oracle::write_image(theirs).unwrap(),
        "the images differ"
    );
    assert!(
        dump::write(&image::read(&ours).unwrap()) == dump::write(&tree),
        "read back"
    );
    compare_with_mkcomposefs(&dump, &ours);

    transform::oci_root(&mut tree).unwrap();
    transform::prepare_for_boot(&mut tree).unwrap();
    let id = fsverity::digest(&image::write(&tree).unwrap());
    assert_eq!(id.to_hex(), hull_oracle::boot_image_id(&dump).unwrap());
}

#[test]
fn images_of_random_trees_are_what_mkcomposefs_writes() {
    let mut runner = TestRunner::default();
    for _ in 0..200 {
        let tree = strategy::dumpable_tree()
            .new_tree(&mut runner)
            .unwrap()
            .current();
        compare_with_mkcomposefs(&dump::write(&tree), &image::write(&tree).unwrap());
    }
}

fn compare_with_mkcomposefs(dump: &[u8], ours: &[u8]) {
    match hull_oracle::mkcomposefs::find() {
        None => println!("mkcomposefs is not installed: not compared with it"),
        Some(program) => {
            let theirs = hull_oracle::mkcomposefs::write_image(&program, dump).unwrap();
            assert!(
                theirs == ours,
                "mkcomposefs differs on\n{}",
                String::from_utf8_lossy(dump)
            );
        }
    }
}
