//! Images that somebody made to do harm: refused, or harmless, with the store as it was
//! and the next pull fine. What single entries of layers may do is in the crate's own
//! tests (`layer/tests/hostile.rs`); the numbers are those of reports on other programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hull_oci::manifest::Compression;
use hull_oci::push::PushError;
use hull_oci::{Digest, Pulled};
use hull_store::fsck::{self, Depth};
use hull_store::{Kind, gc};
use serde_json::{Value, json};

use crate::archive::{self, Made, directory, file, hard_link, long, member, symlink};
use crate::faulty::Faulty;
use crate::image::{OCI_INDEX, Recipe, TestImage, host_architecture, make, tar, three_layers};
use crate::local_store::{LocalStore, options, read, show};
use crate::push::{copy_options, copy_with};

/// A store with an image in it.
struct Before {
    local: LocalStore,
    refs: Vec<(String, String)>,
    objects: BTreeMap<String, u64>,
}

impl Before {
    fn new() -> Self {
        let local = LocalStore::new();
        pull_good(&local, "1");
        let refs = local.store.refs(Kind::Stream).unwrap();
        let objects = objects(&local);
        Self {
            local,
            refs,
            objects,
        }
    }

    /// Asserts that nothing was added that stays, and that the next image comes in.
    #[track_caller]
    fn is_unchanged(&self) {
        let Self { local, refs, .. } = self;
        assert_eq!(&local.store.refs(Kind::Stream).unwrap(), refs);
        let report = fsck::check(&local.store, Depth::Full, &|_| {}).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let plan = gc::plan(&local.store, &[]).unwrap();
        gc::execute(&local.store, &plan, Duration::from_secs(5)).unwrap();
        assert_eq!(objects(local), self.objects, "what was left is collected");
        pull_good(local, "2");
    }
}

/// The files of the store's objects with their lengths.
fn objects(local: &LocalStore) -> BTreeMap<String, u64> {
    fn walk(dir: &Path, found: &mut BTreeMap<String, u64>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), found);
            } else {
                let name = entry.path().display().to_string();
                found.insert(name, entry.metadata().unwrap().len());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&local.path("objects"), &mut found);
    found
}

#[track_caller]
fn pull_good(local: &LocalStore, version: &str) {
    let server = Faulty::new(three_layers(version), |_, _| None);
    let pulled = local.pull(&server.image("os:good")).unwrap();
    let tree = pulled.image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "usr/three").len() > 2_800_000);
}

/// Asserts that the image is refused with a message that has these parts.
#[track_caller]
fn refused_at(name: &str, parts: &[&str]) {
    let before = Before::new();
    let error = show(&before.local.pull(name).unwrap_err());
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    before.is_unchanged();
}

/// The same from a registry; gives the requests for blobs of layers.
#[track_caller]
fn refused(image: TestImage, parts: &[&str]) -> usize {
    let layers = image.layers.clone();
    let server = Faulty::new(image, |_, _| None);
    refused_at(&server.image("os:evil"), parts);
    let asked = server.requests();
    let of_layers = asked.iter().filter(|request| {
        layers
            .iter()
            .any(|layer| request.path.ends_with(&layer.to_string()))
    });
    of_layers.count()
}

fn one_layer(compression: Compression, tar: Vec<u8>) -> TestImage {
    make(&Recipe {
        layers: &[(compression, tar)],
        architecture: &host_architecture(),
        version: "1",
    })
}

fn pulled(image: TestImage) -> (LocalStore, Pulled) {
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let pulled = local.pull(&server.image("os:odd")).unwrap();
    (local, pulled)
}

/// What is changed to make an evil image: no layer of it is in the store.
fn base() -> TestImage {
    three_layers("evil")
}

/// An image whose configuration is changed.
fn with_config(change: impl FnOnce(&mut Value)) -> TestImage {
    let mut image = base();
    let mut config: Value = serde_json::from_slice(&image.blobs[&image.config]).unwrap();
    change(&mut config);
    let bytes = serde_json::to_vec(&config).unwrap();
    let (digest, size) = (Digest::sha256(&bytes), bytes.len());
    image.blobs.insert(digest, bytes);
    image.config = digest;
    image.with_manifest(|manifest| {
        manifest["config"]["digest"] = json!(digest);
        manifest["config"]["size"] = json!(size);
    })
}

