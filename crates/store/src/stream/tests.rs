use std::io::Write;

use proptest::prelude::*;

use super::format::{HEADER_LEN, INFO_LEN};
use super::*;
use crate::testing::Scratch;
use crate::{Session, Store, StoreError};

/// Bytes that compress badly, so that lengths are what they seem.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[derive(Debug, Clone)]
enum Piece {
    Inline(Vec<u8>),
    Object(Vec<u8>),
}

fn put(session: &Session, name: &str, pieces: &[Piece]) -> ObjectId {
    let mut builder = session.stream(7);
    for piece in pieces {
        match piece {
            Piece::Inline(bytes) => builder.inline(bytes).unwrap(),
            Piece::Object(bytes) => {
                let id = session.put(bytes).unwrap();
                builder.object(&id, bytes.len() as u64).unwrap();
            }
        }
    }
    session.put_stream(name, builder).unwrap()
}

fn original(pieces: &[Piece]) -> Vec<u8> {
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Inline(bytes) | Piece::Object(bytes) => bytes.as_slice(),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn give_back(store: &Store, id: &ObjectId) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::new();
    store.open_stream(id)?.copy_to(store, &mut out)?;
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_stream_gives_back_the_bytes_that_it_was_made_of(
        pieces in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..2000)).prop_map(|(inline, bytes)| {
                if inline { Piece::Inline(bytes) } else { Piece::Object(bytes) }
            }),
            0..20,
        ),
    ) {
        let scratch = Scratch::new();
        let session = scratch.store.session().unwrap();
        let id = put(&session, "stream", &pieces);
        prop_assert_eq!(give_back(&scratch.store, &id).unwrap(), original(&pieces));
        let reader = scratch.store.open_stream(&id).unwrap();
        prop_assert_eq!(reader.length(), original(&pieces).len() as u64);
        prop_assert_eq!(reader.content_type(), 7);
        // The same pieces are the same object.
        prop_assert_eq!(put(&session, "again", &pieces), id);
    }
}

#[test]
fn inline_bytes_beyond_any_buffer_come_back_whole() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let pieces = [
        Piece::Inline(noise(40 << 20, 1)),
        Piece::Inline(noise(3 << 20, 2)),
        Piece::Object(noise(1 << 20, 3)),
        Piece::Inline(noise(512, 4)),
        Piece::Inline(noise(5 << 20, 5)),
        Piece::Inline(noise(5 << 20, 6)),
    ];
    let id = put(&session, "stream", &pieces);
    assert_eq!(give_back(&scratch.store, &id).unwrap(), original(&pieces));
}

#[test]
fn named_references_are_read_back_sorted() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let first = put(&session, "first", &[Piece::Inline(b"1".to_vec())]);
    let second = put(&session, "second", &[Piece::Inline(b"2".to_vec())]);
    let mut builder = session.stream(0);
    builder.name("z:with colon", &first).unwrap();
    builder.name("a", &second).unwrap();
    builder.name("b", &first).unwrap();
    builder.reference(&second).unwrap();
    let id = session.put_stream("both", builder).unwrap();
    let reader = scratch.store.open_stream(&id).unwrap();
    let names: Vec<_> = reader.names().collect();
    assert_eq!(
        names,
        [("a", &second), ("b", &first), ("z:with colon", &first)]
    );
    assert_eq!(reader.named("a"), Some(&second));
    assert_eq!(reader.objects().unwrap(), [second]);
}

#[test]
fn a_stream_of_more_objects_than_memory_holds_lists_each_once_in_order() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = |number: u32| hull_erofs::fsverity::digest(&number.to_le_bytes());
    let ids: Vec<_> = (0..40_000).map(id).collect();
    let mut builder = session.stream(0);
    for (place, id) in ids.iter().enumerate() {
        builder.object(id, 1).unwrap();
        // Again, one of long ago and a recent one.
        builder.object(&ids[place / 2], 1).unwrap();
        builder.object(&ids[place.saturating_sub(9)], 1).unwrap();
        builder.reference(id).unwrap();
    }
    let stream = session.put_stream("stream", builder).unwrap();
    let mut reader = scratch.store.open_stream(&stream).unwrap();
    assert!(reader.objects().unwrap() == ids);
    for (place, id) in ids.iter().enumerate() {
        for expected in [id, &ids[place / 2], &ids[place.saturating_sub(9)]] {
            assert_eq!(reader.next_chunk().unwrap(), Some(Chunk::Object(*expected)));
        }
    }
    assert_eq!(reader.next_chunk().unwrap(), None);
}

#[test]
fn a_name_that_the_format_cannot_hold_is_refused() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = session.put(b"x").unwrap();
    let mut builder = session.stream(0);
    assert!(builder.name("a\0b", &id).is_err());
    assert!(builder.name(&"x".repeat(5000), &id).is_err());
}

#[test]
fn another_kind_of_content_is_refused_by_its_number() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = put(&session, "stream", &[]);
    let reader = scratch.store.open_stream(&id).unwrap();
    reader.require_content_type(7).unwrap();
    let error = reader.require_content_type(8).unwrap_err().to_string();
    assert!(error.contains("0x7, not 0x8"), "{error}");
}

#[test]
fn giving_back_names_the_object_that_is_missing() {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let id = put(&session, "stream", &[Piece::Object(b"gone".to_vec())]);
    let gone = hull_erofs::fsverity::digest(b"gone");
    std::fs::remove_file(scratch.object_path(&gone)).unwrap();
    let error = give_back(&scratch.store, &id).unwrap_err();
    assert!(matches!(error, StoreError::Missing { object } if object == gone));
}

