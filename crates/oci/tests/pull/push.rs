//! Writing images: to a registry, layouts and archives, read back by others.

use std::path::Path;

use hull_oci::manifest::Compression;
use hull_oci::progress::Silent;
use hull_oci::push::{self, Copied, CopyOptions, PushError};
use hull_oci::{Digest, Reference};
use serde_json::Value;

use crate::docker_registry::{DockerRegistry, skopeo};
use crate::image::{Recipe, TestImage, host_architecture, make, tar, three_layers};
use crate::interop::dump;
use crate::local_store::{LocalStore, options, show};

pub(crate) fn copy_options() -> CopyOptions {
    let source = options().source;
    CopyOptions {
        target: source.clone(),
        source,
        ..CopyOptions::default()
    }
}

pub(crate) fn copy_with(from: &str, to: &str, options: &CopyOptions) -> Result<Copied, PushError> {
    let reference = |text: &str| Reference::parse(text).unwrap();
    push::copy(&reference(from), &reference(to), options, &Silent)
}

fn copy(from: &str, to: &str) -> Result<Copied, PushError> {
    copy_with(from, to, &copy_options())
}

fn push(
    local: &LocalStore,
    image: &Digest,
    origin: Option<&str>,
    to: &str,
) -> Result<Copied, PushError> {
    let reference = |text: &str| Reference::parse(text).unwrap();
    let origin = origin.map(reference);
    push::push(
        &local.store,
        image,
        origin.as_ref(),
        &reference(to),
        &copy_options(),
        &Silent,
    )
}

/// A layout in a directory, by its name for skopeo and us.
fn layout(image: &TestImage, dir: &Path) -> String {
    image.write_layout(dir, "test");
    format!("oci:{}:test", dir.display())
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// An image whose blobs are large enough to go in several pieces.
pub(crate) fn large() -> TestImage {
    let noise: Vec<u8> = (0..5_000_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ 0x55).to_le_bytes())
        .collect();
    make(&Recipe {
        layers: &[
            (
                Compression::None,
                tar(&[("usr/", b""), ("usr/large", &noise)]),
            ),
            (Compression::Gzip, tar(&[("usr/small", &[7; 5000])])),
        ],
        architecture: &host_architecture(),
        version: "1",
    })
}

#[test]
fn a_copy_keeps_the_digest_wherever_it_goes() {
    let image = three_layers("1");
    let (from, to) = (temp(), temp());
    let mut name = layout(&image, from.path());
    let registry = DockerRegistry::start();
    let places = [
        registry.name("one/os:1"),
        format!("oci-archive:{}:os", to.path().join("os.tar").display()),
        format!("oci:{}:os", to.path().join("layout").display()),
        registry.name("two/os:1"),
    ];
    for place in places {
        let copied = copy(&name, &place).unwrap();
        assert_eq!(copied.digest, Some(image.digest()), "{place}");
        assert_eq!(copied.sent_blobs, 4, "{place}");
        assert_eq!(copied.remarks, Vec::<String>::new());
        let again = copy(&name, &place).unwrap();
        if !place.starts_with("oci-archive") {
            assert_eq!((again.sent_blobs, again.present_blobs), (0, 4), "{place}");
        }
        let local = LocalStore::new();
        assert_eq!(
            local.pull(&place).unwrap().image.manifest_digest,
            image.digest()
        );
        name = place;
    }
}

#[test]
fn skopeo_reads_what_hull_wrote() {
    let image = three_layers("1");
    let (from, to) = (temp(), temp());
    let name = layout(&image, from.path());
    let registry = DockerRegistry::start();
    copy(&name, &registry.name("os:1")).unwrap();
    let archive = format!("oci-archive:{}:os:1", to.path().join("os.tar").display());
    copy(&name, &archive).unwrap();
    let dir = format!("oci:{}:os:1", to.path().join("layout").display());
    copy(&name, &dir).unwrap();
    let registry = format!("docker://{}", registry.name("os:1"));
    for (number, place) in [registry, archive, dir].iter().enumerate() {
        let out = to.path().join(format!("out{number}"));
        let target = format!("oci:{}:x", out.display());
        skopeo(&[
            "copy",
            "--src-tls-verify=false",
            "--preserve-digests",
            place,
            &target,
        ]);
        let pulled = LocalStore::new().pull(&target).unwrap();
        assert_eq!(pulled.image.manifest_digest, image.digest(), "{place}");
    }
}