// Layers

#[test]
fn layers_that_are_refused_leave_the_store_as_it_was() {
    let evil: [(&str, Vec<Made>, &str); 10] = [
        ("the root as a link", vec![symlink("./", "/etc")], "./"),
        ("above the root", vec![file("../evil", "x")], "../evil"),
        (
            "a hard link above the root",
            vec![hard_link("usr/evil", "../../etc/shadow")],
            "usr/evil",
        ),
        ("an empty whiteout", vec![file("usr/.wh.", "")], "usr/.wh."),
        (
            "a whiteout of ..",
            vec![file("usr/.wh...", "")],
            "usr/.wh...",
        ),
        (
            "a number that no file has",
            vec![file("usr/evil", "x").pax("uid", "-1")],
            "usr/evil",
        ),
        (
            "an unknown type",
            vec![member("usr/evil", b'V')],
            "usr/evil",
        ),
        (
            "a name that is too long",
            vec![
                long(b'L', format!("usr/{}", "n".repeat(300))),
                file("x", ""),
            ],
            "nnn",
        ),
        (
            "a size that is smuggled in",
            vec![file("usr/evil", "little").pax("size", i64::MAX.to_string())],
            "usr/evil",
        ),
        (
            "an attribute that no file has",
            vec![file("usr/evil", "").pax("SCHILY.xattr.user.a", vec![0; 65_537])],
            "SCHILY.xattr.user.a",
        ),
    ];
    for (what, members, named) in evil {
        let mut all = vec![directory("usr"), file("usr/good", [7; 5000])];
        all.extend(members);
        let image = one_layer(Compression::Zstd, archive::tar(&all));
        let layer = image.layers[0].to_string();
        println!("{what}");
        assert_eq!(refused(image, &[named, &layer]), 1);
    }
}

#[test]
fn layers_that_give_no_tree_are_refused_before_a_name_leads_to_the_image() {
    for (what, below, above, entry) in [
        // CVE-2014-6407, CVE-2020-27833: nothing is unpacked.
        (
            "a path through a link that leads out",
            vec![symlink("usr", "../..")],
            vec![file("usr/evil", "x")],
            "usr/evil",
        ),
        (
            "a link that is made through another",
            vec![directory("a"), symlink("a/p", "..")],
            vec![symlink("a/p/x", ".."), file("x/evil", "x")],
            "x/evil",
        ),
        (
            "a hard link to a file that no layer has",
            vec![directory("usr")],
            vec![hard_link("usr/evil", "usr/missing")],
            "usr/evil",
        ),
        (
            "a hard link to a file that its own layer takes away",
            vec![file("usr/gone", "x")],
            vec![file("usr/.wh.gone", ""), hard_link("usr/evil", "usr/gone")],
            "usr/evil",
        ),
        (
            "a path through links that lead to each other",
            vec![symlink("a", "b"), symlink("b", "a")],
            vec![file("a/evil", "x")],
            "a/evil",
        ),
    ] {
        println!("{what}");
        let image = make(&Recipe {
            layers: &[
                (Compression::None, archive::tar(&below)),
                (Compression::Zstd, archive::tar(&above)),
            ],
            architecture: &host_architecture(),
            version: "1",
        });
        let layer = image.layers[1].to_string();
        assert_eq!(refused(image, &[&layer, entry]), 2);
    }
}

#[test]
fn layers_that_give_no_tree_are_refused_again_without_another_download() {
    let image = one_layer(
        Compression::Zstd,
        archive::tar(&[hard_link("usr/evil", "usr/missing")]),
    );
    let layer = image.layers[0].to_string();
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    for _ in 0..2 {
        let error = show(&local.pull(&server.image("os:evil")).unwrap_err());
        assert!(error.contains("usr/evil"), "{error}");
    }
    let asked = server.requests();
    let of_layer = asked.iter().filter(|asked| asked.path.ends_with(&layer));
    assert_eq!(of_layer.count(), 1);
    assert_eq!(local.store.refs(Kind::Stream).unwrap(), []);
}

