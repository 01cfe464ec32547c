//! The life of a machine: what upgrades, switches and rollbacks do.

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use hull_boot::record::Operation;
use hull_deploy::cleanup;
use hull_deploy::rollback;
use hull_deploy::update::{self, Goal, Outcome, UpdateError};
use hull_oci::progress::{Event, Progress, Silent, Stage};
use hull_oci::{PullOptions, Reference};

use crate::image::{Recipe, recipe};
use crate::world::World;

#[test]
fn a_machine_is_upgraded_rolled_back_and_upgraded_again() {
    let world = World::running();
    let first = world.machine().booted.unwrap();
    world.publish(&recipe("2"));
    assert!(matches!(world.upgrade().unwrap(), Outcome::Staged(_)));
    assert_eq!(world.next_version(), "2");
    let second = world.boot();
    world.bless();
    rollback::execute(&world.machine()).unwrap();
    assert_eq!(world.boot(), first);
    assert_eq!(world.next_version(), "1");
    // The same image again is a new deployment with an /etc of its own.
    assert!(matches!(world.upgrade().unwrap(), Outcome::Staged(_)));
    let third = world.boot();
    assert_eq!(third.digest, second.digest);
    assert!(third.generation > second.generation);
    let operations: Vec<_> = world
        .machine()
        .history()
        .unwrap()
        .iter()
        .map(|event| event.operation)
        .collect();
    assert_eq!(
        operations,
        [
            Operation::Install,
            Operation::Upgrade,
            Operation::Rollback,
            Operation::Upgrade
        ]
    );
}

#[test]
fn nothing_new_stages_nothing() {
    let world = World::running();
    assert!(matches!(world.upgrade().unwrap(), Outcome::UpToDate { .. }));
    let available =
        update::check(&world.machine(), &Goal::Upgrade, &PullOptions::default()).unwrap();
    assert!(available.deployment.is_some());
    assert_eq!(world.machine().observe().unwrap().deployments.len(), 1);
}

#[test]
fn a_rebuild_that_changes_labels_alone_stages_nothing_and_updates_the_record() {
    let world = World::running();
    let before = world.next_version();
    world.publish(&Recipe {
        content: Some("1"),
        ..recipe("1-rebuilt")
    });
    assert!(matches!(
        world.upgrade().unwrap(),
        Outcome::Relabelled { .. }
    ));
    assert_eq!(
        (before.as_str(), world.next_version().as_str()),
        ("1", "1-rebuilt")
    );
    assert!(matches!(world.upgrade().unwrap(), Outcome::UpToDate { .. }));
}

#[test]
fn a_system_that_never_came_up_is_not_staged_again_by_itself() {
    let world = World::running();
    world.publish(&recipe("2"));
    world.upgrade().unwrap();
    for _ in 0..3 {
        world.boot();
    }
    assert_eq!(world.next_version(), "1");
    world.boot();
    assert!(matches!(world.upgrade().unwrap(), Outcome::KnownBad { .. }));
    assert_eq!(world.next_version(), "1");
}

#[test]
fn an_image_that_failed_is_known_when_its_deployment_is_gone_until_it_is_asked_for() {
    let world = World::upgraded();
    world.publish(&recipe("3"));
    world.upgrade().unwrap();
    for _ in 0..4 {
        world.boot();
    }
    cleanup::collect(&world.machine()).unwrap();
    assert_eq!(world.machine().observe().unwrap().deployments.len(), 2);
    assert!(matches!(world.upgrade().unwrap(), Outcome::KnownBad { .. }));
    let check = || update::check(&world.machine(), &Goal::Upgrade, &PullOptions::default());
    assert!(check().unwrap().known_bad);
    let reference = world.reference().to_string();
    let outcome = world.switch(&reference).unwrap();
    assert!(matches!(outcome, Outcome::Staged(_)));
    assert!(!check().unwrap().known_bad);
    assert_eq!(world.next_version(), "3");
}

#[test]
fn a_download_waits_until_it_is_asked_for() {
    let world = World::running();
    world.publish(&recipe("2"));
    let mut request = world.request(Goal::Upgrade);
    request.download_only = true;
    let outcome = update::update(&world.machine(), &request, &Silent).unwrap();
    assert!(matches!(outcome, Outcome::Downloaded(_)));
    assert_eq!(world.next_version(), "1");
    cleanup::collect(&world.machine()).unwrap();
    std::fs::remove_dir_all(world.path().join("layout")).unwrap();
    request.download_only = false;
    request.from_downloaded = true;
    let outcome = update::update(&world.machine(), &request, &Silent).unwrap();
    assert!(matches!(outcome, Outcome::Staged(_)));
    assert_eq!(world.next_version(), "2");
}

