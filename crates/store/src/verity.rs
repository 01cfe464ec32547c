//! fs-verity on the objects of an image that were written before the file system
//! had it: a disk that was made offline gets it after its first boot.

use std::sync::atomic::{AtomicBool, Ordering};

use hull_erofs::ObjectId;
use hull_sys::durable;
use hull_sys::verity::State;

use crate::error::{During, StoreError};
use crate::fsck::open_unchecked;
use crate::gc::{IMAGE_MAX, image_objects};
use crate::store::{Store, compare_measured, verity_error};

/// Why the objects of an image did not all get fs-verity. Those that have it
/// keep it, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnableError {
    /// It was asked to stop.
    #[error("stopped after {done} of {total} objects; the next run goes on from there")]
    Stopped {
        /// Objects that have fs-verity.
        done: usize,
        /// Objects of the image, itself among them.
        total: usize,
    },
    /// The bytes of the image are right, but they are no image.
    #[error("{image} is no image")]
    NoImage {
        /// The image.
        image: ObjectId,
        /// What is wrong.
        source: Box<hull_erofs::image::ReadError>,
    },
    /// An object is missing or damaged, or the kernel refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many objects of an image have fs-verity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Those that have it.
    pub enabled: usize,
    /// All, the image itself among them.
    pub total: usize,
}

impl Coverage {
    /// Whether `verity=require` can be asked of the mount.
    pub fn is_complete(&self) -> bool {
        self.enabled == self.total
    }
}

/// Enables fs-verity on the image and on all its objects.
///
/// `progress` is called after each object; once `stop` is set, this ends with
/// [`EnableError::Stopped`]. On return all of it is on disk. An object that turns
/// out to be damaged is an error that names it.
pub fn enable_all(
    store: &Store,
    image: &ObjectId,
    progress: &mut dyn FnMut(Coverage),
    stop: &AtomicBool,
) -> Result<(), EnableError> {
    let _lock = crate::session::lock_shared(store)?;
    if !store.verity() {
        return Err(StoreError::NoVerity.into());
    }
    let objects = objects_of(store, image)?;
    let total = objects.len();
    for (done, object) in objects.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(EnableError::Stopped { done, total });
        }
        enable(store, object)?;
        progress(Coverage {
            enabled: done + 1,
            total,
        });
    }
    durable::barrier(store)
        .during(|| "writing fs-verity to disk".to_owned())
        .map_err(EnableError::from)
}

/// How many objects of an image have fs-verity. Cheap: no object is read.
pub fn coverage(store: &Store, image: &ObjectId) -> Result<Coverage, EnableError> {
    let objects = objects_of(store, image)?;
    let total = objects.len();
    let mut enabled = 0;
    if store.verity() {
        for object in &objects {
            let file = open_unchecked(store, object)?;
            let state = compare_measured(&file, object)?;
            enabled += usize::from(matches!(state, State::Enabled(_)));
        }
    }
    Ok(Coverage { enabled, total })
}

/// The objects of an image, each once, the image itself last: once it has
/// fs-verity, the others have.
fn objects_of(store: &Store, image: &ObjectId) -> Result<Vec<ObjectId>, EnableError> {
    let bytes = store.read_object(image, IMAGE_MAX)?;
    let objects = image_objects(&bytes).map_err(|source| EnableError::NoImage {
        image: *image,
        source: Box::new(source),
    })?;
    let mut objects: Vec<ObjectId> = objects.into_iter().map(|(id, _)| id).collect();
    objects.sort_unstable();
    objects.dedup();
    objects.push(*image);
    Ok(objects)
}

fn enable(store: &Store, object: &ObjectId) -> Result<(), StoreError> {
    let file = open_unchecked(store, object)?;
    if matches!(compare_measured(&file, object)?, State::Enabled(_)) {
        return Ok(());
    }
    hull_sys::verity::enable(&file)
        .map_err(|error| verity_error(format!("writing fs-verity of object {object}"), error))?;
    compare_measured(&file, object).map(drop)
}
