//! Each operation is cut in place of its n-th durable step, for every n: the
//! next boot is the old system or the new one, whole, and the next try is fine.

use std::path::PathBuf;

use hull_sys::durable;

use crate::image::recipe;
use crate::world::World;

/// An operation, and what must be true around it.
struct Operation {
    name: &'static str,
    /// The machine before.
    prepare: fn() -> World,
    act: fn(&World),
    /// The version that is booted next if it was cut early, and when it is done.
    old: &'static str,
    new: &'static str,
}

fn ready_to_upgrade() -> World {
    let world = World::running();
    world.publish(&recipe("2"));
    world
}

fn with_garbage() -> World {
    let world = World::upgraded();
    world.publish(&recipe("3"));
    world.upgrade().unwrap();
    world.boot();
    // Nothing was blessed: version 1 is still there, and now it goes.
    world.bless_without_cleaning();
    world
}

const OPERATIONS: [Operation; 5] = [
    Operation {
        name: "upgrade",
        prepare: ready_to_upgrade,
        act: |world| drop(world.upgrade().unwrap()),
        old: "1",
        new: "2",
    },
    Operation {
        name: "switch",
        prepare: ready_to_upgrade,
        act: |world| {
            let other = world.path().join("layout").display().to_string();
            drop(
                world
                    .switch(&format!("oci:{other}/../layout:stable"))
                    .unwrap(),
            );
        },
        old: "1",
        new: "2",
    },
    Operation {
        name: "rollback",
        prepare: World::upgraded,
        act: |world| drop(hull_deploy::rollback::execute(&world.machine()).unwrap()),
        old: "2",
        new: "1",
    },
    Operation {
        name: "gc",
        prepare: with_garbage,
        act: |world| drop(hull_deploy::cleanup::collect(&world.machine()).unwrap()),
        old: "3",
        new: "3",
    },
    Operation {
        name: "bless",
        prepare: || {
            let world = ready_to_upgrade();
            world.upgrade().unwrap();
            world.boot();
            world
        },
        act: World::bless,
        old: "2",
        new: "2",
    },
];

const OPERATION: &str = "HULL_TEST_OPERATION";
const WORLD: &str = "HULL_TEST_WORLD";
const STEPS: &str = "HULL_TEST_STEPS";

#[expect(clippy::disallowed_methods, reason = "how a test talks to its child")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The child: one operation, cut after some steps. Nothing where it is not one.
#[test]
fn child() {
    let (Some(name), Some(world), Some(steps)) =
        (variable(OPERATION), variable(WORLD), variable(STEPS))
    else {
        return;
    };
    let world = World::at(PathBuf::from(world));
    durable::stop_after(steps.parse().unwrap());
    if name == "install" {
        world.install().unwrap();
    } else {
        let operation = OPERATIONS.iter().find(|found| found.name == name).unwrap();
        (operation.act)(&world);
    }
}

/// Whether the operation was done before the cut.
fn act_in_child(name: &str, world: &World, steps: u32) -> bool {
    act_in(&[], name, world, steps)
}

/// Whether the operation was done by a process that may open 128 files.
pub(crate) fn with_few_descriptors(name: &str, world: &World) -> bool {
    act_in(&["prlimit", "--nofile=128:128"], name, world, u32::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the child is this test program itself"
)]
fn act_in(wrapper: &[&str], name: &str, world: &World, steps: u32) -> bool {
    let program = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsString::from);
    let program = program.into_os_string();
    let (first, rest) = match words.next() {
        Some(first) => (first, words.chain([program]).collect()),
        None => (program, Vec::new()),
    };
    let status = std::process::Command::new(first)
        .args(rest)
        .args(["--exact", "cuts::child", "--quiet"])
        .env(OPERATION, name)
        .env(WORLD, world.path())
        .env(STEPS, steps.to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    let cut = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(
        cut || status.success(),
        "{name} failed after {steps} steps: {status}"
    );
    !cut
}

/// Cuts the operation everywhere, and returns how many places that were.
fn cut_everywhere(operation: &Operation) -> u32 {
    let before = (operation.prepare)();
    for steps in 0..1000 {
        let world = before.copy();
        let done = act_in_child(operation.name, &world, steps);
        let next = world.next_version();
        let allowed = [operation.old, operation.new];
        assert!(
            allowed.contains(&next.as_str()),
            "cut after {steps}: {next} is next"
        );
        if done {
            assert_eq!(next, operation.new);
            return steps;
        }
        if next == operation.old {
            (operation.act)(&world);
            assert_eq!(
                world.next_version(),
                operation.new,
                "again after {steps} steps"
            );
        }
        hull_deploy::cleanup::collect(&world.machine()).unwrap();
        assert_eq!(
            world.next_version(),
            operation.new,
            "collected after {steps} steps"
        );
        world.boot();
    }
    panic!("{} never ends", operation.name);
}

fn check(name: &str, at_least: u32) {
    let operation = OPERATIONS.iter().find(|found| found.name == name).unwrap();
    let places = cut_everywhere(operation);
    assert!(places >= at_least, "{name} has only {places} durable steps");
}

#[test]
fn an_upgrade_cut_anywhere_leaves_the_old_system_or_the_new_one() {
    check("upgrade", 20);
}

#[test]
fn a_switch_cut_anywhere_leaves_the_old_system_or_the_new_one() {
    check("switch", 20);
}

#[test]
fn a_rollback_cut_anywhere_leaves_one_of_the_two_systems() {
    check("rollback", 4);
}

#[test]
fn a_collection_cut_anywhere_leaves_the_running_system() {
    check("gc", 5);
}

#[test]
fn a_blessing_cut_anywhere_leaves_the_running_system() {
    check("bless", 4);
}

#[test]
fn an_installation_cut_anywhere_is_done_again_from_the_start() {
    for steps in 0..1000 {
        let world = World::empty();
        if act_in_child("install", &world, steps) {
            assert!(steps > 20, "installation has only {steps} durable steps");
            assert_eq!(world.next_version(), "1");
            return;
        }
        // Only the last step makes a disk that boots.
        if world.has_entry() {
            assert_eq!(world.next_version(), "1");
        }
    }
    panic!("installation never ends");
}
