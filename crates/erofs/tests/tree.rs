//! The tree itself.

mod support;

use hull_erofs::tree::{Content, Device, DirectoryId, Entry, Leaf, Metadata, Node, Tree};
use proptest::prelude::*;
use support::{sample, show};

#[test]
fn a_path_leads_through_directories_only() {
    let tree = sample();
    assert!(matches!(tree.lookup(b"usr/a"), Some(Entry::Leaf(..))));
    assert!(matches!(tree.lookup(b"//usr//"), Some(Entry::Directory(_))));
    assert!(tree.lookup(b"/short/a").is_none(), "links are not followed");
    assert!(tree.directory(b"/usr/a").is_none());
}

#[test]
fn unreferenced_leaves_are_dropped_and_hard_links_stay_together() {
    let mut tree = sample();
    assert!(tree.remove(DirectoryId::ROOT, b"dev"));
    let before = show(&tree);
    let count = tree.leaves().count();
    tree.compact();
    assert_eq!(tree.leaves().count(), count - 5);
    assert_eq!(show(&tree), before);
    assert!(!tree.hard_links().is_empty());
}

#[test]
fn leaves_come_into_the_order_of_the_tree() {
    let mut tree = Tree::default();
    let fifo = |mode| Leaf {
        metadata: Metadata {
            mode,
            ..Metadata::default()
        },
        content: Content::Fifo,
    };
    let ids: Vec<_> = (0..100).map(|mode| tree.add_leaf(fifo(mode))).collect();
    let inner = tree.put_directory(DirectoryId::ROOT, b"50-", Metadata::default());
    for (name, id) in ids.iter().enumerate().filter(|(name, _)| name % 3 > 0) {
        let directory = if name % 2 == 0 {
            DirectoryId::ROOT
        } else {
            inner
        };
        let name = name * 37 % 100;
        tree.put_leaf(directory, format!("{name:02}").as_bytes(), *id);
    }
    // A second name, before the first.
    tree.put_leaf(inner, b"!", ids[2]);
    let before = show(&tree);
    tree.compact();
    assert_eq!(show(&tree), before);
    assert_eq!(tree.leaves().count(), 66);
    let mut met = Vec::new();
    let inner = tree.directory(b"50-").unwrap();
    for (_, node) in tree.root().entries().chain(inner.entries()) {
        if let Node::Leaf(id) = node
            && !met.contains(&id.index())
        {
            met.push(id.index());
        }
    }
    assert_eq!(met, (0..66).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn a_device_is_read_back_from_its_number(major in any::<u32>(), minor in any::<u32>()) {
        let device = Device { major, minor };
        prop_assert_eq!(Device::from_raw(device.to_raw()), device);
    }
}

#[test]
fn a_device_has_the_number_that_the_kernel_gives_it() {
    assert_eq!(Device { major: 1, minor: 3 }.to_raw(), 0x103);
    assert_eq!(
        Device {
            major: 259,
            minor: 300
        }
        .to_raw(),
        0x11_032c
    );
    assert_eq!(
        Device {
            major: 0x1234_5678,
            minor: 0x9abc_def0
        }
        .to_raw(),
        0x1234_59ab_cde6_78f0
    );
}
