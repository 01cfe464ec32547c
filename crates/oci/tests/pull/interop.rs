//! The same image through every transport, with skopeo in between.

use std::io::Write;

use hull_erofs::Tree;
use hull_oci::manifest::Compression;
use hull_oci::{Digest, Pulled};

use crate::docker_registry::{DockerRegistry, skopeo};
use crate::image::{Recipe, TestImage, host_architecture, make, tar, three_layers};
use crate::local_store::{LocalStore, options, read, show};

/// A layout in a temporary directory, and its name for skopeo and us.
fn layout(image: &TestImage) -> (tempfile::TempDir, String) {
    let temp = tempfile::tempdir().unwrap();
    image.write_layout(temp.path(), "test");
    let name = format!("oci:{}:test", temp.path().display());
    (temp, name)
}

#[track_caller]
fn assert_is_three_layers(local: &LocalStore, pulled: &Pulled, version: &str) {
    let tree: Tree = pulled.image.tree(&local.store).unwrap();
    for name in ["one", "two", "three"] {
        let content = read(&local.store, &tree, &format!("usr/{name}"));
        assert!(content.starts_with(format!("{name} of {version},").as_bytes()));
    }
    assert!(read(&local.store, &tree, "usr/three").len() > 2_800_000);
    assert_eq!(pulled.image.config.version(), Some(version));
    assert_eq!(
        pulled.image.config.created.as_deref(),
        Some("2026-01-02T03:04:05Z")
    );
}

#[test]
fn an_image_is_pulled_from_a_layout() {
    let image = three_layers("1");
    let (_temp, name) = layout(&image);
    let local = LocalStore::new();
    let pulled = local.pull(&name).unwrap();
    assert_is_three_layers(&local, &pulled, "1");
    assert_eq!(pulled.image.manifest_digest, image.digest());
    assert_eq!(pulled.downloaded_layers, 3);
    let again = local.pull(&name).unwrap();
    assert_eq!((again.downloaded_layers, again.downloaded_bytes), (0, 0));
    assert_eq!(again.image, pulled.image);
}

#[test]
fn a_layer_that_umoci_inserts_is_pulled_although_its_archive_has_no_end() {
    let image = make(&Recipe {
        layers: &[(Compression::Gzip, tar(&[("usr/", b""), ("usr/one", b"1")]))],
        architecture: &host_architecture(),
        version: "1",
    });
    let (temp, name) = layout(&image);
    let inserted = temp.path().join("inserted");
    let content = [b'i'; 700];
    let mut file = std::fs::File::create(&inserted).unwrap();
    file.write_all(&content).unwrap();
    let to = format!("{}:test", temp.path().display());
    let umoci = hull_sys::run::Program::new("umoci").package("umoci");
    umoci
        .args(["insert", "--image", &to])
        .arg(&inserted)
        .arg("/usr/two")
        .run()
        .unwrap();
    let local = LocalStore::new();
    let pulled = local.pull(&name).unwrap();
    assert_eq!(pulled.downloaded_layers, 2);
    let tree = pulled.image.tree(&local.store).unwrap();
    assert_eq!(read(&local.store, &tree, "usr/one"), b"1");
    assert_eq!(read(&local.store, &tree, "usr/two"), content);
}

#[test]
fn an_image_that_skopeo_archived_is_pulled_from_the_archive() {
    let image = three_layers("1");
    let (temp, name) = layout(&image);
    let archive = temp.path().join("image.tar");
    let target = format!("oci-archive:{}:other/name:2", archive.display());
    skopeo(&["copy", &name, &target]);
    let local = LocalStore::new();
    let pulled = local.pull(&target).unwrap();
    assert_is_three_layers(&local, &pulled, "1");
    let alone = format!("oci-archive:{}", archive.display());
    assert_eq!(local.pull(&alone).unwrap().image, pulled.image);
    let error = local.pull(&format!("{alone}:nothing")).unwrap_err();
    assert!(show(&error).contains("other/name:2"), "{}", show(&error));
}

/// The whole tree as text.
pub(crate) fn dump(local: &LocalStore, pulled: &Pulled) -> Vec<u8> {
    hull_erofs::dump::write(&pulled.image.tree(&local.store).unwrap())
}

