use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hull_erofs::fsverity::digest;
use proptest::prelude::*;

use super::mark::{Contents, mark};
use super::*;
use crate::names::Kind;
use crate::stream::References;
use crate::testing::{Scratch, content, image};
use crate::{Session, Target};

const NOW: Duration = Duration::ZERO;

fn collect(store: &Store, roots: &[Root]) -> Collected {
    let plan = plan(store, roots).unwrap();
    execute(store, &plan, NOW).unwrap()
}

/// Puts a stream of these objects, which leads to these named targets.
fn put_stream(session: &Session, name: &str, seeds: &[u32], named: &[ObjectId]) -> ObjectId {
    let mut builder = session.stream(0);
    builder.inline(name.as_bytes()).unwrap();
    for &seed in seeds {
        let bytes = content(seed);
        let id = session.put(&bytes).unwrap();
        builder.object(&id, bytes.len() as u64).unwrap();
    }
    for (index, target) in named.iter().enumerate() {
        builder.name(&format!("target{index}"), target).unwrap();
    }
    session.put_stream(name, builder).unwrap()
}

fn put_image(session: &Session, seeds: &[u32]) -> ObjectId {
    let objects: Vec<_> = seeds
        .iter()
        .map(|&seed| {
            let bytes = content(seed);
            (session.put(&bytes).unwrap(), bytes.len() as u64)
        })
        .collect();
    session.put_image(&image(&objects)).unwrap()
}

fn has_content(store: &Store, seed: u32) -> bool {
    store
        .object_size(&digest(&content(seed)))
        .unwrap()
        .is_some()
}

#[test]
fn an_empty_store_has_nothing_to_collect() {
    let scratch = Scratch::new();
    let plan = plan(&scratch.store, &[]).unwrap();
    assert!(plan.is_empty());
    assert_eq!(
        plan.to_string(),
        "remove 0 objects of 0 bytes\n\
         keep 0 objects of 0 images and 0 streams, for 0 references\n"
    );
}

#[test]
fn what_no_reference_leads_to_is_collected() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    put_stream(&session, "kept", &[1, 2], &[]);
    put_stream(&session, "garbage", &[2, 3], &[]);
    session.set_ref("a/b", Target::Stream("kept")).unwrap();
    let image = put_image(&session, &[4]);
    drop(session);

    let plan = plan(&scratch.store, &[]).unwrap();
    assert_eq!(plan.streams, ["garbage"]);
    assert_eq!(plan.images, [image]);
    assert_eq!(
        plan.kept,
        Kept {
            references: 1,
            streams: 1,
            images: 0,
            objects: 3
        }
    );
    let done = execute(&scratch.store, &plan, NOW).unwrap();
    assert_eq!((done.objects, done.streams, done.images), (4, 1, 1));
    assert!(has_content(&scratch.store, 1) && has_content(&scratch.store, 2));
    assert!(!has_content(&scratch.store, 3) && !has_content(&scratch.store, 4));
    assert_eq!(scratch.store.find_stream("garbage").unwrap(), None);
    assert!(collect(&scratch.store, &[]) == Collected::default());
}

#[test]
fn an_image_reference_keeps_the_objects_of_the_image() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = put_image(&session, &[1, 2]);
    session.set_ref("os", Target::Image(&id)).unwrap();
    drop(session);
    assert_eq!(collect(&scratch.store, &[]), Collected::default());

    let session = scratch.store.session().unwrap();
    session.remove_ref(Kind::Image, "os").unwrap();
    drop(session);
    assert_eq!(collect(&scratch.store, &[]).objects, 3);
}

#[test]
fn a_stream_keeps_the_streams_and_images_that_it_names_and_theirs() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let layer = put_stream(&session, "layer", &[1], &[]);
    let image = put_image(&session, &[1, 2]);
    let config = put_stream(&session, "config", &[3], &[layer, image]);
    put_stream(&session, "manifest", &[4], &[config, layer]);
    session
        .set_ref("oci/tag", Target::Stream("manifest"))
        .unwrap();
    drop(session);
    assert_eq!(collect(&scratch.store, &[]), Collected::default());
    assert!((1..=4).all(|seed| has_content(&scratch.store, seed)));
}

