//! Operations while other processes hold the locks that they need.

use std::fs;

use hull_deploy::cleanup::{self, CleanupError};
use hull_deploy::update::{Outcome, Staged};
use hull_store::gc::GcError;

use crate::image::{self, recipe};
use crate::world::World;

fn staged(outcome: Outcome) -> Staged {
    match outcome {
        Outcome::Staged(staged) => *staged,
        other => panic!("it was not staged: {other:?}"),
    }
}

#[test]
fn what_is_staged_is_staged_though_the_store_is_in_use_and_cannot_be_collected() {
    let world = World::running();
    world.publish(&recipe("2"));
    assert_eq!(
        staged(world.upgrade().unwrap()).removed.deployments.len(),
        0
    );
    world.publish(&recipe("3"));
    let machine = world.machine();
    let in_use = machine.store.session().unwrap();
    let staged = staged(world.upgrade().unwrap());
    assert_eq!(staged.removed.deployments.len(), 1, "{:?}", staged.removed);
    let note = staged.notes.last().unwrap();
    assert!(note.contains("`hull gc` does that"), "{note}");
    assert!(note.contains("has been in use"), "{note}");
    assert_eq!(world.next_version(), "3");
    drop(in_use);
    let collected = cleanup::collect(&machine).unwrap();
    assert!(!collected.store.objects.is_empty());
    assert_eq!(world.next_version(), "3");
}

#[test]
fn a_collection_of_a_store_in_use_still_removes_what_downloads_left() {
    let world = World::running();
    let machine = world.machine();
    machine.spool().unwrap();
    let spool = world.path().join("root/state/spool");
    let blob = spool.join(format!("sha256-{}", "0".repeat(64)));
    image::write(&blob, b"half of a layer");
    let _in_use = machine.store.session().unwrap();
    let error = cleanup::collect(&machine).unwrap_err();
    assert!(
        matches!(error, CleanupError::Collect(GcError::Busy { .. })),
        "{error}"
    );
    assert_eq!(fs::read_dir(spool).unwrap().count(), 0);
}
