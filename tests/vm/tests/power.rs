//! The power goes: soon after the first boot, and in the midst of an upgrade.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::time::{Duration, Instant};

use hull_vm::images::Variant;
use hull_vm::machine::BOOT_DEADLINE;
use hull_vm::{Machine, Options, Scene};

fn version(machine: &Machine) -> String {
    machine
        .succeed("sed -n s/^IMAGE_VERSION=//p /etc/os-release")
        .unwrap()
        .trim()
        .to_owned()
}

fn cut_the_power(machine: &mut Machine) {
    machine.kill_power().unwrap();
    machine.power_on().unwrap();
}

#[test]
fn a_machine_whose_first_boots_are_cut_short_can_be_logged_into_and_stays_itself() {
    // The journal on the console shows from the host's side how far it is.
    let journal = "systemd.journald.forward_to_console";
    let scene = Scene::with("first-boot", Variant::Mini, &["--karg", journal]).unwrap();
    let options = Options::new(&scene.disk, &scene.key);
    let mut machine = Machine::start(&scene.place, "first-boot", options).unwrap();

    // As soon as /etc is made, before anything of the system has started.
    machine
        .wait_for_console("hull: root ready", BOOT_DEADLINE)
        .unwrap();
    cut_the_power(&mut machine);

    // As soon as somebody can have seen who the machine is.
    machine.wait_for_ssh().unwrap();
    let identity = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub";
    let seen = machine.succeed(identity).unwrap();
    cut_the_power(&mut machine);
    machine.wait_for_ssh().unwrap();
    assert_eq!(machine.succeed(identity).unwrap(), seen);

    // Once the boot is settled, all that it has written is there.
    machine
        .succeed("echo kept >/etc/kept; echo kept >/var/lib/kept; systemctl restart hull-settle")
        .unwrap();
    cut_the_power(&mut machine);
    machine.wait_for_ssh().unwrap();
    machine
        .succeed("grep -qx kept /etc/kept && grep -qx kept /var/lib/kept && hull fsck")
        .unwrap();
    machine.shut_down().unwrap();
}

#[test]
fn an_upgrade_killed_with_the_machine_boots_the_old_system_and_is_finished_by_the_next() {
    let scene = Scene::new("power", Variant::Debian).unwrap();
    let mut machine = scene.boot("power").unwrap();
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
    cut_the_power(&mut machine);
    drop(running);
    machine.wait_for_ssh().unwrap();
    assert_eq!(version(&machine), "1");

    // Again, killed at some moment of the work itself.
    let running = machine.start_script("hull upgrade", &log).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    cut_the_power(&mut machine);
    drop(running);
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
