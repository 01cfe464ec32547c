//! `--dry-run` says what is done then, and does nothing.

use hull_deploy::foresee::{Then, foresee};
use hull_deploy::update::{self, Goal, Outcome};
use hull_oci::progress::Silent;

use crate::image::{Recipe, recipe};
use crate::repair::files;
use crate::world::World;

#[test]
fn before_the_image_is_here_the_download_the_order_and_what_goes_are_known() {
    let world = World::upgraded();
    world.publish(&recipe("3"));
    let before = files(world.path());
    let machine = world.machine();
    let foreseen = foresee(&machine, &world.request(Goal::Upgrade)).unwrap();
    assert_eq!(before, files(world.path()));
    assert_eq!(foreseen.available.image.missing_layers, 1);
    assert!(foreseen.available.image.missing_bytes > 1000);
    let Then::Stage {
        order,
        generation,
        removed,
    } = foreseen.then
    else {
        panic!("{:?}", foreseen.then);
    };
    let Outcome::Staged(staged) = world.upgrade().unwrap() else {
        panic!("it is staged");
    };
    assert_eq!(
        (order, generation),
        (staged.plan.entry.order, staged.plan.name.generation)
    );
    assert_eq!(removed.deployments, staged.removed.deployments);
    assert_eq!(removed.entries, staged.removed.entries);
}

#[test]
fn of_an_image_that_is_here_all_is_known() {
    let world = World::upgraded();
    let etc = world.path().join("root/state/deploy");
    let etc = etc
        .join(world.machine().booted.unwrap().to_string())
        .join("etc");
    crate::image::write(&etc.join("default"), b"mine");
    world.publish(&Recipe {
        kernel: "new",
        without: &["etc/default"],
        with: &[("etc/default", "theirs")],
        ..recipe("3")
    });
    let mut request = world.request(Goal::Upgrade);
    request.download_only = true;
    update::update(&world.machine(), &request, &Silent).unwrap();
    request.download_only = false;
    let before = files(world.path());
    let foreseen = foresee(&world.machine(), &request).unwrap();
    assert_eq!(before, files(world.path()));
    let Then::StageThis(preview) = foreseen.then else {
        panic!("{:?}", foreseen.then);
    };
    assert_eq!(preview.boot_files.len(), 2, "the kernel is new");
    assert!(
        preview.conflicts[0].contains("/etc/default"),
        "{:?}",
        preview.conflicts
    );
    let Outcome::Staged(staged) = world.upgrade().unwrap() else {
        panic!("it is staged");
    };
    assert_eq!(preview.plan.name, staged.plan.name);
    assert_eq!(preview.plan.record, staged.plan.record);
    assert_eq!(preview.plan.entry, staged.plan.entry);
    assert_eq!(preview.conflicts, staged.conflicts);
    assert_eq!(preview.removed, staged.removed);
}

#[test]
fn where_nothing_is_new_nothing_would_be_done() {
    let world = World::upgraded();
    let foreseen = foresee(&world.machine(), &world.request(Goal::Upgrade)).unwrap();
    assert!(
        matches!(foreseen.then, Then::Nothing),
        "{:?}",
        foreseen.then
    );
}
