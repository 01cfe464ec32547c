//! The tree itself.

mod support;

use hull_erofs::tree::{Device, Entry};
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
    tree.root.entries.remove(&b"dev"[..]);
    let before = show(&tree);
    let count = tree.leaves().count();
    tree.drop_unreferenced_leaves();
    assert_eq!(tree.leaves().count(), count - 5);
    assert_eq!(show(&tree), before);
    assert!(tree.link_counts().contains(&2));
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
