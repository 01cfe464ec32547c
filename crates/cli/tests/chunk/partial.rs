//! What podman fetches of an image in layers of zstd:chunked when it has an earlier one.
//!
//! podman 4.3 of Debian 12 (containers/storage 1.43) looks for the table of contents under the annotations' names
//! of before 1.44, and takes no owner and no time from it (mended in 1.47). So it fetches hull's layers whole,
//! which keeps their owners, and shows what clients fetch by file only where a test gives the older names, too.
//! That of Debian 13 needs no help; to install it takes too long for CI.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use hull_sys::run::Program;
use serde_json::Value;

use crate::registry::Registry;
use crate::world::{World, noise, run};

/// podman with a storage in the world, that is told to fetch by file.
fn podman(world: &World) -> Program {
    with_storage(world, Program::new("podman").package("podman"))
}

/// The same of Debian 13, in a root of its own with the world at its place. What it mounts goes with it.
fn podman_of_debian_13(world: &World) -> Program {
    const INSTALL: &str = "mmdebstrap --quiet --mode=root --variant=minbase --include=podman \
         trixie \"$2\" \"deb $(\"$1\") trixie main\"";
    const ENTER: &str = "world=$1 root=$2; shift 2
         mount -t proc proc \"$root/proc\"
         mount --rbind /dev \"$root/dev\"
         mount --rbind /sys \"$root/sys\"
         mkdir -p \"$root/$world\"
         mount --bind \"$world\" \"$root/$world\"
         exec chroot \"$root\" podman \"$@\"";
    let mirror = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/mirror");
    let root = world.text("debian-13");
    let install = Program::new("sh").args(["-euc", INSTALL, "sh", mirror, &root]);
    install.run().expect("mmdebstrap installs it");
    let enter = Program::new("unshare").args(["--mount", "sh", "-euc", ENTER, "sh"]);
    with_storage(world, enter.args([&world.text(""), &root]))
}

