//! Garbage collection: remove what no reference leads to.
//!
//! A reference to a stream keeps the stream, its objects, and what its named
//! references lead to, and so on; a reference to an image keeps the image and
//! its objects. [`plan`] looks and decides, and its result can be printed;
//! [`execute`] looks again, alone with the store, and removes what both agree on.

mod execute;
mod inventory;
mod mark;

use std::fmt;
use std::time::Duration;

use hull_erofs::ObjectId;
use hull_sys::lock::{Lock, LockError, Wait};

use crate::error::StoreError;
use crate::store::Store;

pub use execute::{Collected, execute};
use inventory::Links;
pub(crate) use inventory::{Inventory, broken_links, link_path, reference_path};
pub(crate) use mark::image_objects;

/// The most that an EROFS image may have. One of a million files has 100 MiB.
pub(crate) const IMAGE_MAX: u64 = 1 << 30;

/// Something to keep, besides what references lead to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// An image and its objects.
    Image(ObjectId),
    /// The stream of this name, and all that it keeps.
    Stream(String),
    /// One object.
    Object(ObjectId),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(id) => write!(f, "image {id}"),
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Object(id) => write!(f, "object {id}"),
        }
    }
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// Something is to be kept, and what it needs can't be told.
    #[error(
        "nothing was collected: what {what} needs can't be told, since it is damaged; \
         run `hull fsck`, which says how to repair it"
    )]
    Damaged {
        /// The stream or image.
        what: String,
        /// The damage.
        source: Box<StoreError>,
    },
    /// The bytes of an image are right, but they are no image.
    #[error("nothing was collected: {image} is linked as an image and is none")]
    NoImage {
        /// The image.
        image: ObjectId,
        /// What is wrong.
        source: Box<hull_erofs::image::ReadError>,
    },
    /// Somebody uses the store.
    #[error(
        "nothing in the store was collected: it has been in use for {seconds} s (a pull, an \
         upgrade or a check)"
    )]
    Busy {
        /// How long this has waited.
        seconds: u64,
    },
    /// The store could not be read or changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An object to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage {
    /// The object.
    pub object: ObjectId,
    /// Its size in bytes.
    pub size: u64,
}

/// How many things stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// References in `streams/refs/` and `images/refs/`.
    pub references: usize,
    /// Streams.
    pub streams: usize,
    /// Images.
    pub images: usize,
    /// Objects, those of streams and images among them.
    pub objects: usize,
}

/// What a collection will remove: a pure value; printed, it is the dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcPlan {
    /// What the caller wants to be kept, besides the references.
    pub roots: Vec<Root>,
    /// Objects to remove, sorted.
    pub objects: Vec<Garbage>,
    /// Streams to remove, sorted.
    pub streams: Vec<String>,
    /// Images to remove, sorted.
    pub images: Vec<ObjectId>,
    /// What killed processes and repairs left behind, from the store's directory.
    pub leftovers: Vec<String>,
    /// Roots and references that lead to nothing; they keep nothing, and stay.
    pub dangling: Vec<String>,
    /// What stays.
    pub kept: Kept,
    /// What the plan follows from: contents never change, so what is alive is
    /// told by the links and the roots alone.
    links: Links,
}

impl GcPlan {
    /// Bytes of the objects to remove.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|garbage| garbage.size).sum()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.streams.is_empty()
            && self.images.is_empty()
            && self.leftovers.is_empty()
    }
}

impl fmt::Display for GcPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for image in &self.images {
            writeln!(f, "remove image {image}")?;
        }
        for stream in &self.streams {
            writeln!(f, "remove stream {stream}")?;
        }
        for leftover in &self.leftovers {
            writeln!(f, "remove leftover {leftover}")?;
        }
        writeln!(
            f,
            "remove {} objects of {} bytes",
            self.objects.len(),
            self.bytes()
        )?;
        writeln!(
            f,
            "keep {} objects of {} images and {} streams, for {} references",
            self.kept.objects, self.kept.images, self.kept.streams, self.kept.references
        )?;
        for dangling in &self.dangling {
            writeln!(f, "warning: {dangling} leads to nothing: run `hull fsck`")?;
        }
        Ok(())
    }
}

/// Looks at the store and decides what to remove. Nothing is changed.
///
/// Waits for a collection at work, up to a minute.
pub fn plan(store: &Store, roots: &[Root]) -> Result<GcPlan, GcError> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let _lock = lock(Lock::shared(store, Wait::For(PATIENCE)), PATIENCE)?;
    look(store, roots)
}

fn lock(taken: Result<Lock, LockError>, waited: Duration) -> Result<Lock, GcError> {
    taken.map_err(|error| match error {
        LockError::Busy => GcError::Busy {
            seconds: waited.as_secs(),
        },
        LockError::Io(error) => StoreError::io("locking the store", error).into(),
    })
}

/// Plans under a lock that the caller holds.
fn look(store: &Store, roots: &[Root]) -> Result<GcPlan, GcError> {
    let inventory = Inventory::take(store)?;
    let live = mark::mark(&inventory, roots, &mut mark::Stored(store))?;
    Ok(decide(store, &inventory, roots, &live)?)
}

fn decide(
    store: &Store,
    inventory: &Inventory,
    roots: &[Root],
    live: &mark::Live,
) -> Result<GcPlan, StoreError> {
    let mut objects = Vec::new();
    let mut kept = Kept {
        references: inventory.links.references.len(),
        ..Kept::default()
    };
    for object in &inventory.objects {
        if live.objects.contains(object) {
            kept.objects += 1;
        } else {
            let size = store.object_size(object)?.unwrap_or(0);
            objects.push(Garbage {
                object: *object,
                size,
            });
        }
    }
    let mut streams = Vec::new();
    for (name, object) in &inventory.links.streams {
        if live.streams.contains(object) {
            kept.streams += 1;
        } else {
            streams.push(name.clone());
        }
    }
    let mut images = Vec::new();
    for image in &inventory.links.images {
        if live.images.contains(image) {
            kept.images += 1;
        } else {
            images.push(*image);
        }
    }
    Ok(GcPlan {
        roots: roots.to_vec(),
        objects,
        streams,
        images,
        leftovers: inventory.leftovers.clone(),
        dangling: live.dangling.clone(),
        kept,
        links: inventory.links.clone(),
    })
}

#[cfg(test)]
mod tests;
