//! Long contents that go to the disk past the page cache. Needs root, to mount a disk.

use std::path::Path;

use hull_store::{ObjectId, SEGMENT, StoreError, Verity};
use hull_sys::direct::AlignedBuffer;

use crate::assembly::{assemble, pattern};
use crate::scratch::{assert_sound, on_ext4, open, run, store_in};

/// What importing a layer hands in, more or less.
const PIECE: usize = 256 << 10;

fn aligned(length: usize, seed: u64) -> AlignedBuffer {
    AlignedBuffer::copied(&pattern(length, seed))
}

/// How many bytes of an object are in the page cache.
fn cached(store: &Path, id: &ObjectId) -> u64 {
    let object = store.join("objects").join(id.to_object_path());
    let object = object.to_str().unwrap();
    let words = ["--bytes", "--noheadings", "--output", "RES", object];
    run("fincore", &words).trim().parse().unwrap()
}

/// On a disk on which it may be in sectors of any length.
fn contents_arrive_whole(directory: &Path) {
    let store = store_in(directory);
    let session = store.session().unwrap();
    for length in [PIECE, SEGMENT + 77, 8 * SEGMENT, 9 * SEGMENT + 5000] {
        let content = aligned(length, length as u64);
        // At a sector, as in tar; and anywhere.
        for start in [0, 512, 4096, 1] {
            let content = &content[start..length];
            let id = assemble(&session, content, PIECE - start);
            assert_eq!(id, hull_erofs::fsverity::digest(content));
            // A few segments are of another object's.
            let mut like = AlignedBuffer::copied(content);
            *like[..length - start].last_mut().unwrap() ^= 1;
            let like = &like[..length - start];
            let id = assemble(&session, like, PIECE);
            assert_eq!(id, hull_erofs::fsverity::digest(like));
        }
    }
    assert_sound(&store);
}

#[test]
fn contents_arrive_whole_on_a_disk_with_short_sectors() {
    on_ext4(256, "512", contents_arrive_whole);
}

#[test]
fn contents_arrive_whole_on_a_disk_with_long_sectors() {
    on_ext4(256, "4096", contents_arrive_whole);
}

#[test]
fn long_contents_leave_the_page_cache_to_others() {
    on_ext4(64, "512", |directory| {
        let store = store_in(directory);
        let session = store.session().unwrap();
        assert!(session.writes_directly(), "Linux 6.1 and later can tell");
        for length in [SEGMENT, 10 * SEGMENT] {
            let content = aligned(length, 1);
            let id = assemble(&session, &content, PIECE);
            assert_eq!(cached(directory, &id), 0);
        }
        let id = assemble(&session, &aligned(4096, 2), PIECE);
        assert_eq!(
            cached(directory, &id),
            4096,
            "the kernel writes them together"
        );
    });
}

#[test]
fn what_is_read_soon_stays_in_the_page_cache() {
    on_ext4(64, "512", |directory| {
        let store = hull_store::Store::create(open(directory), Verity::Never).unwrap();
        let session = store.session().unwrap();
        assert!(!session.writes_directly());
        let content = aligned(SEGMENT, 3);
        let id = assemble(&session, &content, PIECE);
        assert_eq!(cached(directory, &id), SEGMENT as u64);
    });
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_content_keeps_the_others() {
    on_ext4(16, "512", |directory| {
        let store = store_in(directory);
        let session = store.session().unwrap();
        let kept = assemble(&session, &aligned(SEGMENT, 1), PIECE);
        // One that is kept in memory, and one that is not.
        for length in [6 * SEGMENT, 20 * SEGMENT] {
            let full = (3..20).find_map(|seed| {
                let content = aligned(length, seed);
                let assembly = session.assemble(length as u64).unwrap();
                let mut segments = (0..).zip(content.chunks(SEGMENT));
                segments.find_map(|(place, segment)| assembly.add(place, vec![segment]).err())
            });
            let full = full.expect("the disk is small");
            assert!(matches!(full, StoreError::NoSpace { .. }), "{full:?}");
        }
        assert_sound(&store);
        assert!(store.object_size(&kept).unwrap().is_some());
    });
}
