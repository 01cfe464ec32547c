//! Layers that clients of containers/storage can fetch in part (zstd:chunked), read by
//! a library that is none of ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hull_chunk::build::Written;
use hull_chunk::layer::Compression;
use hull_oci::Digest;
use serde_json::Value;
use zstd_chunked::{MetadataReferences, Stream};

use crate::world::{Recipe, Root};

const CHUNKED: Compression = Compression::ZstdChunked(3);

/// A layer with what its annotations and its footer say.
struct Layer {
    blob: Vec<u8>,
    table: Value,
    stream: Stream,
}

impl Layer {
    fn open(layout: &Path, written: &Written) -> Self {
        let path = layout.join("blobs/sha256").join(written.digest.to_hex());
        let blob = fs::read(path).unwrap();
        let annotated = MetadataReferences::from_oci(|key| written.annotations.get(key)).unwrap();
        let at_end = MetadataReferences::from_footer(&blob[blob.len() - 72..]).unwrap();
        let [table, split] = [
            (&annotated.manifest, &at_end.manifest),
            (&annotated.tarsplit, &at_end.tarsplit),
        ]
        .map(|(annotated, at_end)| {
            assert_eq!(annotated.range, at_end.range);
            let range = annotated.range.clone();
            let bytes =
                &blob[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            let digest = annotated.digest.as_deref().unwrap();
            assert_eq!(Digest::sha256(bytes).to_string(), digest);
            let length = zstd::decode_all(bytes).unwrap().len() as u64;
            assert_eq!(length, annotated.uncompressed_size);
            bytes.to_vec()
        });
        Self {
            table: serde_json::from_slice(&zstd::decode_all(&table[..]).unwrap()).unwrap(),
            stream: Stream::new_from_frames(&table, &split).unwrap(),
            blob,
        }
    }

    /// The part of the blob, unpacked.
    fn part(&self, from: u64, to: u64) -> Vec<u8> {
        let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
        zstd::decode_all(&self.blob[range]).unwrap()
    }

    /// The archive, put together from the files one by one.
    fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        let fetch = |part: &zstd_chunked::ContentReference| {
            let content = self.part(part.range.start, part.range.end);
            assert_eq!(Digest::sha256(&content).to_string(), part.digest);
            Ok(content)
        };
        self.stream.write_to(&mut archive, fetch).unwrap();
        archive
    }

    fn rows(&self) -> &[Value] {
        self.table["entries"].as_array().unwrap()
    }

    /// The chunks of a file: their offsets in it, lengths, types and digests, checked against the content.
    fn chunks(&self, name: &str) -> Vec<(u64, u64, String)> {
        let rows: Vec<_> = self
            .rows()
            .iter()
            .filter(|row| row["name"] == name)
            .collect();
        let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or(0);
        let end = number(rows[0], "endOffset");
        let ends = rows[1..].iter().map(|row| number(row, "offset"));
        let ends = ends.chain([end]);
        let chunk = |(row, end): (&&Value, u64)| {
            let content = self.part(number(row, "offset"), end);
            assert_eq!(content.len() as u64, number(row, "chunkSize"));
            let digest = row["chunkDigest"].as_str().unwrap();
            assert_eq!(Digest::sha256(&content).to_string(), digest);
            let kind = row["chunkType"].as_str().unwrap_or_default().to_owned();
            (number(row, "chunkOffset"), number(row, "chunkSize"), kind)
        };
        rows.iter().zip(ends).map(chunk).collect()
    }
}

fn made(root: &Root, threads: usize) -> (Vec<Written>, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        compression: CHUNKED,
        threads,
        ..Recipe::default()
    };
    let made = recipe.make(root.path(), &out.path().join("oci"));
    (made.built.layers, out)
}

/// Bytes that do not repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(next).collect()
}

#[test]
fn a_layer_is_put_together_from_its_files() {
    let root = Root::system();
    root.file("usr/share/noise", &noise(3 << 20));
    root.file("usr/share/empty", b"");
    root.file(&format!("usr/share/{}", "long".repeat(40)), b"a long name");
    root.xattr("etc/machine", "user.mark", &[0, 255]);
    fs::hard_link(root.at("usr/share/noise"), root.at("usr/share/same")).unwrap();
    let (layers, out) = made(&root, 2);
    for written in &layers {
        let layer = Layer::open(&out.path().join("oci"), written);
        let archive = layer.archive();
        assert_eq!(Digest::sha256(&archive), written.diff_id);
        // Who knows nothing of all that unpacks the blob as a whole.
        assert_eq!(zstd::decode_all(&layer.blob[..]).unwrap(), archive);
        let types: Vec<_> = layer.rows().iter().map(|row| &row["type"]).collect();
        assert!(types.iter().all(|kind| kind.is_string()), "{types:?}");
    }
}

