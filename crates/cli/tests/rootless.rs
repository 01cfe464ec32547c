//! A user's own podman storage, whose files belong to the user's subordinate numbers.

#![allow(
    clippy::disallowed_methods,
    reason = "hull runs its helpers in one place; a test runs hull, as a user"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output};

const USER: u32 = 4242;
const NUMBERS: &str = "hull-tester:300000:65536\n";

/// A machine with a user who has a home directory and perhaps subordinate numbers, and an image with files that only
/// their owners may read.
struct World {
    temp: tempfile::TempDir,
    image: String,
    digest: String,
}

impl World {
    fn new(numbers: &str) -> Self {
        let temp = tempfile::tempdir().expect("there is room");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(temp.path(), open).expect("it is ours");
        let mut world = Self {
            temp,
            image: String::new(),
            digest: String::new(),
        };
        world.make_user(numbers);
        world.make_image();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("it is text").to_owned()
    }

    fn make_user(&self, numbers: &str) {
        for (file, line) in [
            (
                "passwd",
                format!("hull-tester:x:{USER}:{USER}::/:/bin/sh\n"),
            ),
            ("group", format!("hull-tester:x:{USER}:\n")),
            ("subuid", numbers.to_owned()),
            ("subgid", numbers.to_owned()),
        ] {
            let system = fs::read_to_string(format!("/etc/{file}")).expect("Debian has it");
            fs::write(self.at(file), system + &line).expect("there is room");
        }
        for dir in ["home", "run", "home/.config", "home/.config/containers"] {
            fs::create_dir(self.at(dir)).expect("there is room");
            chown(self.at(dir), Some(USER), Some(USER)).expect("this test needs root");
        }
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(self.at("run"), closed).expect("it is ours");
        let conf = self.at("home/.config/containers/storage.conf");
        fs::write(conf, "[storage]\ndriver = 'overlay'\n").expect("there is room");
    }

    fn make_image(&mut self) {
        for (path, owner, mode) in [
            ("root/usr", 0, 0o755),
            ("root/usr/private", 65, 0o700),
            ("root/etc", 0, 0o755),
        ] {
            fs::create_dir_all(self.at(path)).expect("there is room");
            chown(self.at(path), Some(owner), Some(owner)).expect("this test needs root");
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(self.at(path), mode).expect("it is ours");
        }
        for (path, owner) in [
            ("root/etc/shadow", 0),
            ("root/etc/closed", 1000),
            ("root/usr/private/file", 65),
        ] {
            fs::write(self.at(path), path).expect("there is room");
            let closed = fs::Permissions::from_mode(0o400);
            fs::set_permissions(self.at(path), closed).expect("it is ours");
            chown(self.at(path), Some(owner), Some(owner)).expect("this test needs root");
        }
        self.image = format!("oci:{}:v1", self.text("image"));
        let output = Command::new(env!("CARGO_BIN_EXE_hull"))
            .args(["chunk", "--rootfs", &self.text("root")])
            .args(["--output", &self.image])
            .output();
        self.digest = digest(&output.expect("hull was built"));
        let all = Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(self.at("image"))
            .status();
        assert!(all.expect("Debian has it").success());
    }

    /// Runs a command as the user, in mounts of its own with the files that name the user.
    fn as_user(&self, command: &[&str]) -> Output {
        let script = "for file in passwd group subuid subgid; do mount --bind \"$1/$file\" /etc/$file; done\n\
             cd \"$1/home\" && at=$1 && shift && exec setpriv --reuid 4242 --regid 4242 --clear-groups \
             env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=\"$at/home\" XDG_RUNTIME_DIR=\"$at/run\" \"$@\"";
        let mut unshare = Command::new("unshare");
        // podman leaves a process behind, which ends with the first one here.
        unshare.args(["--pid", "--fork", "--mount-proc"]);
        unshare.args(["--mount", "sh", "-e", "-c", script, "sh"]);
        unshare.arg(self.temp.path()).args(command);
        unshare.output().expect("this test needs root")
    }

    /// The hull of this test, where the user may run it.
    fn hull(&self) -> String {
        let copy = self.at("hull");
        if !copy.exists() {
            // By another process: one that is forked from this one meanwhile, by another test,
            // would hold it open for writing, and it could not be run.
            let copied = Command::new("cp")
                .arg(env!("CARGO_BIN_EXE_hull"))
                .arg(&copy)
                .status();
            assert!(copied.expect("Debian has it").success());
        }
        self.text("hull")
    }

    fn put_into_storage(&self) {
        let output = self.as_user(&[
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            &self.image,
            "containers-storage:localhost/os:1",
        ]);
        assert!(output.status.success(), "{output:?}");
    }
}

/// The digest of the image that `hull chunk` wrote.
#[track_caller]
fn digest(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split(' ').next().expect("a word").to_owned()
}

#[test]
fn a_user_reads_an_image_of_their_own_storage_with_its_owners_and_closed_files() {
    let world = World::new(NUMBERS);
    world.put_into_storage();
    let hull = world.hull();
    let from = "containers-storage:localhost/os:1";
    let output = world.as_user(&[&hull, "chunk", "--from", from, "--output", "oci:split:v1"]);
    // The same content and owners: the same bytes.
    assert_eq!(digest(&output), world.digest);

    // From there into it again under another name, through skopeo, in the same namespace.
    let again = "containers-storage:localhost/os:2";
    let output = world.as_user(&[&hull, "image", "copy", from, again]);
    assert!(output.status.success(), "{output:?}");
    // podman's own way of doing it, which tells hull whose storage is meant.
    let output = world.as_user(&[
        "podman",
        "--cgroup-manager=cgroupfs",
        "unshare",
        &hull,
        "chunk",
        "--from",
        again,
        "--output",
        "oci:unshared:v1",
    ]);
    assert_eq!(digest(&output), world.digest);
}

