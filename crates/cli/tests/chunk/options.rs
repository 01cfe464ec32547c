//! What the options of `hull chunk` do to an image.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use hull_sys::run::Program;
use serde_json::{Value, json};

use crate::world::{World, hull, json as parse, run};

/// Makes an image in `out` and succeeds; the digest of its manifest, as hull tells it.
#[track_caller]
fn made(world: &World, options: &[&str]) -> String {
    let output = run(world.chunk(&world.image("out")).args(options));
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).expect("results are text");
    told.split(' ').next().expect("a line has words").to_owned()
}

/// A document of the layout `out`, or a layer.
fn blob(world: &World, digest: &Value) -> Vec<u8> {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    fs::read(world.at(&format!("out/blobs/{digest}"))).expect("it was written")
}

fn manifest(world: &World, digest: &str) -> Value {
    parse(&blob(world, &json!(digest)))
}

/// The one layer of an image that is not compressed: GNU tar's list of it, and its bytes.
fn archive(world: &World, options: &[&str]) -> (String, Vec<u8>) {
    let plain = ["--compression", "none", "--max-layers", "1"];
    let digest = made(world, &[&plain, options].concat());
    let layer = blob(world, &manifest(world, &digest)["layers"][0]["digest"]);
    let tar = Program::new("tar").args(["--list", "--verbose", "--full-time", "--utc"]);
    let list = tar.input(layer.clone()).output();
    let list = String::from_utf8(list.expect("GNU tar reads it"));
    (list.expect("all names are text"), layer)
}

fn has(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.ends_with(&format!(" {name}")))
}

#[test]
fn what_is_excluded_is_not_in_the_image() {
    let world = World::new();
    fs::create_dir_all(world.at("root/srv/data")).expect("there is room");
    fs::write(world.at("root/srv/data/file"), "").expect("there is room");
    fs::write(world.at("root/etc/notes"), "").expect("there is room");
    let options = ["--exclude", "/etc/note", "--exclude", "/srv/"];
    let (list, _) = archive(&world, &options);
    assert!(has(&list, "etc/notes") && has(&list, "srv/"), "{list}");
    assert!(
        !has(&list, "etc/note") && !list.contains("srv/data"),
        "{list}"
    );
    let verify = |options: &[&str]| {
        let (root, image) = (world.text("root"), world.image("out"));
        run(hull()
            .args(["chunk", "verify", &root, &image])
            .args(options))
    };
    assert!(verify(&options).status.success());
    let differs = verify(&[]);
    assert_eq!(differs.status.code(), Some(1), "{differs:?}");
    for wrong in ["etc/note", "/", "/etc/../srv"] {
        let output = run(world.chunk(&world.image("new")).args(["--exclude", wrong]));
        assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(wrong), "{told}");
        assert!(!world.at("new").exists());
    }
}

#[test]
fn an_exclusion_that_meets_nothing_is_told_of_and_no_error() {
    let world = World::new();
    made(&world, &[]);
    let mut of_directory = world.chunk(&world.image("of-directory"));
    let mut of_image = hull();
    let from = ["chunk", "--from", &world.image("out")];
    of_image
        .args(from)
        .args(["--output", &world.image("of-image")]);
    let mut verify = hull();
    verify.args(["chunk", "verify", &world.text("root"), &world.image("out")]);
    for command in [&mut of_directory, &mut of_image, &mut verify] {
        let output = run(command.args(["--exclude", "/usr/bni", "--exclude", "/dev/"]));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "note: --exclude /usr/bni leaves nothing out: there is no such file or directory\n"
        );
    }
}

#[test]
fn files_get_the_labels_of_the_roots_own_policy() {
    let world = World::new();
    let refused = run(world.chunk(&world.image("out")).arg("--selinux"));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("/etc/selinux/config"), "{told}");
    assert!(!world.at("out").exists());

    let contexts = "root/etc/selinux/mine/contexts/files";
    fs::create_dir_all(world.at(contexts)).expect("there is room");
    let rules = "/usr/bin(/.*)? -- system_u:object_r:bin_t:s0\n";
    fs::write(world.at(&format!("{contexts}/file_contexts")), rules).expect("there is room");
    fs::write(world.at("root/etc/selinux/config"), "SELINUXTYPE=mine\n").expect("there is room");
    let label = b"SCHILY.xattr.security.selinux=system_u:object_r:bin_t:s0";
    let labels = |bytes: &[u8]| bytes.windows(label.len()).filter(|at| at == label).count();
    let (_, plain) = archive(&world, &[]);
    assert_eq!(labels(&plain), 0);
    // One file is in /usr/bin.
    let (_, labelled) = archive(&world, &["--selinux"]);
    assert_eq!(labels(&labelled), 1);
}

