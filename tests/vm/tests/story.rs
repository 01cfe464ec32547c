//! The main job on the Debian image: install, boot, upgrade, roll back.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use hull_vm::images::Variant;
use hull_vm::{Machine, Scene};

fn version(machine: &Machine) -> String {
    let line = machine
        .succeed("grep ^IMAGE_VERSION= /etc/os-release")
        .unwrap();
    line.trim().trim_start_matches("IMAGE_VERSION=").to_owned()
}

/// Waits until the units that follow a good boot have done their work.
fn settle(machine: &Machine) {
    machine
        .succeed("systemctl is-system-running --wait >/dev/null; systemctl --failed --no-legend --plain | grep . && exit 1; true")
        .unwrap();
}

fn check_v1(machine: &Machine) {
    assert_eq!(version(machine), "1");
    machine.succeed("! touch /usr/x 2>/dev/null").unwrap();
    machine.succeed("! touch /sysroot/x 2>/dev/null").unwrap();
    machine
        .succeed("findmnt -no FSTYPE / | grep -qx overlay")
        .unwrap();
    machine.succeed("test -f /run/hull/boot.json").unwrap();
    let status = machine.succeed("hull status --format json").unwrap();
    assert!(status.contains("org.containers.bootc/v1"), "{status}");
}

#[test]
fn a_machine_is_upgraded_and_rolled_back_and_keeps_what_is_its_own() {
    // In layers of what changes together, as images are published: so those boot, too.
    let scene = Scene::chunked("story", Variant::Debian).unwrap();
    let mut machine = scene.boot("story").unwrap();
    settle(&machine);
    check_v1(&machine);
    let identity = machine
        .succeed("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
        .unwrap();

    // What is the machine's own: a changed file, a new one, an account, data.
    machine
        .succeed("echo mine >>/etc/example.d/yours.conf; echo local >/etc/local.conf; useradd -m visitor; echo data >/var/lib/data; sync")
        .unwrap();
    assert!(
        machine
            .succeed("hull upgrade --check")
            .unwrap()
            .to_lowercase()
            .contains("no ")
    );

    scene.publish("v2").unwrap();
    machine.succeed("hull upgrade --check").unwrap();
    let upgraded = machine.succeed("hull upgrade 2>&1").unwrap();
    assert!(
        machine
            .succeed("hull status --format humanreadable")
            .unwrap()
            .contains("Staged"),
        "{upgraded}"
    );
    // Changes after staging count.
    machine.succeed("echo late >/etc/late.conf").unwrap();
    machine.reboot().unwrap();
    settle(&machine);

    assert_eq!(version(&machine), "2");
    machine.succeed("grep -qx mine /etc/example.d/yours.conf && grep -qx local /etc/local.conf && grep -qx late /etc/late.conf").unwrap();
    machine
        .succeed("test -f /etc/example.d/new-in-v2.conf && ! test -e /usr/share/example/only-in-v1")
        .unwrap();
    machine
        .succeed("id visitor && id _example && grep -qx data /var/lib/data")
        .unwrap();
    assert_eq!(
        machine
            .succeed("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
            .unwrap(),
        identity
    );
    let entries = machine.succeed("ls /boot/loader/entries").unwrap();
    assert!(
        !entries.contains('+'),
        "the entry was not blessed: {entries}"
    );

    machine.succeed("echo after >/etc/after.conf").unwrap();
    machine.succeed("hull rollback").unwrap();
    machine.reboot().unwrap();
    settle(&machine);
    check_v1(&machine);
    machine.succeed("grep -qx late /etc/late.conf && ! test -e /etc/after.conf && ! test -e /etc/example.d/new-in-v2.conf").unwrap();
    machine
        .succeed("grep -qx data /var/lib/data && id visitor")
        .unwrap();
    assert_eq!(
        machine
            .succeed("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
            .unwrap(),
        identity
    );
    machine
        .succeed("hull fsck && hull history && hull gc --dry-run")
        .unwrap();
    machine.shut_down().unwrap();
}