#[test]
fn the_files_of_a_users_storage_are_theirs_outside_though_hull_is_root_inside() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new(NUMBERS);
    world.put_into_storage();
    let from = "containers-storage:localhost/os:1";
    let output = world.as_user(&[&world.hull(), "image", "copy", from, "oci:out:v1"]);
    assert!(output.status.success(), "{output:?}");
    let written = fs::metadata(world.at("home/out/index.json")).expect("it is written");
    assert_eq!(written.uid(), USER);
}

#[test]
fn several_ranges_of_numbers_are_mapped_as_podman_maps_them() {
    let world = World::new("hull-tester:400000:65536\nhull-tester:300000:40\n");
    world.put_into_storage();
    let from = "containers-storage:localhost/os:1";
    let output = world.as_user(&[
        &world.hull(),
        "chunk",
        "--from",
        from,
        "--output",
        "oci:split:v1",
    ]);
    assert_eq!(digest(&output), world.digest);
}

#[test]
fn where_numbers_cannot_be_mapped_a_note_says_why_and_what_can_be_read_is_read() {
    let world = World::new(NUMBERS);
    world.put_into_storage();
    let hull = world.hull();
    let from = "containers-storage:localhost/os:1";
    // newuidmap gets no rights there.
    let setpriv = ["setpriv", "--no-new-privs", &hull];
    let output = world.as_user(&[&setpriv[..], &["image", "copy", from, "oci:a:v1"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for part in ["note: ", "newuidmap", "podman unshare"] {
        assert!(told.contains(part), "{told}");
    }
    // An image of which all may be read.
    let open = "containers-storage:localhost/empty";
    let empty = [&*hull, "chunk", "--rootfs", "empty", "--output", open];
    fs::create_dir(world.at("home/empty")).expect("there is room");
    let output = world.as_user(&empty);
    assert!(output.status.success(), "{output:?}");
    let output = world.as_user(&[&setpriv[..], &["image", "copy", open, "oci:b:v1"]].concat());
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_store_of_somebody_else_is_read_with_the_numbers_on_disk() {
    let world = World::new(NUMBERS);
    // root's, without tar-split: owners come from the files.
    let dir = world.text("shared");
    let store = format!("containers-storage:[overlay@{dir}/root+{dir}/run]localhost/os");
    let open = |output: Output| assert!(output.status.success(), "{output:?}");
    open(
        Command::new("chmod")
            .args(["-R", "go+rX"])
            .arg(world.at("root"))
            .output()
            .expect("Debian has it"),
    );
    let made = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(["chunk", "--rootfs", &world.text("root")])
        .args(["--output", "oci:image:open"])
        .current_dir(world.temp.path())
        .output();
    let expected = digest(&made.expect("hull was built"));
    let from = format!("oci:{}:open", world.text("image"));
    open(
        // It mounts the store's directory on itself.
        Command::new("unshare")
            .args(["--mount", "skopeo", "--insecure-policy"])
            .args(["copy", "--quiet", &from, &store])
            .output()
            .expect("Debian has it"),
    );
    let layers = world.at("shared/root/overlay-layers");
    for entry in fs::read_dir(&layers).expect("skopeo made it").flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .ends_with(".tar-split.gz")
        {
            fs::remove_file(entry.path()).expect("it is ours");
        }
    }
    open(
        Command::new("chmod")
            .args(["-R", "go+rX", &dir])
            .output()
            .expect("Debian has it"),
    );
    let chunk = ["chunk", "--from", &store, "--output", "oci:split:v1"];
    let output = world.as_user(&[&[&*world.hull()][..], &chunk].concat());
    assert_eq!(digest(&output), expected);
    // In a namespace that lacks these numbers nobody can tell whose the files are.
    let inside = ["unshare", "--user", "--map-root-user", &world.hull()];
    let output = world.as_user(&[&inside[..], &chunk].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("this user namespace does not have"), "{told}");
}

#[test]
fn root_does_not_work_for_a_user_because_a_variable_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args([
            "image",
            "copy",
            "containers-storage:localhost/none:1",
            "oci:out",
        ])
        .env("_CONTAINERS_ROOTLESS_UID", "4242")
        .env("HOME", "/nonexistent")
        .output()
        .expect("hull was built");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("/nonexistent"), "{told}");
}

#[test]
fn without_subordinate_numbers_what_cannot_be_read_is_named_with_what_to_do() {
    let world = World::new(NUMBERS);
    world.put_into_storage();
    for file in ["subuid", "subgid"] {
        fs::write(world.at(file), "").expect("there is room");
    }
    let hull = world.hull();
    let from = "containers-storage:localhost/os:1";
    let copy = [&*hull, "image", "copy", from, "oci:out:v1"];
    let output = world.as_user(&copy);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for part in ["Permission denied", "podman unshare"] {
        assert!(told.contains(part), "{told}");
    }
    let split = world.as_user(&[&hull, "chunk", "--from", from, "--output", "oci:split:v1"]);
    let told = String::from_utf8_lossy(&split.stderr);
    for part in ["it cannot be read to its end", "podman unshare"] {
        assert!(told.contains(part), "{told}");
    }
    // With other numbers than those that the files have, the kernel shows nobody's files.
    for file in ["subuid", "subgid"] {
        fs::write(world.at(file), "hull-tester:500000:65536\n").expect("there is room");
    }
    let output = world.as_user(&copy);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // And with the right ones the next try goes on.
    for file in ["subuid", "subgid"] {
        fs::write(world.at(file), NUMBERS).expect("there is room");
    }
    let output = world.as_user(&copy);
    assert!(output.status.success(), "{output:?}");
}
