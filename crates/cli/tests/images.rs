//! `hull image`: from place to place, through pipes, and what the store has.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use hull_oci::{Digest, Platform};
use hull_sys::run::Program;
use serde_json::{Value, json};

#[expect(
    clippy::disallowed_methods,
    reason = "hull runs its helpers in one place; a test runs hull"
)]
fn hull_with(stdin: Stdio, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(arguments)
        .stdin(stdin)
        .output()
        .expect("hull was built")
}

#[track_caller]
fn hull(arguments: &[&str]) -> String {
    let output = hull_with(Stdio::null(), arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("results are text")
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("it is in a directory")).expect("there is room");
    let mut file = File::create(path).expect("there is room");
    file.write_all(bytes).expect("there is room");
}

/// A layout with an image of one empty layer; its name and its digest.
fn layout(dir: &Path) -> (String, Digest) {
    layout_of(dir, &[0; 1024])
}

/// The same with another layer.
fn layout_of(dir: &Path, layer: &[u8]) -> (String, Digest) {
    let add = |media_type: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        put(
            &dir.join(format!("blobs/sha256/{}", digest.to_hex())),
            bytes,
        );
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = add("application/vnd.oci.image.layer.v1.tar", layer);
    let config = json!({
        "os": "linux",
        "architecture": Platform::host().architecture,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = add(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = add(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    put(&dir.join("index.json"), index.to_string().as_bytes());
    put(
        &dir.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    let digest = manifest["digest"].as_str().expect("it has one");
    (
        format!("oci:{}", dir.display()),
        digest.parse().expect("it is one"),
    )
}

#[test]
fn an_archive_goes_through_pipes_both_ways() {
    let temp = tempfile::tempdir().expect("there is room");
    let (from, digest) = layout(&temp.path().join("layout"));
    for transport in ["oci-archive", "docker-archive"] {
        let path = temp.path().join(transport);
        hull(&[
            "image",
            "copy",
            &from,
            &format!("{transport}:{}", path.display()),
        ]);
        let output = hull_with(
            Stdio::null(),
            &["image", "copy", &from, &format!("{transport}:-")],
        );
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let named = fs::read(&path).expect("it was written");
        assert!(output.stdout == named, "the same bytes, and nothing else");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            told.contains(&format!("Written to {transport}:-")),
            "{told}"
        );

        let store = temp.path().join(format!("store-{transport}"));
        fs::create_dir(&store).expect("there is room");
        let piped = File::open(&path).expect("it was written");
        let arguments = [
            "image",
            "pull",
            "--store",
            store.to_str().expect("it is text"),
            &format!("{transport}:-"),
        ];
        let output = hull_with(piped.into(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        if transport == "oci-archive" {
            assert!(told.contains(&digest.to_string()), "{told}");
        }
    }
}

#[test]
fn a_directory_of_other_things_does_not_become_a_store() {
    let temp = tempfile::tempdir().expect("there is room");
    let (from, _) = layout(&temp.path().join("layout"));
    let dir = temp.path().to_str().expect("it is text");
    let output = hull_with(Stdio::null(), &["image", "pull", "--store", dir, &from]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("holds other things (layout)"), "{told}");
    let names = fs::read_dir(temp.path()).expect("it is there").count();
    assert_eq!(names, 1);
}

#[test]
fn what_was_pulled_is_listed_and_can_be_pushed_by_name_and_by_digest() {
    let temp = tempfile::tempdir().expect("there is room");
    let (from, digest) = layout(&temp.path().join("layout"));
    let dir = temp.path().join("store");
    // The directory is made.
    let store = ["--store", dir.to_str().expect("it is text")];
    hull(&[&["image", "pull"][..], &store, &[&from]].concat());
    let list = hull(&[&["image", "list"][..], &store].concat());
    let short = &digest.to_hex()[..12];
    let lines: Vec<Vec<_>> = list
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["IMAGE", "TYPE", "DIGEST"],
            vec![&from, "pulled", short]
        ]
    );
    let json = hull(&[&["image", "list", "--format", "json"][..], &store].concat());
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let expected = json!([{"image_type": "pulled", "image": from, "digest": digest}]);
    assert_eq!(json, expected);
    let booted = hull(
        &[
            &["image", "list", "--type", "logical", "--format", "json"][..],
            &store,
        ]
        .concat(),
    );
    assert_eq!(booted.trim(), "[]");
    for (number, name) in [&*from, short, &digest.to_string()].iter().enumerate() {
        let target = format!("oci:{}/{number}", temp.path().display());
        let told = hull(&[&["image", "push"][..], &store, &[name, &target]].concat());
        assert!(told.contains(&digest.to_string()), "{told}");
    }
    let unknown = [
        &["image", "push"][..],
        &store,
        &["registry.example/os:2", "oci:/nowhere"],
    ];
    let output = hull_with(Stdio::null(), &unknown.concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains(&from) && told.contains("hull image pull"),
        "{told}"
    );
}

#[test]
fn a_pulled_image_is_removed_with_the_files_that_no_other_one_needs() {
    let temp = tempfile::tempdir().expect("there is room");
    let (one, digest) = layout(&temp.path().join("one"));
    let (same, _) = layout(&temp.path().join("same"));
    let dir = temp.path().join("store");
    let store = ["--store", dir.to_str().expect("it is text")];
    let run = |arguments: &[&str]| hull(&[&["image"], arguments, &store].concat());
    let names = || run(&["list"]).lines().skip(1).count();
    let files = || {
        let directories = fs::read_dir(dir.join("objects")).expect("it is there");
        let count = |entry: std::io::Result<fs::DirEntry>| {
            fs::read_dir(entry.expect("it is there").path()).map_or(0, Iterator::count)
        };
        directories.map(count).sum::<usize>()
    };
    run(&["pull", &one]);
    run(&["pull", &same]);
    let before = files();
    assert!(run(&["rm", "--dry-run", &one]).contains("would be removed"));
    assert_eq!(names(), 2);
    let told = run(&["rm", &one]);
    assert!(
        told.contains("Other images or deployments need all"),
        "{told}"
    );
    assert_eq!((names(), files()), (1, before));

    let again = [&["image", "rm"][..], &store, &[&same, &one]].concat();
    let output = hull_with(Stdio::null(), &again);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(&format!("has no image {one}")), "{told}");
    // All or none.
    assert_eq!(names(), 1);

    let told = run(&["rm", &digest.to_string()]);
    assert!(told.contains("that nothing needs any more"), "{told}");
    assert_eq!((names(), files()), (0, 0));
}

/// An archive with a hard link to a file that it does not have.
fn hard_link_to_nothing() -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut set = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    set(0, b"usr/evil");
    set(100, b"0000644\0");
    for at in [108, 116] {
        set(at, b"0000000\0");
    }
    for at in [124, 136] {
        set(at, b"00000000000\0");
    }
    set(148, b"        1usr/missing");
    set(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&header[..], &[0; 1024]].concat()
}

#[test]
fn an_image_whose_layers_give_no_tree_is_refused_and_not_listed() {
    let temp = tempfile::tempdir().expect("there is room");
    let (bad, _) = layout_of(&temp.path().join("bad"), &hard_link_to_nothing());
    let dir = temp.path().join("store");
    fs::create_dir(&dir).expect("there is room");
    let store = ["--store", dir.to_str().expect("it is text")];
    let pull = |from| [&["image", "pull"][..], &store, &[from]].concat();
    for _ in 0..2 {
        let output = hull_with(Stdio::null(), &pull(&bad));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        for part in ["usr/evil", "usr/missing", "no name leads to the image"] {
            assert!(told.contains(part), "{told}");
        }
        let list = hull(&[&["image", "list", "--format", "json"][..], &store].concat());
        assert_eq!(list.trim(), "[]");
    }
    let (good, _) = layout(&temp.path().join("good"));
    hull(&pull(&good));
}

/// A store of podman's in a directory.
struct Podman<'a> {
    dir: &'a Path,
}

impl Podman<'_> {
    fn image(&self, name: &str) -> String {
        let dir = self.dir.display();
        format!("containers-storage:[overlay@{dir}/root+{dir}/run]{name}")
    }

    /// What podman says of the image of that name.
    fn find(&self, name: &str) -> Value {
        let podman = Program::new("podman")
            .package("podman")
            .arg("--root")
            .arg(self.dir.join("root"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .args(["--storage-driver", "overlay"])
            .args(["--cgroup-manager", "cgroupfs"])
            .args(["image", "inspect", name]);
        let found = podman.output().expect("podman reads its storage");
        let found: Value = serde_json::from_slice(&found).expect("it is JSON");
        let images = found.as_array().expect("a list");
        assert_eq!(images.len(), 1, "{found}");
        images[0].clone()
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // podman mounts the directory on itself.
        let detach = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(self.dir.join("root/overlay"), detach).ok();
    }
}

#[test]
fn podman_has_the_images_that_were_copied_and_pushed_into_its_storage() {
    let temp = tempfile::tempdir().expect("there is room");
    let (from, digest) = layout(&temp.path().join("layout"));
    let dir = temp.path().join("podman");
    fs::create_dir(&dir).expect("there is room");
    let podman = Podman { dir: &dir };
    let copied = podman.image("localhost/copied:1");
    let told = hull(&["image", "copy", &from, &copied]);
    assert_eq!(told, format!("Written to {copied}, as {digest}.\n"));
    let seen = podman.find("localhost/copied:1");
    assert_eq!(seen["Digest"], digest.to_string());

    let store = temp.path().join("store");
    fs::create_dir(&store).expect("there is room");
    let store = ["--store", store.to_str().expect("it is text")];
    // Out of podman's storage into that of hull, and back under another name.
    hull(&[&["image", "pull"][..], &store, &[&copied]].concat());
    let pushed = podman.image("localhost/pushed:1");
    hull(&[&["image", "push"][..], &store, &[&copied, &pushed]].concat());
    assert_eq!(podman.find("localhost/pushed:1")["Id"], seen["Id"]);

    for (target, more) in [
        (podman.image("@0123456789ab"), None),
        (copied, Some("--all")),
    ] {
        let mut arguments = vec!["image", "copy", &from, &target];
        arguments.extend(more);
        let output = hull_with(Stdio::null(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

#[test]
fn without_skopeo_nothing_is_done_and_another_way_into_podmans_storage_is_named() {
    let temp = tempfile::tempdir().expect("there is room");
    let (from, _) = layout(&temp.path().join("layout"));
    // In mounts of its own, where no programs are.
    let hide = "mount -t tmpfs tmpfs /usr/bin && exec \"$@\"";
    #[expect(
        clippy::disallowed_methods,
        reason = "hull runs its helpers in one place; a test runs hull"
    )]
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", hide, "sh"])
        .arg(env!("CARGO_BIN_EXE_hull"))
        .args(["image", "copy", &from, "containers-storage:localhost/os"])
        .output()
        .expect("this test needs root");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for part in ["the package skopeo", "podman pull oci-archive:"] {
        assert!(told.contains(part), "{told}");
    }
}