#[test]
fn an_image_that_skopeo_saved_as_docker_does_gives_the_same_tree() {
    // Docker's formats have no zstd, so skopeo would refuse it.
    let large = vec![7; 100_000];
    let image = make(&Recipe {
        layers: &[
            (
                Compression::Gzip,
                tar(&[("usr/", b""), ("usr/file", &large)]),
            ),
            (Compression::None, tar(&[("usr/other", b"other")])),
        ],
        architecture: &host_architecture(),
        version: "1",
    });
    let (temp, name) = layout(&image);
    let archive = temp.path().join("image.tar");
    let target = format!("docker-archive:{}:example.org/os:1", archive.display());
    skopeo(&["copy", &name, &target]);
    let local = LocalStore::new();
    let pulled = local.pull(&target).unwrap();
    let tree = pulled.image.tree(&local.store).unwrap();
    assert_eq!(read(&local.store, &tree, "usr/file"), large);
    let digest = pulled.image.manifest_digest;
    for selector in ["", ":example.org/os:1", ":@0"] {
        let name = format!("docker-archive:{}{selector}@{digest}", archive.display());
        assert_eq!(local.pull(&name).unwrap().image, pulled.image);
    }
    for (layer, diff_id) in pulled
        .image
        .layers
        .iter()
        .zip(&pulled.image.config.diff_ids)
    {
        hull_oci::layer::verify_diff_id(&local.store, layer, diff_id).unwrap();
    }
    let other = LocalStore::new();
    let from_layout = other.pull(&name).unwrap();
    assert_eq!(dump(&local, &pulled), dump(&other, &from_layout));
}

#[test]
fn an_image_is_pulled_from_a_registry_by_tag_and_by_digest() {
    let image = three_layers("1");
    let (_temp, name) = layout(&image);
    let registry = DockerRegistry::start();
    registry.push(&name, "team/debian:stable", &[]);
    let digest = image.digest();
    for reference in [
        registry.name("team/debian:stable"),
        format!("docker://{}@{digest}", registry.name("team/debian")),
        format!("docker://{}@{digest}", registry.name("team/debian:moved")),
    ] {
        let local = LocalStore::new();
        let pulled = local.pull(&reference).unwrap();
        assert_is_three_layers(&local, &pulled, "1");
        assert_eq!(pulled.image.manifest_digest, digest, "{reference}");
    }
}

#[test]
fn only_new_layers_of_an_update_are_fetched() {
    let shared = (Compression::Gzip, tar(&[("usr/shared", &[7; 10_000])]));
    let recipe = |version: &str| {
        make(&Recipe {
            layers: &[
                shared.clone(),
                (
                    Compression::Zstd,
                    tar(&[("usr/own", version.repeat(100).as_bytes())]),
                ),
            ],
            architecture: &host_architecture(),
            version,
        })
    };
    let local = LocalStore::new();
    for (version, fetched) in [("1", 2), ("2", 1)] {
        let (_temp, name) = layout(&recipe(version));
        let pulled = local.pull(&name).unwrap();
        assert_eq!(pulled.downloaded_layers, fetched);
        let tree = pulled.image.tree(&local.store).unwrap();
        assert_eq!(
            read(&local.store, &tree, "usr/own"),
            version.repeat(100).as_bytes()
        );
    }
}

#[test]
fn the_image_for_the_platform_is_taken_from_an_index() {
    let host = three_layers("1");
    let other = make(&Recipe {
        layers: &[(Compression::Gzip, tar(&[("usr/other", b"other")]))],
        architecture: "s390x",
        version: "1",
    });
    let index = TestImage::index(&[&other, &host]);
    let (_temp, name) = layout(&index);
    let registry = DockerRegistry::start();
    registry.push(&name, "debian:stable", &["--all"]);
    for reference in [name.clone(), registry.name("debian:stable")] {
        let local = LocalStore::new();
        let pulled = local.pull(&reference).unwrap();
        assert_is_three_layers(&local, &pulled, "1");
        assert_eq!(pulled.image.manifest_digest, host.digest());
        assert_eq!(pulled.resolved_digest, index.digest());

        let mut options = options();
        options.platform = Some("linux/s390x".parse().unwrap());
        let pulled = local.pull_with(&reference, &options).unwrap();
        assert_eq!(pulled.image.manifest_digest, other.digest());

        options.platform = Some("linux/riscv64".parse().unwrap());
        let error = show(&local.pull_with(&reference, &options).unwrap_err());
        assert!(error.contains("no image for linux/riscv64"), "{error}");
        assert!(error.contains("linux/s390x"), "{error}");
    }
}

