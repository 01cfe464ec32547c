//! An image that has come, and that no name leads to yet.

use hull_erofs::Tree;
use hull_store::{Session, Store, StoreError, Target};

use super::{PullError, Pulled};
use crate::image::{self, Image};
use crate::layer::MergeError;

/// An image whose layers are all in the store, while no name leads to it.
///
/// A name is for an image whose layers give a tree: whoever calls [`Self::commit`] has
/// made sure of that, by [`Self::check`] or by making the tree.
///
/// Dropped, it leaves layers that the next pull uses, or a collection takes.
#[derive(Debug)]
#[must_use = "the image is lost without its name"]
pub struct Unnamed {
    pub(super) pulled: Pulled,
    /// Of an image that the store did not have.
    pub(super) documents: Option<Documents>,
    pub(super) ref_name: String,
    pub(super) place: String,
}

/// What an image is written down from.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) manifest: Vec<u8>,
    pub(super) config: Vec<u8>,
}

impl Unnamed {
    /// The image.
    pub fn image(&self) -> &Image {
        &self.pulled.image
    }

    /// The tree that the layers give.
    ///
    /// # Errors
    ///
    /// [`PullError::Merge`]: they give none. It names the layer and the entry.
    pub fn tree(&self, store: &Store) -> Result<Tree, PullError> {
        self.image()
            .tree(store)
            .map_err(|error| self.refused(error))
    }

    /// That its layers cannot be merged, with the layer and where it came from.
    pub fn refused(&self, error: MergeError) -> PullError {
        let Image {
            layers, manifest, ..
        } = self.image();
        PullError::Merge {
            layer: match &error {
                MergeError::Refused { record, .. } => layers
                    .iter()
                    .zip(&manifest.layers)
                    .find(|(other, _)| *other == record)
                    .map(|(_, layer)| layer.descriptor.digest),
                _ => None,
            },
            place: self.place.clone(),
            source: Box::new(error),
        }
    }

    /// Makes sure that the layers give a tree. One that the store has written down was
    /// looked at when it came.
    ///
    /// # Errors
    ///
    /// As [`Self::tree`].
    pub fn check(&self, store: &Store) -> Result<(), PullError> {
        match self.documents {
            Some(_) => self.tree(store).map(drop),
            None => Ok(()),
        }
    }

    /// Writes the image down, so that it is found by its digest until a collection takes it;
    /// `session` is the one that it was fetched in.
    pub fn write_down(&self, session: &Session) -> Result<(), StoreError> {
        match &self.documents {
            Some(Documents { manifest, config }) => {
                image::store(session, &self.pulled.image, manifest, config)
            }
            None => Ok(()),
        }
    }

    /// Writes the image down, and makes its reference lead to it.
    ///
    /// On return the image is on disk, and kept from being collected.
    pub fn commit(self, session: &Session) -> Result<Pulled, StoreError> {
        self.write_down(session)?;
        let stream = self.pulled.image.stream();
        session.set_ref(&self.ref_name, Target::Stream(&stream))?;
        Ok(self.pulled)
    }

    /// What was pulled, for who gives it a name of another kind.
    pub fn into_pulled(self) -> Pulled {
        self.pulled
    }
}
