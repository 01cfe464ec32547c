//! Roots that are in use: with mounts in them, with files that change, and the one that hull itself runs in.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hull_sys::run::Program;

use crate::containers::with_hull;
use crate::world::{World, json, noise, run};

/// The digest of the manifest of the one image in a layout.
fn digest(world: &World, layout: &str) -> String {
    let index = fs::read(world.at(&format!("{layout}/index.json"))).expect("it was written");
    let digest = &json(&index)["manifests"][0]["digest"];
    digest.as_str().expect("text").to_owned()
}

#[test]
fn of_what_is_mounted_in_the_root_the_directories_are_taken_and_no_more() {
    let world = World::new();
    for directory in ["opt/tmpfs", "opt/bound"] {
        fs::create_dir_all(world.at("root").join(directory)).expect("there is room");
        // Below a mount neither can be seen.
        let mode = Permissions::from_mode(0o700);
        fs::set_permissions(world.at("root").join(directory), mode).expect("it is ours");
        fs::write(world.at("root").join(directory).join("hidden"), "").expect("there is room");
    }
    fs::write(world.at("root/etc/resolv.conf"), "of the root").expect("there is room");
    fs::create_dir(world.at("other")).expect("there is room");
    fs::write(world.at("other/file"), "of the machine").expect("there is room");
    // The second is of the same file system as the root; the last is a file on a file.
    let mounts = "cd \"$0\"; mount -t tmpfs -o mode=0750,uid=7 tmpfs root/opt/tmpfs; echo 1 >root/opt/tmpfs/file
        mount -t tmpfs -o mode=0700 tmpfs root/tmp; echo 1 >root/tmp/file
        mount --bind other root/opt/bound; mount --bind other/file root/etc/resolv.conf; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-ec", mounts]);
    command.arg(world.at("")).arg(env!("CARGO_BIN_EXE_hull"));
    command.args([
        "chunk",
        "--rootfs",
        "root",
        "--output",
        "oci:out:1",
        "--compression",
        "gzip",
    ]);
    let made = run(&mut command);
    assert!(made.status.success(), "{made:?}");

    let unpack = Program::new("umoci").package("umoci").arg("unpack");
    let unpack = unpack.args(["--image", &format!("{}:1", world.text("out"))]);
    unpack
        .arg(world.at("bundle"))
        .run()
        .expect("umoci unpacks it");
    let find = Program::new("find").arg(world.at("bundle/rootfs"));
    let listed = find
        .args(["-mindepth", "1", "-printf", "%P %m %U\n"])
        .output();
    let listed = String::from_utf8(listed.expect("it is there")).expect("names are text");
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    let expected = [
        "dev 755 0",
        "etc 755 0",
        "etc/note 644 0",
        "opt 755 0",
        "opt/bound 755 0",
        "opt/tmpfs 755 0",
        "proc 755 0",
        "run 755 0",
        "sys 755 0",
        "tmp 1777 0",
        "usr 755 0",
        "usr/bin 755 0",
        "usr/bin/program 755 0",
    ];
    assert_eq!(listed, expected);
}

/// Makes an image while something is done to a file of the root, again and again.
fn while_changing(world: &World, file: &File, change: impl Fn(&File, u64) + Sync) -> Output {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut turns = 1..;
            while !done.load(Ordering::Relaxed) {
                change(file, turns.next().expect("it has no end"));
            }
        });
        let output = run(&mut world.chunk(&world.image("new")));
        done.store(true, Ordering::Relaxed);
        output
    })
}