#[test]
fn an_image_with_docker_manifests_gives_the_same_tree() {
    let image = make(&Recipe {
        layers: &[(
            Compression::Gzip,
            tar(&[("usr/", b""), ("usr/file", &[1; 1000])]),
        )],
        architecture: &host_architecture(),
        version: "1",
    });
    let (_temp, name) = layout(&image);
    let registry = DockerRegistry::start();
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "--format",
        "v2s2",
        &name,
        &format!("docker://{}", registry.name("debian:docker")),
    ]);
    let local = LocalStore::new();
    let pulled = local.pull(&registry.name("debian:docker")).unwrap();
    assert_ne!(
        pulled.image.manifest_digest,
        image.digest(),
        "skopeo converted it"
    );
    assert!(
        pulled.image.manifest.config.media_type.contains("docker"),
        "{:?}",
        pulled.image.manifest.config
    );
    let tree = pulled.image.tree(&local.store).unwrap();
    assert_eq!(read(&local.store, &tree, "usr/file"), [1; 1000]);
}

#[test]
fn registries_conf_moves_images_and_allows_http() {
    let image = three_layers("1");
    let (_temp, name) = layout(&image);
    let registry = DockerRegistry::start();
    registry.push(&name, "mirror/debian:stable", &[]);
    let conf = tempfile::tempdir().unwrap();
    let text = format!(
        "[[registry]]\nprefix = 'images.example/os'\nlocation = '{}'\ninsecure = true\n",
        registry.name("mirror")
    );
    let mut file = std::fs::File::create(conf.path().join("registries.conf")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut options = options();
    options.source.insecure = false;
    options.source.config.system = Some(conf.path().to_owned());
    let local = LocalStore::new();
    let pulled = local
        .pull_with("images.example/os/debian:stable", &options)
        .unwrap();
    assert_is_three_layers(&local, &pulled, "1");
    assert_eq!(
        pulled.reference.to_string(),
        "docker://images.example/os/debian:stable"
    );

    // What no table allows is not tried over HTTP.
    let error = local.pull_with(&registry.name("mirror/debian:stable"), &options);
    let error = show(&error.unwrap_err());
    assert!(error.contains("https://127.0.0.1"), "{error}");
    assert!(error.contains("insecure = true"), "{error}");
}

#[test]
fn a_certificate_that_nobody_trusts_is_refused_unless_allowed() {
    let image = three_layers("1");
    let (_temp, name) = layout(&image);
    let registry = DockerRegistry::with_own_certificate();
    registry.push(&name, "debian:stable", &[]);
    let local = LocalStore::new();
    let mut options = options();
    options.source.insecure = false;
    let error = local.pull_with(&registry.name("debian:stable"), &options);
    let error = show(&error.unwrap_err());
    assert!(error.contains("certificate"), "{error}");
    local.assert_lacks(&image.digest());
    let pulled = local.pull(&registry.name("debian:stable")).unwrap();
    assert_is_three_layers(&local, &pulled, "1");
}

#[test]
fn an_unknown_tag_and_an_unknown_repository_are_named() {
    let image = three_layers("1");
    let (_temp, name) = layout(&image);
    let registry = DockerRegistry::start();
    registry.push(&name, "debian:stable", &[]);
    let local = LocalStore::new();
    for image in ["debian:missing", "missing:stable"] {
        let error = show(&local.pull(&registry.name(image)).unwrap_err());
        assert!(error.contains("404: MANIFEST_UNKNOWN"), "{error}");
        assert!(error.contains("check the name and the tag"), "{error}");
    }
    let unknown = Digest::sha256(b"unknown");
    let error = local.pull(&format!("{}@{unknown}", registry.name("debian")));
    assert!(show(&error.unwrap_err()).contains(&unknown.to_string()));
}