#[test]
fn a_large_blob_goes_in_pieces_and_arrives_whole() {
    let image = large();
    let from = temp();
    let name = layout(&image, from.path());
    let registry = DockerRegistry::start();
    let copied = copy(&name, &registry.name("os:1")).unwrap();
    assert_eq!(copied.digest, Some(image.digest()));
    assert!(copied.sent_bytes > 20_000_000);
    let local = LocalStore::new();
    let pulled = local.pull(&registry.name("os:1")).unwrap();
    assert_eq!(pulled.image.manifest_digest, image.digest());
}

#[test]
fn all_platforms_or_one_are_copied() {
    let host = three_layers("1");
    let other = make(&Recipe {
        layers: &[(Compression::Gzip, tar(&[("usr/other", b"other")]))],
        architecture: "s390x",
        version: "1",
    });
    let index = TestImage::index(&[&other, &host]);
    let (from, to) = (temp(), temp());
    let name = layout(&index, from.path());
    let registry = DockerRegistry::start();
    let copied = copy(&name, &registry.name("os:one")).unwrap();
    assert_eq!(
        (copied.digest, copied.source_digest),
        (Some(host.digest()), index.digest())
    );
    let all = CopyOptions {
        all: true,
        ..copy_options()
    };
    let archive = format!("oci-archive:{}", to.path().join("os.tar").display());
    for place in [registry.name("os:all"), archive.clone()] {
        let copied = copy_with(&name, &place, &all).unwrap();
        assert_eq!(copied.digest, Some(index.digest()));
        let mut options = options();
        options.platform = Some("linux/s390x".parse().unwrap());
        let pulled = LocalStore::new().pull_with(&place, &options).unwrap();
        assert_eq!(pulled.image.manifest_digest, other.digest());
    }
    let docker = format!("docker-archive:{}", to.path().join("docker.tar").display());
    let error = show(&copy_with(&name, &docker, &all).unwrap_err());
    assert!(error.contains("one image"), "{error}");
    assert!(!to.path().join("docker.tar").exists());
    let none = CopyOptions {
        platform: Some("linux/riscv64".parse().unwrap()),
        ..copy_options()
    };
    let error = show(&copy_with(&name, &archive, &none).unwrap_err());
    assert!(error.contains("no image for linux/riscv64"), "{error}");
    // One that stands alone is taken as it is, unless another one was named.
    let alone = registry.name("os:one");
    let error = show(&copy_with(&alone, &archive, &none).unwrap_err());
    assert!(error.contains("not for linux/riscv64"), "{error}");
}

#[test]
fn a_docker_archive_has_the_same_tree_and_id() {
    let image = three_layers("1");
    let (from, to) = (temp(), temp());
    let name = layout(&image, from.path());
    let path = to.path().join("os.tar");
    let archive = format!("docker-archive:{}:example.org/os:1", path.display());
    assert_eq!(copy(&name, &archive).unwrap().digest, None);
    let first = std::fs::read(&path).unwrap();
    copy(&name, &archive).unwrap();
    assert!(
        std::fs::read(&path).unwrap() == first,
        "the same image gives the same bytes"
    );
    // Somebody else reads it too.
    let out = format!("oci:{}:x", to.path().join("out").display());
    skopeo(&["copy", &archive, &out]);
    let (one, two, three) = (LocalStore::new(), LocalStore::new(), LocalStore::new());
    let expected = one.pull(&name).unwrap();
    let read = two.pull(&archive).unwrap();
    let by_skopeo = three.pull(&out).unwrap();
    assert_eq!(dump(&one, &expected), dump(&two, &read));
    assert_eq!(dump(&one, &expected), dump(&three, &by_skopeo));
    assert_eq!(read.image.manifest.config.digest, image.config);
}

