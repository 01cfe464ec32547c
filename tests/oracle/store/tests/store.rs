//! hull and the `composefs` crate on one repository.
//!
//! Each reads, checks and collects what the other wrote, and both write the same
//! bytes for the same stream and for an empty repository.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use composefs::fsverity::{Algorithm, FsVerityHashValue, Sha512HashValue};
use composefs::repository::{Repository, RepositoryConfig};
use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};
use hull_store::fsck::Depth;
use hull_store::{Kind, ObjectId, Session, Store, StoreError, Target, Verity, gc};
use proptest::prelude::*;

type Upstream = Repository<Sha512HashValue>;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn directory(path: &Path) -> OwnedFd {
    OwnedFd::from(std::fs::File::open(path).unwrap())
}

fn hull(path: &Path) -> Store {
    Store::create(directory(path), Verity::WhereSupported).unwrap()
}

fn upstream(path: &Path) -> Arc<Upstream> {
    Arc::new(Upstream::open_path(rustix::fs::CWD, path).unwrap())
}

fn create_upstream(path: &Path) -> Arc<Upstream> {
    let config = RepositoryConfig::new(Algorithm::for_hash::<Sha512HashValue>()).set_insecure();
    let (repository, fresh) = Upstream::init_path(rustix::fs::CWD, path, config).unwrap();
    assert!(fresh);
    Arc::new(repository)
}

fn same(id: &ObjectId) -> Sha512HashValue {
    Sha512HashValue::from_hex(id.to_hex()).unwrap()
}

fn content(seed: u32) -> Vec<u8> {
    format!("content number {seed:08} of a file in an image\n")
        .repeat(4)
        .into_bytes()
}

fn image_of(objects: &[(ObjectId, u64)]) -> Vec<u8> {
    let mut tree = Tree::default();
    tree.change_directory_metadata(DirectoryId::ROOT, |metadata| metadata.mode = 0o755);
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
    hull_erofs::image::write(&tree).unwrap()
}

/// A layer, an image, a config that leads to both, a manifest that leads to the
/// config; and a reference to the manifest.
fn pull(session: &Session, name: &str, seeds: std::ops::Range<u32>) -> Result<(), StoreError> {
    let mut layer = session.stream(1);
    let mut objects = Vec::new();
    for seed in seeds {
        let bytes = content(seed);
        let size = bytes.len() as u64;
        let id = session.put(&bytes)?;
        layer.inline(&[7; 512])?;
        layer.object(&id, size)?;
        objects.push((id, size));
    }
    layer.inline(&[0; 1024])?;
    let layer = session.put_stream(&format!("oci-layer-sha256:{name}"), layer)?;
    let image = session.put_image(&image_of(&objects))?;
    let mut config = session.stream(2);
    config.inline(b"{\"config\":1}")?;
    config.name("sha256:layer", &layer)?;
    config.name("composefs.image.v1", &image)?;
    let config = session.put_stream(&format!("oci-config-sha256:{name}"), config)?;
    let mut manifest = session.stream(3);
    manifest.inline(b"{\"manifest\":1}")?;
    manifest.name("config:sha256:config", &config)?;
    manifest.name("sha256:layer", &layer)?;
    let manifest_name = format!("oci-manifest-sha256:{name}");
    session.put_stream(&manifest_name, manifest)?;
    session.set_ref(&format!("oci/{name}"), Target::Stream(&manifest_name))?;
    session.set_ref(&format!("hull/{name}"), Target::Image(&image))
}

fn upstream_checks(repository: &Upstream) -> composefs::repository::FsckResult {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(repository.fsck()).unwrap()
}

#[track_caller]
fn both_find_nothing(path: &Path) {
    let result = upstream_checks(&upstream(path));
    assert!(result.is_ok(), "{result}");
    let report = hull_store::fsck::check(&hull(path), Depth::Full, &|_| {}).unwrap();
    assert_eq!(report.findings, []);
}

