//! Labels from a policy in the tree: ours and theirs.

use std::collections::BTreeMap;
use std::convert::Infallible;

use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Node, Tree};
use hull_erofs::{dump, fsverity, selinux, transform};
use hull_oracle::strategy::{self, Times};
use proptest::prelude::*;

/// What goes to `/etc/selinux`, by path.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn rules() -> impl Strategy<Value = String> {
    let pattern = prop::sample::select(vec![
        "/.*",
        "/usr(/.*)?",
        "/usr/[a-z]+",
        "/run",
        "/boot/.*",
        "/big/0.*",
        "/[^/]*",
        "/.*\\.d",
        "/(etc|usr)/.*",
        "/[0-9a-f]{2}",
        "/.+/.+/.+",
        "/usr/.*n+",
        "/",
        "/etc/selinux/config",
    ]);
    let file_type = prop::sample::select(vec!["", " --", " -d", " -l", " -c", " -b", " -p", " -s"]);
    let label = prop::sample::select(vec!["a_t", "b_t", "c_t", "<<none>>"]);
    prop::collection::vec((pattern, file_type, label), 0..8).prop_map(|rules| {
        let lines = rules
            .into_iter()
            .map(|(pattern, file_type, label)| format!("{pattern}{file_type}\t{label}\n"));
        ["# a comment\n\n".to_owned()]
            .into_iter()
            .chain(lines)
            .collect()
    })
}

fn substitutions() -> impl Strategy<Value = String> {
    let pair = prop::sample::select(vec![
        "/usr /etc\n",
        "/etc /usr\n",
        "/run /\n",
        "/boot /usr/\n",
        "/big /usr/n\n",
        " # x\n",
    ]);
    prop::collection::vec(pair, 0..3).prop_map(|pairs| pairs.concat())
}

fn policy() -> impl Strategy<Value = Files> {
    let optional = |text: BoxedStrategy<String>| prop::option::of(text);
    let config = prop::sample::select(vec![
        "# SELINUXTYPE=no\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
        "selinuxtype = targeted",
        "SELINUX=disabled\n",
    ]);
    (
        config,
        rules(),
        optional(rules().boxed()),
        optional(rules().boxed()),
        optional(substitutions().boxed()),
        optional(substitutions().boxed()),
    )
        .prop_map(|(config, contexts, local, homedirs, subs, dist)| {
            let mut files = Files::from([
                ("config", config.into()),
                (
                    "targeted/contexts/files/file_contexts",
                    contexts.into_bytes(),
                ),
            ]);
            for (path, text) in [
                ("targeted/contexts/files/file_contexts.local", local),
                ("targeted/contexts/files/file_contexts.homedirs", homedirs),
                ("targeted/contexts/files/file_contexts.subs", subs),
                ("targeted/contexts/files/file_contexts.subs_dist", dist),
            ] {
                if let Some(text) = text {
                    files.insert(path, text.into_bytes());
                }
            }
            files
        })
}

/// Adds the files as objects to the tree.
fn install(tree: &mut Tree, files: &Files) {
    for (path, content) in files {
        let id = fsverity::digest(content);
        let content = Content::Object {
            id,
            size: content.len() as u64,
        };
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content,
        });
        let path = format!("etc/selinux/{path}");
        let (directories, name) = path.rsplit_once('/').unwrap();
        let mut directory = DirectoryId::ROOT;
        for name in directories.split('/') {
            let name = name.as_bytes();
            directory = match tree.directory_at(directory).get(name) {
                Some(Node::Directory(inner)) => inner.id(),
                Some(Node::Leaf(_)) => panic!("{name:?} is taken"),
                None => tree.put_directory(directory, name, Metadata::default()),
            };
        }
        tree.put_leaf(directory, name.as_bytes(), leaf);
    }
}

proptest! {
    #[test]
    fn a_tree_is_labelled_as_composefs_boot_does(
        mut tree in strategy::image_tree(Times::Any),
        files in policy(),
    ) {
        for name in [&b"usr"[..], b"boot", b"sysroot"] {
            tree.put_directory(DirectoryId::ROOT, name, Metadata::default());
        }
        tree.remove(DirectoryId::ROOT, b"etc");
        install(&mut tree, &files);
        tree.compact();
        let mut theirs = hull_oracle::to_theirs(&tree);
        let list: Vec<(&str, &[u8])> = files.iter().map(|(path, text)| (*path, &text[..])).collect();
        hull_oracle::transform_for_boot(&mut theirs, &list).unwrap();

        transform::prepare_for_boot(&mut tree).unwrap();
        let read = |id: &_, _| {
            let content = files.values().find(|content| fsverity::digest(content) == *id);
            Ok::<_, Infallible>(content.unwrap().clone())
        };
        let is_labelled = selinux::label(&mut tree, read).unwrap();
        prop_assert_eq!(is_labelled, !files["config"].ends_with(b"disabled\n"));
        let (ours, theirs) = (dump::write(&tree), hull_oracle::write_dump(&theirs).unwrap());
        prop_assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
    }
}
