//! Archives that other programs write, and trees that other programs unpack.

use std::os::unix::fs::{PermissionsExt, symlink as make_symlink};
use std::path::Path;

use hull_sys::run::Program;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::archive::*;
use super::*;

#[path = "../../../tests/unpacked/mod.rs"]
mod unpacked;

/// A directory on a file system with all attributes; needs root.
fn disk() -> tempfile::TempDir {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes devices and owners: run it as root"
    );
    tempfile::tempdir().unwrap()
}

fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    std::fs::File::create(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

fn assert_same(scratch: &Scratch, tree: &Tree, unpacked: &Path) {
    let differences = unpacked::differences(&scratch.store, tree, unpacked);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A file system object to be made below a directory.
#[derive(Debug, Clone)]
struct Object {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    xattr: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Kind {
    File(usize),
    /// Length, and where the only data is.
    Sparse(u64, u64),
    Symlink(Vec<u8>),
    Device(FileType, u32, u32),
    Fifo,
    Directory(Vec<Object>),
    /// To the file that was made last.
    HardLink,
}

fn object() -> impl Strategy<Value = Object> {
    let name = prop_oneof![
        6 => "[a-zA-Z0-9._-]{1,12}".prop_map(String::into_bytes),
        1 => "[a-z]{90,255}".prop_map(String::into_bytes),
        1 => prop::collection::vec(prop::sample::select((1..=255u8).filter(|b| *b != b'/').collect::<Vec<_>>()), 1..20),
    ];
    let leaf = prop_oneof![
        6 => (0usize..200).prop_map(Kind::File),
        2 => (0usize..200_000).prop_map(Kind::File),
        1 => (100_000u64..10_000_000, 0u64..90_000).prop_map(|(length, at)| Kind::Sparse(length, at)),
        2 => "[a-z/.]{1,150}".prop_map(|target| Kind::Symlink(target.into_bytes())),
        1 => (0u32..4096, 0u32..1_048_576).prop_map(|(major, minor)| Kind::Device(FileType::CharacterDevice, major, minor)),
        1 => (0u32..4096, 0u32..1_048_576).prop_map(|(major, minor)| Kind::Device(FileType::BlockDevice, major, minor)),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::HardLink),
    ];
    let kind = leaf.prop_map(Some);
    let with = move |kind: BoxedStrategy<Kind>| {
        let ids = prop_oneof![0u32..3, 0u32..4_294_967_294];
        let time = (-1_000_000_000i64..4_000_000_000, 0i64..1_000_000_000);
        let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 1..40));
        (
            name.clone(),
            kind,
            0u32..0o10000,
            (ids.clone(), ids),
            time,
            xattr,
        )
            .prop_map(|(name, kind, mode, owner, mtime, xattr)| Object {
                name,
                kind,
                mode,
                owner,
                mtime,
                xattr,
            })
    };
    let leaf = with(kind.prop_map(|kind| kind.expect("it is one")).boxed()).boxed();
    leaf.prop_recursive(4, 40, 8, move |inner| {
        with(
            prop::collection::vec(inner, 0..8)
                .prop_map(Kind::Directory)
                .boxed(),
        )
    })
}

/// Makes objects below a directory; what has a name that is there already is left out.
fn make(directory: &Path, objects: &[Object], last_file: &mut Option<std::path::PathBuf>) {
    use std::os::unix::ffi::OsStrExt;
    for object in objects {
        let path = directory.join(std::ffi::OsStr::from_bytes(&object.name));
        if matches!(object.name.as_slice(), b"." | b"..") || path.symlink_metadata().is_ok() {
            continue;
        }
        let noise = |length: usize| {
            (0..length)
                .map(|at| (at * at / 7 % 251).to_le_bytes()[0])
                .collect::<Vec<u8>>()
        };
        match &object.kind {
            Kind::File(length) => {
                write(&path, &noise(*length));
                *last_file = Some(path.clone());
            }
            Kind::Sparse(length, at) => {
                use std::os::unix::fs::FileExt;
                let file = std::fs::File::create(&path).unwrap();
                file.set_len(*length).unwrap();
                file.write_all_at(&noise(9000), *at).unwrap();
                *last_file = Some(path.clone());
            }
            Kind::Symlink(target) => {
                make_symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap()
            }
            Kind::Device(type_, major, minor) => {
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    *type_,
                    Mode::from_raw_mode(0),
                    device,
                )
                .unwrap();
            }
            Kind::Fifo => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                FileType::Fifo,
                Mode::from_raw_mode(0),
                0,
            )
            .unwrap(),
            Kind::HardLink => {
                if let Some(file) = last_file {
                    std::fs::hard_link(file, &path).unwrap();
                }
                continue;
            }
            Kind::Directory(inner) => {
                std::fs::create_dir(&path).unwrap();
                make(&path, inner, last_file);
            }
        }
        dress(&path, object);
    }
}

