//! Machines of other images: other initrds, none of hull's, files with fs-verity.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::time::{Duration, Instant};

use hull_vm::images::Variant;
use hull_vm::process::Program;
use hull_vm::{Machine, Options, Scene};

fn identity(machine: &Machine) -> String {
    machine
        .succeed("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
        .unwrap()
}

fn has_composefs_root(machine: &Machine) {
    machine
        .succeed("findmnt -no FSTYPE / | grep -qx overlay && test -f /run/hull/boot.json")
        .unwrap();
}

#[test]
fn an_image_without_setup_root_boots_through_the_second_initrd() {
    let scene = Scene::new("stock", Variant::Stock).unwrap();
    let mut machine = scene.boot("stock").unwrap();
    has_composefs_root(&machine);
    machine
        .succeed("! test -e /usr/bin/hull && ! test -e /usr/lib/hull")
        .unwrap();
    machine.shut_down().unwrap();
}

#[test]
fn an_initrd_of_initramfs_tools_mounts_the_root() {
    let scene = Scene::new("initramfs-tools", Variant::InitramfsTools).unwrap();
    let mut machine = scene.boot("initramfs-tools").unwrap();
    has_composefs_root(&machine);
    machine.succeed("hull status --format json").unwrap();
    machine.shut_down().unwrap();
}

#[test]
fn files_get_verity_after_the_first_boot_and_upgrades_keep_it() {
    let scene = Scene::new("verity", Variant::Mini).unwrap();
    let mut machine = scene.boot("verity").unwrap();
    machine
        .succeed("grep -q 'composefs.digest=?v1-' /proc/cmdline")
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(240);
    while !machine
        .run("grep -lq composefs.digest=v1- /boot/loader/entries/*.conf")
        .unwrap()
        .success()
    {
        let state = machine
            .run("systemctl status hull-verity --no-pager")
            .unwrap();
        assert!(
            Instant::now() < deadline,
            "no entry requires fs-verity: {state}"
        );
        std::thread::sleep(Duration::from_secs(3));
    }
    machine.reboot().unwrap();
    let requires = "grep -q 'composefs.digest=v1-' /proc/cmdline && findmnt -no OPTIONS / | grep -q verity=require";
    machine.succeed(requires).unwrap();
    scene.publish("v2").unwrap();
    machine.succeed("hull upgrade").unwrap();
    machine.reboot().unwrap();
    machine.succeed(requires).unwrap();
    machine
        .succeed("grep -qx 2 /usr/share/example/version && hull fsck --quick")
        .unwrap();
    machine.shut_down().unwrap();
}

#[test]
fn two_machines_of_one_image_differ() {
    let scene = Scene::new("two", Variant::Mini).unwrap();
    let second = scene.place.path("second.raw");
    // Which std::fs::copy would fill: most of a new disk is a hole.
    Program::new("cp")
        .arg("--sparse=always")
        .args([&scene.disk, &second])
        .succeed(Duration::from_secs(300))
        .unwrap();
    let mut one =
        Machine::start(&scene.place, "one", Options::new(&scene.disk, &scene.key)).unwrap();
    let mut two = Machine::start(&scene.place, "two", Options::new(&second, &scene.key)).unwrap();
    one.wait_for_ssh().unwrap();
    two.wait_for_ssh().unwrap();
    let (first, other) = (identity(&one), identity(&two));
    for (mine, theirs) in first.lines().zip(other.lines()) {
        assert_ne!(mine, theirs);
    }
    one.kill_power().unwrap();
    two.kill_power().unwrap();
}
