//! What an image holds.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use hull_chunk::components::Components;
use hull_chunk::layer::Compression;
use hull_chunk::scan::{FullPath, Kind, Rules, Scan, SpecialFiles};
use rustix::fs::{FileType, Mode};

use crate::world::{Recipe, Root};

fn assert_same(root: &Root, recipe: &Recipe) {
    let out = tempfile::tempdir().unwrap();
    let layout = out.path().join("oci");
    let made = recipe.make(root.path(), &layout);
    assert_eq!(recipe.differences(root.path(), &layout), []);
    // And an image that is made of the image is the same.
    let again = recipe.make_again(&layout, &out.path().join("again"));
    assert_eq!(again.built.manifest, made.built.manifest);
}

#[test]
fn an_image_is_what_its_source_is_in_each_compression() {
    for compression in [
        Compression::Zstd(3),
        Compression::ZstdChunked(3),
        Compression::Gzip(6),
        Compression::None,
    ] {
        let recipe = Recipe {
            compression,
            ..Recipe::default()
        };
        assert_same(&Root::system(), &recipe);
    }
}

#[test]
fn modes_owners_attributes_and_capabilities_are_kept() {
    let root = Root::system();
    root.mode("usr/bin/alpha", 0o4755);
    root.mode("tmp", 0o1777);
    root.mode("etc", 0o2750);
    std::os::unix::fs::chown(root.at("etc/machine"), Some(3_000_000_000), Some(7)).unwrap();
    std::os::unix::fs::lchown(root.at("usr/bin/b"), Some(5), Some(3_000_000)).unwrap();
    // cap_net_bind_service=ep, version 2
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    root.xattr("usr/bin/beta", "security.capability", &capability);
    fs::hard_link(root.at("usr/bin/beta"), root.at("usr/bin/gamma")).unwrap();
    // user::rwx user:9:r-- group::r-x mask::r-x other::r--
    let acl: Vec<u8> = [
        &2u32.to_le_bytes()[..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 9, 0, 0, 0],
        &[4, 0, 5, 0, 255, 255, 255, 255],
        &[16, 0, 5, 0, 255, 255, 255, 255],
        &[32, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    root.xattr("etc/machine", "system.posix_acl_access", &acl);
    root.xattr("etc", "system.posix_acl_default", &acl);
    root.xattr("usr/bin/b", "trusted.of-a-link", b"\0\xff\n");
    root.xattr("etc/machine", "user.empty", b"");
    assert_same(&root, &Recipe::default());
}

#[test]
fn names_that_are_long_or_no_text_are_kept() {
    let root = Root::system();
    root.file_named(b"opt/\xff\xfe not utf-8, with spaces\n", b"1");
    root.file(
        &format!("opt/{}/{}", "d".repeat(200), "f".repeat(255)),
        b"2",
    );
    root.file(&format!("opt/{}", "ü".repeat(60)), b"3");
    root.link("opt/long-link", &"t/".repeat(300));
    root.file("opt/-", b"");
    root.file("opt-before-slash", b"4");
    assert_same(&root, &Recipe::default());
}

#[test]
fn names_of_one_inode_stay_together_across_packages() {
    let root = Root::system();
    for name in ["usr/share/alpha/other-name", "etc/third-name"] {
        fs::hard_link(root.at("usr/bin/beta"), root.at(name)).unwrap();
    }
    fs::hard_link(root.at("usr/bin/b"), root.at("usr/bin/link-to-a-link")).unwrap();
    let recipe = Recipe::default();
    assert_same(&root, &recipe);
}

#[test]
fn large_holes_are_not_stored_and_read_as_zeros() {
    let root = Root::system();
    let mut file = fs::File::create(root.at("opt/sparse")).unwrap();
    file.write_all(b"begin").unwrap();
    file.seek(SeekFrom::Start(40_000_000)).unwrap();
    file.write_all(b"middle").unwrap();
    file.set_len(80_000_001).unwrap();
    fs::File::create(root.at("opt/only-a-hole"))
        .unwrap()
        .set_len(5_000_000)
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        compression: Compression::None,
        ..Recipe::default()
    };
    let layout = out.path().join("oci");
    let made = recipe.make(root.path(), &layout);
    let total: u64 = made.built.layers.iter().map(|layer| layer.size).sum();
    assert!(total < 5_000_000, "{total}");
    assert_eq!(recipe.differences(root.path(), &layout), []);
}

#[test]
fn devices_and_pipes_are_kept_where_that_is_asked_for() {
    let root = Root::system();
    let mode = Mode::from_raw_mode(0o640);
    let make = |name: &str, type_, device| {
        rustix::fs::mknodat(rustix::fs::CWD, root.at(name), type_, mode, device).unwrap();
    };
    make(
        "opt/console",
        FileType::CharacterDevice,
        rustix::fs::makedev(5, 1),
    );
    make(
        "opt/disk",
        FileType::BlockDevice,
        rustix::fs::makedev(259, 70000),
    );
    make("opt/pipe", FileType::Fifo, 0);
    make(
        "dev/not-taken",
        FileType::CharacterDevice,
        rustix::fs::makedev(1, 3),
    );
    let recipe = Recipe {
        rules: {
            let mut rules = Rules::default();
            rules.special_files = SpecialFiles::Keep;
            rules
        },
        ..Recipe::default()
    };
    assert_same(&root, &recipe);
}

#[test]
fn a_difference_of_each_kind_is_found() {
    let root = Root::system();
    let out = tempfile::tempdir().unwrap();
    let layout = out.path().join("oci");
    let recipe = Recipe::default();
    recipe.make(root.path(), &layout);
    root.file("etc/new", b"");
    fs::remove_file(root.at("opt/large")).unwrap();
    root.mode("usr/bin/alpha", 0o700);
    root.file("etc/machine", b"made once");
    root.xattr("usr/bin/beta", "user.x", b"1");
    root.time("usr/share/alpha/data", crate::world::BUILT - 1);
    std::os::unix::fs::chown(root.at("tmp"), Some(1), None).unwrap();
    fs::remove_file(root.at("usr/bin/b")).unwrap();
    root.link("usr/bin/b", "alpha");
    let found = recipe.differences(root.path(), &layout);
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.path.to_string(), one.what))
        .collect();
    for expected in [
        ("/etc/new", "entry"),
        ("/opt/large", "entry"),
        ("/usr/bin/alpha", "mode"),
        ("/etc/machine", "content"),
        ("/usr/bin/beta", "attributes"),
        ("/usr/share/alpha/data", "time"),
        ("/tmp", "owner"),
        ("/usr/bin/b", "target"),
    ] {
        let there = found
            .iter()
            .any(|(path, what)| (path.as_str(), *what) == expected);
        assert!(there, "{expected:?} in {found:?}");
    }
    assert_eq!(found.len(), 8, "{found:?}");
}

