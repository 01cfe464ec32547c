//! Writing to a store and reading from it.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};

use hull_erofs::fsverity::digest;
use hull_store::{Kind, ObjectId, Store, StoreError, Target, Verity};
use proptest::prelude::*;

use crate::scratch::{assert_sound, collect, content, image_of, open, pull, store_in, tree_of};

fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

#[test]
fn a_directory_without_a_store_is_refused() {
    let temp = memory();
    let error = Store::open(open(temp.path())).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore));
    std::fs::create_dir_all(temp.path().join("objects/00")).unwrap();
    for attempt in [
        Store::open(open(temp.path())),
        Store::create(open(temp.path()), Verity::WhereSupported),
    ] {
        let error = attempt.unwrap_err();
        assert!(matches!(error, StoreError::OldFormat), "{error}");
    }
}

#[test]
fn creating_a_store_again_opens_it() {
    let temp = memory();
    let id = store_in(temp.path()).session().unwrap().put(b"x").unwrap();
    let store = store_in(temp.path());
    assert_eq!(store.read_object(&id, 1).unwrap(), b"x");
}

#[test]
fn verity_is_refused_where_the_file_system_has_none() {
    let temp = memory();
    let error = Store::create(open(temp.path()), Verity::Required).unwrap_err();
    assert!(matches!(error, StoreError::NoVerity));
    assert!(!temp.path().join("meta.json").exists());
    assert!(!store_in(temp.path()).verity());
    let error = Store::create(open(temp.path()), Verity::Required).unwrap_err();
    assert!(matches!(error, StoreError::NoVerity));
}

#[test]
fn a_long_run_of_zeros_takes_no_room() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let mut writer = session.writer();
    writer.append(b"before").unwrap();
    writer.append_zeros(1 << 30).unwrap();
    let (id, size) = writer.finish().unwrap();
    assert_eq!(size, 6 + (1 << 30));
    let path = temp.path().join("objects").join(id.to_object_path());
    let found = std::fs::metadata(path).unwrap();
    assert_eq!(found.len(), size);
    assert!(found.blocks() * 512 < 1 << 20, "{} blocks", found.blocks());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_object_with_holes_is_that_of_its_bytes(
        parts in prop::collection::vec((0usize..150_000, 0usize..600_000), 0..4),
    ) {
        let temp = memory();
        let store = store_in(temp.path());
        let session = store.session().unwrap();
        let mut writer = session.writer();
        let mut whole = Vec::new();
        for (data, zeros) in parts {
            writer.append(&vec![7; data]).unwrap();
            whole.resize(whole.len() + data, 7);
            writer.append_zeros(zeros as u64).unwrap();
            whole.resize(whole.len() + zeros, 0);
        }
        let (id, size) = writer.finish().unwrap();
        prop_assert_eq!(id, digest(&whole));
        prop_assert_eq!(size, whole.len() as u64);
        prop_assert!(store.read_object(&id, size).unwrap() == whole);
    }

    #[test]
    fn an_object_is_the_same_in_whatever_pieces_it_comes(
        lengths in prop::collection::vec(
            prop_oneof![0..200usize, 3000..5000usize, 60_000..140_000usize, 300_000..400_000usize],
            0..5,
        ),
        seed in any::<u8>(),
    ) {
        let temp = memory();
        let store = store_in(temp.path());
        let session = store.session().unwrap();
        let whole: Vec<u8> = (0..lengths.iter().sum::<usize>())
            .map(|n| u8::try_from(n % 251).unwrap() ^ seed)
            .collect();
        let mut writer = session.writer();
        let mut rest = whole.as_slice();
        for length in lengths {
            let (now, later) = rest.split_at(length);
            writer.write_all(now).unwrap();
            rest = later;
        }
        let (id, size) = writer.finish().unwrap();
        prop_assert_eq!(id, digest(&whole));
        prop_assert_eq!(size, whole.len() as u64);
        prop_assert_eq!(session.put(&whole).unwrap(), id);
        prop_assert_eq!(store.read_object(&id, size).unwrap(), whole);
    }
}

#[test]
fn an_object_that_is_there_is_not_written_again() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let large = vec![7; 1 << 20];
    let id = session.put(&large).unwrap();
    let path = temp.path().join("objects").join(id.to_object_path());
    let before = std::fs::metadata(&path).unwrap();
    session.put(&large).unwrap();
    let mut writer = session.writer();
    writer.write_all(&large).unwrap();
    writer.finish().unwrap();
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
    assert_eq!(after.mode() & 0o7777, 0o644);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let mut writer = session.writer();
    writer.write_all(&vec![7; 1 << 20]).unwrap();
    drop(writer);
    assert_eq!(
        std::fs::read_dir(temp.path().join("objects"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn reading_names_what_is_missing_changed_or_too_large() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let id = session.put(b"content").unwrap();
    let error = store.read_object(&id, 6).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                size: 7,
                max: 6,
                ..
            }
        ),
        "{error}"
    );

    let path = temp.path().join("objects").join(id.to_object_path());
    std::fs::File::create(&path)
        .unwrap()
        .write_all(b"another")
        .unwrap();
    let error = store.read_object(&id, 7).unwrap_err().to_string();
    assert!(error.contains(&id.to_hex()), "{error}");
    assert!(error.contains(&digest(b"another").to_hex()), "{error}");

    std::fs::remove_file(&path).unwrap();
    let error = store.read_object(&id, 7).unwrap_err();
    assert!(matches!(error, StoreError::Missing { object } if object == id));
    assert!(!session.has(&id).unwrap());
}

