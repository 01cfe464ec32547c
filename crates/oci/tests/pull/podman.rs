//! Images in a store that podman itself wrote.

use std::path::{Path, PathBuf};

use hull_oci::manifest::Compression;
use hull_oci::{Digest, Pulled};
use hull_sys::run::Program;

use crate::docker_registry::DockerRegistry;
use crate::image::{Recipe, TestImage, host_architecture, make, three_layers};
use crate::interop::dump;
use crate::local_store::{LocalStore, show};

/// A store of podman's in a temporary directory.
pub(crate) struct Podman {
    temp: tempfile::TempDir,
}

impl Podman {
    pub(crate) fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
        }
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = Program::new("podman")
            .package("podman")
            .arg("--root")
            .arg(self.root())
            .arg("--runroot")
            .arg(self.temp.path().join("run"))
            .args([
                "--storage-driver",
                "overlay",
                "--cgroup-manager",
                "cgroupfs",
            ])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output).trim().to_owned()
    }

    /// Pulls the image from a registry, and names it.
    pub(crate) fn take(&self, image: &TestImage, name: &str) {
        let layout = tempfile::tempdir().unwrap();
        image.write_layout(layout.path(), "test");
        let registry = DockerRegistry::start();
        registry.push(
            &format!("oci:{}:test", layout.path().display()),
            "os:1",
            &[],
        );
        let from = registry.name("os:1");
        self.run(&["pull", "--quiet", "--tls-verify=false", &from]);
        self.run(&["tag", &from, name]);
    }

    pub(crate) fn reference(&self, image: &str) -> String {
        let run = self.temp.path().join("run");
        format!(
            "containers-storage:[overlay@{}+{}]{image}",
            self.root().display(),
            run.display()
        )
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // podman mounts the directory on itself.
        rustix::mount::unmount(
            self.root().join("overlay"),
            rustix::mount::UnmountFlags::DETACH,
        )
        .ok();
    }
}

/// Layers with everything that podman keeps in another form than tars have it.
fn eventful() -> TestImage {
    let long = format!("usr/{}", "long".repeat(30));
    let python = format!(
        r#"
import io, sys, tarfile
def archive(entries):
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)
    for name, kind, body in entries:
        entry = tarfile.TarInfo(name)
        entry.mtime = 1700000000.25
        entry.mode = 0o755 if kind == "d" else 0o640
        entry.uid, entry.gid = 7, 8
        if kind == "d":
            entry.type = tarfile.DIRTYPE
        elif kind == "s":
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, body, 0o777
        elif kind == "h":
            entry.type, entry.linkname = tarfile.LNKTYPE, body
        elif kind == "p":
            entry.type = tarfile.FIFOTYPE
        else:
            body = body.encode()
            entry.size = len(body)
            entry.pax_headers = {{"SCHILY.xattr.user.note": "x"}}
            tar.addfile(entry, io.BytesIO(body))
            continue
        tar.addfile(entry)
    tar.close()
    return out.getvalue()
layers = [
    [("usr", "d", ""), ("usr/gone", "f", "gone" * 99), ("usr/dir", "d", ""), ("usr/dir/old", "f", "old" * 99),
     ("usr/kept", "f", "kept" * 99), ("usr/again", "h", "usr/kept"), ("usr/link", "s", "kept"), ("usr/pipe", "p", "")],
    [("usr", "d", ""), ("usr/.wh.gone", "f", ""), ("usr/dir", "d", ""), ("usr/dir/.wh..wh..opq", "f", ""), ("usr/dir/new", "f", "new" * 99),
     ("{long}", "f", "far" * 99), ("usr/small", "f", "s")],
]
sys.stdout.buffer.write(archive(layers[int(sys.argv[1])]))
"#
    );
    let layer = |number: &str| {
        Program::new("python3")
            .package("python3")
            .args(["-c", &python, number])
            .output()
            .unwrap()
    };
    make(&Recipe {
        layers: &[
            (Compression::Gzip, layer("0")),
            (Compression::Zstd, layer("1")),
        ],
        architecture: &host_architecture(),
        version: "1",
    })
}

/// The image as it comes from a registry.
fn from_registry(image: &TestImage) -> (LocalStore, Pulled) {
    let temp = tempfile::tempdir().unwrap();
    image.write_layout(temp.path(), "test");
    let registry = DockerRegistry::start();
    registry.push(&format!("oci:{}:test", temp.path().display()), "os:1", &[]);
    let local = LocalStore::new();
    let pulled = local.pull(&registry.name("os:1")).unwrap();
    (local, pulled)
}