#[test]
fn a_file_that_is_written_to_ends_the_run_with_its_path_and_no_image() {
    type Change = fn(&File, u64);
    const LENGTH: u64 = 16 << 20;
    let changes: [(&str, Change); 3] = [
        ("grows", |file, turn| {
            file.write_all_at(b"x", LENGTH + turn)
                .expect("there is room");
        }),
        ("shrinks", |file, turn| {
            file.set_len(LENGTH - turn % LENGTH).expect("it is ours");
        }),
        ("has another content", |file, turn| {
            file.write_all_at(&turn.to_le_bytes(), 0)
                .expect("there is room");
        }),
    ];
    let world = World::new();
    let path = world.at("root/usr/bin/busy");
    let length = usize::try_from(LENGTH).expect("it is small");
    // Zeros are looked for before a file is read.
    for (kind, content) in [("noise", noise(1, length)), ("zeros", vec![0; length])] {
        for (what, change) in &changes {
            fs::write(&path, &content).expect("there is room");
            let file = File::options()
                .write(true)
                .open(&path)
                .expect("it is there");
            let output = while_changing(&world, &file, change);
            assert_eq!(output.status.code(), Some(1), "{kind} {what}: {output:?}");
            let told = String::from_utf8_lossy(&output.stderr);
            let expected = "/usr/bin/busy changed while it was read";
            assert!(told.contains(expected), "{kind} {what}: {told}");
            let left = fs::read_dir(world.at("")).expect("it is there");
            let mut left = left.map(|entry| entry.expect("it can be read").file_name());
            assert!(left.all(|name| !name.to_string_lossy().contains("new")));
        }
    }
    let output = run(&mut world.chunk(&world.image("new")));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_root_that_hull_runs_in_gives_the_image_that_it_gives_from_outside() {
    let world = with_hull();
    let root = world.at("build/root");
    // What mounts in it say of themselves is not taken: these are the modes that such directories have everywhere.
    for (directory, mode) in [("proc", 0o555), ("tmp", 0o1777)] {
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(root.join(directory), mode).expect("it is ours");
    }
    let mounts = "mount -t proc proc \"$0/proc\"; mount -t tmpfs tmpfs \"$0/tmp\"; exec chroot \"$0\" \"$@\"";
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "slave", "sh", "-ec", mounts]);
    inside
        .arg(&root)
        .args(["/usr/bin/hull", "chunk", "--rootfs", "/"]);
    // Where the content is not for images.
    let made = run(inside.args(["--output", "oci:/var/tmp/inside:1"]));
    assert!(made.status.success(), "{made:?}");
    let mut outside = Command::new(env!("CARGO_BIN_EXE_hull"));
    outside.arg("chunk").arg("--rootfs").arg(&root);
    let made = run(outside.args(["--output", &world.image("outside:1")]));
    assert!(made.status.success(), "{made:?}");
    assert_eq!(
        digest(&world, "build/root/var/tmp/inside"),
        digest(&world, "outside")
    );
}

#[test]
fn an_image_that_goes_into_its_own_root_is_no_part_of_the_next() {
    let world = World::new();
    std::os::unix::fs::symlink("root", world.at("link")).expect("there is room");
    std::os::unix::fs::symlink("root/late.tar", world.at("link.tar")).expect("there is room");
    let outside = run(&mut world.chunk(&world.image("outside:v1")));
    let digest = String::from_utf8_lossy(&outside.stdout);
    let digest = digest.split(' ').next().expect("a line has words");
    let layout = world.image("root/out:v1");
    let outputs = [
        ("/out", layout.clone()),
        ("/out", world.image("link/out:v1")),
        (
            "/out.oci",
            format!("oci-archive:{}", world.text("root/out.oci")),
        ),
        (
            "/out.tar",
            format!("docker-archive:{}", world.text("root/out.tar")),
        ),
        (
            "/late.tar",
            format!("docker-archive:{}", world.text("link.tar")),
        ),
    ];
    for (place, output) in &outputs {
        if output.contains("link.tar") {
            fs::File::create(world.at("link.tar")).expect("there is room");
        }
        let note = format!("note: {place} is left out of the root: it is the image itself\n");
        for turn in 0..3 {
            let made = run(&mut world.chunk(output));
            let told = String::from_utf8_lossy(&made.stdout);
            assert!(told.starts_with(digest), "{output} {turn}: {made:?}");
            let is_there = turn > 0 || output.contains("link");
            let notes = String::from_utf8_lossy(&made.stderr);
            assert_eq!(notes.contains(&note), is_there, "{output} {turn}: {notes}");
        }
        let mut verify = Command::new(env!("CARGO_BIN_EXE_hull"));
        verify.args(["chunk", "verify", &world.text("root"), output]);
        let same = run(&mut verify);
        assert!(same.status.success(), "{output}: {same:?}");
        let written = world.at(&format!("root{place}"));
        if written.is_file() {
            fs::remove_file(written).expect("it is ours");
        } else if output != &layout {
            fs::remove_dir_all(written).expect("it is ours");
        }
    }
}