#[test]
fn roots_of_the_caller_keep_what_no_reference_leads_to() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let image = put_image(&session, &[1]);
    put_stream(&session, "stream", &[2], &[]);
    let object = session.put(&content(3)).unwrap();
    session.put(&content(4)).unwrap();
    drop(session);
    let roots = [
        Root::Image(image),
        Root::Stream("stream".to_owned()),
        Root::Object(object),
        Root::Stream("nowhere".to_owned()),
    ];
    let plan = plan(&scratch.store, &roots).unwrap();
    assert_eq!(plan.dangling, ["stream nowhere"]);
    assert_eq!(execute(&scratch.store, &plan, NOW).unwrap().objects, 1);
    assert!((1..=3).all(|seed| has_content(&scratch.store, seed)));
}

#[test]
fn what_got_a_reference_after_the_plan_stays() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let image = put_image(&session, &[1]);
    put_stream(&session, "garbage", &[2], &[]);
    let plan = plan(&scratch.store, &[]).unwrap();
    assert_eq!(plan.images, [image]);
    session.set_ref("now", Target::Image(&image)).unwrap();
    drop(session);
    let done = execute(&scratch.store, &plan, NOW).unwrap();
    assert_eq!((done.images, done.streams, done.objects), (0, 1, 2));
    assert!(has_content(&scratch.store, 1));
}

#[test]
fn what_came_after_the_plan_is_left_to_the_next_one() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    put_stream(&session, "old", &[1], &[]);
    let plan = plan(&scratch.store, &[]).unwrap();
    put_stream(&session, "new", &[2], &[]);
    drop(session);
    execute(&scratch.store, &plan, NOW).unwrap();
    assert!(!has_content(&scratch.store, 1));
    assert!(has_content(&scratch.store, 2));
}

#[test]
fn a_session_at_work_keeps_the_collection_away() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    session.put(&content(1)).unwrap();
    let plan = plan(&scratch.store, &[]).unwrap();
    let limit = Duration::from_millis(30);
    let error = execute(&scratch.store, &plan, limit).unwrap_err();
    assert!(matches!(error, GcError::Busy { .. }), "{error}");
    assert!(has_content(&scratch.store, 1));
    drop(session);
    assert_eq!(execute(&scratch.store, &plan, limit).unwrap().objects, 1);
}

#[test]
fn leftovers_of_killed_processes_and_empty_directories_go() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    put_stream(&session, "kept", &[], &[]);
    session.set_ref("stays", Target::Stream("kept")).unwrap();
    session.set_ref("a/b/c", Target::Stream("kept")).unwrap();
    session.remove_ref(Kind::Stream, "a/b/c").unwrap();
    drop(session);
    std::os::unix::fs::symlink("x", scratch.path(".hull-1-1")).unwrap();
    let plan = plan(&scratch.store, &[]).unwrap();
    assert_eq!(plan.leftovers, [".hull-1-1"]);
    execute(&scratch.store, &plan, NOW).unwrap();
    assert!(!scratch.path("streams/refs/a").exists());
    assert!(scratch.path("streams/refs/stays").exists());
    assert!(scratch.path(".hull-1-1").symlink_metadata().is_err());
}

#[test]
fn nothing_is_collected_where_it_cannot_be_told_what_is_needed() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = put_stream(&session, "kept", &[1], &[]);
    session.set_ref("root", Target::Stream("kept")).unwrap();
    session.put(&content(9)).unwrap();
    drop(session);
    let mut bytes = std::fs::read(scratch.object_path(&id)).unwrap();
    // One bit of the digest of the object that it needs.
    bytes[120] ^= 1;
    scratch.overwrite(&id, &bytes);
    let error = plan(&scratch.store, &[]).unwrap_err();
    assert!(matches!(error, GcError::Damaged { .. }), "{error}");
    assert!(has_content(&scratch.store, 9));
}

#[test]
fn a_missing_object_does_not_keep_garbage() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = put_image(&session, &[1, 2]);
    session.set_ref("os", Target::Image(&id)).unwrap();
    session.put(&content(9)).unwrap();
    drop(session);
    std::fs::remove_file(scratch.object_path(&digest(&content(1)))).unwrap();
    assert_eq!(collect(&scratch.store, &[]).objects, 1);
    assert!(has_content(&scratch.store, 2));
}

#[test]
fn a_reference_to_nothing_is_named_and_stays() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("streams/refs")).unwrap();
    std::os::unix::fs::symlink("../gone", scratch.path("streams/refs/lost")).unwrap();
    let plan = plan(&scratch.store, &[]).unwrap();
    assert_eq!(plan.dangling, ["streams/refs/lost"]);
    assert!(plan.to_string().contains("warning: streams/refs/lost"));
    execute(&scratch.store, &plan, NOW).unwrap();
    assert!(scratch.path("streams/refs/lost").symlink_metadata().is_ok());
}

