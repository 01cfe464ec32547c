//! What `fsck` finds is repaired by pulling again.

use std::fs::File;
use std::io::Write;

use hull_erofs::tree::Content;
use hull_oci::progress::Silent;
use hull_oci::{Image, Reference};
use hull_store::fsck::{self, Depth};

use crate::faulty::Faulty;
use crate::image::three_layers;
use crate::local_store::{LocalStore, options, read};

#[test]
fn a_pull_in_a_repairing_session_restores_objects_records_and_documents() {
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let local = LocalStore::new();
    let image = local.pull(&server.image("debian:stable")).unwrap().image;
    let tree = image.tree(&local.store).unwrap();
    let mut ids: Vec<_> = tree
        .leaves()
        .filter_map(|(_, leaf)| match leaf.content {
            Content::Object { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 3);
    ids.extend(&image.layers);
    ids.push(local.store.find_stream(&image.stream()).unwrap().unwrap());
    let reference = server.image(&format!("debian@{}", image.manifest_digest));
    let reference = Reference::parse(&reference).unwrap();
    for (place, id) in ids.iter().enumerate() {
        let path = local.path(&format!("objects/{}", id.to_object_path()));
        std::fs::remove_file(&path).unwrap();
        if place % 2 == 0 {
            File::create(&path).unwrap().write_all(b"damage").unwrap();
        }
    }
    let check = || fsck::check(&local.store, Depth::Full, &|_| {}).unwrap();
    assert!(!check().is_sound());
    assert!(Image::load(&local.store, &image.manifest_digest).is_err());

    let session = local.store.repair_session().unwrap();
    hull_oci::pull::pull_in(&session, &reference, &options(), &Silent).unwrap();
    drop(session);
    let report = check();
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(
        Image::load(&local.store, &image.manifest_digest).unwrap(),
        image
    );
    assert!(
        read(
            &local.store,
            &image.tree(&local.store).unwrap(),
            "usr/three"
        )
        .len()
            > 2_800_000
    );
}