#[test]
fn an_empty_store_is_the_same_whoever_makes_it() {
    let (ours, theirs) = (temp(), temp());
    hull(ours.path());
    drop(create_upstream(theirs.path()));
    let meta = |path: &Path| std::fs::read_to_string(path.join("meta.json")).unwrap();
    assert_eq!(meta(ours.path()), meta(theirs.path()));
    assert!(upstream_checks(&upstream(ours.path())).is_ok());
    // And each takes the other's for its own.
    hull(theirs.path()).session().unwrap();
    let config = RepositoryConfig::new(Algorithm::for_hash::<Sha512HashValue>()).set_insecure();
    let (_, fresh) = Upstream::init_path(rustix::fs::CWD, ours.path(), config).unwrap();
    assert!(!fresh);
}

#[test]
fn upstream_checks_what_hull_wrote_and_finds_no_fault() {
    let temp = temp();
    let store = hull(temp.path());
    let session = store.session().unwrap();
    pull(&session, "one", 0..40).unwrap();
    pull(&session, "two", 20..60).unwrap();
    drop(session);
    let result = upstream_checks(&upstream(temp.path()));
    assert!(result.is_ok(), "{result}");
    assert_eq!(result.objects_checked(), 60 + 2 * 4);
    assert_eq!(result.streams_checked(), 6);
    assert_eq!(result.images_checked(), 2);
    both_find_nothing(temp.path());
}

#[test]
fn both_find_the_same_damage() {
    let temp = temp();
    let store = hull(temp.path());
    pull(&store.session().unwrap(), "one", 0..4).unwrap();
    let id = hull_erofs::fsverity::digest(&content(2));
    let path = temp.path().join("objects").join(id.to_object_path());
    std::fs::write(&path, b"other").unwrap();
    let result = upstream_checks(&upstream(temp.path()));
    assert_eq!(result.objects_corrupted(), 1, "{result}");
    let report = hull_store::fsck::check(&store, Depth::Full, &|_| {}).unwrap();
    assert_eq!(report.damage().count(), 1);

    std::fs::remove_file(&path).unwrap();
    let result = upstream_checks(&upstream(temp.path()));
    // Once for the layer, once for the image.
    assert_eq!(result.missing_objects(), 2, "{result}");
    let report = hull_store::fsck::check(&store, Depth::Full, &|_| {}).unwrap();
    assert_eq!(report.damage().count(), 1);
}

#[test]
fn upstream_gives_back_the_bytes_of_a_stream_that_hull_wrote() {
    let temp = temp();
    let store = hull(temp.path());
    pull(&store.session().unwrap(), "one", 0..40).unwrap();
    let theirs = upstream(temp.path());
    for name in ["oci-layer-sha256:one", "oci-config-sha256:one"] {
        let id = store.find_stream(name).unwrap().unwrap();
        assert_eq!(theirs.has_stream(name).unwrap(), Some(same(&id)));
        let mut reader = theirs.open_stream(name, None, None).unwrap();
        let mut out = Vec::new();
        reader.cat(&theirs, &mut out).unwrap();
        let mut expected = Vec::new();
        let mut ours = store.open_stream(&id).unwrap();
        ours.copy_to(&store, &mut expected).unwrap();
        assert_eq!(out, expected);
        assert_eq!(reader.total_size, ours.length());
        assert_eq!(reader.content_type, ours.content_type());
        for (name, id) in ours.names() {
            assert_eq!(reader.lookup_named_ref(name), Some(&same(id)));
        }
        assert_eq!(reader.iter_named_refs().count(), ours.names().count());
    }
    let image = store.find_ref(Kind::Image, "hull/one").unwrap().unwrap();
    let objects = theirs.objects_for_image(&image).unwrap();
    assert_eq!(objects.len(), 40);
}