fn dress(path: &Path, object: &Object) {
    let is_symlink = matches!(object.kind, Kind::Symlink(_));
    std::os::unix::fs::lchown(path, Some(object.owner.0), Some(object.owner.1)).unwrap();
    if !is_symlink {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(object.mode)).unwrap();
    }
    if let (Some(value), Kind::File(_) | Kind::Directory(_)) = (&object.xattr, &object.kind) {
        rustix::fs::lsetxattr(path, "user.test", value, XattrFlags::empty()).unwrap();
        rustix::fs::lsetxattr(path, "trusted.test", value, XattrFlags::empty()).unwrap();
    }
    let time = Timespec {
        tv_sec: object.mtime.0,
        tv_nsec: object.mtime.1,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Random trees on disk, the same ones each time.
fn random_trees(count: usize, check: impl Fn(&Path)) {
    let seed = RngSeed::Fixed(7);
    let mut runner = TestRunner::new(Config {
        rng_seed: seed,
        ..Config::default()
    });
    let trees = prop::collection::vec(object(), 3..10);
    for _ in 0..count {
        let objects = trees.new_tree(&mut runner).unwrap().current();
        let disk = disk();
        let root = disk.path().join("root");
        std::fs::create_dir(&root).unwrap();
        make(&root, &objects, &mut None);
        check(&root);
    }
}

fn gnu_tar(root: &Path, options: &[&str]) -> Vec<u8> {
    let archive = root.with_file_name("layer.tar");
    Program::new("tar")
        .package("tar")
        .args(options)
        .arg("--numeric-owner")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(root)
        .arg(".")
        .run()
        .unwrap();
    std::fs::read(archive).unwrap()
}

#[test]
fn what_gnu_tar_packs_in_posix_format_is_the_tree_on_disk() {
    let options = ["--format=posix", "--xattrs", "--xattrs-include=*", "--acls"];
    random_trees(12, |root| {
        let scratch = Scratch::new();
        assert_same(&scratch, &scratch.merge(&[gnu_tar(root, &options)]), root);
    });
}

#[test]
fn what_gnu_tar_packs_with_holes_is_the_tree_on_disk() {
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let options = [
            "--format=posix",
            "--sparse",
            &version,
            "--xattrs",
            "--xattrs-include=*",
        ];
        random_trees(6, |root| {
            let scratch = Scratch::new();
            assert_same(&scratch, &scratch.merge(&[gnu_tar(root, &options)]), root);
        });
    }
}

#[test]
fn what_gnu_tar_packs_in_its_own_format_is_the_tree_on_disk_but_for_what_it_cannot_hold() {
    for options in [&["--format=gnu"][..], &["--format=gnu", "--sparse"]] {
        random_trees(8, |root| {
            let scratch = Scratch::new();
            let tree = scratch.merge(&[gnu_tar(root, options)]);
            let differences = unpacked::differences(&scratch.store, &tree, root);
            // Neither nanoseconds nor attributes.
            let real = differences
                .iter()
                .filter(|line| !line.contains(": time: ") && !line.contains(": attributes: "));
            assert_eq!(real.count(), 0, "{}", differences.join("\n"));
        });
    }
}

