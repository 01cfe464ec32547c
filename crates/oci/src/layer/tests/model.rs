//! Random layers against a model that is as simple as it can be: a map from
//! whole paths to what lies there, every rule of the specification spelled out
//! anew for it.

use std::collections::BTreeMap;

use hull_erofs::tree::{Entry as Found, LeafId};
use proptest::prelude::*;

use super::archive::*;
use super::*;
use crate::layer::entry::ImageBudget;
use crate::layer::merge::merge_in_parts;
use crate::layer::parts::Lengths;

/// One thing that a layer does.
#[derive(Debug, Clone)]
enum Step {
    File(String, u8),
    Directory(String, u32),
    HardLink(String, String),
    Hide(String),
    Opaque(String),
}

/// Few names, so that they meet.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|components| components.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, content)| Step::File(path, content)),
        3 => (path(), 0u32..0o1000).prop_map(|(path, mode)| Step::Directory(path, mode)),
        1 => (path(), path()).prop_map(|(path, target)| Step::HardLink(path, target)),
        1 => path().prop_map(Step::Hide),
        1 => path().prop_map(Step::Opaque),
    ]
}

/// What lies at a path. A file's number is its identity.
#[derive(Debug, Clone, PartialEq)]
enum Thing {
    File { number: usize, content: u8 },
    Directory { mode: u32 },
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    things: BTreeMap<String, Thing>,
    made: usize,
}

impl Model {
    fn remove(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        self.things
            .retain(|name, _| !(name.starts_with(&below) || itself && name == path));
    }

    fn make_parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            if !matches!(self.things.get(&path[..at]), Some(Thing::Directory { .. })) {
                self.things
                    .insert(path[..at].to_owned(), Thing::Directory { mode: 0o755 });
            }
        }
    }

    /// Applies a layer; false when it has to be refused.
    fn apply(&mut self, layer: &[Step]) -> bool {
        for step in layer {
            match step {
                Step::Hide(path) => self.remove(path, true),
                Step::Opaque(path) => self.remove(path, false),
                _ => {}
            }
        }
        for step in layer {
            match step {
                Step::File(path, content) => {
                    self.make_parents(path);
                    self.remove(path, true);
                    self.made += 1;
                    let file = Thing::File {
                        number: self.made,
                        content: *content,
                    };
                    self.things.insert(path.clone(), file);
                }
                Step::Directory(path, mode) => {
                    self.make_parents(path);
                    self.things
                        .insert(path.clone(), Thing::Directory { mode: *mode });
                }
                Step::HardLink(path, target) => {
                    self.make_parents(path);
                    match self.things.get(target).cloned() {
                        Some(file @ Thing::File { .. }) if path != target => {
                            self.remove(path, true);
                            self.things.insert(path.clone(), file);
                        }
                        _ => return false,
                    }
                }
                Step::Hide(_) | Step::Opaque(_) => {}
            }
        }
        true
    }
}

fn members(layer: &[Step]) -> Vec<Made> {
    let hidden = |path: &str| match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    };
    let one = |step: &Step| match step {
        // On both sides of what stays inline.
        Step::File(path, content) => file(path, vec![*content; usize::from(*content)]),
        Step::Directory(path, mode) => directory(path).mode(*mode),
        Step::HardLink(path, target) => hard_link(path, target),
        Step::Hide(path) => file(hidden(path), ""),
        Step::Opaque(path) => file(format!("{path}/.wh..wh..opq"), ""),
    };
    layer.iter().map(one).collect()
}

