use std::sync::atomic::{AtomicUsize, Ordering};

use hull_erofs::fsverity::digest;

use super::*;
use crate::testing::{Scratch, content, image, open};
use crate::{Session, Store, StoreError, Target};

/// A sound store: an image of two objects, and a manifest that leads to a layer.
struct Sound {
    scratch: Scratch,
    image: ObjectId,
    layer: ObjectId,
    first: ObjectId,
    second: ObjectId,
}

fn sound() -> Sound {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let first = session.put(&content(1)).unwrap();
    let second = session.put(&content(2)).unwrap();
    let size = content(1).len() as u64;
    let image = session
        .put_image(&image(&[(first, size), (second, size)]))
        .unwrap();
    let layer = put_layer(&session, &first);
    let mut manifest = session.stream(0);
    manifest.name("layer", &layer).unwrap();
    session.put_stream("manifest", manifest).unwrap();
    session
        .set_ref("oci/tag", Target::Stream("manifest"))
        .unwrap();
    session.set_ref("os", Target::Image(&image)).unwrap();
    drop(session);
    Sound {
        scratch,
        image,
        layer,
        first,
        second,
    }
}

fn put_layer(session: &Session, object: &ObjectId) -> ObjectId {
    let mut layer = session.stream(0);
    layer.inline(b"header").unwrap();
    layer.object(object, content(1).len() as u64).unwrap();
    session.put_stream("layer", layer).unwrap()
}

fn full(store: &Store) -> Report {
    check(store, Depth::Full, &|_| {}).unwrap()
}

/// The only finding, in words.
#[track_caller]
fn finding(store: &Store) -> String {
    let report = full(store);
    let [finding] = report.findings.as_slice() else {
        panic!("{:#?}", report.findings);
    };
    finding.to_string()
}

#[test]
fn a_sound_store_has_no_findings() {
    let sound = sound();
    let done = AtomicUsize::new(0);
    let report = check(&sound.scratch.store, Depth::Full, &|progress| {
        assert_eq!(progress.total, 5);
        done.fetch_max(progress.done, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(report.findings, []);
    assert!(report.is_sound());
    assert_eq!(done.into_inner(), 5);
    assert_eq!(
        report.checked,
        Checked {
            objects: 5,
            measured: 0,
            streams: 2,
            images: 1,
            references: 2
        }
    );
    assert!(repair_plan(&report).is_empty());
}

#[test]
fn a_missing_object_is_named_with_what_uses_it() {
    let sound = sound();
    std::fs::remove_file(sound.scratch.object_path(&sound.second)).unwrap();
    let said = finding(&sound.scratch.store);
    let expected = format!(
        "object {} is missing, used by image {}",
        sound.second, sound.image
    );
    assert_eq!(said, expected);
}

#[test]
fn a_truncated_object_is_told_from_a_changed_one() {
    let sound = sound();
    sound.scratch.overwrite(&sound.first, &content(1)[..9]);
    let said = finding(&sound.scratch.store);
    let expected = format!(
        "is truncated: it has 9 of {} bytes, used by",
        content(1).len()
    );
    assert!(said.contains(&expected), "{said}");

    sound.scratch.overwrite(&sound.first, &content(3));
    let said = finding(&sound.scratch.store);
    let expected = format!("is changed: its digest is {}", digest(&content(3)));
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("stream layer"), "{said}");
}

#[test]
fn a_changed_stream_and_a_changed_image_are_found_as_objects() {
    for pick in [|sound: &Sound| sound.layer, |sound: &Sound| sound.image] {
        let sound = sound();
        let object = pick(&sound);
        let mut bytes = std::fs::read(sound.scratch.object_path(&object)).unwrap();
        bytes[0] ^= 1;
        sound.scratch.overwrite(&object, &bytes);
        let report = full(&sound.scratch.store);
        let damage: Vec<_> = report.damage().collect();
        let [Finding::Damaged { object: found, .. }] = damage.as_slice() else {
            panic!("{damage:#?}");
        };
        assert_eq!(*found, object);
    }
}

#[test]
fn a_stream_that_was_never_one_is_named() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = session.put(&content(1)).unwrap();
    drop(session);
    let link = format!("../objects/{}", id.to_object_path());
    std::os::unix::fs::symlink(link, scratch.path("streams/none")).unwrap();
    let said = finding(&scratch.store);
    assert!(said.starts_with("stream none can't be read"), "{said}");
}

#[test]
fn an_image_that_was_never_one_is_named() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = session.put_image(&content(1)).unwrap();
    drop(session);
    let said = finding(&scratch.store);
    assert!(
        said.starts_with(&format!("image {id} can't be read")),
        "{said}"
    );
}

#[test]
fn an_object_that_nothing_uses_is_no_damage() {
    let sound = sound();
    let id = sound
        .scratch
        .store
        .session()
        .unwrap()
        .put(b"alone")
        .unwrap();
    let report = full(&sound.scratch.store);
    assert_eq!(report.findings, [Finding::Unreferenced { object: id }]);
    assert!(report.is_sound());
}