#[test]
fn access_control_lists_that_gnu_tar_packs_are_those_on_disk() {
    let disk = disk();
    let root = disk.path().join("root");
    std::fs::create_dir_all(root.join("d")).unwrap();
    write(&root.join("f"), b"x");
    // Numbers without a name: this program writes names where it knows them.
    for (path, list) in [
        ("f", "u:100001:rw,g:100050:r,g:100007:x"),
        ("d", "u:100005:rwx,d:u:100006:rx,d:g:100007:-"),
    ] {
        Program::new("setfacl")
            .package("acl")
            .arg("-m")
            .arg(list)
            .arg(root.join(path))
            .run()
            .unwrap();
    }
    let scratch = Scratch::new();
    let tree = scratch.merge(&[gnu_tar(&root, &["--format=posix", "--acls"])]);
    assert_eq!(leaf(&tree, "f").metadata.xattrs.len(), 1);
    assert_eq!(tree.directory(b"d").unwrap().metadata().xattrs.len(), 2);
    assert_same(&scratch, &tree, &root);
}

#[test]
fn what_python_packs_is_the_tree_on_disk() {
    let script = "import sys, tarfile
with tarfile.open(sys.argv[2], 'w', format=getattr(tarfile, sys.argv[3]), errors='surrogateescape') as archive:
    archive.add(sys.argv[1], arcname='.')";
    for (format, skipped) in [
        ("PAX_FORMAT", &[": attributes: "][..]),
        ("GNU_FORMAT", &[": attributes: ", ": time: "]),
    ] {
        random_trees(8, |root| {
            let archive = root.with_file_name("layer.tar");
            let python = Program::new("python3")
                .package("python3")
                .args(["-c", script]);
            python.arg(root).arg(&archive).arg(format).run().unwrap();
            let scratch = Scratch::new();
            let tree = scratch.merge(&[std::fs::read(archive).unwrap()]);
            let differences = unpacked::differences(&scratch.store, &tree, root);
            // It keeps times as floating-point numbers.
            let real = differences
                .iter()
                .filter(|line| !skipped.iter().any(|what| line.contains(what)) && !rounded(line));
            assert_eq!(real.count(), 0, "{}", differences.join("\n"));
        });
    }
}

/// Whether a line is about times that differ by less than a microsecond.
fn rounded(line: &str) -> bool {
    let Some((_, times)) = line.split_once(": time: ") else {
        return false;
    };
    let numbers: Vec<i128> = times
        .split(|byte: char| !byte.is_ascii_digit() && byte != '-')
        .filter_map(|number| number.parse().ok())
        .collect();
    let [seconds, nanoseconds, their_seconds, their_nanoseconds] = numbers[..] else {
        return false;
    };
    let ours = seconds * 1_000_000_000 + nanoseconds;
    let theirs = their_seconds * 1_000_000_000 + their_nanoseconds;
    (ours - theirs).abs() < 1000
}

/// An OCI layout with one image of these layers, tagged `test`.
fn layout(directory: &Path, layers: &[Vec<u8>]) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        write(&blobs.join(digest.to_hex()), bytes);
        (digest.to_string(), bytes.len())
    };
    let layers: Vec<_> = layers.iter().map(|layer| put(layer)).collect();
    let descriptor = |media_type: &str, (digest, size): &(String, usize)| serde_json::json!({"mediaType": media_type, "digest": digest, "size": size});
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer.0).collect::<Vec<_>>()},
        "history": [],
    });
    let config = put(config.to_string().as_bytes());
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| descriptor(tar, layer)).collect::<Vec<_>>(),
    });
    let mut manifest = descriptor(
        "application/vnd.oci.image.manifest.v1+json",
        &put(manifest.to_string().as_bytes()),
    );
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "test"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    write(&directory.join("index.json"), index.to_string().as_bytes());
    write(
        &directory.join("oci-layout"),
        br#"{"imageLayoutVersion": "1.0.0"}"#,
    );
}