/// The bytes of a stream with one of everything.
fn sample() -> Vec<u8> {
    let scratch = Scratch::new();
    let session = scratch.store.session().unwrap();
    let inner = put(&session, "inner", &[]);
    let object = session.put(b"an object").unwrap();
    let mut builder = session.stream(7);
    builder.inline(&[b'x'; 600]).unwrap();
    builder.object(&object, 9).unwrap();
    builder.name("inner", &inner).unwrap();
    let id = session.put_stream("outer", builder).unwrap();
    std::fs::read(scratch.object_path(&id)).unwrap()
}

/// Reads a stream of these bytes to its end.
fn read(bytes: &[u8]) -> Result<u64, StreamError> {
    let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(bytes).unwrap();
    let mut reader = StreamReader::open(file, ObjectId::from_bytes([0; 64]))?;
    let mut seen = 0;
    while let Some(chunk) = reader.next_chunk()? {
        if let Chunk::Inline(bytes) = chunk {
            seen += bytes.len() as u64;
        }
    }
    Ok(seen)
}

/// Reads the sample with some of its bytes replaced; what is wrong is said.
#[track_caller]
fn damaged(at: usize, with: &[u8], expected: &str) {
    let mut bytes = sample();
    bytes[at..at + with.len()].copy_from_slice(with);
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_sample_can_be_read() {
    assert_eq!(read(&sample()).unwrap(), 600);
}

#[test]
fn a_header_that_is_none_is_refused() {
    damaged(0, b"Split-", "it is no stream");
    damaged(11, &[1], "its version is 1");
    damaged(14, &[1], "algorithm 1");
    damaged(15, &[16], "blocks of 2^16");
}

#[test]
fn sections_outside_of_the_file_are_refused() {
    let far = u64::MAX.to_le_bytes();
    damaged(24, &far, "its section info is at bytes 32");
    damaged(16, &far, "its section info");
    damaged(
        24,
        &40u64.to_le_bytes(),
        "info has an impossible length of 8",
    );
    for (field, name) in [
        (0, "stream references"),
        (16, "object references"),
        (32, "stream"),
        (48, "named references"),
    ] {
        damaged(HEADER_LEN + field + 8, &far, name);
    }
    // Half a digest.
    let end = (HEADER_LEN + INFO_LEN + 32) as u64;
    damaged(
        HEADER_LEN + 8,
        &end.to_le_bytes(),
        "stream references has an impossible length of 32",
    );
}

#[test]
fn a_length_that_does_not_fit_the_content_is_refused() {
    damaged(
        HEADER_LEN + 72,
        &599u64.to_le_bytes(),
        "its content has 600 bytes, its header says 599",
    );
}

#[test]
fn a_stream_that_is_cut_off_is_refused_at_every_length() {
    let bytes = sample();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
}

/// A stream file around these chunks and named references.
fn assemble(chunks: &[u8], named: &[u8], size: u64) -> Vec<u8> {
    let named = zstd::encode_all(named, 0).unwrap();
    let chunks = zstd::encode_all(chunks, 0).unwrap();
    let head = (HEADER_LEN + INFO_LEN) as u64;
    let range = |start: u64, length: usize| format::Range {
        start,
        end: start + length as u64,
    };
    let named_refs = range(head + 64, named.len());
    let mut bytes = format::write_header(range(HEADER_LEN as u64, INFO_LEN));
    format::Info {
        stream_refs: range(head, 64),
        object_refs: range(head, 64),
        named_refs,
        stream: range(named_refs.end, chunks.len()),
        content_type: 0,
        stream_size: size,
    }
    .write(&mut bytes);
    bytes.extend_from_slice(&[7; 64]);
    bytes.extend_from_slice(&named);
    bytes.extend_from_slice(&chunks);
    bytes
}

#[test]
fn chunks_that_lie_are_refused() {
    let fails = |chunks: &[u8], size, expected: &str| {
        let error = read(&assemble(chunks, b"", size)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    fails(&1i64.to_le_bytes(), 9, "object number 1, it lists 1");
    fails(
        &i64::MAX.to_le_bytes(),
        9,
        "object number 9223372036854775807",
    );
    fails(
        &i64::MIN.to_le_bytes(),
        9,
        "its content has 9223372036854775808 bytes",
    );
    fails(&(-5i64).to_le_bytes(), 9, "can't be read");
    fails(&[0xff; 3], 9, "can't be read");
    assert_eq!(read(&assemble(&0i64.to_le_bytes(), b"", 0)).unwrap(), 0);
}

#[test]
fn named_references_that_lie_are_refused() {
    for (named, expected) in [
        (&b"0:x"[..], "cut off"),
        (b"x\0", "no colon"),
        (b"a:x\0", "no number"),
        (b"-1:x\0", "no number"),
        (b"1:x\0", "not listed"),
        (b"0:\xff\0", "not UTF-8"),
    ] {
        let error = read(&assemble(b"", named, 0)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_bomb_in_the_named_references_is_not_unpacked() {
    let named = vec![b'0'; 20 << 20];
    let error = read(&assemble(b"", &named, 0)).unwrap_err().to_string();
    assert!(error.contains("longer than 16777216 bytes"), "{error}");
}

#[test]
fn the_header_layout_of_old_bootc_is_read() {
    let new = sample();
    let mut old = Vec::new();
    old.extend_from_slice(&new[16..32]);
    old.extend_from_slice(&new[12..14]);
    old.extend_from_slice(&new[..12]);
    old.extend_from_slice(&new[14..16]);
    old.extend_from_slice(&new[32..]);
    assert_eq!(read(&old).unwrap(), 600);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_change_of_a_stream_is_an_error_or_a_stream_but_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = sample();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read(&bytes).ok();
    }
}
