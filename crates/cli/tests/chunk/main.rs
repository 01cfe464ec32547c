//! `hull chunk` as a whole: what other programs make of its images, and what stays when it cannot finish.

#![expect(
    clippy::disallowed_methods,
    reason = "a test writes files that nothing depends on, and runs hull itself"
)]

mod archives;
mod containers;
mod flatpak;
mod options;
mod partial;
mod registry;
mod room;
mod roots;
#[path = "../../../oci/tests/serving/mod.rs"]
mod serving;
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use hull_sys::run::Program;
use serde_json::Value;

use crate::world::{World, hull, json, run, succeed};

#[test]
fn rpm_ostrees_options_give_an_image_that_keeps_to_the_one_before() {
    let world = World::new();
    fs::write(world.at("root/usr/bin/large"), vec![7; 2 << 20]).expect("there is room");
    let (output, root) = (world.image("out"), world.text("root"));
    let build = [
        "build-chunked-oci",
        "--rootfs",
        &root,
        "--output",
        &output,
        "--format-version",
        "2",
        "--label",
        "k=v",
    ];
    let layers = || {
        let seen = Program::new("skopeo")
            .args(["inspect", &format!("{output}:latest")])
            .output();
        let seen = json(&seen.expect("the tag is there"));
        assert_eq!(seen["Labels"]["k"], "v");
        seen["Layers"].as_array().expect("it has layers").clone()
    };
    succeed(&build);
    let before = layers();
    fs::write(world.at("root/etc/note"), "changed").expect("there is room");
    succeed(&build);
    let after = layers();
    assert_eq!(before.len(), after.len());
    assert_eq!(
        after.iter().filter(|layer| before.contains(layer)).count(),
        before.len() - 1
    );

    let refused = run(hull().args(build).args(["--sign-commit", "ed25519=key"]));
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("no ostree commit"),
        "{refused:?}"
    );
}

