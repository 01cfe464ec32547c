//! Machines whose root is on another file system than ext4. Part of `make nightly`.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use hull_vm::Scene;
use hull_vm::images::Variant;

/// Installs on that file system, upgrades and rolls back.
fn lives_on(filesystem: &str) {
    let options = ["--filesystem", filesystem];
    let scene = Scene::with(filesystem, Variant::Mini, &options).unwrap();
    let mut machine = scene.boot(filesystem).unwrap();
    let found = machine.succeed("findmnt -no FSTYPE /sysroot").unwrap();
    assert_eq!(found.trim(), filesystem);
    machine
        .succeed("echo mine >/etc/mine.conf && echo data >/var/lib/data")
        .unwrap();

    scene.publish("v2").unwrap();
    machine.succeed("hull upgrade").unwrap();
    machine.reboot().unwrap();
    machine
        .succeed("grep -qx 2 /usr/share/example/version && grep -qx mine /etc/mine.conf && grep -qx data /var/lib/data")
        .unwrap();
    machine.succeed("hull fsck && hull gc").unwrap();

    machine.succeed("hull rollback").unwrap();
    machine.reboot().unwrap();
    machine
        .succeed("! grep -qx 2 /usr/share/example/version && grep -qx mine /etc/mine.conf && grep -qx data /var/lib/data")
        .unwrap();
    machine.shut_down().unwrap();
}

#[test]
#[ignore = "part of make nightly: minutes of virtual machines"]
fn a_machine_on_xfs_is_upgraded_and_rolled_back() {
    lives_on("xfs");
}

#[test]
#[ignore = "part of make nightly: minutes of virtual machines"]
fn a_machine_on_btrfs_is_upgraded_and_rolled_back() {
    lives_on("btrfs");
}
