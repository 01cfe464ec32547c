//! Labels that are computed from the policy in the root.

use hull_chunk::scan::{Rules, Scan};
use hull_chunk::selinux::{SelinuxError, label};

use crate::world::Root;

fn labels(scan: &Scan) -> Vec<(String, String)> {
    let labelled = scan.entries.iter().filter_map(|entry| {
        let label = entry.metadata.xattrs.get(&b"security.selinux"[..])?;
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .trim_end_matches('\0')
                .to_owned()
        };
        Some((text(&entry.path), text(label)))
    });
    labelled.collect()
}

fn root() -> Root {
    let root = Root::empty();
    root.file(
        "etc/selinux/config",
        b"SELINUX=enforcing\nSELINUXTYPE=mine\n",
    );
    root.file(
        "etc/selinux/mine/contexts/files/file_contexts",
        b"/usr/bin(/.*)? -- bin_t\n/usr/bin/a -- a_t\n/usr -d usr_t\n/usr/bin/l -l link_t\n",
    );
    root.file("usr/bin/a", b"a");
    std::fs::hard_link(root.at("usr/bin/a"), root.at("usr/bin/b")).unwrap();
    root.file("usr/bin/c", b"c");
    root.link("usr/bin/l", "c");
    root
}

#[test]
fn labels_are_those_of_the_policy_in_the_root_and_of_an_inodes_first_name() {
    let root = root();
    let mut scan = Scan::read(root.path(), &Rules::default()).unwrap();
    label(&mut scan).unwrap();
    let expected = [
        ("usr", "usr_t"),
        ("usr/bin/a", "a_t"),
        ("usr/bin/b", "a_t"),
        ("usr/bin/c", "bin_t"),
        ("usr/bin/l", "link_t"),
    ];
    assert_eq!(
        labels(&scan),
        expected.map(|(path, label)| (path.to_owned(), label.to_owned()))
    );
}

#[test]
fn a_root_without_a_policy_is_not_labelled() {
    let root = Root::system();
    let mut scan = Scan::read(root.path(), &Rules::default()).unwrap();
    assert!(matches!(label(&mut scan), Err(SelinuxError::NoPolicy)));
    std::fs::create_dir_all(root.at("etc/selinux")).unwrap();
    root.file("etc/selinux/config", b"SELINUXTYPE=gone\n");
    let mut scan = Scan::read(root.path(), &Rules::default()).unwrap();
    assert!(matches!(label(&mut scan), Err(SelinuxError::Policy(_))));
}