/// Unpacked by GNU tar, layer on layer, the files are there: a reader of archives that is not hull's.
#[test]
fn gnu_tar_unpacks_the_layers() {
    let root = Root::system();
    root.file(&format!("opt/{}", "l".repeat(150)), b"long");
    fs::hard_link(root.at("usr/bin/beta"), root.at("usr/bin/beta2")).unwrap();
    fs::File::create(root.at("opt/hole"))
        .unwrap()
        .set_len(5_000_000)
        .unwrap();
    let recipe = Recipe {
        compression: Compression::None,
        ..Recipe::default()
    };
    let out = tempfile::tempdir().unwrap();
    let made = recipe.make(root.path(), &out.path().join("oci"));
    let to = out.path().join("unpacked");
    fs::create_dir(&to).unwrap();
    for layer in &made.built.layers {
        let blob = out
            .path()
            .join("oci/blobs/sha256")
            .join(layer.digest.to_hex());
        let command = hull_sys::run::Program::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(&blob)
            .arg("--directory")
            .arg(&to);
        command.run().unwrap();
    }
    for name in ["usr/bin/beta2", "opt/large", "opt/hole", "etc/machine"] {
        assert!(same(&root.at(name), &to.join(name)), "{name}");
    }
    assert!(same(
        &root.at(&format!("opt/{}", "l".repeat(150))),
        &to.join(format!("opt/{}", "l".repeat(150)))
    ));
    assert_eq!(
        fs::read_link(to.join("usr/bin/b")).unwrap(),
        Path::new("beta")
    );
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).unwrap() == fs::read(b).unwrap()
}

/// Unpacked by umoci, as by a container engine, every entry is what it was: nothing of hull's reads these layers.
#[test]
fn umoci_unpacks_what_the_source_is() {
    let root = Root::system();
    root.mode("usr/bin/alpha", 0o4755);
    root.mode("tmp", 0o1777);
    root.xattr("usr/bin/beta", "user.kept", b"\0x");
    fs::hard_link(root.at("usr/bin/beta"), root.at("usr/share/alpha/name")).unwrap();
    root.file(&format!("opt/{}/f", "l".repeat(150)), b"long");
    root.link("opt/long-link", &"t/".repeat(90));
    std::os::unix::fs::chown(root.at("etc/machine"), Some(70_000), Some(3_000_000)).unwrap();
    let recipe = Recipe {
        compression: Compression::Gzip(6),
        ..Recipe::default()
    };
    let out = tempfile::tempdir().unwrap();
    recipe.make(root.path(), &out.path().join("oci"));
    let bundle = out.path().join("bundle");
    let command = hull_sys::run::Program::new("umoci")
        .arg("unpack")
        .arg("--image")
        .arg(out.path().join("oci:t"))
        .arg(&bundle);
    command.run().unwrap();
    let wanted = Scan::read(root.path(), &recipe.rules).unwrap();
    let components = Components::find(&wanted, None).unwrap();
    let found = Scan::read(&bundle.join("rootfs"), &recipe.rules).unwrap();
    assert_eq!(wanted.entries.len(), found.entries.len());
    for (place, found) in found.entries.iter().enumerate() {
        let time = components.time(&wanted, place);
        let wanted = wanted.entries.get(place);
        assert_eq!(wanted.path, found.path);
        let shown = FullPath::new(&wanted.path);
        assert_eq!(wanted.kind, found.kind, "{shown}");
        let mut metadata = wanted.metadata.clone();
        metadata.mtime = time;
        assert_eq!(metadata, found.metadata, "{shown}");
        assert_eq!(wanted.links.is_some(), found.links.is_some(), "{shown}");
        if let Kind::Regular(_) = wanted.kind {
            let name = std::str::from_utf8(&wanted.path).unwrap();
            assert!(
                same(&root.at(name), &bundle.join("rootfs").join(name)),
                "{shown}"
            );
        }
    }
}

#[test]
fn what_is_left_out_of_a_directory_is_left_out_of_an_image_too() {
    let root = Root::system();
    root.file("opt/mine", b"x");
    root.file("srv/a/b", b"x");
    let out = tempfile::tempdir().unwrap();
    let (all, some) = (out.path().join("all"), out.path().join("some"));
    Recipe::default().make(root.path(), &all);
    let mut recipe = Recipe::default();
    for path in ["/opt/mine", "/srv/"] {
        recipe.rules.exclude(path.as_bytes()).unwrap();
    }
    let of_directory = recipe.make(root.path(), &some);
    let of_image = recipe.make_again(&all, &out.path().join("again"));
    assert_eq!(of_image.built.manifest, of_directory.built.manifest);
}
