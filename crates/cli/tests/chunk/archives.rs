//! Images that go to a place through another: archives, and a registry.

use std::fs;
use std::process::{Command, Output};

use hull_sys::run::Program;
use serde_json::Value;

use crate::registry::Registry;
use crate::world::{World, json, noise, run, succeed};

fn config(image: &str) -> Value {
    let skopeo = Program::new("skopeo").package("skopeo");
    let seen = skopeo.args(["inspect", "--config", image]).output();
    json(&seen.expect("skopeo reads it"))
}

#[test]
fn archives_hold_the_image_that_a_layout_holds() {
    let world = World::new();
    let layout = world.image("out:v1");
    succeed(&[
        "chunk",
        "--rootfs",
        &world.text("root"),
        "--output",
        &layout,
        "--label",
        "a=b",
    ]);
    let expected = config(&layout);
    for kind in ["oci-archive", "docker-archive"] {
        let image = format!("{kind}:{}", world.text(kind));
        let named = format!("{image}:localhost/os:v1");
        let made = run(world.chunk(&named).args(["--label", "a=b"]));
        assert!(made.status.success(), "{made:?}");
        assert_eq!(config(&named), expected, "{kind}");
        let copied = world.image(&format!("from-{kind}:v1"));
        let copy = Program::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]);
        copy.args([&named, &copied])
            .run()
            .expect("all of it is there");
        let verified = succeed(&["chunk", "verify", &world.text("root"), &copied]);
        assert!(verified.starts_with("No difference "), "{kind}: {verified}");
    }
}

/// How the upload of a blob begins.
const UPLOAD: &str = "POST /v2/new/blobs/uploads/";

/// Runs hull where a directory has room for 2 MiB; what is left in it is told on standard output.
fn with_little_room(directory: &str, arguments: &[&str]) -> Output {
    let script =
        "mount -t tmpfs -o size=2m tmpfs \"$0\"; \"$@\" || code=$?; ls -A \"$0\"; exit ${code-0}";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-ec", script]);
    command.args([directory, env!("CARGO_BIN_EXE_hull"), "chunk"]);
    run(command.args(arguments))
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_and_the_next_run_works() {
    let world = World::new();
    let registry = Registry::start(&world);
    fs::write(world.at("root/usr/bin/large"), noise(1, 4 << 20)).expect("there is room");
    fs::create_dir(world.at("small")).expect("there is room");
    let (root, layout, small) = (
        world.text("root"),
        world.image("layout:1"),
        world.text("small"),
    );
    succeed(&["chunk", "--rootfs", &root, "--output", &layout]);
    let (rootfs, from) = (["--rootfs", &*root], ["--from", &*layout]);
    let (new, full) = (world.image("new:1"), "No space left");
    let archive = |kind: &str| format!("{kind}:{small}/{kind}");
    for (directory, source, output, expected) in [
        ("/var/tmp", rootfs, registry.image("new:1"), full),
        (&small, rootfs, archive("oci-archive"), full),
        (&small, rootfs, archive("docker-archive"), full),
        // What an image takes is known before it is unpacked there.
        ("/var/tmp", from, new.clone(), "too little space"),
    ] {
        let arguments = [source[0], source[1], "--output", &output];
        let failed = with_little_room(directory, &arguments);
        assert_eq!(failed.status.code(), Some(1), "{output}: {failed:?}");
        let told = String::from_utf8_lossy(&failed.stderr);
        assert!(told.contains(expected), "{output}: {told}");
        assert!(told.contains(directory), "{output}: {told}");
        assert_eq!(failed.stdout, b"", "{output}: {failed:?}");
        assert!(!world.at("new").exists());
        assert_eq!(registry.count(UPLOAD, "202"), 0);
    }
    for (source, output) in [(rootfs, registry.image("new:1")), (from, new)] {
        succeed(&["chunk", source[0], source[1], "--output", &output]);
        let verified = succeed(&["chunk", "verify", &root, &output]);
        assert!(verified.starts_with("No difference "), "{verified}");
    }
    assert!(registry.count(UPLOAD, "202") > 0);
}
