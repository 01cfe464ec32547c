//! A disk that fills up: an error that says so, the system as it was, and the
//! next try fine. Needs root, to mount file systems in memory of a certain size.

use std::path::PathBuf;

use hull_sys::run::Program;

use crate::image::{Recipe, recipe};
use crate::world::World;

/// A file system in memory at a directory of a world; gone with the value.
struct Limited(PathBuf);

impl Limited {
    /// Moves what is there into a file system of that size.
    fn new(path: PathBuf, size: &str) -> Self {
        let aside = path.with_extension("aside");
        rustix::fs::rename(&path, &aside).unwrap();
        std::fs::create_dir(&path).unwrap();
        let mounted = Program::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0755"),
                "tmpfs",
            ])
            .arg(&path)
            .run();
        mounted.expect("mounting a file system in memory takes root");
        Program::new("cp")
            .arg("-a")
            .arg(aside.join("."))
            .arg(&path)
            .run()
            .unwrap();
        Self(path)
    }

    fn fill(&self, name: &str, bytes: usize) {
        crate::image::write(&self.0.join(name), &vec![1; bytes]);
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        Program::new("umount").arg("--lazy").arg(&self.0).run().ok();
    }
}

const LARGE: &str = "large";

fn with_new_kernel(version: &'static str) -> Recipe {
    Recipe {
        kernel: LARGE,
        ..recipe(version)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[test]
fn an_upgrade_onto_a_full_root_file_system_changes_nothing_and_works_when_there_is_room() {
    // At each of these sizes something else is the first that does not fit.
    for free in [0, 4, 16, 40, 100] {
        let world = World::running();
        let root = Limited::new(world.path().join("root"), "2M");
        world.publish(&recipe("2"));
        let stat = rustix::fs::statvfs(&root.0).unwrap();
        let available = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
        root.fill("ballast", available.saturating_sub(free * 1024));
        let result = world.upgrade();
        if let Err(error) = &result {
            let message = chain(error).to_lowercase();
            assert!(
                message.contains("space") || message.contains("full"),
                "{message}"
            );
            assert_eq!(world.next_version(), "1", "with {free} KiB free");
        }
        std::fs::remove_file(root.0.join("ballast")).unwrap();
        world.upgrade().unwrap();
        assert_eq!(world.next_version(), "2", "with {free} KiB free");
    }
}

#[test]
fn what_a_pull_without_end_left_in_a_full_store_makes_room_for_the_next() {
    let world = World::running();
    let root = Limited::new(world.path().join("root"), "8M");
    world.publish(&recipe("2"));
    {
        let session = world.machine().store.session().unwrap();
        for number in 0_u32.. {
            let content = number.to_le_bytes().repeat(4096);
            if session.put(&content).is_err() {
                break;
            }
        }
    }
    world.upgrade().unwrap();
    assert_eq!(world.next_version(), "2");
    drop(root);
}

#[test]
fn an_upgrade_whose_kernel_does_not_fit_the_esp_is_refused_with_numbers() {
    let world = World::running();
    let esp = Limited::new(world.path().join("esp"), "1M");
    world.publish(&with_new_kernel("2"));
    let stat = rustix::fs::statvfs(&esp.0).unwrap();
    let available = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
    esp.fill("foreign.bin", available.saturating_sub(8 << 10));
    let message = chain(&world.upgrade().unwrap_err());
    assert!(message.contains("bytes are needed"), "{message}");
    assert_eq!(world.next_version(), "1");
    std::fs::remove_file(esp.0.join("foreign.bin")).unwrap();
    world.upgrade().unwrap();
    assert_eq!(world.next_version(), "2");
}

#[test]
fn a_short_esp_loses_its_oldest_entry_and_never_the_running_one() {
    let world = World::upgraded();
    let running = world.machine().booted.unwrap();
    let esp = Limited::new(world.path().join("esp"), "1M");
    world.publish(&with_new_kernel("3"));
    world.upgrade().unwrap();
    world.boot();
    world.bless();
    world.publish(&Recipe {
        kernel: "another",
        ..recipe("4")
    });
    let stat = rustix::fs::statvfs(&esp.0).unwrap();
    let available = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
    esp.fill("foreign.bin", available.saturating_sub(92 << 10));
    world.upgrade().unwrap();
    assert_eq!(world.next_version(), "4");
    let state = world.machine().observe().unwrap();
    assert!(
        state
            .entries_of(&world.machine().booted.unwrap())
            .next()
            .is_some()
    );
    assert!(
        state.entries_of(&running).next().is_none(),
        "the oldest entry went"
    );
}