#[test]
fn an_archive_is_the_same_each_time_and_a_failure_leaves_the_old_one() {
    let image = three_layers("1");
    let (from, to) = (temp(), temp());
    let name = layout(&image, from.path());
    let path = to.path().join("os.tar");
    let archive = format!("oci-archive:{}:os", path.display());
    copy(&name, &archive).unwrap();
    let first = std::fs::read(&path).unwrap();
    copy(&name, &archive).unwrap();
    assert!(std::fs::read(&path).unwrap() == first);
    let blob = from
        .path()
        .join(format!("blobs/sha256/{}", image.layers[2].to_hex()));
    let mut content = std::fs::read(&blob).unwrap();
    content[1000] ^= 1;
    std::io::Write::write_all(&mut std::fs::File::create(&blob).unwrap(), &content).unwrap();
    let layout = format!("oci:{}:os", to.path().join("layout").display());
    for place in [&archive, &layout] {
        let error = show(&copy(&name, place).unwrap_err());
        assert!(error.contains("wrong content"), "{error}");
        assert!(error.contains("nothing was published"), "{error}");
    }
    assert!(std::fs::read(&path).unwrap() == first);
    assert_eq!(
        std::fs::read_dir(to.path()).unwrap().count(),
        2,
        "no leftovers"
    );
    assert!(!to.path().join("layout/index.json").exists());
}

#[test]
fn a_layout_keeps_its_other_images() {
    let (one, two) = (three_layers("1"), three_layers("2"));
    let (first, second, to) = (temp(), temp(), temp());
    let (first, second) = (layout(&one, first.path()), layout(&two, second.path()));
    let place = |name: &str| format!("oci:{}:{name}", to.path().join("x").display());
    copy(&first, &place("a")).unwrap();
    copy(&first, &place("b")).unwrap();
    copy(&second, &place("a")).unwrap();
    let digest = |name| {
        LocalStore::new()
            .pull(&place(name))
            .unwrap()
            .image
            .manifest_digest
    };
    assert_eq!((digest("a"), digest("b")), (two.digest(), one.digest()));
    let foreign = to.path().join("foreign");
    std::fs::create_dir_all(foreign.join("files")).unwrap();
    let error = show(&copy(&first, &format!("oci:{}", foreign.display())).unwrap_err());
    assert!(error.contains("no OCI image layout"), "{error}");
}

#[test]
fn the_store_gives_back_what_a_registry_still_has() {
    let image = three_layers("1");
    let from = temp();
    let name = layout(&image, from.path());
    let registry = DockerRegistry::start();
    let origin = registry.name("one/os:1");
    registry.push(&name, "one/os:1", &[]);
    let local = LocalStore::new();
    let pulled = local.pull(&origin).unwrap().image;
    // Into the same repository, and into another one of the same registry: nothing is sent.
    for (to, origin) in [("one/os:2", None), ("two/os:1", Some(&*origin))] {
        let copied = push(&local, &pulled.manifest_digest, origin, &registry.name(to)).unwrap();
        assert_eq!(copied.digest, Some(image.digest()), "{to}");
        assert_eq!(copied.sent_blobs, 0, "{to}");
        let again = LocalStore::new().pull(&registry.name(to)).unwrap();
        assert_eq!(again.image.manifest_digest, image.digest());
    }
}