/// Three layers with everything that umoci 0.4 takes.
fn three_layers() -> Vec<Vec<u8>> {
    let long_name = format!("long/{}", "component/".repeat(25));
    let base = [
        directory("./").mode(0o755),
        directory("usr"),
        directory("usr/lib").pax("mtime", "1600000000.987654321"),
        symlink("lib", "usr/lib").pax("mtime", "1500000000.5"),
        symlink("lib64", "/usr/lib"),
        file("usr/lib/big", vec![b'b'; 300_000]).mode(0o755),
        file("usr/lib/capable", "elf").mode(0o755).pax(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        file("usr/lib/set", "").mode(0o6755).owner(33, 44),
        hard_link("usr/lib/linked", "usr/lib/big"),
        hard_link("usr/lib/linked-again", "./lib/linked"),
        directory("etc").pax("SCHILY.xattr.user.a", "value"),
        file("etc/removed", "x"),
        file("etc/replaced", "old"),
        directory("etc/emptied"),
        file("etc/emptied/old", ""),
        directory("etc/emptied/deep"),
        file("etc/emptied/deep/old", ""),
        directory("gone"),
        file("gone/x", ""),
        file("was-file", ""),
        directory("was-directory"),
        file("was-directory/x", ""),
        directory("tmp").mode(0o1777),
        device("null", b'3', 1, 3).mode(0o666),
        device("disk", b'4', 8, 17),
        member("pipe", b'6').mode(0o600),
        file(b"name\xff\xfe", "not UTF-8"),
        file("new\nline", ""),
    ];
    let middle = [
        file("etc/.wh.removed", ""),
        file("etc/replaced", "new").owner(4_000, 4_000),
        file("etc/emptied/new", "stays"),
        file("etc/emptied/.wh..wh..opq", ""),
        file(".wh.gone", ""),
        directory("was-file"),
        file("was-file/x", ""),
        file("was-directory", "now a file"),
        file("lib/through", "a link"),
        file("lib64/absolute", "as well"),
        hard_link("cross-layer", "usr/lib/big"),
        directory("tmp")
            .mode(0o1770)
            .pax("SCHILY.xattr.trusted.x", "y"),
        file("missing/parents/file", ""),
        long(b'L', format!("{long_name}name")),
        file("cut", "long").gnu(),
        file("acl", "")
            .mode(0o670)
            .pax("SCHILY.xattr.system.posix_acl_access", acl()),
    ];
    // Old sparse files are more than it takes.
    let sparse = super::reading::sparse_forms()
        .into_iter()
        .filter(|(form, _)| *form != "old");
    let mut top = vec![
        directory("gone").mode(0o700),
        file("gone/again", ""),
        file("lib/.wh.through", ""),
        file("usr/lib/big", "replaced, the links stay"),
        symlink("null", "no longer a device"),
        file("twice", "first"),
        file("twice", "second").mode(0o600),
        file("large-owner", "")
            .pax("uid", "3000000000")
            .pax("gid", "3000000001"),
        file("before-1970", "").pax("mtime", "-100.25"),
    ];
    top.extend(sparse.map(|(form, mut made)| {
        for (key, value) in &mut made.pax {
            if key == "path" || key == "GNU.sparse.name" {
                *value = format!("sparse-{form}").into_bytes();
            }
        }
        made
    }));
    vec![tar(&base), tar(&middle), tar(&top)]
}

/// `user::rw-,user:1000:rwx,group::r--,mask::rwx,other::---`
fn acl() -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in [
        (1u16, 6u16, u32::MAX),
        (2, 7, 1000),
        (4, 4, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn the_tree_of_an_image_is_what_umoci_unpacks() {
    let disk = disk();
    let (image, bundle) = (disk.path().join("image"), disk.path().join("bundle"));
    let layers = three_layers();
    layout(&image, &layers);
    let umoci = Program::new("umoci")
        .package("umoci")
        .args(["unpack", "--image"]);
    umoci
        .arg(format!("{}:test", image.display()))
        .arg(&bundle)
        .run()
        .unwrap();
    let scratch = Scratch::new();
    let tree = scratch.merge(&layers);
    assert!(paths(&tree).len() > 60);
    assert_same(&scratch, &tree, &bundle.join("rootfs"));
}
