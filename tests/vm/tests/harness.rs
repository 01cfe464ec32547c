//! The harness itself: what it starts does start, and what fails says why.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use hull_vm::{Key, Machine, Options, Registry, Workplace};

/// A raw disk of zeros.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of a test needs no durability"
)]
fn empty_disk(place: &Workplace) -> std::path::PathBuf {
    let disk = place.path("disk.raw");
    fs::write(&disk, vec![0; 1 << 20]).unwrap();
    disk
}

/// An OCI layout with one image, `tag`, made by umoci.
fn image_without_layers(place: &Workplace, tag: &str) -> String {
    let layout = place.path("layout");
    let umoci = |arguments: &[&str]| {
        hull_vm::process::Program::new("umoci")
            .args(arguments)
            .succeed(Duration::from_secs(60))
            .unwrap();
    };
    umoci(&["init", "--layout", &layout.display().to_string()]);
    let reference = format!("{}:{tag}", layout.display());
    umoci(&["new", "--image", &reference]);
    format!("oci:{reference}")
}

#[test]
fn a_machine_without_a_system_reaches_its_firmware_and_its_power_can_be_cut() {
    let place = Workplace::new("harness-machine").unwrap();
    let key = Key::generate(&place).unwrap();
    let options = Options::new(empty_disk(&place), &key).memory_mib(512);
    let mut machine = Machine::start(&place, "empty", options).unwrap();
    machine
        .wait_for_console("BdsDxe", Duration::from_secs(120))
        .unwrap();
    machine.kill_power().unwrap();
    let error = machine.wait_for_ssh().unwrap_err().to_string();
    assert!(
        error.contains("switched off") && error.contains("BdsDxe"),
        "{error}"
    );
}

#[test]
fn a_machine_that_qemu_refuses_says_why() {
    let place = Workplace::new("harness-refused").unwrap();
    let key = Key::generate(&place).unwrap();
    let missing = Path::new("/nonexistent/disk.raw");
    let mut machine = Machine::start(&place, "refused", Options::new(missing, &key)).unwrap();
    let error = machine.wait_for_ssh().unwrap_err().to_string();
    assert!(error.contains("/nonexistent/disk.raw"), "{error}");
}

#[test]
fn a_registry_serves_what_was_pushed_also_after_it_was_away() {
    let place = Workplace::new("harness-registry").unwrap();
    let mut registry = Registry::start(&place).unwrap();
    let source = image_without_layers(&place, "v1");
    registry.push(&source, "debian:stable").unwrap();
    let digest = registry.digest("debian:stable").unwrap();
    assert!(digest.starts_with("sha256:"), "{digest}");

    registry.stop();
    registry.digest("debian:stable").unwrap_err();
    registry.resume().unwrap();
    assert_eq!(registry.digest("debian:stable").unwrap(), digest);
}