#[test]
fn a_download_whose_record_was_lost_with_the_power_has_to_be_made_again() {
    let world = World::running();
    let record = world.path().join("root/state/downloaded.json");
    let download = |version| {
        world.publish(&recipe(version));
        let mut request = world.request(Goal::Upgrade);
        request.download_only = true;
        update::update(&world.machine(), &request, &Silent).unwrap();
    };
    download("2");
    let earlier = std::fs::read(&record).unwrap();
    download("3");
    // The image has its name, and the record is still that of the one before.
    std::fs::File::create(&record)
        .unwrap()
        .write_all(&earlier)
        .unwrap();
    cleanup::collect(&world.machine()).unwrap();
    let mut request = world.request(Goal::Upgrade);
    request.from_downloaded = true;
    let error = update::update(&world.machine(), &request, &Silent).unwrap_err();
    assert!(matches!(error, UpdateError::NothingDownloaded), "{error}");
    download("3");
    update::update(&world.machine(), &request, &Silent).unwrap();
    assert_eq!(world.next_version(), "3");
}

/// Somebody who switches the machine while an upgrade is pulling.
struct Switches<'a> {
    world: &'a World,
    to: Reference,
    done: AtomicBool,
}

impl Progress for Switches<'_> {
    fn report(&self, event: Event<'_>) {
        if matches!(event, Event::Stage(Stage::Recording)) && !self.done.swap(true, SeqCst) {
            self.world.switch(&self.to.to_string()).unwrap();
        }
    }
}

#[test]
fn an_upgrade_does_not_undo_a_switch_that_was_made_while_it_was_pulling() {
    let world = World::running();
    world.publish(&recipe("2"));
    let other = world.path().join("other");
    recipe("3").write(&other, "stable");
    let switches = Switches {
        world: &world,
        to: Reference::parse(&format!("oci:{}:stable", other.display())).unwrap(),
        done: AtomicBool::new(false),
    };
    let request = world.request(Goal::Upgrade);
    let error = update::update(&world.machine(), &request, &switches).unwrap_err();
    assert!(matches!(error, UpdateError::Switched { .. }), "{error}");
    assert_eq!(world.next_version(), "3");
    assert!(matches!(world.upgrade().unwrap(), Outcome::UpToDate { .. }));
}

#[test]
fn kernel_arguments_of_the_image_follow_it_and_those_of_the_machine_stay() {
    let world = World::running();
    world.publish(&Recipe {
        without: &["usr/lib/bootc/kargs.d/1.toml"],
        with: &[("usr/lib/bootc/kargs.d/2.toml", "kargs = [\"added\"]")],
        ..recipe("2")
    });
    world.upgrade().unwrap();
    let state = world.machine().observe().unwrap();
    let record = &state.deployment(&state.next().unwrap()).unwrap().record;
    assert_eq!(record.kernel_arguments, ["root=UUID=1", "added"]);
}

#[test]
fn the_kernel_is_on_the_esp_once_for_all_deployments_that_share_it() {
    let world = World::upgraded();
    assert_eq!(world.machine().esp.boot_directories().unwrap().len(), 1);
    world.publish(&Recipe {
        kernel: "new",
        ..recipe("3")
    });
    world.upgrade().unwrap();
    assert_eq!(world.machine().esp.boot_directories().unwrap().len(), 2);
}

#[test]
fn three_deployments_at_the_most_stay_and_what_is_pinned() {
    let world = World::upgraded();
    let first = world
        .machine()
        .observe()
        .unwrap()
        .deployments
        .last()
        .unwrap()
        .name;
    world.machine().pin(&first, true).unwrap();
    for version in ["3", "4", "5"] {
        world.publish(&recipe(version));
        world.upgrade().unwrap();
        world.boot();
        world.bless();
    }
    let names: Vec<_> = world
        .machine()
        .observe()
        .unwrap()
        .deployments
        .iter()
        .map(|d| d.name)
        .collect();
    assert_eq!(names.len(), 3, "booted, rollback and pinned");
    assert!(names.contains(&first));
    world.machine().pin(&first, false).unwrap();
    cleanup::collect(&world.machine()).unwrap();
    assert_eq!(world.machine().observe().unwrap().deployments.len(), 2);
}

#[test]
fn a_dry_run_of_a_collection_changes_nothing() {
    let world = World::upgraded();
    let plan = cleanup::plan(&world.machine()).unwrap();
    assert!(plan.retention.is_empty(), "{}", plan.retention);
    assert_eq!(world.machine().observe().unwrap().deployments.len(), 2);
}
