//! Operations while other processes hold the locks that they need.

use std::fs;
use std::sync::mpsc::{Sender, channel};

use hull_deploy::cleanup::{self, CleanupError};
use hull_deploy::machine::MachineError;
use hull_deploy::rollback::{self, RollbackError};
use hull_deploy::update::{self, Goal, Outcome, Staged};
use hull_oci::progress::{Event, Progress};
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
fn a_collection_of_a_store_in_use_leaves_what_a_pull_may_go_on_with() {
    let world = World::running();
    let machine = world.machine();
    machine.spool().unwrap();
    let spool = world.path().join("root/state/spool");
    let blob = spool.join(format!("sha256-{}", "0".repeat(64)));
    image::write(&blob, b"half of a layer");
    let in_use = machine.store.session().unwrap();
    let error = cleanup::collect(&machine).unwrap_err();
    assert!(
        matches!(error, CleanupError::Collect(GcError::Busy { .. })),
        "{error}"
    );
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 1);
    drop(in_use);
    cleanup::collect(&machine).unwrap();
    assert_eq!(fs::read_dir(spool).unwrap().count(), 0);
}

/// Hands on what is told to people.
struct Remarks(Sender<String>);

impl Progress for Remarks {
    fn report(&self, event: Event<'_>) {
        if let Event::Remark(remark) = event {
            self.0.send(remark.to_owned()).unwrap();
        }
    }
}

#[test]
fn what_was_downloaded_waits_for_the_machine_for_longer_than_other_operations_do_and_says_so() {
    let world = World::upgraded();
    world.publish(&recipe("3"));
    let machine = world.machine();
    let lock = machine.lock().unwrap();
    let (sender, remarks) = channel();
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| {
            let request = world.request(Goal::Upgrade);
            update::update(&world.machine(), &request, &Remarks(sender))
        });
        let remark = remarks.recv().unwrap();
        assert!(remark.contains("another hull is at work"), "{remark}");
        let impatient = rollback::execute(&world.machine());
        assert!(
            matches!(
                impatient,
                Err(RollbackError::Machine(MachineError::Busy { seconds: 10 }))
            ),
            "{impatient:?}"
        );
        drop(lock);
        staged(upgrade.join().unwrap().unwrap());
    });
    assert_eq!(world.next_version(), "3");
}
