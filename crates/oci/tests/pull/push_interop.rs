//! What hull writes is read by the programs that people have.

use std::io::Read;
use std::path::Path;

use hull_oci::manifest::Compression;
use hull_oci::progress::Silent;
use hull_oci::push;
use hull_sys::run::Program;

use crate::docker_registry::DockerRegistry;
use crate::image::{Recipe, TestImage, host_architecture, make, tar, three_layers};
use crate::interop::dump;
use crate::local_store::LocalStore;
use crate::podman::Podman;
use crate::push::{copy_options, copy_with};

fn layout(image: &TestImage, dir: &Path) -> String {
    image.write_layout(dir, "test");
    format!("oci:{}:test", dir.display())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Program::new(program)
        .package(program)
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output).trim().to_owned()
}

#[test]
fn podman_loads_an_archive_that_hull_wrote_and_finds_the_same_image() {
    let image = three_layers("1");
    let temp = tempfile::tempdir().unwrap();
    let from = layout(&image, &temp.path().join("layout"));
    let docker = temp.path().join("docker.tar");
    let target = format!("docker-archive:{}:example.org/os:1", docker.display());
    copy_with(&from, &target, &copy_options()).unwrap();
    let podman = Podman::new();
    podman.run(&["load", "--quiet", "--input", docker.to_str().unwrap()]);
    let id = podman.run(&[
        "image",
        "inspect",
        "--format",
        "{{.Id}}",
        "example.org/os:1",
    ]);
    assert_eq!(id, image.config.to_hex());
    let oci = temp.path().join("oci.tar");
    let target = format!("oci-archive:{}:example.org/os:2", oci.display());
    copy_with(&from, &target, &copy_options()).unwrap();
    let archive = format!("oci-archive:{}", oci.display());
    let id = podman.run(&["pull", "--quiet", &archive]);
    assert_eq!(id, image.config.to_hex());
}

#[test]
fn podman_pulls_from_a_registry_what_hull_copied_there_and_what_its_store_pushed() {
    let image = three_layers("1");
    let temp = tempfile::tempdir().unwrap();
    let from = layout(&image, temp.path());
    let registry = DockerRegistry::start();
    let copied = copy_with(&from, &registry.name("copied:1"), &copy_options()).unwrap();
    let local = LocalStore::new();
    let expected = local.pull(&from).unwrap();
    // Nothing of it is there, so it is compressed again.
    let other = DockerRegistry::start();
    let target = other.name("pushed:1").parse().unwrap();
    let digest = &expected.image.manifest_digest;
    let options = copy_options();
    let pushed = push::push(&local.store, digest, None, &target, &options, &Silent).unwrap();
    assert_ne!(pushed.digest, copied.digest);
    for (name, digest) in [
        (registry.name("copied:1"), copied.digest.unwrap()),
        (other.name("pushed:1"), pushed.digest.unwrap()),
    ] {
        let by_skopeo = output(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &format!("docker://{name}"),
            ],
        );
        assert_eq!(by_skopeo, digest.to_string());
        // One store for both would show the digest that it saw first.
        let podman = Podman::new();
        podman.run(&["pull", "--quiet", "--tls-verify=false", &name]);
        let found = podman.run(&["image", "inspect", "--format", "{{.Digest}}", &name]);
        assert_eq!(found, digest.to_string());
        // And what podman unpacked of it is the same tree again.
        let reader = LocalStore::new();
        let read = reader.pull(&podman.reference(&name)).unwrap();
        assert_eq!(dump(&reader, &read), dump(&local, &expected));
    }
}

#[test]
fn an_image_of_podmans_store_is_published_compressed() {
    let image = three_layers("1");
    let podman = Podman::new();
    podman.take(&image, "localhost/os:1");
    let registry = DockerRegistry::start();
    let mut options = copy_options();
    options.compress = Some(Compression::Zstd);
    let from = podman.reference("localhost/os:1");
    let copied = copy_with(&from, &registry.name("os:1"), &options).unwrap();
    assert!(
        copied
            .remarks
            .iter()
            .any(|text| text.contains("compressed anew"))
    );
    let (one, two) = (LocalStore::new(), LocalStore::new());
    let expected = one.pull(&from).unwrap();
    let pulled = two.pull(&registry.name("os:1")).unwrap();
    assert_eq!(pulled.image.manifest_digest, copied.digest.unwrap());
    assert_eq!(dump(&one, &expected), dump(&two, &pulled));
    let layers = &pulled.image.manifest.layers;
    assert!(
        layers
            .iter()
            .all(|layer| layer.compression == Compression::Zstd)
    );
}

#[test]
fn umoci_unpacks_a_layout_that_hull_wrote() {
    // umoci of Debian 12 reads no zstd.
    let image = make(&Recipe {
        layers: &[
            (
                Compression::Gzip,
                tar(&[("usr/", b""), ("usr/one", b"1"), ("usr/two", b"2")]),
            ),
            (
                Compression::Gzip,
                tar(&[("usr/.wh.one", b""), ("usr/two", b"two")]),
            ),
        ],
        architecture: &host_architecture(),
        version: "1",
    });
    let temp = tempfile::tempdir().unwrap();
    let from = layout(&image, &temp.path().join("from"));
    let to = temp.path().join("to");
    copy_with(&from, &format!("oci:{}:new", to.display()), &copy_options()).unwrap();
    let bundle = temp.path().join("bundle");
    let name = format!("{}:new", to.display());
    output(
        "umoci",
        &["unpack", "--image", &name, bundle.to_str().unwrap()],
    );
    let mut content = String::new();
    let two = bundle.join("rootfs/usr/two");
    std::fs::File::open(two)
        .unwrap()
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "two");
    assert!(!bundle.join("rootfs/usr/one").exists());
}

#[test]
fn blobs_are_mounted_from_the_repository_that_may_have_them() {
    let image = three_layers("1");
    let temp = tempfile::tempdir().unwrap();
    let from = layout(&image, temp.path());
    let registry = DockerRegistry::start();
    let first = copy_with(&from, &registry.name("a:1"), &copy_options()).unwrap();
    assert_eq!((first.sent_blobs, first.present_blobs), (4, 0));
    let having = |name: &str| {
        let mut options = copy_options();
        options.mount_from = Some(registry.name(name).parse().unwrap());
        options
    };
    let second = copy_with(&from, &registry.name("b:1"), &having("a:1")).unwrap();
    assert_eq!((second.sent_blobs, second.present_blobs), (0, 4));
    assert_eq!(second.digest, Some(image.digest()));
    let other = LocalStore::new();
    let pulled = other.pull(&registry.name("b:1")).unwrap();
    assert_eq!(pulled.image.manifest_digest, image.digest());
    // One that has nothing is no obstacle.
    let third = copy_with(&from, &registry.name("c:1"), &having("none:1")).unwrap();
    assert_eq!((third.sent_blobs, third.present_blobs), (4, 0));
}