/// Writes the same streams with both, in the given repository of upstream.
fn write_with_upstream(theirs: &Arc<Upstream>) -> (Sha512HashValue, Sha512HashValue) {
    let mut layer = theirs.create_stream(1).unwrap();
    for seed in 0..300 {
        layer.write_inline(&[7; 512]);
        layer.write_external(&content(seed % 200)).unwrap();
        layer.write_inline(&seed.to_le_bytes());
    }
    layer.write_inline(&[0; 1024]);
    let layer = theirs
        .write_stream(layer, "oci-layer-sha256:x", None)
        .unwrap();
    let mut config = theirs.create_stream(2).unwrap();
    config.write_inline(b"{}");
    config.add_named_stream_ref("sha256:layer", &layer);
    config.add_named_stream_ref("another", &layer);
    let config = theirs
        .write_stream(config, "oci-config-sha256:x", Some("oci/x:1"))
        .unwrap();
    (layer, config)
}

fn write_with_hull(session: &Session) -> (ObjectId, ObjectId) {
    let mut layer = session.stream(1);
    for seed in 0..300u32 {
        layer.inline(&[7; 512]).unwrap();
        let bytes = content(seed % 200);
        let id = session.put(&bytes).unwrap();
        layer.object(&id, bytes.len() as u64).unwrap();
        layer.inline(&seed.to_le_bytes()).unwrap();
    }
    layer.inline(&[0; 1024]).unwrap();
    let layer = session.put_stream("oci-layer-sha256:x", layer).unwrap();
    let mut config = session.stream(2);
    config.inline(b"{}").unwrap();
    config.name("sha256:layer", &layer).unwrap();
    config.name("another", &layer).unwrap();
    let config = session.put_stream("oci-config-sha256:x", config).unwrap();
    let target = Target::Stream("oci-config-sha256:x");
    session.set_ref("oci/x:1", target).unwrap();
    (layer, config)
}

#[test]
fn both_write_the_same_streams_links_and_references() {
    let (ours, theirs) = (temp(), temp());
    let (layer, config) = write_with_hull(&hull(ours.path()).session().unwrap());
    let (their_layer, their_config) = write_with_upstream(&create_upstream(theirs.path()));
    let link = |path: &Path, name: &str| std::fs::read_link(path.join(name)).unwrap();
    for name in ["streams/oci-layer-sha256:x", "streams/refs/oci/x:1"] {
        let ours = link(ours.path(), name);
        let theirs = link(theirs.path(), name);
        assert_eq!(ours, theirs);
    }
    assert_eq!(their_layer, same(&layer));
    assert_eq!(their_config, same(&config));
}

#[derive(Debug, Clone)]
enum Piece {
    Inline(Vec<u8>),
    Object(Vec<u8>),
    Name(String, Vec<u8>),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..3000);
    let piece = prop_oneof![
        bytes().prop_map(Piece::Inline),
        bytes().prop_map(Piece::Object),
        ("[a-z:/\u{e4}]{0,20}", bytes()).prop_map(|(name, bytes)| Piece::Name(name, bytes)),
    ];
    prop::collection::vec(piece, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_stream_is_the_same_object_whoever_writes_it(pieces in pieces()) {
        let (ours, theirs) = (temp(), temp());
        let store = hull(ours.path());
        let session = store.session().unwrap();
        let repository = create_upstream(theirs.path());
        let mut our_stream = session.stream(9);
        let mut their_stream = repository.create_stream(9).unwrap();
        for piece in pieces {
            match piece {
                Piece::Inline(bytes) => {
                    our_stream.inline(&bytes).unwrap();
                    their_stream.write_inline(&bytes);
                }
                Piece::Object(bytes) => {
                    let id = session.put(&bytes).unwrap();
                    our_stream.object(&id, bytes.len() as u64).unwrap();
                    their_stream.write_external(&bytes).unwrap();
                }
                Piece::Name(name, bytes) => {
                    let id = session.put(&bytes).unwrap();
                    our_stream.name(&name, &id).unwrap();
                    let id = repository.ensure_object(&bytes).unwrap();
                    their_stream.add_named_stream_ref(&name, &id);
                }
            }
        }
        let ours = session.put_stream("s", our_stream).unwrap();
        let theirs = repository.write_stream(their_stream, "s", None).unwrap();
        prop_assert_eq!(same(&ours), theirs);
    }
}