#[test]
fn files_that_do_not_belong_there_are_never_touched() {
    let scratch = Scratch::new();
    for path in [
        "streams/file",
        "objects/zz",
        "objects/.tmp-object-x",
        "notes",
    ] {
        std::fs::File::create(scratch.path(path)).unwrap();
    }
    collect(&scratch.store, &[]);
    for path in [
        "streams/file",
        "objects/zz",
        "objects/.tmp-object-x",
        "notes",
    ] {
        assert!(scratch.path(path).exists(), "{path}");
    }
}

/// A store in imagination: number n is the object whose bytes are all n.
#[derive(Debug, Clone)]
struct World {
    objects: u8,
    /// Streams: what they need, and what they name.
    streams: BTreeMap<u8, (Vec<u8>, Vec<u8>)>,
    images: BTreeMap<u8, Vec<u8>>,
    roots: BTreeSet<u8>,
}

fn id(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 64])
}

impl Contents for &World {
    fn stream(&mut self, object: &ObjectId) -> Result<References, GcError> {
        let (objects, named) = &self.streams[&object.as_bytes()[0]];
        Ok(References {
            objects: objects.iter().map(|&n| id(n)).collect(),
            named: named
                .iter()
                .map(|&n| (format!("{n}").into(), id(n)))
                .collect(),
        })
    }

    fn image(&mut self, image: &ObjectId) -> Result<Vec<ObjectId>, GcError> {
        let objects = &self.images[&image.as_bytes()[0]];
        Ok(objects.iter().map(|&n| id(n)).collect())
    }
}

impl World {
    fn inventory(&self) -> Inventory {
        let reference = |n: &u8| {
            if self.streams.contains_key(n) {
                (Kind::Stream, format!("r{n}"), format!("s{n}"))
            } else {
                (Kind::Image, format!("r{n}"), id(*n).to_hex())
            }
        };
        let links = Links {
            streams: self
                .streams
                .keys()
                .map(|&n| (format!("s{n}"), id(n)))
                .collect(),
            images: self.images.keys().map(|&n| id(n)).collect(),
            references: self.roots.iter().map(reference).collect(),
            ..Links::default()
        };
        Inventory {
            links,
            objects: (0..self.objects).map(id).collect(),
            ..Inventory::default()
        }
    }

    /// The same by the definition: repeat until nothing is added.
    fn needed(&self) -> HashSet<u8> {
        let exists = |n: &&u8| self.streams.contains_key(n) || self.images.contains_key(n);
        let mut named: HashSet<u8> = self.roots.iter().filter(exists).copied().collect();
        loop {
            let more: HashSet<u8> = named
                .iter()
                .filter_map(|n| self.streams.get(n))
                .flat_map(|(_, named)| named.iter().copied())
                .collect();
            let before = named.len();
            named.extend(more);
            if named.len() == before {
                break;
            }
        }
        let mut needed = named.clone();
        for n in &named {
            needed.extend(
                self.streams
                    .get(n)
                    .into_iter()
                    .flat_map(|(objects, _)| objects),
            );
            needed.extend(self.images.get(n).into_iter().flatten());
        }
        needed
    }
}

fn world() -> impl Strategy<Value = World> {
    let some = || prop::collection::vec(0u8..24, 0..6);
    (
        prop::collection::btree_map(0u8..24, (some(), some()), 0..6),
        prop::collection::btree_map(0u8..24, some(), 0..6),
        prop::collection::btree_set(0u8..24, 0..4),
    )
        .prop_map(|(streams, images, roots)| World {
            objects: 24,
            streams,
            images,
            roots,
        })
}

proptest! {
    #[test]
    fn alive_is_exactly_what_can_be_reached_from_the_references(world in world()) {
        let live = mark(&world.inventory(), &[], &mut &world).unwrap();
        let found: HashMap<u8, ()> =
            live.objects.iter().map(|id| (id.as_bytes()[0], ())).collect();
        let found: HashSet<u8> = found.into_keys().collect();
        prop_assert_eq!(found, world.needed());
        // A link stays only if all behind it stays.
        for stream in &live.streams {
            let (objects, named) = &world.streams[&stream.as_bytes()[0]];
            prop_assert!(objects.iter().chain(named).all(|&n| live.objects.contains(&id(n))));
        }
    }
}
