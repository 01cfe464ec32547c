//! What podman, skopeo and buildah make of hull's images.

use std::fs;
use std::path::Path;

use hull_sys::run::Program;
use serde_json::Value;

use crate::world::{World, json, run, succeed};

#[test]
fn an_image_is_copied_by_skopeo_pulled_and_run_by_podman_and_built_on_by_buildah() {
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
    let pulled = podman
        .args(["--cgroup-manager", "cgroupfs", "pull", "--quiet", &image])
        .output()
        .expect("podman pulls it");
    let pulled = String::from_utf8_lossy(&pulled).trim().to_owned();
    let printed = run_by_podman(&storage, &pulled);
    assert!(printed.contains("ldconfig"), "{printed}");
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
    empty_storage(&world);
}

/// What the program of the root prints in a container of the image.
///
/// In mounts of its own, where control groups are of the second version alone, and with limits that root need not raise.
fn run_by_podman(storage: &[&str], image: &str) -> String {
    let prepare =
        "umount -R -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec \"$@\"";
    let printed = Program::new("unshare")
        .args(["--mount", "--propagation", "slave", "sh", "-c", prepare])
        .args(["sh", "podman"])
        .args(storage)
        .args(["--cgroup-manager", "cgroupfs", "run", "--rm"])
        .args(["--network", "none", "--cgroups", "disabled"])
        .args([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ])
        .args([image, "/usr/bin/program", "--version"])
        .output();
    let printed = printed.expect("podman runs it");
    String::from_utf8_lossy(&printed).into_owned()
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
    empty_storage(&world);
}

/// Copies a program of this machine into the root, with the libraries that it needs.
fn install(world: &World, program: &Path) {
    let libraries = Program::new("ldd").arg(program).output();
    let libraries = String::from_utf8(libraries.expect("it is linked dynamically")).expect("text");
    let paths = libraries.split_whitespace();
    let paths = paths.filter(|word| word.starts_with('/')).map(Path::new);
    for library in paths {
        let directory = match library.starts_with("/lib64") {
            true => "root/usr/lib64",
            false => "root/usr/lib",
        };
        fs::create_dir_all(world.at(directory)).expect("there is room");
        let name = library.file_name().expect("it is a file");
        fs::copy(library, world.at(directory).join(name)).expect("there is room");
    }
    let name = program.file_name().expect("it is a file");
    fs::copy(program, world.at("root/usr/bin").join(name)).expect("there is room");
}

/// A root in which commands of a Containerfile run, hull among them.
pub(crate) fn with_hull() -> World {
    let world = World::new();
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        let link = world.at("root").join(link);
        std::os::unix::fs::symlink(target, link).expect("it is not there");
    }
    for program in [env!("CARGO_BIN_EXE_hull"), "/bin/dash", "/bin/rm"] {
        install(&world, Path::new(program));
    }
    fs::rename(world.at("root/usr/bin/dash"), world.at("root/usr/bin/sh")).expect("it is there");
    fs::create_dir_all(world.at("root/var/tmp")).expect("there is room");
    fs::rename(world.at("root"), world.at("build/root")).expect("it is there");
    world
}

