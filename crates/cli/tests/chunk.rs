//! `hull chunk` as a whole: what other programs make of its images, and what stays when it cannot finish.

#![expect(
    clippy::disallowed_methods,
    reason = "a test writes files that nothing depends on, and runs hull itself"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use hull_sys::run::Program;
use serde_json::Value;

fn hull() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hull"))
}

fn run(command: &mut Command) -> Output {
    command.output().expect("hull was built")
}

#[track_caller]
fn succeed(arguments: &[&str]) -> String {
    let output = run(hull().args(arguments));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("results are text")
}

/// A root with a program that needs no library, and a scratch directory beside it.
struct World {
    temp: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        // podman makes a name of the path, which must have small letters only.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "hull-chunk-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let temp = tempfile::Builder::new()
            .prefix(&name)
            .rand_bytes(0)
            .tempdir();
        let temp = temp.expect("there is room");
        let world = Self { temp };
        for directory in [
            "root/usr/bin",
            "root/etc",
            "root/dev",
            "root/proc",
            "root/sys",
            "root/run",
            "root/tmp",
            "build",
        ] {
            fs::create_dir_all(world.at(directory)).expect("there is room");
        }
        // Linked statically in Debian.
        fs::copy("/sbin/ldconfig", world.at("root/usr/bin/program")).expect("Debian has it");
        fs::write(world.at("root/etc/note"), "of the root").expect("there is room");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("it is text").to_owned()
    }

    fn image(&self, name: &str) -> String {
        format!("oci:{}", self.text(name))
    }

    fn chunk(&self, output: &str) -> Command {
        let mut command = hull();
        command.args(["chunk", "--rootfs", &self.text("root"), "--output", output]);
        command
    }
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("it is JSON")
}

#[test]
fn an_image_is_copied_by_skopeo_pulled_by_podman_and_built_on_by_buildah() {
    let world = World::new();
    let image = world.image("build/out.oci:v1");
    let output = run(world.chunk(&image).args(["--label", "a=b"]));
    assert!(output.status.success(), "{output:?}");
    let digest = String::from_utf8_lossy(&output.stdout);
    let digest = digest
        .split(' ')
        .next()
        .expect("a line has words")
        .to_owned();

    let skopeo = Program::new("skopeo").package("skopeo");
    let seen = skopeo
        .clone()
        .args(["inspect", &image])
        .output()
        .expect("skopeo reads it");
    assert_eq!(json(&seen)["Digest"], digest);
    assert_eq!(json(&seen)["Labels"]["a"], "b");
    let copied = world.image("copied:v1");
    skopeo
        .clone()
        .args(["--insecure-policy", "copy", "--quiet", &image, &copied])
        .run()
        .expect("skopeo copies it");
    assert_eq!(
        json(
            &skopeo
                .args(["inspect", &copied])
                .output()
                .expect("the copy is whole")
        )["Digest"],
        digest
    );

    let storage = [
        "--root",
        &world.text("storage"),
        "--runroot",
        &world.text("storage.run"),
        "--storage-driver",
        "overlay",
    ];
    let podman = Program::new("podman").package("podman").args(storage);
    podman
        .args(["--cgroup-manager", "cgroupfs", "pull", "--quiet", &image])
        .run()
        .expect("podman pulls it");
    let containerfile = format!(
        "FROM oci:{}:v1\nRUN [\"/usr/bin/program\", \"--version\"]\nLABEL x=y\n",
        world.text("build/out.oci")
    );
    fs::write(world.at("build/Containerfile"), containerfile).expect("there is room");
    let buildah = Program::new("buildah").package("buildah").args(storage);
    let printed = buildah
        .args([
            "build",
            "--isolation",
            "chroot",
            "--tag",
            "built",
            &world.text("build"),
        ])
        .output();
    // The program of the root ran in a container of the image.
    let printed = printed.expect("buildah builds on it");
    assert!(
        String::from_utf8_lossy(&printed).contains("ldconfig"),
        "{}",
        String::from_utf8_lossy(&printed)
    );
    let clean = Program::new("podman").args(storage).args([
        "--cgroup-manager",
        "cgroupfs",
        "rmi",
        "--all",
        "--force",
    ]);
    clean.run().expect("podman empties its storage");
}

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
fn an_image_in_podmans_storage_is_split_again_and_goes_back_there() {
    let world = World::new();
    let storage = format!(
        "containers-storage:[overlay@{}+{}]localhost/os",
        world.text("storage"),
        world.text("storage.run")
    );
    let (one, two) = (format!("{storage}:1"), format!("{storage}:2"));
    let output = run(world.chunk(&one).args(["--label", "a=b"]));
    assert!(output.status.success(), "{output:?}");
    // The layers of the second image are those of the first.
    let again = succeed(&[
        "chunk",
        "--from",
        &one,
        "--output",
        &two,
        "--previous",
        &one,
    ]);
    assert!(again.contains("previous image: 0 layers"), "{again}");
    let seen = Program::new("skopeo").args(["inspect", "--config", &two]);
    let seen = json(&seen.output().expect("skopeo finds it"));
    assert_eq!(seen["config"]["Labels"]["a"], "b");
    let root = world.text("root");
    assert!(succeed(&["chunk", "verify", &root, &two]).starts_with("No difference "));
    let clean = Program::new("podman").args([
        "--root",
        &world.text("storage"),
        "--runroot",
        &world.text("storage.run"),
        "--storage-driver",
        "overlay",
        "--cgroup-manager",
        "cgroupfs",
        "rmi",
        "--all",
        "--force",
    ]);
    clean.run().expect("podman empties its storage");
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
    Program::new("umount")
        .arg(world.text("small"))
        .run()
        .expect("nothing uses it");
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
            assert!(told.contains(&format!("{path}: ")), "{path}: {told}");
        }
    }
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
