//! What goes wrong on a machine, on one small one, in the order of its life:
//! somebody sets the loader's default, an object is damaged, a new system does
//! not come up.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::time::Duration;

use hull_vm::images::Variant;
use hull_vm::scene::NAME;
use hull_vm::{Machine, Scene};

fn version(machine: &Machine) -> String {
    machine
        .succeed("cat /usr/share/example/version")
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn a_machine_says_what_is_wrong_and_lives_on() {
    let scene = Scene::new("mishaps", Variant::Mini).unwrap();
    let mut machine = scene.boot("mishaps").unwrap();
    warns_of_a_default_that_was_set_by_hand(&machine);
    repairs_a_damaged_object(&machine);
    lets_a_pulled_image_go_and_not_the_running_one(&scene, &machine);
    falls_back_from_a_system_that_does_not_come_up(&scene, &mut machine);
    machine.shut_down().unwrap();
}

/// The first boot replaces its own entry in the background.
fn wait_for_the_entry_that_requires_verity(machine: &Machine) {
    let entry = machine
        .run_within(
            "for second in $(seq 240); do
                 grep -lq composefs.digest=v1- /boot/loader/entries/*.conf && exit
                 sleep 1
             done
             systemctl status hull-verity --no-pager
             exit 1",
            Duration::from_secs(900),
        )
        .unwrap();
    assert!(entry.success(), "{entry}");
    // After the entry it writes the record, which is what `hull status` reads.
    machine
        .succeed("while systemctl is-active --quiet hull-verity; do sleep 1; done")
        .unwrap();
}

fn warns_of_a_default_that_was_set_by_hand(machine: &Machine) {
    wait_for_the_entry_that_requires_verity(machine);
    let status = |machine: &Machine| machine.succeed("hull status 2>&1").unwrap();
    let clean = status(machine);
    assert!(!clean.contains("LoaderEntryDefault"), "{clean}");

    // As bootctl set-default does it: attributes, then UTF-16.
    machine
        .succeed(
            r"findmnt /sys/firmware/efi/efivars >/dev/null || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
              name=$(printf 'hull-1.conf' | sed 's/./&\\000/g')
              printf '\007\000\000\000'$name'\000\000' >/tmp/variable
              cat /tmp/variable >/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
        )
        .unwrap();
    let warned = status(machine);
    assert!(warned.contains("LoaderEntryDefault"), "{warned}");
    machine
        .succeed("chattr -i /sys/firmware/efi/efivars/LoaderEntryDefault-*; rm /sys/firmware/efi/efivars/LoaderEntryDefault-*")
        .unwrap();

    machine
        .succeed("cp /boot/loader/loader.conf /tmp/loader.conf; echo 'default hull-1.conf' >>/boot/loader/loader.conf")
        .unwrap();
    let warned = status(machine);
    assert!(warned.contains("loader.conf"), "{warned}");
    machine
        .succeed("cp /tmp/loader.conf /boot/loader/loader.conf")
        .unwrap();
    assert_eq!(status(machine), clean);
}

/// The object of a file that the running system does not read any more.
fn repairs_a_damaged_object(machine: &Machine) {
    machine
        .succeed(
            "unshare --mount sh -euc 'mount -o remount,bind,rw /sysroot
             object=$(find /sysroot/composefs/objects -type f -size $(stat -c %s /etc/ssh/moduli)c)
             test -f $object
             rm $object
             echo damaged >$object'",
        )
        .unwrap();
    let found = machine.run("hull fsck").unwrap();
    assert!(
        !found.success() && found.to_string().contains("damaged"),
        "{found}"
    );
    machine.succeed("hull fsck --repair").unwrap();
    machine.succeed("hull fsck").unwrap();
}

fn lets_a_pulled_image_go_and_not_the_running_one(scene: &Scene, machine: &Machine) {
    let image = scene.registry.reference_inside(NAME);
    let kept = machine.run(&format!("hull image rm {image} 2>&1")).unwrap();
    assert!(
        !kept.success()
            && kept
                .to_string()
                .contains("a deployment of this machine keeps it"),
        "{kept}"
    );
    machine
        .succeed(&format!(
            "hull image pull {image} && hull image list --type pulled | grep {image}"
        ))
        .unwrap();
    let gone = machine.succeed(&format!("hull image rm {image}")).unwrap();
    assert!(
        gone.contains("Other images or deployments need all of its files"),
        "{gone}"
    );
    machine
        .succeed(&format!(
            "hull fsck && ! hull image list --type pulled | grep {image}"
        ))
        .unwrap();
}

fn falls_back_from_a_system_that_does_not_come_up(scene: &Scene, machine: &mut Machine) {
    // What makes v2 a bad one is the machine's own: a service that needs v1,
    // and that a good boot needs. Nobody can log in where it fails.
    machine
        .succeed(
            "printf '[Unit]\nDefaultDependencies=no\nBefore=boot-complete.target ssh.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=grep -qx 1 /usr/share/example/version\n[Install]\nRequiredBy=boot-complete.target ssh.service\n' >/etc/systemd/system/needs-v1.service
             systemctl enable needs-v1.service",
        )
        .unwrap();
    scene.publish("v2").unwrap();
    machine.succeed("hull upgrade").unwrap();
    machine.reboot_through(3).unwrap();

    assert_eq!(version(machine), "1");
    let status = machine.succeed("hull status 2>&1").unwrap();
    assert!(status.contains("did not come up"), "{status}");
    let again = machine.succeed("hull upgrade 2>&1").unwrap();
    assert!(again.contains("did not come up here before"), "{again}");
    let entries = machine.succeed("ls /boot/loader/entries").unwrap();
    assert!(!entries.contains("+3"), "{entries}");
}
