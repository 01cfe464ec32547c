//! Removing what a plan says.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

use hull_sys::durable;
use hull_sys::lock::{Lock, Wait};
use rustix::fs::FileType;

use super::inventory::{Links, list_leftovers};
use super::{Garbage, GcError, GcPlan, lock, look};
use crate::error::{During, StoreError};
use crate::names::{self, Kind, REFS, UNSYNCED};
use crate::store::Store;

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects.
    pub objects: usize,
    /// Bytes of these objects.
    pub bytes: u64,
    /// Streams.
    pub streams: usize,
    /// Images.
    pub images: usize,
}

/// Removes what `plan` says, as far as it is still true.
///
/// Waits up to `wait` until nobody uses the store, then looks again: what was
/// planned and is needed by now stays, and what became garbage since is left to
/// the next collection. Links go first, and are gone from the disk before the
/// first object goes; so a link never leads to something that was removed.
pub fn execute(store: &Store, plan: &GcPlan, wait: Duration) -> Result<Collected, GcError> {
    store.require_writable()?;
    let _lock = lock(Lock::exclusive(store, Wait::For(wait)), wait)?;
    if plan.is_empty() {
        return Ok(Collected::default());
    }
    let agreed = look_again(store, plan)?;
    if agreed
        .leftovers
        .iter()
        .any(|name| name.starts_with(UNSYNCED))
    {
        // Of a session that was killed after the plan was made: what it put stays.
        barrier(store, "writing objects to disk")?;
    }
    remove_links(store, &agreed)?;
    barrier(store, "writing removed links to disk")?;
    for Garbage { object, .. } in &agreed.objects {
        remove(store, &names::object_path(object))?;
    }
    Ok(Collected {
        objects: agreed.objects.len(),
        bytes: agreed.bytes(),
        streams: agreed.streams.len(),
        images: agreed.images.len(),
    })
}

fn barrier(store: &Store, what: &str) -> Result<(), StoreError> {
    durable::barrier(store.root()).during(|| what.to_owned())
}

/// What is still to be removed.
///
/// With the same links, the same is alive: a link leads to an object, and the
/// content of an object never changes. Else, or where a root led to nothing (which
/// may be there by now), all is looked at again.
fn look_again(store: &Store, plan: &GcPlan) -> Result<GcPlan, GcError> {
    if !plan.dangling.is_empty() || Links::list(store)? != plan.links {
        return Ok(intersect(plan, look(store, &plan.roots)?));
    }
    let mut agreed = plan.clone();
    let leftovers = list_leftovers(store)?;
    retain_common(&mut agreed.leftovers, &leftovers, Clone::clone);
    Ok(agreed)
}

/// What both plans remove.
fn intersect(planned: &GcPlan, mut now: GcPlan) -> GcPlan {
    retain_common(&mut now.objects, &planned.objects, |garbage| garbage.object);
    retain_common(&mut now.streams, &planned.streams, Clone::clone);
    retain_common(&mut now.images, &planned.images, |image| *image);
    retain_common(&mut now.leftovers, &planned.leftovers, Clone::clone);
    now
}

fn retain_common<T, K: Eq + Hash>(now: &mut Vec<T>, planned: &[T], key: impl Fn(&T) -> K) {
    let planned: HashSet<K> = planned.iter().map(&key).collect();
    now.retain(|item| planned.contains(&key(item)));
}

fn remove_links(store: &Store, plan: &GcPlan) -> Result<(), StoreError> {
    for name in &plan.streams {
        remove(store, &format!("{}/{name}", Kind::Stream.directory()))?;
    }
    for image in &plan.images {
        remove(store, &format!("{}/{image}", Kind::Image.directory()))?;
    }
    for name in &plan.leftovers {
        remove(store, name)?;
    }
    for kind in [Kind::Stream, Kind::Image] {
        prune(store, &format!("{}/{REFS}", kind.directory()))?;
    }
    Ok(())
}

fn remove(store: &Store, path: &str) -> Result<(), StoreError> {
    durable::remove(store.root(), path).during(|| format!("removing {path} of the store"))
}

/// Removes the empty directories below `path`; tells whether it is empty then.
fn prune(store: &Store, path: &str) -> Result<bool, StoreError> {
    let pruning = || format!("removing empty directories in {path} of the store");
    let directory = match hull_sys::dir::open_dir_beneath(store.root(), path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(StoreError::io(pruning(), error)),
    };
    let mut empty = true;
    for entry in hull_sys::dir::entries(&directory).during(pruning)? {
        let name = entry.name.to_string_lossy();
        let gone = entry.kind == FileType::Directory
            && prune(store, &format!("{path}/{name}"))?
            && durable::remove_empty_dir(&directory, &name).during(pruning)?;
        empty &= gone;
    }
    Ok(empty)
}