#[test]
fn the_store_compresses_again_what_nobody_has_and_says_so() {
    let image = three_layers("1");
    let from = temp();
    let name = layout(&image, from.path());
    let local = LocalStore::new();
    let expected = local.pull(&name).unwrap();
    let registry = DockerRegistry::start();
    let to = temp();
    let places = [
        registry.name("os:1"),
        format!("oci-archive:{}", to.path().join("os.tar").display()),
    ];
    let mut digests = Vec::new();
    for place in &places {
        let copied = push(&local, &image.digest(), None, place).unwrap();
        let digest = copied.digest.unwrap();
        assert!(
            copied.remarks[0].contains("compressed anew"),
            "{:?}",
            copied.remarks
        );
        assert!(copied.remarks[0].contains(&digest.to_string()));
        let other = LocalStore::new();
        let pulled = other.pull(place).unwrap();
        assert_eq!(pulled.image.manifest_digest, digest);
        assert_eq!(pulled.image.config, expected.image.config);
        assert_eq!(dump(&other, &pulled), dump(&local, &expected));
        // The layer that was never compressed is the same blob.
        let blob = |image: &hull_oci::Image| image.manifest.layers[2].descriptor.digest;
        assert_eq!(blob(&pulled.image), blob(&expected.image));
        digests.push(digest);
    }
    assert_eq!(
        digests[0], digests[1],
        "the same image gives the same bytes"
    );
    let again = push(&local, &image.digest(), None, &places[0]).unwrap();
    assert_eq!(again.sent_blobs, 0);
    let unknown = push(&local, &Digest::sha256(b"x"), None, &places[0]).unwrap_err();
    assert!(
        show(&unknown).contains("not in the store"),
        "{}",
        show(&unknown)
    );
}

#[test]
fn plain_layers_are_compressed_where_that_is_asked_for() {
    let image = large();
    let (from, to) = (temp(), temp());
    let name = layout(&image, from.path());
    let zstd = CopyOptions {
        compress: Some(Compression::Zstd),
        ..copy_options()
    };
    let archive = format!("oci-archive:{}", to.path().join("os.tar").display());
    let copied = copy_with(&name, &archive, &zstd).unwrap();
    assert_ne!(copied.digest, Some(image.digest()));
    let local = LocalStore::new();
    let pulled = local.pull(&archive).unwrap();
    let kinds: Vec<_> = pulled
        .image
        .manifest
        .layers
        .iter()
        .map(|layer| layer.compression)
        .collect();
    assert_eq!(kinds, [Compression::Zstd, Compression::Gzip]);
    let other = LocalStore::new();
    let expected = other.pull(&name).unwrap();
    assert_eq!(dump(&local, &pulled), dump(&other, &expected));
}

#[test]
fn a_registry_with_a_password_is_written_with_it_only() {
    let image = three_layers("1");
    let (from, to) = (temp(), temp());
    let name = layout(&image, from.path());
    let registry = DockerRegistry::with_password();
    let error = show(&copy(&name, &registry.name("os:1")).unwrap_err());
    assert!(error.contains("access denied (401)"), "{error}");
    assert!(error.contains("os"), "{error}");
    let auth = to.path().join("auth.json");
    let login: Value = serde_json::json!({"auths": {format!("127.0.0.1:{}", registry.port): {"auth": "dXNlcjpodXNo"}}});
    std::io::Write::write_all(
        &mut std::fs::File::create(&auth).unwrap(),
        login.to_string().as_bytes(),
    )
    .unwrap();
    let mut options = copy_options();
    options.target.auth.explicit = Some(auth);
    let copied = copy_with(&name, &registry.name("os:1"), &options).unwrap();
    assert_eq!(copied.digest, Some(image.digest()));
}

#[test]
fn podmans_store_is_read_and_not_written() {
    let from = temp();
    let name = layout(&three_layers("1"), from.path());
    let error = show(&copy(&name, "containers-storage:localhost/os").unwrap_err());
    assert!(error.contains("podman pull oci-archive:"), "{error}");
}

#[test]
fn a_copy_obeys_the_policy_before_anything_is_written() {
    let (from, to) = (temp(), temp());
    let name = layout(&three_layers("1"), from.path());
    let mut options = copy_options();
    let path = from.path().join("policy.json");
    let text = br#"{"default":[{"type":"reject"}]}"#;
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text).unwrap();
    options.source.config.system = Some(from.path().to_owned());
    options.policy = hull_oci::Policy::load(&options.source)
        .unwrap()
        .map(std::sync::Arc::new);
    assert!(options.policy.is_some());
    let archive = to.path().join("os.tar");
    let target = format!("oci-archive:{}", archive.display());
    let error = copy_with(&name, &target, &options).unwrap_err();
    assert!(matches!(error, PushError::Policy(_)), "{error}");
    assert!(!archive.exists());
}