/// A package with a file of November 2023.
fn install_a_package(world: &World) {
    fs::create_dir_all(world.at("root/var/lib/dpkg/info")).expect("there is room");
    let database = |name: &str, text: &str| {
        fs::write(world.at(&format!("root/var/lib/dpkg/{name}")), text).expect("there is room");
    };
    database(
        "status",
        "Package: a\nStatus: install ok installed\nVersion: 1\n\n",
    );
    database("info/a.list", "/.\n/usr\n/usr/bin\n/usr/bin/program\n");
    database(
        "info/a.md5sums",
        "d41d8cd98f00b204e9800998ecf8427e  usr/bin/program\n",
    );
    let program = fs::File::options()
        .write(true)
        .open(world.at("root/usr/bin/program"));
    let built = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let program = program.expect("it is there");
    program.set_modified(built).expect("it is ours");
}

#[test]
fn no_time_is_later_than_source_date_epoch_says() {
    let world = World::new();
    install_a_package(&world);
    let (list, _) = archive(&world, &[]);
    assert!(
        list.contains(" 2023-11-14 22:13:20 usr/bin/program\n"),
        "{list}"
    );
    let by_option = made(&world, &["--source-date-epoch", "1600000000"]);
    let with_variable = |value: &str, options: &[&str]| {
        let mut command = world.chunk(&world.image("out"));
        run(command.env("SOURCE_DATE_EPOCH", value).args(options))
    };
    let told = with_variable("1600000000", &[]).stdout;
    assert!(
        String::from_utf8_lossy(&told).starts_with(&by_option),
        "{by_option}"
    );
    let (list, _) = archive(&world, &["--source-date-epoch", "1600000000"]);
    assert!(
        list.contains(" 2020-09-13 12:26:40 usr/bin/program\n"),
        "{list}"
    );
    let config = &manifest(&world, &by_option)["config"]["digest"];
    assert_eq!(
        parse(&blob(&world, config))["created"],
        "2020-09-13T12:26:40Z"
    );
    // What is written on the command line counts.
    let told = with_variable("1500000000", &["--source-date-epoch", "1600000000"]).stdout;
    assert!(String::from_utf8_lossy(&told).starts_with(&by_option));
    let refused = with_variable("yesterday", &[]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("SOURCE_DATE_EPOCH"), "{told}");
}

/// The components of each layer.
fn layers(world: &World, digest: &str) -> Vec<String> {
    let manifest = manifest(world, digest);
    let layers = manifest["layers"].as_array().expect("a list").iter();
    let names = layers.map(|layer| layer["annotations"]["hull.components"].as_str());
    names.map(|names| names.expect("text").to_owned()).collect()
}

#[test]
fn a_plan_that_was_written_is_followed_as_it_is_or_as_somebody_changed_it() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        fs::write(world.at(&format!("root/usr/bin/{name}")), vec![1; 1 << 20])
            .expect("there is room");
    }
    let plan = world.text("plan.json");
    let output = run(hull()
        .args([
            "chunk",
            "--rootfs",
            &world.text("root"),
            "--max-layers",
            "2",
        ])
        .args(["--plan", "--plan-out", &plan]));
    assert!(output.status.success(), "{output:?}");
    assert!(!world.at("out").exists());
    let by_options = made(&world, &["--max-layers", "2"]);
    assert_eq!(made(&world, &["--plan", &plan]), by_options);

    let mut changed = parse(&fs::read(&plan).expect("it was written"));
    let written: Vec<_> = layers(&world, &by_options);
    let planned = changed["layers"].as_array().expect("a list").iter();
    let planned = planned.map(|layer| {
        let names = layer["components"].as_array().expect("a list").iter();
        let names: Vec<_> = names.map(|name| name.as_str().expect("text")).collect();
        names.join(",")
    });
    assert_eq!(planned.collect::<Vec<_>>(), written);
    changed["layers"] = json!([
        {"components": ["file/usr/bin/a", "file/usr/bin/c", "gone"]},
        {"components": ["rest"]},
        {"components": ["file/usr/bin/b"]},
    ]);
    fs::write(&plan, changed.to_string()).expect("there is room");
    let by_plan = made(&world, &["--plan", &plan]);
    let expected = ["file/usr/bin/a,file/usr/bin/c", "rest", "file/usr/bin/b"];
    assert_eq!(layers(&world, &by_plan), expected);
}
