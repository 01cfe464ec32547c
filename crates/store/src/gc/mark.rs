//! Which things are alive: a pure walk over names, and what streams and images
//! say that they need.

use std::collections::HashSet;
use std::fs::File;

use hull_erofs::ObjectId;
use hull_erofs::tree::Content;

use super::inventory::reference_path;
use super::{GcError, IMAGE_MAX, Inventory, Root};
use crate::error::StoreError;
use crate::names::Kind;
use crate::store::Store;
use crate::stream::References;

/// What streams and images need.
pub(super) trait Contents {
    /// What the stream in this object refers to.
    fn stream(&mut self, object: &ObjectId) -> Result<References, GcError>;
    /// The objects of this image.
    fn image(&mut self, image: &ObjectId) -> Result<Vec<ObjectId>, GcError>;
}

/// What is alive.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) objects: HashSet<ObjectId>,
    /// Objects that are alive as streams: whose needs are alive too.
    pub(super) streams: HashSet<ObjectId>,
    /// Images that are alive with their objects.
    pub(super) images: HashSet<ObjectId>,
    /// Roots that lead to nothing.
    pub(super) dangling: Vec<String>,
}

/// Walks from the references and the extra roots.
pub(super) fn mark(
    inventory: &Inventory,
    roots: &[Root],
    contents: &mut impl Contents,
) -> Result<Live, GcError> {
    let mut walk = Walk {
        streams: inventory.links.streams.values().copied().collect(),
        inventory,
        contents,
        live: Live::default(),
        waiting: Vec::new(),
    };
    for (kind, name, target) in &inventory.links.references {
        match inventory.links.resolve(*kind, target) {
            Some(object) => walk.keep(object)?,
            None => walk.live.dangling.push(reference_path(*kind, name)),
        }
    }
    for root in roots {
        walk.keep_root(root)?;
    }
    Ok(walk.live)
}

struct Walk<'a, C> {
    inventory: &'a Inventory,
    /// The objects that hold streams.
    streams: HashSet<ObjectId>,
    contents: &'a mut C,
    live: Live,
    waiting: Vec<ObjectId>,
}

impl<C: Contents> Walk<'_, C> {
    fn keep_root(&mut self, root: &Root) -> Result<(), GcError> {
        let object = match root {
            Root::Stream(name) => self.inventory.links.resolve(Kind::Stream, name),
            Root::Image(id) | Root::Object(id) => self.inventory.has_object(id).then_some(*id),
        };
        let Some(object) = object else {
            self.live.dangling.push(root.to_string());
            return Ok(());
        };
        match root {
            // One whose link is lost is an image all the same.
            Root::Image(image) => self.keep_image(image)?,
            Root::Object(_) => {
                self.live.objects.insert(object);
                return Ok(());
            }
            Root::Stream(_) => {}
        }
        self.keep(object)
    }

    /// Keeps an object, and, if it is a stream or an image, all that it needs.
    fn keep(&mut self, object: ObjectId) -> Result<(), GcError> {
        self.waiting.push(object);
        while let Some(object) = self.waiting.pop() {
            self.live.objects.insert(object);
            if self.streams.contains(&object) && self.live.streams.insert(object) {
                let References { objects, named } = self.contents.stream(&object)?;
                self.live.objects.extend(objects);
                self.waiting.extend(named.into_values());
            }
            if self.inventory.links.images.contains(&object) {
                self.keep_image(&object)?;
            }
        }
        Ok(())
    }

    fn keep_image(&mut self, image: &ObjectId) -> Result<(), GcError> {
        if self.live.images.insert(*image) {
            self.live.objects.insert(*image);
            let objects = self.contents.image(image)?;
            self.live.objects.extend(objects);
        }
        Ok(())
    }
}

/// The contents in a store. Each is compared with its digest first: with a
/// changed list of what a stream needs, the rest would be removed.
pub(super) struct Stored<'a>(pub(super) &'a Store);

impl Contents for Stored<'_> {
    fn stream(&mut self, object: &ObjectId) -> Result<References, GcError> {
        let damaged = |source| GcError::Damaged {
            what: format!("stream object {object}"),
            source: Box::new(source),
        };
        let file = open_verified(self.0, object).map_err(damaged)?;
        References::read(&file, *object).map_err(|error| damaged(error.into()))
    }

    fn image(&mut self, image: &ObjectId) -> Result<Vec<ObjectId>, GcError> {
        let bytes = self
            .0
            .read_object(image, IMAGE_MAX)
            .map_err(|source| GcError::Damaged {
                what: format!("image {image}"),
                source: Box::new(source),
            })?;
        image_objects(&bytes)
            .map(|objects| objects.into_iter().map(|(id, _)| id).collect())
            .map_err(|source| GcError::NoImage {
                image: *image,
                source: Box::new(source),
            })
    }
}

/// The objects of an image, with their sizes.
pub(crate) fn image_objects(
    image: &[u8],
) -> Result<Vec<(ObjectId, u64)>, hull_erofs::image::ReadError> {
    let tree = hull_erofs::image::read(image)?;
    Ok(tree
        .leaves()
        .filter_map(|(_, leaf)| match &leaf.content {
            Content::Object { id, size } => Some((*id, *size)),
            _ => None,
        })
        .collect())
}

fn open_verified(store: &Store, object: &ObjectId) -> Result<File, StoreError> {
    let actual = crate::fsck::quick_digest(store, object)?;
    if actual == *object {
        return store.open_object(object);
    }
    Err(StoreError::Corrupt {
        expected: *object,
        actual: Box::new(actual),
    })
}