#[test]
fn a_configuration_and_labels_are_set_and_removed() {
    let world = World::new();
    let config = r#"{"config":{"Cmd":["/usr/bin/program"],"Labels":{"a":"1","b":"2","c":"3"}}}"#;
    fs::write(world.at("config.json"), config).expect("there is room");
    let image = world.image("out:v1");
    let configured = |labels: &[&str]| {
        let mut command = world.chunk(&image);
        command.args(["--config", &world.text("config.json")]);
        for label in labels {
            command.args(["--label", label]);
        }
        let output = run(&mut command);
        assert!(output.status.success(), "{output:?}");
        let seen = Program::new("skopeo").args(["inspect", "--config", &image]);
        json(&seen.output().expect("it was written"))["config"].clone()
    };
    let seen = configured(&["a-", "b=two"]);
    assert_eq!(seen["Cmd"], serde_json::json!(["/usr/bin/program"]));
    assert_eq!(seen["Labels"], serde_json::json!({"b": "two", "c": "3"}));
    let seen = configured(&["-", "d=4"]);
    assert_eq!(seen["Labels"], serde_json::json!({"d": "4"}));

    fs::write(world.at("config.json"), "{").expect("there is room");
    let broken = run(world
        .chunk(&image)
        .args(["--config", &world.text("config.json")]));
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    let refused = run(world.chunk(&image).args(["--label", "none"]));
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn another_clock_host_and_order_of_a_directory_change_no_byte() {
    let world = World::new();
    for number in 0..200 {
        fs::write(world.at(&format!("root/etc/{number}")), [number]).expect("there is room");
    }
    let manifest = |name: &str| {
        let index = fs::read(world.at(&format!("{name}/index.json"))).expect("it was written");
        let index: Value = serde_json::from_slice(&index).expect("it is JSON");
        index["manifests"][0]["digest"].clone()
    };
    let made = run(&mut world.chunk(&world.image("here")));
    assert_eq!(made.status.code(), Some(0), "{made:?}");

    // Copied, the last file first.
    fs::create_dir(world.at("copy")).expect("there is room");
    let copy = "cd root; find . | sort -r | cpio --quiet -pdm ../copy";
    let copied = Command::new("sh")
        .args(["-c", copy])
        .current_dir(world.at(""))
        .status();
    assert!(copied.expect("cpio is installed").success());
    let elsewhere = "hostname elsewhere; exec faketime 2031-01-01 \"$@\"";
    let mut there = Command::new("unshare");
    there
        .args([
            "--uts",
            "sh",
            "-c",
            elsewhere,
            "sh",
            env!("CARGO_BIN_EXE_hull"),
        ])
        .args(["chunk", "--threads", "7", "--rootfs", &world.text("copy")])
        .args(["--output", &world.image("there")]);
    let made = run(&mut there);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    assert_eq!(manifest("there"), manifest("here"));
}

#[test]
fn earlier_images_show_what_changes_often() {
    let world = World::new();
    for name in ["calm", "busy"] {
        fs::write(world.at(&format!("root/usr/bin/{name}")), vec![1; 2 << 20])
            .expect("there is room");
    }
    let images: Vec<_> = (1..=4).map(|n| world.image(&format!("out:{n}"))).collect();
    for (number, image) in (2..).zip(&images) {
        fs::write(world.at("root/usr/bin/busy"), vec![number; 2 << 20]).expect("there is room");
        let output = run(&mut world.chunk(image));
        assert!(output.status.success(), "{output:?}");
    }
    let rate = |history: &[&str]| {
        let plan = world.text("plan.json");
        let mut command = world.chunk(&world.image("new"));
        let output = run(command.args(["--plan", "--plan-out", &plan]).args(history));
        assert!(output.status.success(), "{output:?}");
        let plan = json(&fs::read(&plan).expect("it was written"));
        let components = plan["components"].as_array().expect("a list").clone();
        let rate = |name: &str| {
            let mut components = components.iter();
            let found = components.find(|one| one["name"] == name);
            let found = found.expect("it is a component of its own");
            found["changesPerYear"].as_f64().expect("a number")
        };
        (rate("file/usr/bin/calm"), rate("file/usr/bin/busy"))
    };
    let (calm, busy) = rate(&[]);
    assert_eq!(calm.to_bits(), busy.to_bits());
    let mut history = vec!["--history"];
    history.extend(images.iter().map(String::as_str));
    let (calm_seen, busy_seen) = rate(&history);
    assert!(
        calm_seen < calm && busy_seen > busy,
        "{calm_seen} {busy_seen}"
    );
}

#[test]
fn a_run_that_is_cut_leaves_nothing_under_the_name_of_the_image() {
    let world = World::new();
    let whole = |path: &Path| {
        let seen = Program::new("skopeo")
            .args(["inspect", &format!("oci:{}:v1", path.display())])
            .output();
        seen.is_ok()
    };
    for steps in 1.. {
        assert!(steps < 100, "it comes to an end");
        let output = run(world
            .chunk(&world.image("new:v1"))
            .env("HULL_STOP_AFTER", steps.to_string()));
        if output.status.success() {
            assert!(steps > 3, "it was cut before");
            break;
        }
        assert!(
            !world.at("new").exists() || whole(&world.at("new")),
            "cut after {steps} steps"
        );
        fs::remove_dir_all(world.at("new")).ok();
    }
    // What the cut runs left beside it, the next one removed.
    let names = fs::read_dir(world.at("")).expect("it is there");
    let names = names.map(|entry| entry.expect("it can be read").file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with(".new"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // In a layout that has an image, that one stays until the new one is whole.
    let before = fs::read(world.at("new/index.json")).expect("the image is there");
    fs::write(world.at("root/etc/note"), "changed").expect("there is room");
    let cut = run(world
        .chunk(&world.image("new:v1"))
        .env("HULL_STOP_AFTER", "1"));
    assert!(!cut.status.success());
    assert_eq!(
        fs::read(world.at("new/index.json")).expect("it is still there"),
        before
    );
    assert!(whole(&world.at("new")));
}

#[test]
fn a_disk_that_is_full_is_told_of_and_leaves_nothing() {
    let world = World::new();
    let noise: Vec<u8> = (0..4_u32 << 20)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    fs::write(world.at("root/usr/bin/large"), noise).expect("there is room");
    fs::create_dir(world.at("small")).expect("there is room");
    let mount = Program::new("mount").args([
        "-t",
        "tmpfs",
        "-o",
        "size=1m",
        "tmpfs",
        &world.text("small"),
    ]);
    mount.run().expect("this test needs root");
    let output = run(world
        .chunk(&world.image("small/out"))
        .args(["--compression", "none"]));
    let left: Vec<_> = fs::read_dir(world.at("small"))
        .expect("it is there")
        .collect();
    // A child that another test forks meanwhile may have it open until it runs its program.
    Program::new("umount")
        .arg("--lazy")
        .arg(world.text("small"))
        .run()
        .expect("it is mounted");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("No space left") && told.contains("nothing was written"),
        "{told}"
    );
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_part_of_an_image_is_listed_with_its_path_before_any_work() {
    let world = World::new();
    fs::create_dir(world.at("root/boot")).expect("there is room");
    fs::write(world.at("root/boot/vmlinuz"), "").expect("there is room");
    fs::write(world.at("root/etc/.wh.note"), "").expect("there is room");
    Program::new("mkfifo")
        .arg(world.text("root/etc/pipe"))
        .run()
        .expect("it is not there");
    for check in [&["--check"][..], &["--output", &world.image("out")]] {
        let output = run(hull()
            .args(["chunk", "--rootfs", &world.text("root")])
            .args(check));
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr);
        for path in ["/boot/vmlinuz", "/etc/.wh.note", "/etc/pipe"] {
            // Each has a reason of its own.
            assert!(told.contains(&format!("{path}: ")), "{path}: {told}");
        }
    }
    assert!(!world.at("out").exists());
}

#[test]
fn a_file_that_cannot_be_read_is_refused_before_any_work() {
    let world = World::new();
    for name in ["etc/secret", "usr/bin/hidden"] {
        let path = world.at(&format!("root/{name}"));
        fs::write(&path, "of root alone").expect("there is room");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    }
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(world.at(""), open).expect("it is ours");
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    // Who else may go to where hull was built is not known.
    Program::new("cp")
        .args([env!("CARGO_BIN_EXE_hull"), &world.text("hull")])
        .run()
        .expect("there is room");
    nobody.arg(world.at("hull"));
    nobody.args(["chunk", "--check", "--rootfs", &world.text("root")]);
    let output = run(&mut nobody);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for path in ["/etc/secret", "/usr/bin/hidden"] {
        assert!(told.contains(path), "{told}");
    }
}

#[test]
fn a_plan_that_is_none_is_named() {
    let world = World::new();
    fs::write(world.at("plan.json"), "{").expect("there is room");
    let output = run(world
        .chunk(&world.image("out"))
        .args(["--plan", &world.text("plan.json")]));
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("plan.json cannot be used"), "{told}");
    assert!(!world.at("out").exists());
}

#[test]
fn what_an_update_costs_is_told_as_text_as_json_and_as_a_page() {
    let world = World::new();
    let (one, two) = (world.image("out:1"), world.image("out:2"));
    assert!(run(&mut world.chunk(&one)).status.success());
    fs::write(
        world.at("root/etc/note"),
        "changed, and longer than what an image keeps in its own bytes: 64 of them",
    )
    .expect("there is room");
    assert!(
        run(world.chunk(&two).args(["--previous", &one]))
            .status
            .success()
    );
    let page = world.text("report.html");
    let text = succeed(&["chunk", "report", &one, &two, "--html", &page]);
    assert!(
        text.contains("rest") && text.contains("1 new content"),
        "{text}"
    );
    assert!(
        fs::read_to_string(&page)
            .expect("it was written")
            .contains("/etc/note")
    );
    let report = json(succeed(&["chunk", "report", &one, &two, "--format", "json"]).as_bytes());
    assert_eq!(report["download"]["newLayers"], 1);
    assert_eq!(
        report["download"]["files"]["largest"][0]["path"],
        "/etc/note"
    );
    let quick = json(
        succeed(&[
            "chunk",
            "report",
            &one,
            &two,
            "--layers-only",
            "--format",
            "json",
        ])
        .as_bytes(),
    );
    assert_eq!(quick["download"]["byLayer"], report["download"]["byLayer"]);
    assert_eq!(quick["download"]["files"], Value::Null);
}
