//! Images in a registry (OCI distribution specification 1.1, "Pull").

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::body::Body;
use super::error::{Asked, Fault, SourceError};
use super::place::Place;
use super::remote::Remote;
use super::retry::Patience;
use super::{Fetched, Source, SourceOptions};
use crate::digest::{BlobError, Digest};
use crate::manifest::{Descriptor, Document, MAX_MANIFEST};
use crate::reference::RegistryReference;

/// One image's repository in a registry.
#[derive(Debug)]
pub(super) struct Registry {
    reference: RegistryReference,
    remote: Arc<Remote>,
}

impl Registry {
    pub(super) fn open(
        reference: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let registries = options.load_registries()?;
        let endpoints = registries.endpoints(reference)?;
        let mut options = options.clone();
        if options.auth.order.is_empty() {
            options.auth.order = registries.credential_helpers().to_vec();
        }
        Ok(Self {
            remote: Arc::new(Remote::new(reference, endpoints, &options)?),
            reference: reference.clone(),
        })
    }

    fn fetch_manifest(
        &self,
        selector: &str,
        expected: Option<&Digest>,
    ) -> Result<Fetched, SourceError> {
        let asked = Asked::Manifest(selector.to_owned());
        let mut patience = Patience::new(self.remote.retry);
        let take = |place: &Place| self.take_manifest(place, &asked, expected);
        let (_, fetched) = self.remote.ask(&asked, 0, &mut patience, take)?;
        Ok(fetched)
    }

    fn take_manifest(
        &self,
        place: &Place,
        asked: &Asked,
        expected: Option<&Digest>,
    ) -> Result<Fetched, Fault> {
        let response = place.get(asked)?;
        let media_type = response.header("content-type").map(str::to_owned);
        // The registry's own word for the digest, where the name does not fix it.
        let promised = response
            .header("docker-content-digest")
            .and_then(|text| text.parse::<Digest>().ok());
        let bytes = response.read_body(MAX_MANIFEST)?;
        for digest in expected.into_iter().chain(&promised) {
            let actual = Digest::compute(digest.algorithm(), &bytes);
            if actual != *digest {
                return Err(Fault::Content(BlobError::WrongDigest {
                    digest: *digest,
                    actual: Box::new(actual),
                }));
            }
        }
        if let Err(error) = Document::parse(&bytes, media_type.as_deref())
            && error.is_about_the_answer()
        {
            // Whoever is asked next may have the right one.
            return Err(Fault::Document(Box::new(error)));
        }
        Ok(Fetched::new(bytes, expected.copied(), media_type))
    }
}

impl Source for Registry {
    fn place(&self) -> String {
        format!("docker://{}", self.reference.name())
    }

    fn root(&self) -> Result<Fetched, SourceError> {
        self.fetch_manifest(&self.reference.selector(), self.reference.digest())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError> {
        let mut fetched =
            self.fetch_manifest(&descriptor.digest.to_string(), Some(&descriptor.digest))?;
        fetched.check_type(descriptor, &self.place())?;
        Ok(fetched)
    }

    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        let body = Body::new(self.remote.clone(), descriptor, 0, Arc::default());
        Ok(Box::new(body))
    }

    fn rest_of_blob(
        &self,
        descriptor: &Descriptor,
        offset: u64,
        pieced: &Arc<AtomicBool>,
    ) -> Option<Box<dyn Read + Send>> {
        let body = Body::new(self.remote.clone(), descriptor, offset, pieced.clone());
        Some(Box::new(body))
    }

    fn referrers(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        let asked = Asked::Referrers(*digest);
        let mut patience = Patience::new(self.remote.retry);
        let take = |place: &Place| place.get(&asked)?.read_body(MAX_MANIFEST);
        let (_, bytes) = self.remote.ask(&asked, 0, &mut patience, take)?;
        Ok(Some(bytes))
    }

    fn wrong_blob(&self, error: BlobError) -> SourceError {
        SourceError::Registry(self.remote.wrong_blob(error))
    }

    fn distrust(&self, descriptor: &Descriptor) -> bool {
        self.remote.distrust(&descriptor.digest)
    }
}