fn compare(scratch: &Scratch, tree: &Tree, model: &Model) {
    let mut identities: BTreeMap<usize, LeafId> = BTreeMap::new();
    for (path, thing) in &model.things {
        match (thing, tree.lookup(path.as_bytes())) {
            (Thing::Directory { mode }, Some(Found::Directory(directory))) => {
                assert_eq!(u32::from(directory.metadata().mode), *mode, "{path}");
            }
            (Thing::File { number, content }, Some(Found::Leaf(id, leaf))) => {
                assert_eq!(
                    scratch.read(leaf),
                    vec![*content; usize::from(*content)],
                    "{path}"
                );
                assert_eq!(*identities.entry(*number).or_insert(id), id, "{path}");
            }
            (thing, found) => panic!("{path}: {thing:?} and {found:?}"),
        }
    }
    assert_eq!(paths(tree).len(), model.things.len());
    assert_eq!(tree.leaves().count(), identities.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn merged_layers_are_what_the_model_says(
        layers in prop::collection::vec(prop::collection::vec(step(), 0..12), 1..5),
    ) {
        let scratch = Scratch::new();
        let mut model = Model::default();
        let good = layers.iter().all(|layer| model.apply(layer));
        let archives: Vec<_> = layers.iter().map(|layer| tar(&members(layer))).collect();
        match scratch.try_merge(&archives) {
            Ok(tree) => {
                prop_assert!(good, "a layer should have been refused");
                compare(&scratch, &tree, &model);
            }
            Err(error) => prop_assert!(!good, "{error}"),
        }
    }

    #[test]
    fn whiteouts_mean_the_same_wherever_they_stand(
        lower in prop::collection::vec(step(), 0..12),
        upper in prop::collection::vec(step(), 0..12),
        places in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let is_whiteout = |step: &&Step| matches!(step, Step::Hide(_) | Step::Opaque(_));
        let (whiteouts, mut moved): (Vec<_>, Vec<_>) = upper.iter().partition(is_whiteout);
        for (whiteout, place) in whiteouts.into_iter().zip(&places) {
            moved.insert(place.index(moved.len() + 1), whiteout);
        }
        let moved: Vec<Step> = moved.into_iter().cloned().collect();
        let scratch = Scratch::new();
        let merge = |upper: &[Step]| scratch.try_merge(&[tar(&members(&lower)), tar(&members(upper))]);
        match (merge(&upper), merge(&moved)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(hull_erofs::dump::write(&one), hull_erofs::dump::write(&other));
            }
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }

    #[test]
    fn layers_that_are_read_in_parts_give_the_same_tree(
        layers in prop::collection::vec(prop::collection::vec(step(), 0..12), 1..5),
        whole in 1..8usize,
        part in 1..4usize,
    ) {
        let scratch = Scratch::new();
        let records: Vec<_> = layers
            .iter()
            .map(|layer| scratch.layer(&tar(&members(layer))))
            .collect();
        // Enough for each entry once.
        let entries = layers.iter().map(|layer| members(layer).len()).sum::<usize>();
        let merge = |whole, part| {
            let budget = ImageBudget::new(entries as u64, 1 << 20);
            merge_in_parts(&scratch.store, &records, &budget, Lengths { whole, part })
        };
        match (merge(usize::MAX, 100), merge(whole, part)) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(hull_erofs::dump::write(&one), hull_erofs::dump::write(&other));
            }
            (Err(one), Err(other)) => prop_assert_eq!(chain(&one), chain(&other)),
            (one, other) => prop_assert!(false, "{:?} and {:?}", one.err(), other.err()),
        }
    }

    #[test]
    fn a_changed_archive_is_taken_or_refused_and_never_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        repair in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = varied();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if repair {
                // So that the change is not just a wrong checksum.
                let block = place / 512 * 512;
                put_checksum(&mut bytes[block..block + 512]);
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let scratch = Scratch::new();
        if let Ok(record) = scratch.try_layer(&bytes) {
            let mut out = Vec::new();
            crate::layer::export(&scratch.store, &record, &mut out).unwrap();
            prop_assert!(out == bytes);
            drop(crate::layer::merge(&scratch.store, &[record]));
            let read = crate::layer::entries(&scratch.store, &record).unwrap();
            let read: Result<Vec<_>, _> = read.collect();
            prop_assert!(read.is_ok(), "what was imported can be read: {:?}", read.err());
        }
    }

    #[test]
    fn random_bytes_are_refused_or_empty(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        drop(Scratch::new().try_layer(&bytes));
    }
}

/// A member of every kind.
fn varied() -> Vec<u8> {
    let mut map = b"1\n100\n300\n".to_vec();
    map.resize(512, 0);
    let mut link = hard_link("h", "file");
    link.data = vec![b'x'; 100];
    tar(&[
        directory("d")
            .pax("SCHILY.xattr.user.a", "1")
            .pax("mtime", "12.5"),
        file("file", [b'f'; 600]),
        link,
        symlink("s", "d"),
        file("s/x", "short"),
        long(b'L', "l/".repeat(60) + "long"),
        file("cut", "x").gnu(),
        file("GNUSparseFile.0/f", [map, vec![b'd'; 300]].concat())
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "sparse")
            .pax("GNU.sparse.realsize", "1000"),
        member("old", b'S')
            .gnu()
            .patch(386, "00000000005\0")
            .patch(398, "00000000000\0")
            .patch(483, "00000000100\0"),
        device("c", b'3', 5, 1),
        file("d/.wh.gone", ""),
        file("acl", "").pax("SCHILY.acl.access", "u::rwx,u:5:r--,g::---,m::r--,o::---"),
    ])
}

#[test]
fn the_varied_archive_is_fine_before_it_is_changed() {
    let tree = Scratch::new().merge(&[varied()]);
    assert!(
        paths(&tree).contains(&"d/x".to_owned()),
        "{:?}",
        paths(&tree)
    );
}