#[test]
fn links_and_references_that_lead_nowhere_are_named() {
    let sound = sound();
    let refs = sound.scratch.path("streams/refs/lost");
    std::os::unix::fs::symlink("../gone", refs).unwrap();
    assert_eq!(
        finding(&sound.scratch.store),
        "streams/refs/lost leads to streams/gone, which is not there"
    );
    std::fs::remove_file(sound.scratch.path("streams/refs/lost")).unwrap();

    std::fs::remove_file(sound.scratch.object_path(&sound.image)).unwrap();
    let report = full(&sound.scratch.store);
    let said: Vec<String> = report.damage().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("is missing, used by image"), "{said:?}");
    assert!(said[1].starts_with("images/"), "{said:?}");
}

#[test]
fn what_does_not_belong_into_a_store_is_named() {
    for path in ["streams/file", "images/abc", "objects/file", "objects/zz"] {
        let scratch = Scratch::new();
        std::fs::File::create(scratch.path(path)).unwrap();
        let expected = format!("{path} does not belong into a store");
        assert_eq!(finding(&scratch.store), expected);
    }
}

#[test]
fn the_repair_plan_names_what_to_pull_again_and_for_whom() {
    let sound = sound();
    std::fs::remove_file(sound.scratch.object_path(&sound.first)).unwrap();
    let plan = repair_plan(&full(&sound.scratch.store));
    assert_eq!(
        plan.to_string(),
        format!(
            "pull stream layer again, for streams/refs/oci/tag\n\
             make image {} again, for images/refs/os\n",
            sound.image
        )
    );
}

#[test]
fn a_repairing_session_replaces_what_is_changed_and_the_store_is_sound() {
    let sound = sound();
    // Same length: only a comparison of the content finds it.
    sound.scratch.overwrite(&sound.first, &content(3));
    let store = &sound.scratch.store;

    let session = store.session().unwrap();
    session.put(&content(1)).unwrap();
    assert!(!full(store).is_sound(), "a plain session trusts the length");
    drop(session);

    let session = store.repair_session().unwrap();
    assert!(session.repairing());
    session.put(&content(1)).unwrap();
    put_layer(&session, &sound.first);
    drop(session);
    assert_eq!(full(store).findings, []);
}

#[test]
fn a_plain_session_replaces_what_a_power_cut_truncated() {
    let sound = sound();
    sound.scratch.overwrite(&sound.first, b"");
    let session = sound.scratch.store.session().unwrap();
    session.put(&content(1)).unwrap();
    assert_eq!(full(&sound.scratch.store).findings, []);
}

#[test]
fn quarantine_takes_away_damaged_objects_only() {
    let sound = sound();
    let store = &sound.scratch.store;
    sound.scratch.overwrite(&sound.first, &content(3));
    let session = store.session().unwrap();
    assert!(!quarantine(&session, &sound.second).unwrap());
    assert!(quarantine(&session, &sound.first).unwrap());
    drop(session);
    let error = store.open_object(&sound.first).unwrap_err();
    assert!(matches!(error, StoreError::Missing { object } if object == sound.first));

    let session = store.session().unwrap();
    session.put(&content(1)).unwrap();
    drop(session);
    assert_eq!(full(store).findings, []);
    let plan = crate::gc::plan(store, &[]).unwrap();
    assert_eq!(plan.leftovers.len(), 1);
    crate::gc::execute(store, &plan, std::time::Duration::ZERO).unwrap();
    assert_eq!(
        std::fs::read_dir(sound.scratch.temp.path())
            .unwrap()
            .count(),
        4
    );
}

#[test]
fn a_damaged_meta_file_is_found_and_restored() {
    for damage in [Some("{\"version\":"), Some(""), None] {
        let sound = sound();
        let path = sound.scratch.path("meta.json");
        std::fs::remove_file(&path).unwrap();
        if let Some(text) = damage {
            use std::io::Write;
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        let directory = sound.scratch.temp.path();
        assert!(Store::open(open(directory)).is_err());
        let store = Store::open_damaged(open(directory)).unwrap();
        assert!(finding(&store).starts_with("meta.json is damaged"));
        assert!(repair_plan(&full(&store)).meta);
        assert!(matches!(store.session(), Err(StoreError::BadMeta { .. })));

        restore_meta(&store).unwrap();
        let store = Store::open(open(directory)).unwrap();
        assert_eq!(full(&store).findings, []);
    }
}

#[test]
fn a_store_of_a_newer_program_is_not_repaired() {
    let scratch = Scratch::new();
    let path = scratch.path("meta.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let newer = text.replace("\"version\": 1", "\"version\": 2");
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, newer.as_bytes()).unwrap();
    let error = Store::open_damaged(open(scratch.temp.path())).unwrap_err();
    assert!(matches!(error, StoreError::NewerVersion { found: 2, .. }));
    restore_meta(&scratch.store).unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
}
