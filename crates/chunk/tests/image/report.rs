//! What an update costs.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use hull_chunk::report::{Files, Report, Side, compare, page};
use hull_erofs::ObjectId;

use crate::world::{Pulled, Recipe, Root, pull};

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn files(before: &Pulled, after: &Pulled) -> Files {
    let open = |pulled: &Pulled| {
        let store = pulled.store.clone();
        move |id: &ObjectId| -> io::Result<Box<dyn Read>> {
            Ok(Box::new(store.open_object(id).map_err(io::Error::other)?))
        }
    };
    let (old, new) = (open(before), open(after));
    let side = |tree, open| Side { tree, open };
    compare(&side(&before.tree, &old), &side(&after.tree, &new)).unwrap()
}

fn made(root: &Root, to: &Path) -> Pulled {
    Recipe::default().make(root.path(), to);
    pull(to)
}

#[test]
fn an_update_costs_what_is_new_by_layer_by_file_and_as_a_delta() {
    let out = tempfile::tempdir().unwrap();
    let root = Root::system();
    let large = noise(200_000, 1);
    root.file("opt/data", &large);
    let before = made(&root, &out.path().join("a"));
    let changed = [&large[..100_000], b"a little more", &large[100_000..]].concat();
    root.file("opt/data", &changed);
    root.file("opt/new", &noise(50_000, 2));
    root.file("opt/copy", &changed);
    root.file("opt/known", &vec![1; 1024 * 1024]);
    let after = made(&root, &out.path().join("b"));

    let files = files(&before, &after);
    // The copy is the same content; /opt/known is that of a file that was there.
    let names: Vec<&str> = files
        .largest
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(names, ["/opt/copy", "/opt/new"]);
    assert_eq!((files.new_contents, files.size), (2, 250_013));
    assert!((249_000..252_000).contains(&files.by_file), "{files:?}");

    let mut report = Report::of_image("b", "sha256:b", &after.image.manifest, &HashMap::new());
    report.against("a", "sha256:a", &before.image.manifest, Some(files));
    let download = report.download.as_ref().unwrap();
    let new: Vec<_> = report.layers.iter().filter(|layer| layer.new).collect();
    assert_eq!(download.new_layers, new.len());
    assert_eq!(
        download.by_layer,
        new.iter().map(|layer| layer.size).sum::<u64>()
    );
    assert!(new.iter().any(|layer| {
        layer
            .components
            .iter()
            .any(|component| component.name == "rest")
    }));
    assert!(new.len() < report.layers.len());
    assert!(page(&report).contains("/opt/new"));
}

#[test]
fn a_file_that_changed_a_little_is_a_small_delta() {
    let out = tempfile::tempdir().unwrap();
    let root = Root::system();
    let large = noise(200_000, 1);
    root.file("opt/data", &large);
    let before = made(&root, &out.path().join("a"));
    root.file(
        "opt/data",
        &[&large[..100_000], b"a little more", &large[100_000..]].concat(),
    );
    let after = made(&root, &out.path().join("b"));
    let files = files(&before, &after);
    assert!(
        files.by_file > 199_000 && files.by_delta < 1000,
        "{files:?}"
    );
}

#[test]
fn an_image_has_nothing_that_is_new_to_itself() {
    let out = tempfile::tempdir().unwrap();
    let image = made(&Root::system(), &out.path().join("a"));
    let files = files(&image, &image);
    assert_eq!((files.new_contents, files.size, files.by_delta), (0, 0, 0));
    let mut report = Report::of_image("a", "sha256:a", &image.image.manifest, &HashMap::new());
    report.against("a", "sha256:a", &image.image.manifest, Some(files));
    assert!(report.layers.iter().all(|layer| !layer.new));
}
