//! hull and the `composefs-oci` crate on one repository: an image that one
//! pulled is read, checked and collected by the other.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use composefs::erofs::format::FormatVersion;
use composefs::fsverity::{FsVerityHashValue, Sha512HashValue};
use composefs::repository::Repository;
use composefs_oci::oci_layout::{OciLayoutKind, import_oci_layout};
use composefs_oci::{NullReporter, OciDigest, OciImage, OciTransformOptions};
use hull_oci::progress::Silent;
use hull_oci::{Digest, Image, PullOptions, Pulled, Reference, pull};
use hull_store::{Kind, Store, Verity, fsck};

#[allow(dead_code, reason = "made for hull-oci's own tests")]
#[path = "../../../../crates/oci/tests/pull/image.rs"]
mod image;

type Upstream = Arc<Repository<Sha512HashValue>>;

fn hull(path: &Path) -> Store {
    let dir = OwnedFd::from(std::fs::File::open(path).unwrap());
    Store::create(dir, Verity::WhereSupported).unwrap()
}

fn upstream(path: &Path) -> Upstream {
    Arc::new(Repository::open_path(rustix::fs::CWD, path).unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

fn theirs(digest: &Digest) -> OciDigest {
    digest.to_string().parse().unwrap()
}

struct Scene {
    repository: tempfile::TempDir,
    layout: tempfile::TempDir,
    image: image::TestImage,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            repository: tempfile::tempdir_in("/dev/shm").unwrap(),
            layout: tempfile::tempdir().unwrap(),
            image: image::three_layers("1"),
        };
        scene.image.write_layout(scene.layout.path(), "test");
        drop(hull(scene.repository.path()));
        scene
    }

    fn pull(&self) -> Pulled {
        let reference = format!("oci:{}:test", self.layout.path().display());
        let reference = Reference::parse(&reference).unwrap();
        let store = hull(self.repository.path());
        pull(&store, &reference, &PullOptions::default(), &Silent).unwrap()
    }

    fn import_with_upstream(&self) {
        let repository = upstream(self.repository.path());
        let kind = OciLayoutKind::Directory;
        let path = self.layout.path();
        let import = import_oci_layout(
            &repository,
            kind,
            path,
            Some("test"),
            Arc::new(NullReporter),
        );
        wait(import).unwrap();
    }

    #[track_caller]
    fn both_find_nothing(&self) {
        let result = wait(upstream(self.repository.path()).fsck()).unwrap();
        assert!(result.is_ok(), "{result}");
        let store = hull(self.repository.path());
        let report = fsck::check(&store, fsck::Depth::Full, &|_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
    }
}

/// The digest of the image that hull makes of what it pulled.
fn our_digest(store: &Store, image: &Image) -> String {
    let mut tree = image.tree(store).unwrap();
    hull_erofs::transform::oci_root(&mut tree).unwrap();
    let bytes = hull_erofs::image::write(&tree).unwrap();
    hull_erofs::fsverity::digest(&bytes).to_hex()
}

#[test]
fn upstream_reads_the_image_that_hull_pulled_and_gives_it_the_same_digest() {
    let scene = Scene::new();
    let pulled = scene.pull();
    scene.both_find_nothing();
    let repository = upstream(scene.repository.path());
    let manifest = theirs(&pulled.image.manifest_digest);
    let image = OciImage::open(&repository, &manifest, None).unwrap();
    for (diff_id, record) in pulled
        .image
        .config
        .diff_ids
        .iter()
        .zip(&pulled.image.layers)
    {
        let found = image.layer_verity(&diff_id.to_string()).unwrap();
        assert_eq!(found.to_hex(), record.to_hex());
    }
    // Without a digest of the configuration's stream, this hashes each layer and compares it with its diff_id.
    let config = theirs(&pulled.image.manifest.config.digest);
    let options = OciTransformOptions::default();
    let tree = composefs_oci::image::create_filesystem(&repository, &config, None, &options);
    let digest = tree.unwrap().compute_image_id(FormatVersion::V1).to_hex();
    assert_eq!(
        digest,
        our_digest(&hull(scene.repository.path()), &pulled.image)
    );
}

#[test]
fn upstream_keeps_what_a_reference_of_ours_leads_to_and_collects_it_after() {
    let scene = Scene::new();
    let pulled = scene.pull();
    let repository = upstream(scene.repository.path());
    let result = repository.gc_dry_run(&[]).unwrap();
    assert_eq!((result.objects_removed, result.streams_pruned), (0, 0));
    drop(repository);
    let store = hull(scene.repository.path());
    let name = hull_oci::pull::default_ref(&pulled.image.manifest_digest);
    store
        .session()
        .unwrap()
        .remove_ref(Kind::Stream, &name)
        .unwrap();
    upstream(scene.repository.path()).gc(&[]).unwrap();
    assert!(Image::load(&store, &pulled.image.manifest_digest).is_err());
    assert_eq!(
        std::fs::read_dir(scene.repository.path().join("streams"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn upstream_lists_the_image_and_misses_only_the_names_of_layers_by_diff_id() {
    let scene = Scene::new();
    let pulled = scene.pull();
    let repository = upstream(scene.repository.path());
    let images = composefs_oci::list_images(&repository).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(
        images[0].manifest_digest,
        theirs(&pulled.image.manifest_digest)
    );
    let result = wait(composefs_oci::oci_fsck(&repository)).unwrap();
    assert_eq!(result.images_checked(), 1);
    // docs/adr: a name by diff_id would promise what nobody has checked.
    for error in result.errors() {
        assert!(error.to_string().contains("stream"), "{error}");
    }
    assert_eq!(result.errors().len(), 3, "{result}");
}

#[test]
fn hull_pulls_into_a_repository_where_upstream_has_the_image() {
    let scene = Scene::new();
    scene.import_with_upstream();
    let pulled = scene.pull();
    scene.both_find_nothing();
    let store = hull(scene.repository.path());
    assert_eq!(
        Image::load(&store, &pulled.image.manifest_digest).unwrap(),
        pulled.image
    );
    // Our records of the layers are theirs, byte for byte.
    for (diff_id, record) in pulled
        .image
        .config
        .diff_ids
        .iter()
        .zip(&pulled.image.layers)
    {
        let name = format!("oci-layer-{diff_id}");
        assert_eq!(store.find_stream(&name).unwrap(), Some(*record));
    }
}

#[test]
fn upstream_imports_into_a_store_where_hull_has_the_image() {
    let scene = Scene::new();
    let pulled = scene.pull();
    scene.import_with_upstream();
    scene.both_find_nothing();
    let store = hull(scene.repository.path());
    assert_eq!(
        Image::load(&store, &pulled.image.manifest_digest).unwrap(),
        pulled.image
    );
}