#[test]
fn podmans_store_gives_the_tree_that_the_registry_gives() {
    let image = eventful();
    let podman = Podman::new();
    podman.take(&image, "localhost/os:1");
    let (other, expected) = from_registry(&image);
    let local = LocalStore::new();
    let pulled = local.pull(&podman.reference("localhost/os:1")).unwrap();
    assert_eq!(dump(&local, &pulled), dump(&other, &expected));
    // The configuration is the published one, so the layers are those that it names.
    assert_eq!(pulled.image.manifest.config, expected.image.manifest.config);
    for layer in &pulled.image.manifest.layers {
        assert_eq!(layer.compression, Compression::None);
    }
    for (layer, diff_id) in pulled
        .image
        .layers
        .iter()
        .zip(&pulled.image.config.diff_ids)
    {
        hull_oci::layer::verify_diff_id(&local.store, layer, diff_id).unwrap();
    }
    // All ways to name it lead there, also the digest that hull gave it.
    let id = podman.run(&["images", "--no-trunc", "--quiet", "localhost/os:1"]);
    let id = id.trim_start_matches("sha256:");
    let published = image.digest();
    let given = pulled.image.manifest_digest;
    for name in [
        format!("@{id}"),
        format!("@{}", &id[..12]),
        "os:1".to_owned(),
        format!("localhost/os@{id}"),
        format!("@{published}"),
        format!("localhost/os:1@{published}"),
        format!("localhost/os:1@{given}"),
        format!("@{given}"),
    ] {
        let again = local.pull(&podman.reference(&name)).unwrap();
        assert_eq!(again.image, pulled.image, "{name}");
    }
    let wrong = Digest::sha256(b"wrong");
    for name in [
        "os:2",
        "localhost/os",
        "@0123456789ab",
        &format!("os:1@{wrong}"),
    ] {
        let error = show(&local.pull(&podman.reference(name)).unwrap_err());
        assert!(error.contains("localhost/os:1"), "{error}");
    }
}

#[test]
fn an_image_that_podman_has_unpacked_keeps_its_digest() {
    let image = make(&Recipe {
        layers: &[(
            Compression::None,
            crate::image::tar(&[("usr/", b""), ("usr/file", &[7; 9000])]),
        )],
        architecture: &host_architecture(),
        version: "1",
    });
    let podman = Podman::new();
    podman.take(&image, "localhost/os:1");
    let local = LocalStore::new();
    let pulled = local.pull(&podman.reference("localhost/os:1")).unwrap();
    assert_eq!(pulled.image.manifest_digest, image.digest());
}

#[test]
fn layers_without_tar_split_are_made_of_their_files() {
    let image = eventful();
    let podman = Podman::new();
    podman.take(&image, "localhost/os:1");
    remove_tar_split(&podman.root());
    let (other, expected) = from_registry(&image);
    let local = LocalStore::new();
    let pulled = local.pull(&podman.reference("localhost/os:1")).unwrap();
    assert_eq!(dump(&local, &pulled), dump(&other, &expected));
    assert_ne!(pulled.image.config.diff_ids, expected.image.config.diff_ids);
    let again = LocalStore::new()
        .pull(&podman.reference("localhost/os:1"))
        .unwrap();
    assert_eq!(again.image.manifest_digest, pulled.image.manifest_digest);
}

fn remove_tar_split(root: &Path) {
    for entry in std::fs::read_dir(root.join("overlay-layers")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".tar-split.gz") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_file_that_was_changed_in_podmans_store_is_found_out() {
    let image = three_layers("1");
    let podman = Podman::new();
    podman.take(&image, "localhost/os:1");
    let mut changed = 0;
    for entry in std::fs::read_dir(podman.root().join("overlay")).unwrap() {
        let path = entry.unwrap().path().join("diff/usr/one");
        if let Ok(mut content) = std::fs::read(&path) {
            content[0] ^= 1;
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &content)
                .unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    let local = LocalStore::new();
    let error = show(&local.pull(&podman.reference("localhost/os:1")).unwrap_err());
    assert!(error.contains("wrong content"), "{error}");
    local.assert_lacks(&image.digest());
}

#[test]
fn layers_are_found_in_an_additional_store_too() {
    let image = three_layers("1");
    let podman = Podman::new();
    podman.take(&image, "localhost/os:1");
    let empty = Podman::new();
    std::fs::create_dir(empty.root()).unwrap();
    let local = LocalStore::new();
    let name = format!(
        "containers-storage:[overlay@{}:overlay.imagestore={}]localhost/os:1",
        empty.root().display(),
        podman.root().display()
    );
    let pulled = local.pull(&name).unwrap();
    assert_eq!(pulled.image.layers.len(), 3);
    let missing = format!("containers-storage:[{}/none]os", empty.root().display());
    let error = show(&local.pull(&missing).unwrap_err());
    assert!(error.contains("no store of podman's"), "{error}");
}