#[test]
fn the_table_says_of_entries_what_the_archive_says() {
    let root = Root::system();
    root.mode("usr/bin/alpha", 0o4755);
    root.xattr("etc/machine", "user.mark", &[0, 255]);
    // The names of one inode are in the order of their bytes, and the first is the file.
    root.xattr("usr/bin/alpha", "user.right", b"1");
    fs::hard_link(root.at("usr/bin/alpha"), root.at("usr/bin/zeta")).unwrap();
    let (layers, out) = made(&root, 2);
    let mut rows = BTreeMap::new();
    for written in &layers {
        let layer = Layer::open(&out.path().join("oci"), written);
        for row in layer.rows() {
            rows.insert(row["name"].as_str().unwrap().to_owned(), row.clone());
        }
    }
    // A program that gives each name its owner removes the capabilities that it set before.
    assert_eq!(rows["usr/bin/zeta"]["type"], "hardlink");
    assert_eq!(
        rows["usr/bin/zeta"]["xattrs"],
        rows["usr/bin/alpha"]["xattrs"]
    );
    assert_eq!(rows["usr/bin/zeta"]["xattrs"]["user.right"], "MQ==");
    assert_eq!(rows["usr/bin/"]["type"], "dir");
    assert_eq!(rows["usr/bin/alpha"]["mode"], 0o4755);
    assert_eq!(rows["usr/bin/b"]["type"], "symlink");
    assert_eq!(rows["usr/bin/b"]["linkName"], "beta");
    assert_eq!(rows["etc/machine"]["xattrs"]["user.mark"], "AP8=");
    assert_eq!(rows["etc/machine"]["modtime"], "1970-01-01T00:00:01Z");
}

#[test]
fn a_large_file_has_chunks_and_zeros_are_some_of_them() {
    let root = Root::system();
    let mut content = noise(1 << 20);
    content.extend(vec![0; 300_000]);
    content.extend(noise(5000));
    root.file("opt/disk", &content);
    let (layers, out) = made(&root, 2);
    let mut found = Vec::new();
    for written in &layers {
        let layer = Layer::open(&out.path().join("oci"), written);
        if layer.rows().iter().any(|row| row["name"] == "opt/disk") {
            found = layer.chunks("opt/disk");
        }
    }
    let zeros: Vec<_> = found.iter().filter(|(.., kind)| kind == "zeros").collect();
    assert_eq!(zeros, [&(1 << 20, 300_000, "zeros".to_owned())]);
    assert!(found.len() > 8, "{found:?}");
    let lengths: u64 = found.iter().map(|(_, length, _)| length).sum();
    assert_eq!(lengths, content.len() as u64);
}

#[test]
fn a_layer_with_a_name_that_is_not_text_has_no_table() {
    use std::os::unix::ffi::OsStrExt;
    let root = Root::system();
    let name = std::ffi::OsStr::from_bytes(b"etc/\xff");
    fs::File::create(root.path().join(name)).unwrap();
    let (layers, out) = made(&root, 2);
    let without: Vec<_> = layers
        .iter()
        .filter(|layer| layer.annotations.is_empty())
        .collect();
    assert_eq!(without.len(), 1);
    assert!(layers.len() > 1);
    let path = out
        .path()
        .join("oci/blobs/sha256")
        .join(without[0].digest.to_hex());
    let archive = zstd::decode_all(&fs::read(path).unwrap()[..]).unwrap();
    assert_eq!(Digest::sha256(&archive), without[0].diff_id);
}

#[test]
fn the_number_of_threads_changes_no_byte_of_a_large_layer() {
    let root = Root::system();
    root.file(
        "opt/disk",
        &[noise(9 << 20), vec![1; 20 << 20], noise(9 << 20)].concat(),
    );
    let out = tempfile::tempdir().unwrap();
    for compression in [
        CHUNKED,
        Compression::Zstd(3),
        Compression::Gzip(6),
        Compression::None,
    ] {
        let manifests: Vec<_> = [1, 2, 7]
            .map(|threads| {
                let recipe = Recipe {
                    compression,
                    threads,
                    ..Recipe::default()
                };
                recipe
                    .make(root.path(), &out.path().join("oci"))
                    .built
                    .manifest
            })
            .into();
        assert!(
            manifests.windows(2).all(|pair| pair[0] == pair[1]),
            "{compression:?}"
        );
    }
    let recipe = Recipe::default();
    assert_eq!(recipe.differences(root.path(), &out.path().join("oci")), []);
}
