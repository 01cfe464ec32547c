//! Images: ours and theirs, byte for byte.

use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};
use hull_erofs::{dump, fsverity, image};
use hull_oracle::strategy::{self, Times};
use proptest::prelude::*;

/// Where two images differ, for the message of a failed test.
fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let place = ours.iter().zip(theirs).position(|(a, b)| a != b);
    format!(
        "{} and {} bytes, first difference at {place:?}",
        ours.len(),
        theirs.len()
    )
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_image_of_a_tree_is_what_composefs_writes(tree in strategy::tree(Times::Any)) {
        let ours = image::write(&tree).unwrap();
        let theirs = hull_oracle::write_image(hull_oracle::to_theirs(&tree)).unwrap();
        prop_assert!(ours == *theirs, "{}", first_difference(&ours, &theirs));
    }

    #[test]
    fn the_image_of_a_dump_file_is_what_composefs_writes(tree in strategy::dumpable_tree()) {
        let dump = dump::write(&tree);
        let ours = image::write(&dump::parse(&dump).unwrap()).unwrap();
        let theirs = hull_oracle::write_image(hull_oracle::parse_dump(&dump).unwrap()).unwrap();
        prop_assert!(ours == *theirs, "{}", first_difference(&ours, &theirs));
    }

    #[test]
    fn an_image_of_composefs_is_read_back_as_the_tree(tree in strategy::tree(Times::Any)) {
        let theirs = hull_oracle::write_image(hull_oracle::to_theirs(&tree)).unwrap();
        let read = image::read(&theirs).unwrap();
        let (read, tree) = (dump::write(&read), dump::write(&tree));
        prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&tree));
    }

    #[test]
    fn composefs_reads_our_images(mut tree in strategy::tree(Times::Any)) {
        // It takes every file with the escaped attribute for a whiteout, hard links and all.
        tree.for_each_metadata_mut(|metadata| {
            metadata.xattrs.remove(&b"trusted.overlay.whiteout"[..]);
        });
        let ours = image::write(&tree).unwrap();
        let read = hull_oracle::read_image(&ours);
        prop_assert!(read.is_ok(), "{:?}", read.err());
    }
}

/// A tree whose image is made in many pieces: directories of several blocks, hard links
/// between them, and files of which every third has the content of another.
fn large() -> Tree {
    let mut tree = Tree::default();
    let directories = [&b"z"[..], b"00", b"-"]
        .map(|name| tree.put_directory(DirectoryId::ROOT, name, Metadata::default()));
    for number in 0..3000u32 {
        let content = Content::Object {
            id: fsverity::digest(&(number - number % 3 / 2).to_le_bytes()),
            size: 100,
        };
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content,
        });
        let name = format!("{number}-{}", "x".repeat(number as usize % 40)).into_bytes();
        let links = 1 + usize::from(number % 5 == 0) + usize::from(number % 7 == 0);
        for directory in directories.into_iter().take(links) {
            tree.put_leaf(directory, &name, leaf);
        }
    }
    tree
}

#[test]
fn the_image_of_a_large_tree_is_what_composefs_writes() {
    let tree = large();
    let ours = image::write(&tree).unwrap();
    let theirs = hull_oracle::write_image(hull_oracle::to_theirs(&tree)).unwrap();
    assert!(ours == *theirs, "{}", first_difference(&ours, &theirs));
}