#[test]
fn an_object_that_is_a_link_is_never_followed() {
    let temp = memory();
    let store = store_in(temp.path());
    let id = ObjectId::from_bytes([0xaa; 64]);
    std::fs::create_dir(temp.path().join("objects/aa")).unwrap();
    let path = temp.path().join("objects").join(id.to_object_path());
    symlink("/etc/passwd", path).unwrap();
    assert!(store.open_object(&id).is_err());
}

#[test]
fn a_pull_can_be_found_by_every_name() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let image = pull(&session, "one", 1..4).unwrap();
    assert!(store.has_image(&image).unwrap());
    let manifest = store.find_stream("manifest-one").unwrap().unwrap();
    let reader = store.open_stream(&manifest).unwrap();
    for number in [1, 2] {
        let layer = store.find_stream(&format!("layer-one-{number}")).unwrap();
        assert_eq!(reader.named(&format!("layer-{number}")), layer.as_ref());
        assert!(layer.is_some());
    }
    assert_eq!(store.find_stream("layer-two-1").unwrap(), None);
    assert_eq!(
        store.refs(Kind::Stream).unwrap(),
        [("tags/one".to_owned(), "manifest-one".to_owned())]
    );
    assert_eq!(
        store.find_ref(Kind::Image, "hosts/one").unwrap(),
        Some(image.to_hex())
    );
    assert_eq!(store.find_ref(Kind::Image, "hosts/two").unwrap(), None);
    let link = std::fs::read_link(temp.path().join("streams/refs/tags/one")).unwrap();
    assert_eq!(link.to_str(), Some("../../manifest-one"));
    assert_sound(&store);
}

#[test]
fn a_stream_and_a_reference_are_replaced_by_the_newer_one() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let put = |bytes: &[u8]| {
        let mut stream = session.stream(0);
        stream.inline(bytes).unwrap();
        session.put_stream("s", stream).unwrap()
    };
    let old = put(b"old");
    let new = put(b"new");
    assert_ne!(old, new);
    assert_eq!(store.find_stream("s").unwrap(), Some(new));

    let first = session.put_image(&image_of(&[])).unwrap();
    let object = session.put(&content(1)).unwrap();
    let second = session
        .put_image(&image_of(&[(object, content(1).len() as u64)]))
        .unwrap();
    for image in [&first, &second, &second] {
        session.set_ref("os", Target::Image(image)).unwrap();
        let found = store.find_ref(Kind::Image, "os").unwrap();
        assert_eq!(found, Some(image.to_hex()));
    }
    drop(session);
    let names: Vec<_> = std::fs::read_dir(temp.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 4, "no passing name stays: {names:?}");
    assert_eq!(collect(&store).images, 1);
}

#[test]
fn an_image_that_is_made_into_the_store_is_the_one_in_memory() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    // The second is longer than what the store keeps in memory.
    for files in [3, 3000] {
        let objects: Vec<_> = (0..files).map(|seed| (object_id(seed), 100)).collect();
        let tree = tree_of(&objects);
        let bytes = hull_erofs::image::write(&tree).unwrap();
        let image = hull_erofs::image::Image::new(&tree).unwrap();
        let id = session.make_image(&image).unwrap();
        assert_eq!(session.put_image(&bytes).unwrap(), id);
        assert_eq!(store.read_object(&id, image.length()).unwrap(), bytes);
        session.set_ref("os", Target::Image(&id)).unwrap();
    }
}

fn object_id(seed: u32) -> ObjectId {
    digest(&content(seed))
}

#[test]
fn a_reference_to_what_is_not_there_is_refused() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let error = session.set_ref("a", Target::Stream("gone")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "streams/gone is not in the store, so streams/refs/a can't refer to it"
    );
    let id = session.put(b"no image").unwrap();
    assert!(session.set_ref("a", Target::Image(&id)).is_err());
}

#[test]
fn names_that_lead_out_of_the_store_are_refused() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let image = session.put_image(&image_of(&[])).unwrap();
    for name in ["../x", "/x", "a/../../x", "", ".x"] {
        let refused = session.set_ref(name, Target::Image(&image));
        assert!(
            matches!(refused, Err(StoreError::InvalidName { .. })),
            "{name}"
        );
        assert!(session.remove_ref(Kind::Image, name).is_err(), "{name}");
        assert!(store.find_stream(name).is_err(), "{name}");
        assert!(
            session.put_stream(name, session.stream(0)).is_err(),
            "{name}"
        );
    }
}

#[test]
fn removing_a_reference_twice_is_fine() {
    let temp = memory();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let image = session.put_image(&image_of(&[])).unwrap();
    session.set_ref("a/b", Target::Image(&image)).unwrap();
    session.remove_ref(Kind::Image, "a/b").unwrap();
    session.remove_ref(Kind::Image, "a/b").unwrap();
    assert_eq!(store.refs(Kind::Image).unwrap(), []);
}
