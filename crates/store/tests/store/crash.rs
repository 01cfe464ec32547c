//! Operations that are cut at each durable step.
//!
//! The test runs its own program again, which does the operation and is killed in
//! place of its n-th step. A kill loses no page cache, so the loss is made here:
//! of every object that no link leads to (those that no barrier stood behind),
//! only the first half is left, or zeros. What links lead to must be whole.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, ExitStatus};

use hull_store::fsck::Finding;
use hull_store::{Kind, Store};
use hull_sys::durable;

use crate::scratch::{assert_sound, check, collect, pull, store_in};

const OPERATION: &str = "HULL_TEST_OPERATION";

/// More steps than any operation here has.
const MANY: u32 = 400;

/// The operations that can be cut. Each is whole when it is done again.
fn operate(operation: &str, path: &Path) {
    let store = store_in(path);
    match operation {
        "create" => {}
        "pull" => {
            let session = store.session().unwrap();
            pull(&session, "new", 3..8).unwrap();
        }
        "remove" => {
            let session = store.session().unwrap();
            session.remove_ref(Kind::Stream, "tags/old").unwrap();
            session.remove_ref(Kind::Image, "hosts/old").unwrap();
        }
        "collect" => {
            collect(&store);
        }
        other => panic!("no operation {other}"),
    }
}

/// Not a test of its own: what the tests run again, and cut.
#[test]
fn child() {
    let Ok(task) = std::env::var(OPERATION) else {
        return;
    };
    let mut parts = task.splitn(3, ' ');
    let operation = parts.next().unwrap();
    let steps = parts.next().unwrap().parse().unwrap();
    let path = parts.next().unwrap();
    durable::stop_after(steps);
    operate(operation, Path::new(path));
}

/// Runs an operation in a process of its own, cut after this many steps.
fn cut(operation: &str, steps: u32, path: &Path) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--test-threads=1", "--quiet"])
        .env(OPERATION, format!("{operation} {steps} {}", path.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
}

/// Halves each object that no stream and no image uses, or puts zeros in its place,
/// and makes it look as if that had been in another boot.
fn lose_what_was_not_synced(store: &Store, path: &Path) {
    let used: HashSet<_> = check(store)
        .findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Unreferenced { object } => Some(*object),
            _ => None,
        })
        .collect();
    for object in used {
        let path = path.join("objects").join(object.to_object_path());
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        if object.as_bytes()[0].is_multiple_of(2) {
            file.set_len(length / 2).unwrap();
        } else {
            file.set_len(0).unwrap();
            file.set_len(length).unwrap();
        }
    }
    for entry in std::fs::read_dir(path).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(mark) = name.strip_prefix(".hull-unsynced-") {
            let (_, process) = mark.split_once('.').unwrap();
            let renamed = format!(".hull-unsynced-another-boot.{process}");
            std::fs::rename(path.join(&name), path.join(renamed)).unwrap();
        }
    }
}

/// Cuts the operation at every step, on a store that `prepare` made; after each
/// cut calls `verify` with the number of steps; returns how many there were.
fn at_every_step(operation: &str, prepare: impl Fn(&Path), verify: impl Fn(&Path, &str)) -> u32 {
    for steps in 0..MANY {
        let temp = tempfile::tempdir_in("/dev/shm").unwrap();
        prepare(temp.path());
        let status = cut(operation, steps, temp.path());
        if status.success() {
            verify(temp.path(), &format!("{operation}, not cut"));
            return steps;
        }
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "{operation} failed by itself after {steps} steps: {status}"
        );
        verify(
            temp.path(),
            &format!("{operation}, cut after {steps} steps"),
        );
    }
    panic!("{operation} has more than {MANY} steps");
}

fn with_old_image(path: &Path) {
    let store = store_in(path);
    let session = store.session().unwrap();
    pull(&session, "old", 1..5).unwrap();
}

fn with_garbage(path: &Path) {
    with_old_image(path);
    let store = store_in(path);
    let session = store.session().unwrap();
    pull(&session, "garbage", 3..8).unwrap();
    session.put(b"alone").unwrap();
    session.remove_ref(Kind::Stream, "tags/garbage").unwrap();
    session.remove_ref(Kind::Image, "hosts/garbage").unwrap();
}

/// What comes first after a cut.
#[derive(Debug, Clone, Copy)]
enum First {
    Operation,
    Collection,
}

/// Cuts the operation at every step, and expects each time: nothing that links
/// lead to is damaged, though all that was not synced is lost; the operation done
/// again is whole, before a collection or after it; then no garbage is left.
fn heals_after_every_cut(
    operation: &str,
    prepare: impl Fn(&Path),
    expect: impl Fn(&Store, &str),
) -> u32 {
    let mut steps = 0;
    for first in [First::Operation, First::Collection] {
        steps = at_every_step(operation, &prepare, |path, what| {
            let store = store_in(path);
            let damage: Vec<_> = check(&store).damage().map(ToString::to_string).collect();
            assert!(damage.is_empty(), "{what}: {damage:#?}");

            lose_what_was_not_synced(&store, path);
            match first {
                First::Operation => {
                    operate(operation, path);
                    assert_sound_but_garbage(&store, what);
                }
                First::Collection => {
                    collect(&store);
                    operate(operation, path);
                }
            }
            collect(&store);
            let findings = check(&store).findings;
            assert!(
                findings.is_empty(),
                "{what}, {first:?} first: {findings:#?}"
            );
            expect(&store, what);
        });
    }
    steps
}

/// Truncated objects that nothing uses are garbage like any other.
fn assert_sound_but_garbage(store: &Store, what: &str) {
    for finding in check(store).damage() {
        match finding {
            Finding::Damaged { users, .. } if users.is_empty() => {}
            finding => panic!("{what}: {finding}"),
        }
    }
}

#[test]
fn a_store_whose_creation_was_cut_is_made_by_the_next_attempt() {
    let steps = at_every_step(
        "create",
        |_| {},
        |path, _| {
            let store = store_in(path);
            assert_sound(&store);
        },
    );
    assert!(steps >= 6, "{steps}");
}

#[test]
fn a_pull_that_was_cut_leaves_the_old_image_and_is_done_by_the_next() {
    let steps = heals_after_every_cut("pull", with_old_image, |store, what| {
        for name in ["hosts/old", "hosts/new"] {
            let found = store.find_ref(Kind::Image, name).unwrap();
            assert!(found.is_some(), "{what}: {name}");
        }
    });
    assert!(steps > 20, "{steps}");
}

#[test]
fn a_pull_over_an_image_of_the_same_name_that_was_cut_is_done_by_the_next() {
    let other_new = |path: &Path| {
        let store = store_in(path);
        let session = store.session().unwrap();
        pull(&session, "new", 6..9).unwrap();
    };
    heals_after_every_cut("pull", other_new, |store, what| {
        let name = store.find_ref(Kind::Image, "hosts/new").unwrap();
        assert!(name.is_some(), "{what}");
    });
}

#[test]
fn removed_references_and_collections_that_were_cut_heal() {
    heals_after_every_cut("remove", with_old_image, |_, _| {});
    let steps = heals_after_every_cut("collect", with_garbage, |store, what| {
        let old = store.find_ref(Kind::Image, "hosts/old").unwrap();
        assert!(old.is_some(), "{what}");
        assert_eq!(store.find_stream("layer-garbage-1").unwrap(), None);
    });
    assert!(steps > 8, "{steps}");
}
