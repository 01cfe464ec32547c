//! From a scan and a plan to an image.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use hull_oci::Digest;

use crate::components::{Component, Components};
use crate::image::{Description, Layout, LayoutError, documents};
use crate::layer::{self, Compression, Helpers, Job, LayerError};
use crate::members::Members;

pub use crate::layer::Written;
use crate::pack::{Item, Plan};
use crate::scan::Scan;

/// An image that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// What goes into a layer.
    #[error(transparent)]
    Layer(LayerError),
    /// A layer itself.
    #[error("{}: a layer cannot be written; nothing was written under the image's name", layout.display())]
    Write {
        /// The layout that it is part of.
        layout: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The place that it goes to.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// An image that was written.
#[derive(Debug)]
pub struct Built {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its layers, lowest first, in the order of the plan.
    pub layers: Vec<Written>,
}

/// What components are for packing.
pub fn items(components: &[Component]) -> Vec<Item> {
    let item = |component: &Component| Item {
        name: component.name.clone(),
        size: component.size,
        frequency: component.frequency,
    };
    components.iter().map(item).collect()
}

/// The entries of each layer; the plan must have a place for each component.
fn members(scan: &Scan, components: &Components, plan: &Plan) -> Members {
    let places = plan.places();
    let layer_of: Vec<Option<usize>> = components
        .all
        .iter()
        .map(|component| places.get(component.name.as_str()).copied())
        .collect();
    let mut members = Members::new(plan.layers.len());
    for (entry, component) in components.of_entry.iter().enumerate() {
        if let Some(layer) = component.and_then(|component| layer_of[component]) {
            members.push(layer, entry, scan.entries.size(entry).unwrap_or(0));
        }
    }
    members
}

/// How an image is written, beside what is in it.
#[derive(Debug)]
pub struct Options {
    /// What it says of itself.
    pub description: Description,
    /// How its layers are compressed.
    pub compression: Compression,
    /// How many layers are written at once.
    pub threads: NonZeroUsize,
    /// What it is called in the layout.
    pub tag: Option<String>,
}

/// Writes the layers and the documents of an image into a layout.
///
/// The plan must have a place for each component.
pub fn build(
    scan: &Scan,
    components: &Components,
    plan: &Plan,
    options: &Options,
    layout: Layout,
) -> Result<Built, BuildError> {
    let Options {
        description,
        compression,
        threads,
        tag,
    } = options;
    let compression = *compression;
    let members = members(scan, components, plan);
    let write = |place: usize, helpers: &Helpers| -> Result<Written, BuildError> {
        let file: File = layout.blob()?;
        let members = members.of(place);
        let place = (&file, layout.dir());
        let written = layer::write(scan, components, members, compression, place, helpers);
        let written = written.map_err(|error| in_layout(error, &layout))?;
        layout.keep(&file, &written.digest)?;
        Ok(written)
    };
    let layers = in_parallel(&members.by_size(), *threads, write)?;
    let documents = documents(description, plan, &layers, compression);
    let manifest = layout.commit(&documents, tag.as_deref(), &description.platform)?;
    Ok(Built { manifest, layers })
}

/// The error of a layer, with the place where it was to be written.
fn in_layout(error: LayerError, layout: &Layout) -> BuildError {
    match error {
        LayerError::Write(source) => BuildError::Write {
            layout: layout.path().to_owned(),
            source,
        },
        error => BuildError::Layer(error),
    }
}

/// The most threads.
const THREADS_MAX: usize = 256;
/// What [`threads_within_memory`] keeps to, in MiB.
const MEMORY_MAX: usize = 128;
/// What is needed with any number of threads, in MiB.
const MEMORY_OF_ALL: usize = 36;

/// How many threads take no more than 128 MiB together, whatever is in the files; one takes more by itself from
/// level 20 of Zstandard on.
pub fn threads_within_memory(compression: Compression) -> NonZeroUsize {
    let threads = (MEMORY_MAX - MEMORY_OF_ALL) / layer::memory(compression);
    NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN)
}

/// Runs `work` for each place with so many threads; the results are in the order of the places.
///
/// A thread for which no place is left helps the others.
fn in_parallel<T: Send, E: Send>(
    order: &[usize],
    threads: NonZeroUsize,
    work: impl Fn(usize, &Helpers) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Mutex<Vec<(usize, Result<T, E>)>> = Mutex::default();
    let (helpers, jobs) = sync_channel(0);
    let helpers = Helpers::new(helpers);
    let jobs = Mutex::new(jobs);
    let take_places = |helpers: Helpers| {
        while let Some(&place) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            let result = work(place, &helpers);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            let mut results = results.lock().expect("no thread panics while it holds it");
            results.push((place, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(THREADS_MAX) {
            let (helpers, take_places, jobs) = (helpers.clone(), &take_places, &jobs);
            let work = move || {
                take_places(helpers);
                help(jobs);
            };
            // Where there may be no more threads, those that are there do it.
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        take_places(helpers.clone());
        // The last thread that gives jobs away ends them.
        drop(helpers);
        help(&jobs);
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Does the jobs of other threads until they are done.
fn help(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs
            .lock()
            .expect("no thread panics while it holds it")
            .recv();
        match job {
            Ok(job) => job.run(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_threads_fit_where_each_needs_more() {
        let threads = |compression| threads_within_memory(compression).get();
        assert_eq!(threads(Compression::Gzip(6)), 5);
        assert_eq!(threads(Compression::Zstd(3)), 5);
        assert_eq!(threads(Compression::ZstdChunked(3)), 7);
        assert_eq!(threads(Compression::Zstd(12)), 1);
        assert_eq!(threads(Compression::Zstd(22)), 1);
    }
}
