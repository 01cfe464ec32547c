//! Times the collection of a store with 10 images and 50,000 objects.
//!
//! usage: `gc_bench DIRECTORY`: an empty directory on the file system to measure.
//! Prints one line for each step: its name and seconds.

#![allow(
    clippy::print_stdout,
    reason = "a program whose output are measurements"
)]

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hull_erofs::tree::{Content, DirectoryId, Leaf, Metadata, Tree};
use hull_store::{Kind, ObjectId, Session, Store, StoreError, Target, Verity, gc};

/// Deployments that stay, and those that a collection takes.
const KEPT: u32 = 8;
const REMOVED: u32 = 2;
/// Objects that only one image has, and those that all have.
const OWN: u32 = 4_000;
const SHARED: u32 = 10_000;
/// As many files as a directory of /usr has.
const IN_A_DIRECTORY: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: gc_bench DIRECTORY")?
        .into();
    let store = Store::create(OwnedFd::from(File::open(path)?), Verity::WhereSupported)?;
    timed("fill", || fill(&store))?;

    let plan = timed("plan, nothing to remove", || gc::plan(&store, &[]))?;
    if !plan.is_empty() || plan.kept.objects < 50_000 {
        return Err(format!("the store is not as it was made: {plan}").into());
    }
    let session = store.session()?;
    for image in 0..REMOVED {
        session.remove_ref(Kind::Image, &format!("deploy/{image}"))?;
        session.remove_ref(Kind::Stream, &format!("oci/{image}"))?;
    }
    drop(session);

    let start = Instant::now();
    let plan = timed("plan", || gc::plan(&store, &[]))?;
    let done = timed("execute", || gc::execute(&store, &plan, Duration::ZERO))?;
    let total = start.elapsed();
    println!("plan and execute\t{:.3}", total.as_secs_f64());
    println!("objects removed\t{}", done.objects);
    println!("objects kept\t{}", plan.kept.objects);
    Ok(())
}

fn timed<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let result = work()?;
    println!("{what}\t{:.3}", start.elapsed().as_secs_f64());
    Ok(result)
}

fn fill(store: &Store) -> Result<(), StoreError> {
    let session = store.session()?;
    let shared = put_all(&session, 0..SHARED)?;
    for image in 0..KEPT + REMOVED {
        let first = SHARED + image * OWN;
        let mut objects = shared.clone();
        objects.extend(put_all(&session, first..first + OWN)?);
        let id = session.put_image(&image_of(&objects))?;
        session.set_ref(&format!("deploy/{image}"), Target::Image(&id))?;

        let mut layer = session.stream(0);
        for (id, size) in &objects {
            layer.inline(&[0; 512])?;
            layer.object(id, *size)?;
        }
        let name = format!("layer-{image}");
        session.put_stream(&name, layer)?;
        session.set_ref(&format!("oci/{image}"), Target::Stream(&name))?;
    }
    Ok(())
}

fn put_all(
    session: &Session,
    seeds: std::ops::Range<u32>,
) -> Result<Vec<(ObjectId, u64)>, StoreError> {
    seeds
        .map(|seed| {
            let content = format!("{seed:09}\n").repeat(20 + seed as usize % 400);
            let id = session.put(content.as_bytes())?;
            Ok((id, content.len() as u64))
        })
        .collect()
}

fn image_of(objects: &[(ObjectId, u64)]) -> Vec<u8> {
    let mut tree = Tree::default();
    for (index, files) in objects.chunks(IN_A_DIRECTORY).enumerate() {
        let name = format!("directory{index}");
        let directory = tree.put_directory(DirectoryId::ROOT, name.as_bytes(), Metadata::default());
        for (index, (id, size)) in files.iter().enumerate() {
            let leaf = tree.add_leaf(Leaf {
                metadata: Metadata::default(),
                content: Content::Object {
                    id: *id,
                    size: *size,
                },
            });
            tree.put_leaf(directory, format!("file{index}").as_bytes(), leaf);
        }
    }
    hull_erofs::image::write(&tree).expect("names and sizes here are valid")
}
