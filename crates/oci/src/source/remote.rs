//! All places that have an image, asked in their order until one answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{Asked, Fault, RegistryError, SourceError};
use super::place::Place;
use super::retry::{Patience, Retry};
use super::{SourceOptions, registries::Endpoint};
use crate::digest::{BlobError, Digest};
use crate::reference::RegistryReference;

/// An image's mirrors and its registry.
#[derive(Debug)]
pub(super) struct Remote {
    /// The image as it was named.
    reference: RegistryReference,
    /// In the order in which they are asked; never empty.
    places: Vec<Place>,
    pub(super) retry: Retry,
    standings: Mutex<HashMap<Digest, Standing>>,
}

/// What is known of the places about one blob.
#[derive(Debug, Default)]
struct Standing {
    /// Those that gave some of it.
    served: BTreeSet<usize>,
    /// Those that gave something else in its name.
    shunned: BTreeSet<usize>,
}

impl Remote {
    pub(super) fn new(
        reference: &RegistryReference,
        endpoints: Vec<Endpoint>,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let places = endpoints
            .into_iter()
            .map(|endpoint| Place::new(endpoint, options))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            reference: reference.clone(),
            places,
            retry: options.retry,
            standings: Mutex::default(),
        })
    }

    /// Asks each place in turn, `first` first, until one gives what `take` wants of
    /// it; and all again after a pause, as long as `patience` lasts. One that
    /// refuses for good is not asked again.
    pub(super) fn ask<T>(
        &self,
        asked: &Asked,
        first: usize,
        patience: &mut Patience,
        take: impl Fn(&Place) -> Result<T, Fault>,
    ) -> Result<(usize, T), Box<RegistryError>> {
        let mut order = self.order(asked, first);
        let mut faults = BTreeMap::new();
        loop {
            for place in &order {
                match take(&self.places[*place]) {
                    Ok(taken) => return Ok((*place, taken)),
                    Err(fault) => drop(faults.insert(*place, fault)),
                }
            }
            order.retain(|place| faults[place].is_transient());
            // The one that wants the longest pause knows best how busy it is.
            let longest = order.iter().max_by_key(|place| faults[place].retry_after());
            if !longest.is_some_and(|place| patience.wait(&faults[place])) {
                return Err(self.error(asked, faults, patience));
            }
        }
    }

    /// The places from `first` on, then those before it; without those whose word on
    /// this blob is not trusted, unless none is left.
    fn order(&self, asked: &Asked, first: usize) -> Vec<usize> {
        let count = self.places.len();
        let all: Vec<_> = (first..first + count).map(|place| place % count).collect();
        let Asked::Blob(digest) = asked else {
            return all;
        };
        let standings = self.standings();
        let is_trusted = |place: &usize| {
            standings
                .get(digest)
                .is_none_or(|standing| !standing.shunned.contains(place))
        };
        let trusted: Vec<_> = all.iter().copied().filter(is_trusted).collect();
        if trusted.is_empty() { all } else { trusted }
    }

    /// Remembers who gives a blob.
    pub(super) fn serves(&self, digest: &Digest, place: usize) {
        let mut standings = self.standings();
        standings.entry(*digest).or_default().served.insert(place);
    }

    /// Shuns those who gave a blob that proved to be another one; tells whether
    /// somebody else is left to ask.
    pub(super) fn distrust(&self, digest: &Digest) -> bool {
        let mut standings = self.standings();
        let standing = standings.entry(*digest).or_default();
        let served = std::mem::take(&mut standing.served);
        standing.shunned.extend(served);
        standing.shunned.len() < self.places.len()
    }

    /// The error for a blob that proved wrong when it had come; it names all who gave some.
    pub(super) fn wrong_blob(&self, error: BlobError) -> Box<RegistryError> {
        let digest = *error.digest();
        let standings = self.standings();
        let standing = standings.get(&digest);
        let who = standing
            .into_iter()
            .flat_map(|it| it.served.union(&it.shunned));
        let mut faults: BTreeMap<_, _> = who
            .map(|place| (*place, Fault::Content(error.clone())))
            .collect();
        drop(standings);
        if faults.is_empty() {
            // All of it was here.
            faults.insert(self.places.len() - 1, Fault::Content(error));
        }
        let patience = Patience::new(self.retry);
        self.error(&Asked::Blob(digest), faults, &patience)
    }

    fn standings(&self) -> MutexGuard<'_, HashMap<Digest, Standing>> {
        // It is whole at any time, so a panic elsewhere does no harm.
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn error(
        &self,
        asked: &Asked,
        faults: BTreeMap<usize, Fault>,
        patience: &Patience,
    ) -> Box<RegistryError> {
        Box::new(RegistryError {
            registry: self.reference.host().to_owned(),
            repository: self.reference.repository().to_owned(),
            asked: asked.clone(),
            attempts: faults
                .into_iter()
                .map(|(place, fault)| self.places[place].attempt(fault))
                .collect(),
            rounds: patience.failures().max(1),
        })
    }
}
