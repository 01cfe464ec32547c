//! Operations that did what they were to do, and then could not remove what is old.

use std::fs;

use hull_deploy::update::Outcome;
use hull_deploy::{bless, rollback};

use crate::image::recipe;
use crate::world::World;

/// Something on the ESP that hull takes for its own, and cannot remove.
fn obstruct(world: &World) {
    let entries = world.path().join("esp/loader/entries");
    fs::create_dir_all(entries.join("hull-99.conf.old/full")).unwrap();
}

fn says_what_to_do(note: Option<&String>) {
    let note = note.expect("something could not be removed");
    assert!(note.contains("`hull gc` does that"), "{note}");
    assert!(note.contains("hull-99.conf.old"), "{note}");
}

#[test]
fn a_rollback_is_in_force_though_what_is_old_cannot_be_removed() {
    let world = World::upgraded();
    obstruct(&world);
    let done = rollback::execute(&world.machine()).unwrap();
    says_what_to_do(done.notes.first());
    assert_eq!(world.next_version(), "1");
    assert_eq!(world.machine().history().unwrap().len(), 3);
}

#[test]
fn a_system_that_came_up_is_good_though_what_is_old_cannot_be_removed() {
    let world = World::running();
    world.publish(&recipe("2"));
    world.upgrade().unwrap();
    world.boot();
    obstruct(&world);
    let blessed = bless::bless(&world.machine()).unwrap();
    says_what_to_do(blessed.note.as_ref());
    let state = world.machine().observe().unwrap();
    assert!(state.is_proven(&blessed.deployment));
    assert_eq!(world.next_version(), "2");
}

#[test]
fn an_upgrade_is_staged_though_what_is_old_cannot_be_removed() {
    let world = World::running();
    obstruct(&world);
    world.publish(&recipe("2"));
    let Outcome::Staged(staged) = world.upgrade().unwrap() else {
        panic!("it was not staged");
    };
    says_what_to_do(staged.notes.last());
    assert_eq!(world.next_version(), "2");
}

#[test]
fn a_rollback_that_the_history_lacks_is_in_force_and_said_to_be_lacking() {
    let world = World::upgraded();
    // It can be read, and not be replaced.
    fs::create_dir(world.path().join("root/state/.history.json.new")).unwrap();
    let done = rollback::execute(&world.machine()).unwrap();
    let [note] = &done.notes[..] else {
        panic!("{:?}", done.notes);
    };
    assert!(note.contains("the history lacks it"), "{note}");
    assert!(note.contains("/state/history.json"), "{note}");
    assert_eq!(world.next_version(), "1");
}