#[test]
fn hull_reads_checks_and_goes_on_with_what_upstream_wrote() {
    let temp = temp();
    let theirs = create_upstream(temp.path());
    let (layer, config) = write_with_upstream(&theirs);
    let image = theirs.write_image(Some("os/x"), &image_of(&[])).unwrap();
    drop(theirs);

    let store = hull(temp.path());
    let id = store.find_stream("oci-layer-sha256:x").unwrap().unwrap();
    assert_eq!(same(&id), layer);
    let mut out = Vec::new();
    store
        .open_stream(&id)
        .unwrap()
        .copy_to(&store, &mut out)
        .unwrap();
    let expected: Vec<u8> = (0..300u32)
        .flat_map(|seed| [vec![7; 512], content(seed % 200), seed.to_le_bytes().into()].concat())
        .chain([0; 1024])
        .collect();
    assert!(out == expected);
    let id = store.find_stream("oci-config-sha256:x").unwrap().unwrap();
    assert_eq!(same(&id), config);
    let reader = store.open_stream(&id).unwrap();
    assert_eq!(reader.named("another").map(same), Some(layer));
    assert_eq!(
        store.refs(Kind::Stream).unwrap(),
        [("oci/x:1".to_owned(), "oci-config-sha256:x".to_owned())]
    );
    assert_eq!(
        store.refs(Kind::Image).unwrap(),
        [("os/x".to_owned(), image.to_hex())]
    );
    pull(&store.session().unwrap(), "ours", 0..10).unwrap();
    both_find_nothing(temp.path());
}

/// A store with garbage of every kind, the same each time.
fn with_garbage(path: &Path) {
    let store = hull(path);
    let session = store.session().unwrap();
    pull(&session, "kept", 0..30).unwrap();
    pull(&session, "gone", 20..60).unwrap();
    pull(&session, "image-gone", 25..80).unwrap();
    session.remove_ref(Kind::Stream, "oci/gone").unwrap();
    session.remove_ref(Kind::Image, "hull/gone").unwrap();
    session.remove_ref(Kind::Image, "hull/image-gone").unwrap();
    session.put(b"alone").unwrap();
}

#[test]
fn both_collect_the_same() {
    let (ours, theirs) = (temp(), temp());
    with_garbage(ours.path());
    with_garbage(theirs.path());
    let store = hull(ours.path());
    let plan = gc::plan(&store, &[]).unwrap();

    let repository = upstream(theirs.path());
    let dry = repository.gc_dry_run(&[]).unwrap();
    assert_eq!(dry.objects_removed, plan.objects.len() as u64);
    assert_eq!(dry.objects_bytes, plan.bytes());
    // In a dry run upstream counts links as broken only when their object is gone.
    let wet = repository.gc(&[]).unwrap();
    drop(repository);
    let done = gc::execute(&store, &plan, Duration::ZERO).unwrap();
    assert_eq!(wet.objects_removed, done.objects as u64);
    assert_eq!(wet.streams_pruned, done.streams as u64);
    assert_eq!(wet.images_pruned, done.images as u64);
    assert_eq!(files(ours.path()), files(theirs.path()));
    both_find_nothing(ours.path());
    // Nothing is left to do for either.
    assert!(gc::plan(&hull(theirs.path()), &[]).unwrap().is_empty());
    assert_eq!(upstream(ours.path()).gc(&[]).unwrap().objects_removed, 0);
}

/// All names but directories, sorted.
fn files(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(path).unwrap().to_owned();
                found.push(name.into_os_string().into_string().unwrap());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_open_repository_of_upstream_keeps_our_collection_away() {
    let temp = temp();
    with_garbage(temp.path());
    let store = hull(temp.path());
    let plan = gc::plan(&store, &[]).unwrap();
    let repository = upstream(temp.path());
    let error = gc::execute(&store, &plan, Duration::ZERO).unwrap_err();
    assert!(matches!(error, gc::GcError::Busy { .. }), "{error}");
    drop(repository);
    assert!(gc::execute(&store, &plan, Duration::ZERO).unwrap().objects > 0);
}