/// Builds the Containerfile of a world, in its directory, on a machine that has hull's files where they are installed;
/// what buildah says, and whether it succeeded.
fn build(world: &World, containerfile: &str) -> (bool, String) {
    fs::write(world.at("build/Containerfile.in"), containerfile).expect("there is room");
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/usr/share");
    let dist = dist.canonicalize().expect("it is part of hull");
    // In mounts of its own, where the files of both are below one directory.
    let prepare = "mount -t overlay -o \"lowerdir=$0:/usr/share\" overlay /usr/share; exec \"$@\"";
    let mut buildah = std::process::Command::new("unshare");
    buildah.args(["--mount", "--propagation", "slave", "sh", "-ec", prepare]);
    buildah
        .arg(dist)
        .args(["buildah", "--storage-driver", "overlay"]);
    buildah.args(["--root", &world.text("storage")]);
    buildah.args(["--runroot", &world.text("storage.run")]);
    buildah.args(["build", "--isolation", "chroot", "--tag", "built"]);
    buildah.args([
        "--skip-unused-stages=false",
        "--file",
        "Containerfile.in",
        ".",
    ]);
    let output = run(buildah.current_dir(world.at("build")));
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn empty_storage(world: &World) {
    let storage = [
        "--root",
        &world.text("storage"),
        "--runroot",
        &world.text("storage.run"),
    ];
    let podman = Program::new("podman").args(storage);
    let podman = podman.args([
        "--storage-driver",
        "overlay",
        "--cgroup-manager",
        "cgroupfs",
    ]);
    podman
        .args(["rmi", "--all", "--force"])
        .run()
        .expect("podman empties its storage");
}

#[test]
fn the_last_stages_of_a_containerfile_split_what_comes_before() {
    let world = with_hull();
    let containerfile = "FROM scratch AS rootfs\nCOPY root /\nRUN echo made > /etc/note\n\
         #include \"/usr/share/hull/Containerfile.custom.in\"\n";
    // While a stage waits for the one before, buildah may let the last one go first.
    let too_early = "out.oci/index.json: no such file";
    let mut attempts = (0..30).map(|_| build(&world, containerfile));
    let built = attempts.find(|(done, said)| *done || !said.contains(too_early));
    let (done, said) = built.expect("one of so many is in order");
    assert!(done, "{said}");
    let storage = format!(
        "containers-storage:[overlay@{}+{}]localhost/built:latest",
        world.text("storage"),
        world.text("storage.run")
    );
    let seen = Program::new("skopeo").args(["inspect", "--config", &storage]);
    let seen = json(&seen.output().expect("it was built"));
    assert_eq!(seen["config"]["Labels"]["containers.bootc"], "1");
    let made = seen["history"].as_array().expect("a list");
    assert!(
        made.iter().any(|step| step["created_by"] == "hull chunk"),
        "{made:?}"
    );
    let left = fs::read_dir(world.at("build")).expect("it is there");
    let mut left = left.map(|entry| entry.expect("it is there").file_name());
    assert!(
        left.all(|name| name != "out.oci"),
        "the last stage removes it"
    );
    empty_storage(&world);
}

#[test]
fn a_build_ends_where_lint_finds_what_cannot_boot() {
    let world = with_hull();
    let (done, said) = build(
        &world,
        "FROM scratch\nCOPY root /\nRUN hull container lint\n",
    );
    assert!(!done, "{said}");
    assert!(said.contains("kernel"), "{said}");
    empty_storage(&world);
}

/// The lines of the table of contents of the one layer of an image, without what depends on the compressor.
fn contents(world: &World, layout: &str, tag: &str) -> Vec<Value> {
    let read = |name: &str| fs::read(world.at(layout).join(name)).expect("it is there");
    let blob = |digest: &Value| {
        let digest = digest.as_str().expect("a digest").replace(':', "/");
        read(&format!("blobs/{digest}"))
    };
    let index = json(&read("index.json"));
    let images = index["manifests"].as_array().expect("a list");
    let name = "org.opencontainers.image.ref.name";
    let image = images
        .iter()
        .find(|image| image["annotations"][name] == tag);
    let manifest = json(&blob(&image.expect("it has the tag")["digest"]));
    let layer = &manifest["layers"][0];
    let annotations = layer["annotations"].as_object().expect("it has some");
    // Before containers/storage 1.42 the keys began otherwise.
    let mut positions = annotations.iter();
    let position = positions.find(|(key, _)| key.ends_with(".zstd-chunked.manifest-position"));
    let position = position.expect("it has a table").1.as_str().expect("text");
    let numbers: Vec<usize> = position
        .split(':')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let blob = blob(&layer["digest"]);
    let table = zstd::decode_all(&blob[numbers[0]..numbers[0] + numbers[1]]);
    let table = json(&table.expect("it is compressed"));
    let rows = table["entries"].as_array().expect("a list").iter();
    rows.map(comparable).collect()
}

/// A row without what depends on the compressor, and without what says nothing: older writers have zeros.
fn comparable(row: &Value) -> Value {
    let row = row.as_object().expect("an object").iter();
    let compared = row.filter(|(key, value)| {
        let compressor = ["offset", "endOffset"].contains(&key.as_str());
        let nothing =
            **value == 0 || **value == "" || value.as_str() == Some("0001-01-01T00:00:00Z");
        !compressor && !nothing
    });
    compared
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[test]
fn the_table_of_contents_is_the_one_that_skopeo_makes_of_the_layer() {
    let world = World::new();
    let mut content = fs::read("/sbin/ldconfig").expect("Debian has it");
    for zeros in [1, 1023, 1024, 1025, 70_000] {
        content.extend(vec![0; zeros]);
        content.extend_from_within(..40_000);
    }
    content.extend([0; 1000]);
    fs::write(world.at("root/etc/holes"), &content).expect("there is room");
    fs::write(world.at("root/etc/empty"), "").expect("there is room");
    let long = format!("root/etc/{}", "long".repeat(40));
    fs::write(world.at(&long), "a long name").expect("there is room");
    fs::hard_link(world.at("root/etc/holes"), world.at("root/etc/same")).expect("they are beside");
    std::os::unix::fs::symlink("note", world.at("root/etc/link")).expect("it is not there");
    for (tag, compression) in [("plain", "none"), ("chunked", "zstd:chunked")] {
        let image = world.image(&format!("out:{tag}"));
        let output =
            run(world
                .chunk(&image)
                .args(["--max-layers", "1", "--compression", compression]));
        assert!(output.status.success(), "{output:?}");
    }
    let (plain, theirs) = (world.image("out:plain"), world.image("theirs:chunked"));
    let skopeo = Program::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]);
    skopeo
        .args([
            "--dest-compress",
            "--dest-compress-format",
            "zstd:chunked",
            &plain,
            &theirs,
        ])
        .run()
        .expect("skopeo compresses it");
    let (ours, theirs) = (
        contents(&world, "out", "chunked"),
        contents(&world, "theirs", "chunked"),
    );
    assert_eq!(ours, theirs);
    assert!(
        ours.iter().any(|row| row["chunkType"] == "zeros"),
        "{ours:?}"
    );
    assert!(ours.iter().any(|row| row["type"] == "chunk"), "{ours:?}");
}
