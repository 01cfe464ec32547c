//! `fsck --repair`: what is damaged is pulled again, and what is well stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hull_deploy::machine::Machine;
use hull_deploy::repair::{self, RepairError, Repaired};
use hull_oci::PullOptions;
use hull_oci::progress::Silent;
use hull_store::fsck::{self, Depth, Report};

use crate::image::recipe;
use crate::world::World;

fn check(machine: &Machine) -> Report {
    fsck::check(&machine.store, Depth::Full, &|_| {}).unwrap()
}

fn repair(world: &World) -> (Machine, Repaired) {
    let mut machine = world.damaged_machine();
    let report = check(&machine);
    assert!(!report.is_sound(), "there is something to repair");
    let options = PullOptions::default();
    let repaired = repair::execute(&mut machine, &report, &options, &Silent).unwrap();
    (machine, repaired)
}

/// The file of the store whose content begins like this.
fn object_with(world: &World, beginning: &str) -> PathBuf {
    let store = files(&world.path().join("root/composefs/objects"));
    let mut found = store
        .iter()
        .filter(|(_, content)| content.starts_with(beginning.as_bytes()));
    let path = found.next().expect("an object has that content").0.clone();
    assert!(found.next().is_none(), "only one has");
    path
}

/// All files and links below a directory, with their contents.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            found.insert(path, target.to_str().unwrap().as_bytes().to_vec());
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

fn damage(path: &Path) {
    let mut content = fs::read(path).unwrap();
    content[7] ^= 1;
    replace(path, &content);
}

/// Another file of that name: an object may be immutable.
fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    crate::image::write(path, content);
}

/// Breaks the store of a machine that runs version 2, and wants it whole again.
fn is_repaired(damage: impl FnOnce(&World)) {
    let world = World::upgraded();
    let (booted, before) = (world.machine().booted, world.machine().observe().unwrap());
    damage(&world);
    let (machine, repaired) = repair(&world);
    assert!(repaired.failures.is_empty(), "{:?}", repaired.failures);
    assert!(check(&machine).is_sound(), "{:?}", check(&machine).findings);
    let after = machine.observe().unwrap();
    assert_eq!(before.entries, after.entries);
    assert_eq!((after.booted, after.deployments.len()), (booted, 2));
    assert_eq!(world.next_version(), "2");
    // Nothing keeps what no deployment needs.
    let garbage = hull_store::gc::plan(&machine.store, &[]).unwrap();
    assert!(garbage.streams.is_empty(), "{garbage:?}");
}

#[test]
fn a_damaged_object_is_repaired() {
    is_repaired(|world| damage(&object_with(world, "hullhull")));
}

#[test]
fn a_truncated_object_is_repaired() {
    is_repaired(|world| replace(&object_with(world, "2222"), b"22"));
}

#[test]
fn a_missing_object_is_repaired() {
    is_repaired(|world| fs::remove_file(object_with(world, "kernelkernel")).unwrap());
}

#[test]
fn a_missing_link_of_an_image_is_repaired() {
    is_repaired(|world| {
        let images = world.path().join("root/composefs/images");
        let image = world.machine().booted.unwrap().digest.to_string();
        fs::remove_file(images.join(image)).unwrap();
    });
}

#[test]
fn a_damaged_meta_json_is_repaired_where_nothing_else_can_open_the_store() {
    is_repaired(|world| {
        let meta = world.path().join("root/composefs/meta.json");
        replace(&meta, b"{\"version\": ");
        damage(&object_with(world, "etcetc"));
        let error = world.try_machine().unwrap_err();
        assert!(error.to_string().contains("meta.json"), "{error}");
    });
}

#[test]
fn without_a_registry_the_error_names_the_image_and_the_store_is_as_it_was() {
    let world = World::upgraded();
    damage(&object_with(&world, "2222"));
    let before = files(&world.path().join("root"));
    let layout = world.path().join("layout");
    rustix::fs::rename(&layout, layout.with_extension("away")).unwrap();
    let (machine, repaired) = repair(&world);
    assert!(repaired.sources.is_empty());
    let [error @ RepairError::Pull { .. }] = &repaired.failures[..] else {
        panic!("{:?}", repaired.failures);
    };
    assert!(
        error.to_string().contains("layout:stable@sha256:"),
        "{error}"
    );
    assert_eq!(before, files(&world.path().join("root")));
    assert_eq!(check(&machine).damage().count(), 1);
    // When it is back, so is the content.
    rustix::fs::rename(layout.with_extension("away"), layout).unwrap();
    let (machine, repaired) = repair(&world);
    assert_eq!(repaired.sources.len(), 1);
    assert!(check(&machine).is_sound());
}

#[test]
fn a_repair_waits_for_who_works_on_the_machine() {
    let world = World::running();
    damage(&object_with(&world, "hullhull"));
    let other = world.machine();
    let held = other.lock().unwrap();
    let mut machine = world.damaged_machine();
    let report = check(&machine);
    let pull = PullOptions::default();
    let repaired = repair::execute(&mut machine, &report, &pull, &Silent).unwrap();
    let failure = repaired.failures.first().expect("the lock is held");
    assert!(failure.to_string().contains("another hull"), "{failure}");
    drop(held);
    repair::execute(&mut machine, &report, &pull, &Silent).unwrap();
    assert!(check(&machine).is_sound());
}

#[test]
fn an_image_that_was_downloaded_only_is_repaired_too() {
    let world = World::running();
    world.publish(&recipe("2"));
    let mut request = world.request(hull_deploy::update::Goal::Upgrade);
    request.download_only = true;
    hull_deploy::update::update(&world.machine(), &request, &Silent).unwrap();
    fs::remove_file(object_with(&world, "2222")).unwrap();
    let (machine, repaired) = repair(&world);
    assert!(repaired.failures.is_empty(), "{:?}", repaired.failures);
    assert!(check(&machine).is_sound());
    request.download_only = false;
    request.from_downloaded = true;
    hull_deploy::update::update(&world.machine(), &request, &Silent).unwrap();
    assert_eq!(world.next_version(), "2");
}
