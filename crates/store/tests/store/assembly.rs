//! Contents that come in segments from several threads, and contents that are there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hull_erofs::fsverity::digest;
use hull_store::{ObjectId, SEGMENT, Session};

use crate::scratch::{assert_sound, store_in};

/// Bytes that repeat in no block.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|i| (i ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

/// Hands in the segments from three threads, the last ones first, in pieces of that length.
pub(crate) fn assemble(session: &Session, content: &[u8], piece: usize) -> ObjectId {
    let size = content.len() as u64;
    let assembly = session.assemble(size).unwrap();
    let segments: Vec<&[u8]> = content.chunks(SEGMENT).collect();
    let left = AtomicUsize::new(segments.len());
    let id = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Ok(before) =
                    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                {
                    let pieces = segments[before - 1].chunks(piece);
                    let place = before as u64 - 1;
                    if let Some(found) = assembly.add(place, pieces.collect()).unwrap() {
                        assert!(id.lock().unwrap().replace(found).is_none());
                    }
                }
            });
        }
    });
    id.into_inner().unwrap().expect("the last segment came")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

#[test]
fn segments_in_any_order_make_the_object_of_their_bytes() {
    let temp = scratch();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    for length in [
        1,
        SEGMENT,
        SEGMENT + 1,
        5 * SEGMENT - 77,
        9 * SEGMENT + 4097,
    ] {
        let content = pattern(length, length as u64);
        let id = assemble(&session, &content, 100_003);
        assert_eq!(id, digest(&content), "{length}");
        assert!(
            store.read_object(&id, 1 << 30).unwrap() == content,
            "{length}"
        );
    }
    assert_sound(&store);
}

#[test]
fn a_content_that_is_there_is_not_written() {
    let temp = scratch();
    let store = store_in(temp.path());
    let contents = [100, 70_000, 3 * SEGMENT, 10 * SEGMENT + 9].map(|n| pattern(n, 1));
    let first = store.session().unwrap();
    for content in &contents {
        assemble(&first, content, 100_003);
    }
    let total: usize = contents.iter().map(Vec::len).sum();
    assert_eq!(first.written(), total as u64);
    let second = store.session().unwrap();
    for content in &contents {
        assemble(&second, content, 100_003);
        if content.len() < SEGMENT {
            second.put(content).unwrap();
            let mut writer = second.writer();
            writer.append(content).unwrap();
            writer.finish().unwrap();
        }
    }
    assert_eq!(second.written(), 0);
}

#[test]
fn a_large_content_that_differs_from_one_of_its_length_is_itself() {
    let temp = scratch();
    let store = store_in(temp.path());
    let base = pattern(10 * SEGMENT + 5, 1);
    assemble(&store.session().unwrap(), &base, 100_003);
    for place in [0, 4 * SEGMENT + 1, base.len() - 1] {
        let mut other = base.clone();
        other[place] ^= 1;
        let session = store.session().unwrap();
        let id = assemble(&session, &other, 100_003);
        assert_eq!(id, digest(&other), "byte {place}");
        assert!(
            store.read_object(&id, 1 << 30).unwrap() == other,
            "byte {place}"
        );
        assert_eq!(session.written(), other.len() as u64, "byte {place}");
    }
    // Now there are several of that length.
    let session = store.session().unwrap();
    assert_eq!(assemble(&session, &base, 100_003), digest(&base));
    assert_eq!(session.written(), 0);
    assert_sound(&store);
}

#[test]
fn a_large_object_that_is_damaged_does_not_stand_for_its_content() {
    let temp = scratch();
    let store = store_in(temp.path());
    let content = pattern(10 * SEGMENT, 1);
    let id = assemble(&store.session().unwrap(), &content, 100_003);
    let path = temp.path().join("objects").join(id.to_object_path());
    let mut damaged = content.clone();
    damaged[5 * SEGMENT] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let id_of_damaged = assemble(&store.session().unwrap(), &damaged, 100_003);
    assert_eq!(id_of_damaged, digest(&damaged));
    assert!(store.read_object(&id_of_damaged, 1 << 30).unwrap() == damaged);
    // One who brings the content sees that what has its name is something else.
    assert_eq!(assemble(&store.session().unwrap(), &content, 100_003), id);
    assert!(store.read_object(&id, 1 << 30).unwrap() == content);
    // A repairing session takes the length for nothing.
    std::fs::write(&path, &damaged).unwrap();
    assert_eq!(
        assemble(&store.repair_session().unwrap(), &content, 100_003),
        id
    );
    assert!(store.read_object(&id, 1 << 30).unwrap() == content);
}

#[test]
fn one_content_from_several_threads_is_written_once() {
    let temp = scratch();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let content = pattern(2_000_000, 3);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| session.put(&content).unwrap());
        }
    });
    assert_eq!(session.written(), content.len() as u64);
}

#[test]
fn an_assembly_that_is_dropped_leaves_nothing() {
    let temp = scratch();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    let files = || walk(&temp.path().join("objects"));
    let before = files();
    let assembly = session.assemble(20 * SEGMENT as u64).unwrap();
    let segment = pattern(SEGMENT, 1);
    assert_eq!(assembly.add(3, vec![&segment[..]]).unwrap(), None);
    drop(assembly);
    assert_eq!(files(), before);
}

fn walk(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path()),
            false => 1,
        })
        .sum()
}
