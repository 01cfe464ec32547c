//! What becomes of a layer in the store.

use super::archive::*;
use super::*;
use crate::layer::{self, Item};

fn export(scratch: &Scratch, record: &ObjectId) -> Vec<u8> {
    let mut out = Vec::new();
    layer::export(&scratch.store, record, &mut out).unwrap();
    out
}

/// Everything that has an unusual form.
fn all_sorts() -> Vec<u8> {
    let mut link = hard_link("h", "big");
    link.data = vec![b'x'; 5000];
    let mut bytes = open_end(&[
        directory("./"),
        file("empty", ""),
        file("small", [b's'; 64]),
        file("medium", [b'm'; 65]),
        file("block", [b'b'; 512]),
        file("big", vec![b'g'; 400_001]),
        link,
        long(b'L', "n/".repeat(80) + "long"),
        file("cut", "long").gnu(),
        file("GNUSparseFile.0/f", [b'd'; 300])
            .pax("GNU.sparse.size", "9000")
            .pax("GNU.sparse.name", "sparse")
            .pax("GNU.sparse.map", "100,200,500,100"),
        file("x", "x")
            .pax("path", "pax")
            .pax("SCHILY.xattr.user.a", [0, 255]),
    ]);
    // Padding that is not zero, and bytes behind the end.
    let padding = bytes.len() - 400;
    bytes[padding..].fill(b'p');
    bytes.extend([0; 1024]);
    bytes.extend([0; 9000]);
    bytes.extend(b"trailing bytes");
    bytes
}

#[test]
fn the_archive_is_given_back_bit_for_bit() {
    let scratch = Scratch::new();
    let tar = all_sorts();
    let record = scratch.layer(&tar);
    assert_eq!(export(&scratch, &record), tar);
    layer::verify_diff_id(&scratch.store, &record, &Digest::sha256(&tar)).unwrap();
    let error =
        layer::verify_diff_id(&scratch.store, &record, &Digest::sha256(b"other")).unwrap_err();
    assert!(
        error.to_string().contains("pull the image again"),
        "{error}"
    );
}

#[test]
fn entries_are_read_from_the_record_alone() {
    let scratch = Scratch::new();
    let record = scratch.layer(&all_sorts());
    let reader = scratch.store.open_stream(&record).unwrap();
    for id in reader.objects().unwrap() {
        let path = scratch
            ._directory
            .path()
            .join("objects")
            .join(id.to_object_path());
        std::fs::remove_file(path).unwrap();
    }
    let entries: Vec<_> = layer::entries(&scratch.store, &record)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry.path.to_name().to_string())
        .collect();
    assert_eq!(entries.len(), 10, "{names:?}");
}

#[test]
fn contents_up_to_64_bytes_stay_inline_and_others_become_objects() {
    let scratch = Scratch::new();
    let content = |length: usize| {
        let entries = scratch.entries(&tar(&[file("f", vec![b'c'; length])]));
        match &entries[0].item {
            Item::Leaf(content) => content.clone(),
            other => panic!("{other:?}"),
        }
    };
    for length in [0, 1, 63, 64] {
        assert_eq!(content(length), Content::Inline(vec![b'c'; length].into()));
    }
    for length in [65, 511, 512, 513, 128 * 1024, 128 * 1024 + 1, 1_000_000] {
        let bytes = vec![b'c'; length];
        let id = hull_erofs::fsverity::digest(&bytes);
        assert_eq!(
            content(length),
            Content::Object {
                id,
                size: length as u64
            }
        );
        assert_eq!(scratch.store.read_object(&id, 1 << 20).unwrap(), bytes);
    }
}

#[test]
fn a_layer_has_no_record_before_it_is_committed() {
    let scratch = Scratch::new();
    let session = scratch.session();
    let tar = tar(&[file("f", "x")]);
    let blob = Digest::sha256(&tar);
    let imported = import(&session, &mut &*tar).unwrap();
    assert_eq!(imported.entries(), 1);
    assert_eq!(layer::find(&scratch.store, &blob).unwrap(), None);
    let record = imported.commit(&session, &blob).unwrap();
    assert_eq!(layer::find(&scratch.store, &blob).unwrap(), Some(record));
}

#[test]
fn the_same_layer_gives_the_same_record() {
    let tar = all_sorts();
    assert_eq!(Scratch::new().layer(&tar), Scratch::new().layer(&tar));
}

#[test]
fn bytes_that_arrive_one_by_one_make_the_same_record() {
    struct OneByOne<'a>(&'a [u8]);
    impl std::io::Read for OneByOne<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(buffer.len()).min(1);
            std::io::Read::read(&mut self.0, &mut buffer[..count])
        }
    }
    let (scratch, tar) = (Scratch::new(), all_sorts());
    let session = scratch.session();
    let imported = import(&session, &mut OneByOne(&tar)).unwrap();
    let record = imported.commit(&session, &Digest::sha256(b"1")).unwrap();
    assert_eq!(record, scratch.layer(&tar));
}

#[test]
fn an_error_of_the_source_is_told_with_its_cause() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the registry went away"))
        }
    }
    let scratch = Scratch::new();
    let session = scratch.session();
    let error = chain(&import(&session, &mut Broken).unwrap_err());
    assert!(
        error.contains("byte 0") && error.ends_with("the registry went away"),
        "{error}"
    );
}

#[test]
fn a_layer_cut_off_anywhere_is_refused_or_ends_behind_the_data_of_an_entry() {
    let tar = open_end(&[
        file("a", "x"),
        file("b", [7; 700]),
        file("c", "").pax("path", "d"),
    ]);
    let scratch = Scratch::new();
    // Behind the data of whole members: without padding and the last blocks an archive is taken.
    let second = 1024 + 512;
    let whole = [
        0..=0,
        513..=1024,
        second + 700..=second + 1024,
        tar.len()..=tar.len(),
    ];
    for length in 0..=tar.len() {
        let taken = scratch.try_layer(&tar[..length]);
        assert_eq!(
            taken.is_ok(),
            whole.iter().any(|whole| whole.contains(&length)),
            "{length}: {taken:?}"
        );
    }
}