#[test]
fn an_xz_layer_is_refused_before_anything_reads_it() {
    // CVE-2014-9357, CVE-2021-20291.
    let xz = [&b"\xfd7zXZ\0"[..], &[0; 500]].concat();
    let image = one_layer(Compression::None, xz);
    let layer = image.layers[0].to_string();
    let honest = image.with_manifest(|manifest| {
        manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+xz");
    });
    assert_eq!(refused(honest, &[&layer, "tar+xz"]), 0);
    refused(image, &[&layer, "byte 0"]);
}

#[test]
fn a_small_layer_of_endless_padding_is_refused() {
    // CVE-2017-14992.
    let mut padded = tar(&[("usr/file", b"x")]);
    padded.resize(200 << 20, 0);
    let image = one_layer(Compression::Zstd, padded);
    assert!(image.blobs[&image.layers[0]].len() < 100_000);
    refused(image, &["bytes behind the end"]);
}

#[test]
fn junk_behind_a_layer_is_refused() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut image = one_layer(compression, tar(&[("usr/file", &[7; 5000])]));
        let mut blob = image.blobs[&image.layers[0]].clone();
        blob.extend(b"junk behind the end");
        let (digest, size) = (Digest::sha256(&blob), blob.len());
        image.blobs.insert(digest, blob);
        image.layers = vec![digest];
        let image = image.with_manifest(|manifest| {
            manifest["layers"][0]["digest"] = json!(digest);
            manifest["layers"][0]["size"] = json!(size);
        });
        refused(image, &[&digest.to_string(), "cannot be read"]);
    }
}

#[test]
fn a_layer_without_anything_is_fine() {
    let empty = make(&Recipe {
        layers: &[
            (Compression::Gzip, vec![0; 1024]),
            (Compression::None, Vec::new()),
        ],
        architecture: &host_architecture(),
        version: "1",
    });
    let (local, pulled) = pulled(empty);
    assert!(pulled.image.tree(&local.store).unwrap().root().is_empty());
}

// Manifests

#[test]
fn digests_that_are_none_are_refused() {
    // CVE-2024-3727.
    for digest in [
        "sha256:../../../../etc/passwd".to_owned(),
        "sha256:".to_owned(),
        format!("md5:{}", "0".repeat(32)),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{}/x", "a".repeat(62)),
    ] {
        for field in ["layer", "config"] {
            let image = base().with_manifest(|manifest| {
                let place = match field {
                    "layer" => &mut manifest["layers"][1],
                    _ => &mut manifest["config"],
                };
                place["digest"] = json!(digest);
            });
            assert_eq!(refused(image, &["the manifest cannot be read"]), 0);
        }
    }
}

#[test]
fn urls_of_a_layer_are_refused_and_never_asked() {
    // CVE-2020-15157.
    let elsewhere = Faulty::new(three_layers("1"), |_, _| None);
    let url = format!("http://{}/v2/x/blobs/y", elsewhere.host());
    let image = base().with_manifest(|manifest| {
        manifest["layers"][1]["urls"] = json!([url]);
    });
    let layer = image.layers[1].to_string();
    assert_eq!(refused(image, &[&layer]), 0);
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn the_data_of_a_descriptor_is_not_believed() {
    let image = base().with_manifest(|manifest| {
        // "evil" in base64, for every descriptor.
        manifest["config"]["data"] = json!("ZXZpbA==");
        manifest["layers"][0]["data"] = json!("ZXZpbA==");
    });
    let (local, pulled) = pulled(image);
    let tree = pulled.image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "usr/one").starts_with(b"one of evil"));
}

#[test]
fn a_size_that_lies_is_refused() {
    for size in [1, 1u64 << 40] {
        let image = base().with_manifest(|manifest| {
            manifest["layers"][0]["size"] = json!(size);
        });
        let layer = image.layers[0].to_string();
        if size == 1 {
            refused(image, &[&layer, "is longer than"]);
        } else {
            // A terabyte does not fit; that is found before anything is fetched.
            assert_eq!(refused(image, &["the image needs about"]), 0);
        }
    }
}