fn with_storage(world: &World, podman: Program) -> Program {
    let config = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n[storage.options]\n\
         pull_options = {{enable_partial_images = \"true\", use_hard_links = \"false\", ostree_repos = \"\"}}\n",
        world.text("storage"),
        world.text("storage.run")
    );
    fs::write(world.at("storage.conf"), config).expect("there is room");
    let podman = podman.env("CONTAINERS_STORAGE_CONF", world.text("storage.conf"));
    podman.args(["--cgroup-manager", "cgroupfs"])
}

fn text(output: Vec<u8>) -> String {
    let text = String::from_utf8(output).expect("it is text");
    text.trim().to_owned()
}

/// What is below a directory, in find's words.
fn listing(directory: &str, format: &str) -> String {
    let find = Program::new("find").args([directory, "-mindepth", "1"]);
    let listed = find.args(["-printf", format]).output();
    let listed = text(listed.expect("it can be read"));
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Whether what is below a directory is the root, in contents and in find's words; what differs if not.
fn compare(world: &World, directory: &str, format: &str) -> Result<(), String> {
    let root = world.text("root");
    let diff = Program::new("diff").args(["-r", "--no-dereference"]);
    let same = diff.args([&root, directory]).run();
    same.map_err(|error| error.to_string())?;
    let [expected, found] = [&root, directory].map(|directory| listing(directory, format));
    if expected == found {
        return Ok(());
    }
    Err(format!("expected:\n{expected}\nfound:\n{found}"))
}

/// Asserts that the last image in podman's storage is the root; empties the storage.
#[track_caller]
fn assert_is_root(world: &World, podman: &Program, image: &str, format: &str) {
    let mounted = podman.clone().args(["image", "mount", image]).output();
    let mounted = text(mounted.expect("podman mounts it"));
    let same = compare(world, &mounted, format);
    for words in [["image", "unmount", "--all"], ["rmi", "--all", "--force"]] {
        let done = podman.clone().args(words).run();
        done.expect("nothing uses it");
    }
    same.expect("the image is the root");
}

/// Adds to the root what clients may get wrong.
fn fill(world: &World) {
    fs::write(world.at("root/usr/bin/stays"), noise(2, 3 << 20)).expect("there is room");
    chown(world.at("root/usr/bin/stays"), Some(70_000), Some(7)).expect("this test needs root");
    // After it: another owner clears the bits of a mode that give rights.
    let program = fs::Permissions::from_mode(0o4751);
    fs::set_permissions(world.at("root/usr/bin/stays"), program).expect("it is there");
    fs::hard_link(world.at("root/etc/note"), world.at("root/etc/same")).expect("it is not there");
    symlink("note", world.at("root/etc/link")).expect("it is not there");
}

/// Makes an image of one layer in the registry: its name, and the layer.
fn push(world: &World, registry: &Registry<'_>, tag: &str) -> (String, Value) {
    let image = registry.image(&format!("a:{tag}"));
    let made =
        run(world
            .chunk(&image)
            .args(["--compression", "zstd:chunked", "--max-layers", "1"]));
    assert!(made.status.success(), "{made:?}");
    let manifest = registry.manifest("a", tag);
    let layers = manifest["layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 1, "{layers:?}");
    (image, layers[0].clone())
}

/// Gives the annotations of an image's layer also the names that podman 4.3 looks for; all else stays.
fn name_as_in_debian_12(registry: &Registry<'_>, tag: &str) {
    let mut manifest = registry.manifest("a", tag);
    let annotations = manifest["layers"][0]["annotations"].as_object_mut();
    let annotations = annotations.expect("it has some");
    let rest = |key: &str| Some(key.strip_prefix("io.github.")?.to_owned());
    let older: BTreeMap<_, _> = annotations
        .iter()
        .filter_map(|(key, value)| Some((format!("io.{}", rest(key)?), value.clone())))
        .collect();
    assert_eq!(older.len(), 4, "{annotations:?}");
    annotations.extend(older);
    registry.put_manifest("a", tag, &manifest);
}

/// Pulls an image by its name: what podman calls it.
fn pull(podman: &Program, image: &str) -> String {
    let words = ["pull", "--quiet", "--tls-verify=false", image];
    let pulled = podman.clone().args(words).output();
    text(pulled.expect("podman pulls it"))
}

/// How many bytes of a layer were sent, as a whole and as parts of it; and its length.
fn sent(registry: &Registry<'_>, layer: &Value) -> (u64, u64, u64) {
    let digest = layer["digest"].as_str().expect("a digest");
    let request = format!("GET /v2/a/blobs/{digest} ");
    let [whole, parts] = ["200", "206"].map(|status| registry.bytes(&request, status));
    (whole, parts, layer["size"].as_u64().expect("a number"))
}

/// All of the content was new; what is between the files is nobody's.
#[track_caller]
fn assert_all_was_fetched_by_file(registry: &Registry<'_>, layer: &Value) {
    let (whole, parts, size) = sent(registry, layer);
    assert!(
        whole == 0 && parts > size - 100_000,
        "{whole} {parts} {size}"
    );
}

/// Gives a file of the root other contents with each seed.
fn change(world: &World, seed: u64) {
    fs::write(world.at("root/etc/changes"), noise(seed, 50_000)).expect("there is room");
}

#[test]
fn podman_of_debian_12_fetches_layers_whole_and_keeps_owners() {
    let world = World::new();
    let registry = Registry::start(&world);
    fill(&world);
    let (image, layer) = push(&world, &registry, "1");
    let podman = podman(&world);
    let pulled = pull(&podman, &image);
    let (whole, parts, size) = sent(&registry, &layer);
    assert_eq!((whole, parts), (size, 0));
    assert_is_root(&world, &podman, &pulled, "%P %y %m %U %G %l\n");
}

#[test]
fn podman_fetches_what_has_changed_in_a_layer_and_no_more() {
    let world = World::new();
    let registry = Registry::start(&world);
    fill(&world);
    let mut large = noise(1, 2 << 20);
    fs::write(world.at("root/usr/bin/large"), &large).expect("there is room");
    change(&world, 3);
    let podman = podman(&world);
    let (image, layer) = push(&world, &registry, "1");
    name_as_in_debian_12(&registry, "1");
    pull(&podman, &image);
    assert_all_was_fetched_by_file(&registry, &layer);

    change(&world, 4);
    large[1 << 20] ^= 1;
    fs::write(world.at("root/usr/bin/large"), &large).expect("there is room");
    let (image, layer) = push(&world, &registry, "2");
    name_as_in_debian_12(&registry, "2");
    let pulled = pull(&podman, &image);
    let (whole, parts, size) = sent(&registry, &layer);
    // The table, the small file, and of the large one the chunk that changed and perhaps its neighbours.
    assert!(whole == 0 && size > 5_000_000, "{whole} {size}");
    assert!((50_000..300_000).contains(&parts), "{parts} of {size}");
    assert_is_root(&world, &podman, &pulled, "%P %y %m %l\n");
}

#[test]
#[ignore = "part of make nightly: installs podman of Debian 13"]
fn podman_of_debian_13_fetches_what_has_changed_and_keeps_owners() {
    let world = World::new();
    let registry = Registry::start(&world);
    fill(&world);
    change(&world, 3);
    let podman = podman_of_debian_13(&world);
    let (image, layer) = push(&world, &registry, "1");
    pull(&podman, &image);
    assert_all_was_fetched_by_file(&registry, &layer);

    change(&world, 4);
    let (image, layer) = push(&world, &registry, "2");
    let pulled = pull(&podman, &image);
    let (whole, parts, size) = sent(&registry, &layer);
    assert!(
        whole == 0 && (50_000..100_000).contains(&parts),
        "{whole} {parts} {size}"
    );

    // The content of its only layer.
    let format = "{{.GraphDriver.Data.UpperDir}}";
    let inspect = podman.args(["image", "inspect", "--format", format, &pulled]);
    let content = text(inspect.output().expect("it has the image"));
    let same = compare(&world, &content, "%P %y %m %U %G %l\n");
    same.expect("the image is the root");
}
