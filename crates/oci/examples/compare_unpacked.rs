//! Merges the layers of an image in an OCI layout and compares the tree with
//! what another program unpacked of it: `compare_unpacked LAYOUT:TAG DIRECTORY`.
//!
//! Prints every difference, and exits with 1 if there is one.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

#[path = "../tests/unpacked/mod.rs"]
mod unpacked;

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use hull_oci::{Digest, layer};
use hull_store::{Store, Verity};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, directory] = arguments.as_slice() else {
        eprintln!("usage: compare_unpacked LAYOUT:TAG DIRECTORY");
        return ExitCode::from(2);
    };
    match compare(image, Path::new(directory)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn compare(image: &str, directory: &Path) -> Result<usize, Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let store = Store::create(
        OwnedFd::from(File::open(scratch.path())?),
        Verity::WhereSupported,
    )?;
    let session = store.session()?;
    let (layout, tag) = image.rsplit_once(':').ok_or("an image is LAYOUT:TAG")?;
    let mut records = Vec::new();
    for blob in layers(Path::new(layout), tag)? {
        let digest: Digest = blob.parse()?;
        let mut tar = decompressed(&blob_path(Path::new(layout), &blob))?;
        records.push(layer::import(&session, &mut tar)?.commit(&session, &digest)?);
    }
    let begin = std::time::Instant::now();
    let tree = layer::merge(&store, &records)?;
    let time = begin.elapsed();
    let differences = unpacked::differences(&store, &tree, directory);
    for difference in &differences {
        println!("{difference}");
    }
    let leaves = tree.leaves().count();
    println!(
        "{} differences; {leaves} inodes in {} layers merged in {time:?}",
        differences.len(),
        records.len()
    );
    Ok(differences.len())
}

/// The digests of the layers of the image with that tag.
fn layers(layout: &Path, tag: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let json = |path: &Path| -> Result<serde_json::Value, Box<dyn Error>> {
        Ok(serde_json::from_reader(BufReader::new(File::open(path)?))?)
    };
    let index = json(&layout.join("index.json"))?;
    let manifests = index["manifests"]
        .as_array()
        .ok_or("the index has no manifests")?;
    let tagged = |manifest: &&serde_json::Value| {
        manifest["annotations"]["org.opencontainers.image.ref.name"] == tag
    };
    let manifest = manifests
        .iter()
        .find(tagged)
        .ok_or("the layout has no such tag")?;
    let digest = manifest["digest"]
        .as_str()
        .ok_or("the manifest has no digest")?;
    let manifest = json(&blob_path(layout, digest))?;
    let layers = manifest["layers"]
        .as_array()
        .ok_or("the manifest has no layers")?;
    Ok(layers
        .iter()
        .filter_map(|layer| layer["digest"].as_str().map(str::to_owned))
        .collect())
}

fn blob_path(layout: &Path, digest: &str) -> std::path::PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// The content of a blob by its first bytes: gzip, zstd or neither.
fn decompressed(path: &Path) -> Result<Box<dyn Read>, Box<dyn Error>> {
    let mut magic = [0; 4];
    let length = File::open(path)?.read(&mut magic)?;
    let file = BufReader::new(File::open(path)?);
    Ok(match &magic[..length] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        _ => Box::new(file),
    })
}
