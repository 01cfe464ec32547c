//! A registry as the place to write to.

use super::{Form, Open, PushError, Target, Written};
use crate::manifest::Descriptor;
use crate::reference::{Reference, RegistryReference};
use crate::source::SourceOptions;
use crate::source::upload::{PutError, Repository};

/// How many blobs go at once.
const PARALLEL: usize = 3;

/// A repository, and what the image is to be called in it.
pub(super) struct Registry {
    repository: Repository,
    wanted: RegistryReference,
    /// Another repository of the same registry, which has the image.
    sibling: Option<String>,
}

impl Registry {
    pub(super) fn open(
        wanted: &RegistryReference,
        from: Option<&Reference>,
        options: &SourceOptions,
    ) -> Result<Self, PushError> {
        let repository = Repository::open(wanted, options)?;
        let to = repository.reference();
        let sibling = match from {
            Some(Reference::Registry(from))
                if from.host() == to.host() && from.repository() != to.repository() =>
            {
                Some(from.repository().to_owned())
            }
            _ => None,
        };
        Ok(Self {
            wanted: wanted.clone(),
            repository,
            sibling,
        })
    }

    fn put_manifest(&self, selector: &str, document: &Written) -> Result<(), PushError> {
        let Written {
            media_type,
            bytes,
            digest,
        } = document;
        Ok(self
            .repository
            .put_manifest(selector, digest, media_type, bytes)?)
    }
}

impl Target for Registry {
    fn place(&self) -> String {
        format!("docker://{}", self.wanted.name())
    }

    fn form(&self) -> Form {
        Form::Blobs
    }

    fn parallel(&self) -> usize {
        PARALLEL
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, PushError> {
        if self.repository.has_blob(blob)? {
            return Ok(true);
        }
        match &self.sibling {
            Some(sibling) => Ok(self.repository.mount(&blob.digest, sibling)?),
            None => Ok(false),
        }
    }

    fn put(&self, blob: &Descriptor, open: Open<'_>, sent: &dyn Fn(u64)) -> Result<(), PushError> {
        self.repository
            .put_blob(blob, open, sent)
            .map_err(|error| match error {
                PutError::Registry(error) => PushError::Upload(error),
                PutError::Read(source) => {
                    PushError::reading("the source".to_owned(), blob.digest, source)
                }
            })
    }

    fn put_document(&self, document: &Written) -> Result<(), PushError> {
        self.put_manifest(&document.digest.to_string(), document)
    }

    fn finish(&self, document: &Written, _: Option<&super::Image<'_>>) -> Result<(), PushError> {
        if let Some(wanted) = self.wanted.digest()
            && *wanted != document.digest
        {
            return Err(PushError::Unsupported {
                place: self.place(),
                reason: "the image has another digest than the one to write to; name a tag",
            });
        }
        self.put_manifest(&self.wanted.selector(), document)
    }
}
