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
    /// Another repository of the same registry, which may have the blobs.
    sibling: Option<String>,
}

impl Registry {
    pub(super) fn open(
        wanted: &RegistryReference,
        having: Option<&Reference>,
        options: &SourceOptions,
    ) -> Result<Self, PushError> {
        let repository = Repository::open(wanted, options)?;
        let having = match having {
            // One that registries.conf does not let us use is of no help here, and no obstacle.
            Some(Reference::Registry(having)) => Repository::locate(having, options).ok(),
            _ => None,
        };
        let sibling = having.and_then(|having| sibling(&having.reference, repository.reference()));
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

/// The repository that blobs can be mounted from: another one of the same registry.
fn sibling(having: &RegistryReference, to: &RegistryReference) -> Option<String> {
    let same_registry = having.host().eq_ignore_ascii_case(to.host());
    let other = having.repository() != to.repository();
    (same_registry && other).then(|| having.repository().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_mounted_from_another_repository_of_the_same_registry_alone() {
        let from = |having: &str, to: &str| {
            let parse = |text| RegistryReference::parse(text).unwrap();
            sibling(&parse(having), &parse(to))
        };
        assert_eq!(from("a.example/x:1", "a.example/y:2"), Some("x".to_owned()));
        assert_eq!(from("A.example/x:1", "a.example/y"), Some("x".to_owned()));
        assert_eq!(from("a.example/x:1", "a.example/x:2"), None);
        assert_eq!(from("b.example/x:1", "a.example/y:2"), None);
        assert_eq!(from("a.example:5000/x", "a.example/y"), None);
    }
}