#[test]
fn ten_thousand_layers_are_refused() {
    let image = base().with_manifest(|manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = Value::Array(vec![layer; 10_000]);
    });
    assert_eq!(refused(image, &["10000 layers"]), 0);
}

/// The image behind so many indexes.
fn nested(depth: usize) -> TestImage {
    let mut image = base();
    let platform = image.root["platform"].clone();
    for _ in 0..depth {
        image = TestImage::index(&[&image]);
        image.root["platform"] = platform.clone();
    }
    image
}

#[test]
fn indexes_in_indexes_are_followed_three_deep_and_no_further() {
    let (_, found) = pulled(nested(3));
    assert_eq!(found.image.manifest_digest, base().digest());
    assert_eq!(refused(nested(4), &["nested more than 3 deep"]), 0);
    assert_eq!(refused(nested(100), &["nested more than 3 deep"]), 0);
}

#[test]
fn copying_follows_indexes_no_deeper() {
    let temp = tempfile::tempdir().unwrap();
    nested(100).write_layout(temp.path(), "evil");
    let from = format!("oci:{}:evil", temp.path().display());
    let to = format!("oci-archive:{}", temp.path().join("out.tar").display());
    for all in [false, true] {
        let mut options = copy_options();
        options.all = all;
        let error = copy_with(&from, &to, &options).unwrap_err();
        assert!(matches!(error, PushError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("nested too deep"), "{error}");
        assert!(!temp.path().join("out.tar").exists());
    }
}

#[test]
fn indexes_that_list_the_same_again_and_again_are_copied_once() {
    let mut image = base();
    for _ in 0..3 {
        image = TestImage::index(&vec![&image; 200]);
    }
    let temp = tempfile::tempdir().unwrap();
    image.write_layout(temp.path(), "evil");
    let from = format!("oci:{}:evil", temp.path().display());
    let to = format!("oci-archive:{}", temp.path().join("out.tar").display());
    let mut options = copy_options();
    options.all = true;
    let copied = copy_with(&from, &to, &options).unwrap();
    assert_eq!(copied.sent_blobs, 4);
    assert_eq!(copied.digest, Some(image.digest()));
}

#[test]
fn an_index_that_lists_a_layer_as_an_image_is_refused() {
    let image = base();
    let layer = image.layers[2];
    let mut index = TestImage::index(&[&image]);
    let entry = json!({
        "mediaType": OCI_INDEX,
        "digest": layer,
        "size": image.blobs[&layer].len(),
        "platform": image.root["platform"],
    });
    let bytes = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry],
    }))
    .unwrap();
    let digest = Digest::sha256(&bytes);
    index.root = json!({"mediaType": OCI_INDEX, "digest": digest, "size": bytes.len()});
    index.blobs.insert(digest, bytes);
    let temp = tempfile::tempdir().unwrap();
    index.write_layout(temp.path(), "evil");
    let name = format!("oci:{}:evil", temp.path().display());
    refused_at(&name, &["the manifest cannot be read"]);
}

#[test]
fn a_configuration_of_other_layers_is_refused_before_they_come() {
    let image = with_config(|config| {
        config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
    });
    assert_eq!(
        refused(image, &["the configuration lists 2 layers, the manifest 3"]),
        0
    );
}

