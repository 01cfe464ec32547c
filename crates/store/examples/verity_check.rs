//! Checks the store on a file system with fs-verity.
//!
//! usage: `verity_check DIRECTORY`: an empty directory there. Many kernels that
//! hull is developed on have no fs-verity, so this is a program for a virtual
//! machine and not a test. Prints `verity_check: all is well` at the end.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a check: it panics where a test would, and damages files as one does"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};
use hull_store::fsck::{self, Depth, Report};
use hull_store::verity::{self, EnableError};
use hull_store::{ObjectId, Session, Store, StoreError, Target, Verity, gc};
use hull_sys::verity::State;

fn main() {
    let path: PathBuf = std::env::args_os().nth(1).unwrap().into();
    let store = create(&path);
    let (image, objects) = put_image(&store.session().unwrap());
    every_object_has_verity_and_cannot_be_written(&store, &path, &objects);
    a_check_asks_the_kernel(&store, &objects);
    what_came_without_verity_gets_it_later(&store, &path, &image, &objects);
    changed_contents_are_found(&store, &path, &image, objects[2]);
    the_rest_is_collected(&store);
    println!("verity_check: all is well");
}

fn create(path: &Path) -> Store {
    let open = || OwnedFd::from(File::open(path).unwrap());
    let store = Store::create(open(), Verity::Required).unwrap();
    assert!(store.verity());
    assert!(Store::open(open()).unwrap().verity());
    assert!(matches!(state(&path.join("meta.json")), State::Enabled(_)));
    store
}

fn state(path: &Path) -> State {
    hull_sys::verity::measure(File::open(path).unwrap()).unwrap()
}

fn object_path(path: &Path, id: &ObjectId) -> PathBuf {
    path.join("objects").join(id.to_object_path())
}

/// An image of objects of one byte, of some blocks, and of several levels of hashes.
fn put_image(session: &Session) -> (ObjectId, Vec<ObjectId>) {
    let mut tree = Tree::default();
    let mut objects = Vec::new();
    for (index, length) in [1, 4096, 4097, 300_000, 3 << 20].into_iter().enumerate() {
        let content: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[1]).collect();
        let id = session.put(&content).unwrap();
        let mut writer = session.writer();
        writer.write_all(&content).unwrap();
        assert_eq!(writer.finish().unwrap().0, id);
        objects.push(id);
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content: Content::Object {
                id,
                size: u64::from(length),
            },
        });
        tree.put_leaf(DirectoryId::ROOT, format!("file{index}").as_bytes(), leaf);
    }
    let image = session
        .put_image(&hull_erofs::image::write(&tree).unwrap())
        .unwrap();
    session.set_ref("os", Target::Image(&image)).unwrap();
    (image, objects)
}

fn every_object_has_verity_and_cannot_be_written(store: &Store, path: &Path, objects: &[ObjectId]) {
    for id in objects {
        // The kernel measures what hull computed.
        assert_eq!(
            state(&object_path(path, id)),
            State::Enabled(*id.as_bytes())
        );
        store.open_object(id).unwrap();
        store.read_object(id, 1 << 30).unwrap();
        let write = File::options().write(true).open(object_path(path, id));
        assert!(write.is_err(), "an object with fs-verity can't be written");
    }
}

fn check(store: &Store, depth: Depth) -> Report {
    fsck::check(store, depth, &|_| {}).unwrap()
}

fn a_check_asks_the_kernel(store: &Store, objects: &[ObjectId]) {
    let report = check(store, Depth::Quick);
    assert_eq!(report.findings, []);
    assert_eq!(report.checked.measured, objects.len() + 1);
    assert_eq!(check(store, Depth::Full).findings, []);
}

/// Puts a file of this content in the place of an object, without fs-verity.
fn replace(path: &Path, id: &ObjectId, content: &[u8]) {
    let path = object_path(path, id);
    std::fs::remove_file(&path).unwrap();
    File::create(&path).unwrap().write_all(content).unwrap();
}

fn what_came_without_verity_gets_it_later(
    store: &Store,
    path: &Path,
    image: &ObjectId,
    objects: &[ObjectId],
) {
    let complete = verity::coverage(store, image).unwrap();
    assert!(complete.is_complete());
    for id in objects.iter().chain([image]) {
        let content = store.read_object(id, 1 << 30).unwrap();
        replace(path, id, &content);
    }
    assert_eq!(verity::coverage(store, image).unwrap().enabled, 0);
    assert_eq!(check(store, Depth::Quick).findings, []);

    let stop = AtomicBool::new(false);
    let stopped = verity::enable_all(
        store,
        image,
        &mut |coverage| stop.store(coverage.enabled == 2, Ordering::Relaxed),
        &stop,
    );
    assert!(matches!(
        stopped,
        Err(EnableError::Stopped { done: 2, total: 6 })
    ));
    assert_eq!(verity::coverage(store, image).unwrap().enabled, 2);
    verity::enable_all(store, image, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(verity::coverage(store, image).unwrap(), complete);
    verity::enable_all(store, image, &mut |_| {}, &AtomicBool::new(false)).unwrap();
}

fn changed_contents_are_found(store: &Store, path: &Path, image: &ObjectId, id: ObjectId) {
    let content = store.read_object(&id, 1 << 30).unwrap();
    let mut changed = content.clone();
    changed[0] ^= 1;
    replace(path, &id, &changed);
    let refused = verity::enable_all(store, image, &mut |_| {}, &AtomicBool::new(false));
    assert!(matches!(
        refused,
        Err(EnableError::Store(StoreError::Corrupt { expected, .. })) if expected == id
    ));
    // It has fs-verity of the wrong digest by now, and is never opened again.
    assert!(matches!(
        store.open_object(&id),
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(check(store, Depth::Quick).damage().count(), 1);

    let session = store.repair_session().unwrap();
    session.put(&content).unwrap();
    assert_eq!(check(store, Depth::Full).findings, []);
    assert!(verity::coverage(store, image).unwrap().is_complete());
}

fn the_rest_is_collected(store: &Store) {
    store.session().unwrap().put(b"alone").unwrap();
    let plan = gc::plan(store, &[]).unwrap();
    let done = gc::execute(store, &plan, Duration::ZERO).unwrap();
    assert_eq!(done.objects, 1);
    assert_eq!(check(store, Depth::Full).findings, []);
}
