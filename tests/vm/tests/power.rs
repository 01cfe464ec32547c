//! The power goes in the midst of an upgrade: the old system boots, and the
//! next upgrade finishes what was begun.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::time::{Duration, Instant};

use hull_vm::images::Variant;
use hull_vm::{Machine, Scene};

fn version(machine: &Machine) -> String {
    machine
        .succeed("sed -n s/^IMAGE_VERSION=//p /etc/os-release")
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn an_upgrade_killed_with_the_machine_boots_the_old_system_and_is_finished_by_the_next() {
    let scene = Scene::new("power", Variant::Debian).unwrap();
    let mut machine = scene.boot("power").unwrap();
    // What the first boot made (host keys, root's keys) is written without fsync
    // by programs that are not hull's: it has to be on disk before the power goes.
    machine
        .succeed("systemctl is-system-running --wait >/dev/null; sync")
        .unwrap();
    scene.publish("v2").unwrap();

    // Cut where the new system is in the store and on the ESP, and its entry is not.
    let log = scene.place.path("upgrade.log");
    let running = machine
        .start_script("HULL_STOP_AFTER=12 hull upgrade; echo status $?", &log)
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while !running.printed().contains("status ") {
        assert!(Instant::now() < deadline, "{}", running.printed());
        std::thread::sleep(Duration::from_millis(200));
    }
    machine.kill_power().unwrap();
    drop(running);
    machine.power_on().unwrap();
    machine.wait_for_ssh().unwrap();
    assert_eq!(version(&machine), "1");

    // Again, killed at some moment of the work itself.
    let running = machine.start_script("hull upgrade", &log).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    machine.kill_power().unwrap();
    drop(running);
    machine.power_on().unwrap();
    machine.wait_for_ssh().unwrap();
    let after = version(&machine);
    assert!(["1", "2"].contains(&after.as_str()), "{after}");

    machine.succeed("hull fsck").unwrap();
    machine.succeed("hull upgrade").unwrap();
    if after == "1" {
        machine.reboot().unwrap();
    }
    assert_eq!(version(&machine), "2");
    machine.succeed("hull fsck").unwrap();
    machine.shut_down().unwrap();
}
