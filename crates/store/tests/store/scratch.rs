//! Stores in directories of their own.

use std::os::fd::OwnedFd;
use std::path::Path;

use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};
use hull_store::fsck::{Depth, Report};
use hull_store::{ObjectId, Session, Store, Verity};
use hull_sys::namespace;

pub(crate) fn open(path: &Path) -> OwnedFd {
    OwnedFd::from(std::fs::File::open(path).unwrap())
}

pub(crate) fn store_in(path: &Path) -> Store {
    Store::create(open(path), Verity::WhereSupported).unwrap()
}

/// A content that no other seed gives.
pub(crate) fn content(seed: u32) -> Vec<u8> {
    format!("content number {seed:08} of a file in an image\n")
        .repeat(4)
        .into_bytes()
}

/// An image with one file for each of these objects.
pub(crate) fn image_of(objects: &[(ObjectId, u64)]) -> Vec<u8> {
    hull_erofs::image::write(&tree_of(objects)).unwrap()
}

/// The tree of that image.
pub(crate) fn tree_of(objects: &[(ObjectId, u64)]) -> Tree {
    let mut tree = Tree::default();
    for (index, (id, size)) in objects.iter().enumerate() {
        let content = Content::Object {
            id: *id,
            size: *size,
        };
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content,
        });
        tree.put_leaf(DirectoryId::ROOT, format!("file{index}").as_bytes(), leaf);
    }
    tree
}

/// What a pull of an image with these files does: objects, two layers, a manifest
/// that leads to them, the image; then the references.
pub(crate) fn pull(
    session: &Session,
    name: &str,
    seeds: impl IntoIterator<Item = u32>,
) -> Result<ObjectId, hull_store::StoreError> {
    let mut layers = [session.stream(1), session.stream(1)];
    let mut objects = Vec::new();
    for (place, seed) in seeds.into_iter().enumerate() {
        let layer = &mut layers[place % 2];
        let bytes = content(seed);
        let id = session.put(&bytes)?;
        let size = bytes.len() as u64;
        layer.inline(&[0; 512])?;
        layer.object(&id, size)?;
        objects.push((id, size));
    }
    let [first, second] = layers;
    let first = session.put_unlinked_stream(&format!("layer-{name}-1"), first)?;
    let second = session.put_unlinked_stream(&format!("layer-{name}-2"), second)?;
    session.link_streams([&first, &second])?;
    let image = session.put_image(&image_of(&objects))?;
    let mut manifest = session.stream(2);
    manifest.inline(b"{}")?;
    manifest.name("layer-1", &first.id())?;
    manifest.name("layer-2", &second.id())?;
    manifest.name("image", &image)?;
    let manifest_name = format!("manifest-{name}");
    session.put_stream(&manifest_name, manifest)?;
    let target = hull_store::Target::Stream(&manifest_name);
    session.set_ref(&format!("tags/{name}"), target)?;
    session.set_ref(&format!("hosts/{name}"), hull_store::Target::Image(&image))?;
    Ok(image)
}

pub(crate) fn check(store: &Store) -> Report {
    hull_store::fsck::check(store, Depth::Full, &|_| {}).unwrap()
}

#[track_caller]
pub(crate) fn assert_sound(store: &Store) {
    let report = check(store);
    let damage: Vec<_> = report.damage().map(ToString::to_string).collect();
    assert!(damage.is_empty(), "{damage:#?}");
}

#[track_caller]
pub(crate) fn collect(store: &Store) -> hull_store::gc::Collected {
    let plan = hull_store::gc::plan(store, &[]).unwrap();
    hull_store::gc::execute(store, &plan, std::time::Duration::from_secs(60)).unwrap()
}

/// Makes an ext4 of so many MiB on a disk with sectors of so many bytes, and does the work there.
pub(crate) fn on_ext4(mib: u64, sector: &str, work: fn(&Path)) {
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = temp.path().join("image");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(mib << 20).unwrap();
    let image = image.to_str().unwrap();
    run(
        "mkfs.ext4",
        &["-q", "-m", "0", "-b", "4096", "-O", "^verity", image],
    );
    let directory = temp.path().join("mounted");
    std::fs::create_dir(&directory).unwrap();
    let mounted = directory.to_str().unwrap();
    namespace::with_private_mounts(|| {
        let words = ["--find", "--show", "--sector-size", sector, image];
        let device = run("losetup", &words);
        // The device goes with its mount.
        let done = std::panic::catch_unwind(|| run("mount", &[device.trim(), mounted]));
        run("losetup", &["--detach", device.trim()]);
        done.expect("it was made above");
        work(&directory);
    })
    .expect("this test makes a mount namespace: run it as root");
}

/// What a program prints.
#[track_caller]
pub(crate) fn run(program: &str, words: &[&str]) -> String {
    let output = std::process::Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, which this test needs: {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
