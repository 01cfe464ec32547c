//! A dump file that somebody else names, such as that of a whole Debian image.

use hull_erofs::tree::{Content, Leaf, Tree};
use hull_erofs::{dump, fsverity, image, transform};
use hull_oracle::strategy;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

/// The environment variable with the path of a dump file of a tree merged from layers.
const DUMP: &str = "HULL_ORACLE_DUMP";

#[test]
fn the_images_of_the_given_dump_file_are_what_composefs_writes() {
    let path = std::env::var_os(DUMP);
    let path = path.expect("HULL_ORACLE_DUMP names a dump file: tools/test-oracle makes one");
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
    assert_ne!(compare_with_mkcomposefs(tree.clone()), Compared::Refused);

    transform::oci_root(&mut tree).unwrap();
    transform::prepare_for_boot(&mut tree).unwrap();
    let id = fsverity::digest(&image::write(&tree).unwrap());
    assert_eq!(id.to_hex(), hull_oracle::boot_image_id(&dump).unwrap());
}

#[test]
fn images_of_random_trees_are_what_mkcomposefs_writes() {
    let mut runner = TestRunner::default();
    let mut compared = 0;
    for _ in 0..1000 {
        let tree = strategy::dumpable_tree()
            .new_tree(&mut runner)
            .unwrap()
            .current();
        match compare_with_mkcomposefs(tree) {
            Compared::NoProgram => return,
            Compared::Refused => {}
            Compared::Same => compared += 1,
        }
    }
    assert!(
        compared > 500,
        "mkcomposefs took only {compared} of 1000 trees"
    );
}

#[derive(Debug, PartialEq, Eq)]
enum Compared {
    Same,
    Refused,
    NoProgram,
}

/// Attributes that composefs adds for whiteouts, under the names of the tree. Where
/// the tree has one already, mkcomposefs replaces it and the composefs crate writes
/// it twice; we do as the crate does.
const WHITEOUT_ATTRIBUTES: [&[u8]; 6] = [
    b"trusted.overlay.whiteout",
    b"trusted.overlay.whiteouts",
    b"trusted.overlay.opaque",
    b"user.overlay.whiteout",
    b"user.overlay.whiteouts",
    b"user.overlay.opaque",
];

/// mkcomposefs knows SHA-256 only, so objects become small files; and it takes no
/// long attributes, so they are cut. All the rest is compared.
fn compare_with_mkcomposefs(mut tree: Tree) -> Compared {
    let Some(program) = hull_oracle::mkcomposefs::find() else {
        println!("mkcomposefs is not installed: not compared with it");
        return Compared::NoProgram;
    };
    let ids: Vec<_> = tree.leaves().map(|(id, _)| id).collect();
    for id in ids {
        let leaf = tree.leaf(id);
        if let Content::Object { size, .. } = leaf.content {
            let content = Content::Inline(vec![b'o'; (size % 64) as usize].into());
            tree.set_leaf(id, Leaf { content, ..leaf });
        }
    }
    tree.for_each_metadata_mut(|metadata| {
        let kept = metadata
            .xattrs
            .iter()
            .filter(|(name, _)| !WHITEOUT_ATTRIBUTES.contains(&&name[..]));
        let cut = |value: &[u8]| value[..value.len().min(1000)].into();
        metadata.xattrs = kept
            .map(|(name, value)| (name.clone(), cut(value)))
            .collect();
    });
    let dump = dump::write(&tree);
    let Ok(theirs) = hull_oracle::mkcomposefs::write_image(&program, &dump) else {
        return Compared::Refused;
    };
    let ours = image::write(&tree).unwrap();
    assert!(
        theirs == ours,
        "mkcomposefs differs on\n{}",
        String::from_utf8_lossy(&dump)
    );
    Compared::Same
}