#[test]
fn what_a_configuration_says_of_running_is_only_data() {
    // CVE-2022-23648, CVE-2024-40635, CVE-2026-53488.
    let image = with_config(|config| {
        config["config"]["Volumes"] = json!({"/../../../../etc": {}});
        config["config"]["User"] = json!("4294967296:0");
        config["config"]["Entrypoint"] = json!(["/bin/sh", "-c", "reboot -f"]);
        config["config"]["Labels"] =
            json!({"org.opencontainers.image.version": "$(reboot)\n\u{1b}[2J"});
    });
    let (local, pulled) = pulled(image);
    let tree = pulled.image.tree(&local.store).unwrap();
    assert_eq!(tree.root().entries().count(), 1, "usr");
    assert_eq!(pulled.image.config.version(), Some("$(reboot)\n\u{1b}[2J"));
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_never_passed_on() {
    let wrong = Digest::sha256(b"another tar");
    let image = with_config(|config| {
        config["rootfs"]["diff_ids"][0] = json!(wrong);
    });
    let (local, pulled) = pulled(image);
    let temp = tempfile::tempdir().unwrap();
    for transport in ["oci-archive", "docker-archive"] {
        let path = temp.path().join("os.tar");
        let to = format!("{transport}:{}", path.display()).parse().unwrap();
        let digest = &pulled.image.manifest_digest;
        let silent = hull_oci::progress::Silent;
        let options = copy_options();
        let error = hull_oci::push::push(&local.store, digest, None, &to, &options, &silent);
        let error = error.unwrap_err();
        assert!(matches!(error, PushError::DiffId { .. }), "{error}");
        assert!(error.to_string().contains(&wrong.to_string()), "{error}");
        assert!(!path.exists());
    }
}

// Archives

/// An archive in a file.
fn archived(members: &[Made], open_end: bool) -> tempfile::NamedTempFile {
    let bytes = match open_end {
        true => archive::open_end(members),
        false => archive::tar(members),
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    file
}

fn marker() -> Made {
    file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

#[test]
fn a_huge_index_in_an_archive_is_refused_before_it_is_in_memory() {
    // CVE-2023-25153.
    let long = vec![b' '; (4 << 20) + 1];
    let whole = archived(&[marker(), file("index.json", &long)], false);
    let name = format!("oci-archive:{}", whole.path().display());
    refused_at(&name, &["index.json", "4194304"]);
    // One that only says that it is: 8 GiB, all holes.
    let claims = archived(
        &[marker(), member("index.json", b'0').size(0o77_777_777_777)],
        true,
    );
    let file = claims.as_file();
    file.set_len(1024 + 512 + (9 << 30)).unwrap();
    let name = format!("oci-archive:{}", claims.path().display());
    refused_at(&name, &["index.json", "4194304"]);
    let marker_too = archived(&[crate::archive::file("oci-layout", &long)], false);
    let name = format!("oci-archive:{}", marker_too.path().display());
    refused_at(&name, &["oci-layout"]);
    let docker = archived(&[crate::archive::file("manifest.json", &long)], false);
    let name = format!("docker-archive:{}", docker.path().display());
    refused_at(&name, &["manifest.json"]);
}

#[test]
fn an_archive_whose_manifest_leads_out_of_it_is_refused() {
    let config = json!({"os": "linux", "architecture": host_architecture(),
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(b"x")]}});
    for (layer, more) in [
        ("../../../../etc/passwd", None),
        ("/etc/passwd", None),
        ("layer.tar", Some(symlink("layer.tar", "/etc/passwd"))),
        ("layer.tar", Some(symlink("layer.tar", "layer.tar"))),
        ("layer.tar", Some(hard_link("layer.tar", "../passwd"))),
    ] {
        let list = json!([{"Config": "config.json", "RepoTags": null, "Layers": [layer]}]);
        let mut members = vec![
            file("manifest.json", list.to_string()),
            file("config.json", config.to_string()),
        ];
        members.extend(more);
        let archive = archived(&members, false);
        let name = format!("docker-archive:{}", archive.path().display());
        refused_at(&name, &[archive.path().to_str().unwrap()]);
    }
}

#[test]
fn of_two_files_of_one_name_in_an_archive_the_last_counts_as_when_it_is_unpacked() {
    let (one, two) = (three_layers("1"), three_layers("2"));
    let index = |image: &TestImage| {
        let index = json!({"schemaVersion": 2, "manifests": [image.root]});
        file("index.json", index.to_string())
    };
    let mut members = vec![marker(), index(&one), index(&two)];
    for (digest, bytes) in one.blobs.iter().chain(&two.blobs) {
        members.push(file(format!("blobs/sha256/{}", digest.to_hex()), bytes));
    }
    let archive = archived(&members, false);
    let name = format!("oci-archive:{}", archive.path().display());
    let pulled = LocalStore::new().pull_with(&name, &options()).unwrap();
    assert_eq!(pulled.image.manifest_digest, two.digest());
}
