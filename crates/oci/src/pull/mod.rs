//! Pulling: from a reference to an image in the store.

mod error;
mod unnamed;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use hull_erofs::{ObjectId, Tree};
use hull_store::{Kind, Session, Store, StoreError};

use self::error::MAX_NESTING;
pub use self::error::PullError;
use self::unnamed::Documents;
pub use self::unnamed::Unnamed;
use crate::commit::{Came, Commits, Failure};
use crate::digest::Digest;
use crate::image::{Image, LoadError};
use crate::layer::{self, Workers};
use crate::manifest::{
    Descriptor, Document, ImageConfig, Index, Layer, MAX_CONFIG, Manifest, ManifestError,
};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::progress::{Event, LayerInfo, Progress, Stage};
use crate::reference::Reference;
use crate::source::{self, Fetched, Source, SourceError, SourceOptions};
use crate::space::{Need, Room};
use crate::spool::{Keep, Spool};
use crate::transfer::Transfer;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// How to reach the image.
    pub source: SourceOptions,
    /// Which image of an index to take, and what the image must be for: by
    /// default, that of this machine.
    pub platform: Option<Platform>,
    /// The name of the reference that keeps the image (below `streams/refs`);
    /// by default [`default_ref`].
    pub ref_name: Option<String>,
    /// How many layers to fetch at once; by default 4.
    pub parallel: Option<NonZeroUsize>,
    /// Where to keep partial blobs of registries, so that a pull that is killed goes on
    /// where it was; on the store's file system. By default nowhere.
    pub spool: Option<Spool>,
    /// Which images may be pulled; without it, all.
    pub policy: Option<Arc<Policy>>,
    /// Pulls nothing unless there is a policy, whose default does not accept anything.
    pub enforce_policy: bool,
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// What was asked for.
    pub reference: Reference,
    /// The image, now in the store.
    pub image: Image,
    /// The digest that the reference named: of an index, or the manifest's own.
    pub resolved_digest: Digest,
    /// The lengths of the blobs fetched: layers and configuration, in bytes; without
    /// what an earlier run had left in the spool.
    pub downloaded_bytes: u64,
    /// How many layers were fetched.
    pub downloaded_layers: usize,
}

/// The name of the reference that keeps an image where the caller chooses none.
pub fn default_ref(manifest: &Digest) -> String {
    format!("oci/{manifest}")
}

/// Pulls an image into a store, and makes it stay there.
///
/// The reference is resolved once; everything after goes by digest, so a tag
/// that moves meanwhile does no harm. Layers whose record is in the store are
/// not fetched; where all is there, the only request is that for the manifest,
/// and none where the reference has a digest. Once all is there, the layers are merged:
/// an image whose layers do not go together gets no name. On return the image is on disk,
/// and a reference ([`PullOptions::ref_name`]) keeps it from being collected.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    pull_in(&store.session()?, reference, options, progress)
}

/// The same within a session of the caller's: nothing is collected before that ends.
///
/// In a [repairing](Session::repairing) session all is fetched again, whatever is there.
pub fn pull_in(
    session: &Session,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    let unnamed = fetch(session, reference, options, progress)?;
    unnamed.check(session.store())?;
    Ok(unnamed.commit(session)?)
}

/// The same for who needs the tree as well: the layers are merged once.
pub fn pull_tree(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<(Image, Tree), PullError> {
    let session = store.session()?;
    let unnamed = fetch(&session, reference, options, progress)?;
    let tree = unnamed.tree(store)?;
    Ok((unnamed.commit(&session)?.image, tree))
}

/// Fetches what the store lacks of an image, and leaves it to the caller to look at the image and
/// to give it its name.
pub fn fetch(
    session: &Session,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Unnamed, PullError> {
    let source = source::open(reference, &options.source)?;
    let pull = Pull {
        session,
        source: &*source,
        options,
        platform: options.platform.clone().unwrap_or_else(Platform::host),
        parallel: options.parallel.map_or(PARALLEL, NonZeroUsize::get),
        spool: options.spool.as_ref(),
        resumed: AtomicU64::new(0),
        progress,
    };
    pull.run(reference)
}

/// As many as that some work while others wait for a server or for the disk.
const PARALLEL: usize = 4;

/// What a reference leads to, and what a pull of it would fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// The digest of the image's manifest.
    pub manifest_digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    /// How many layers the store lacks.
    pub missing_layers: usize,
    /// The lengths of their blobs together, in bytes.
    pub missing_bytes: u64,
}

/// Finds out what a pull would fetch. Nothing is stored.
pub fn look(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
) -> Result<Available, PullError> {
    let session = store.session()?;
    let source = source::open(reference, &options.source)?;
    let pull = Pull {
        session: &session,
        source: &*source,
        options,
        platform: options.platform.clone().unwrap_or_else(Platform::host),
        parallel: 1,
        spool: None,
        resumed: AtomicU64::new(0),
        progress: &crate::progress::Silent,
    };
    pull.look(reference)
}

/// One pull under way.
struct Pull<'a> {
    session: &'a Session,
    source: &'a dyn Source,
    options: &'a PullOptions,
    platform: Platform,
    parallel: usize,
    spool: Option<&'a Spool>,
    /// The bytes that were in the spool.
    resumed: AtomicU64,
    progress: &'a dyn Progress,
}

/// What a reference leads to.
struct Resolved {
    /// The digest of the document that it names.
    named: Digest,
    found: Found,
}

impl Resolved {
    fn manifest_digest(&self) -> Digest {
        match &self.found {
            Found::Stored(image) => image.manifest_digest,
            Found::Fetched(document, _) => document.digest,
        }
    }
}

enum Found {
    /// The image is in the store already.
    Stored(Image),
    /// Its manifest has come.
    Fetched(Fetched, Manifest),
}

/// What is to be fetched.
struct Needed<'a> {
    /// Place among the layers.
    place: usize,
    layer: &'a Layer,
}

/// What was fetched.
#[derive(Default)]
struct Fetching {
    bytes: u64,
    layers: usize,
    documents: Option<Documents>,
}

impl Pull<'_> {
    fn run(&self, reference: &Reference) -> Result<Unnamed, PullError> {
        self.progress.report(Event::Stage(Stage::Resolving));
        let Resolved { named, found } = self.resolve(reference)?;
        self.progress.report(Event::Resolved {
            reference,
            manifest: match &found {
                Found::Stored(image) => &image.manifest_digest,
                Found::Fetched(document, _) => &document.digest,
            },
        });
        for remark in self.source.remarks() {
            self.progress.report(Event::Remark(&remark));
        }
        let (image, fetching) = match found {
            Found::Stored(image) => {
                self.check_platform(&image.config)?;
                self.report_layers(&image.manifest, &[]);
                (image, Fetching::default())
            }
            Found::Fetched(document, manifest) => self.fetch(document, manifest)?,
        };
        let ref_name = self.options.ref_name.clone();
        Ok(Unnamed {
            ref_name: ref_name.unwrap_or_else(|| default_ref(&image.manifest_digest)),
            place: self.source.place(),
            documents: fetching.documents,
            pulled: Pulled {
                reference: reference.clone(),
                image,
                resolved_digest: named,
                downloaded_bytes: fetching
                    .bytes
                    .saturating_sub(self.resumed.load(Ordering::Relaxed)),
                downloaded_layers: fetching.layers,
            },
        })
    }

    /// Finds the image, and asks the policy about it: before anything is fetched
    /// where that is enough, else with the digests of what was found. Being in the
    /// store already is no excuse.
    fn resolve(&self, reference: &Reference) -> Result<Resolved, PullError> {
        let policy = self.options.policy.as_deref();
        if self.options.enforce_policy {
            Policy::require(policy).map_err(Box::new)?;
        }
        let Some(policy) = policy else {
            return self.follow(reference);
        };
        policy.check_before(reference).map_err(Box::new)?;
        let resolved = self.follow(reference)?;
        let digests = [resolved.named, resolved.manifest_digest()];
        policy
            .check(reference, &digests, &self.options.source)
            .map_err(Box::new)?;
        Ok(resolved)
    }

    fn follow(&self, reference: &Reference) -> Result<Resolved, PullError> {
        if let Some(digest) = reference.digest()
            && let Some(found) = self.find_stored(digest)?
        {
            return Ok(Resolved {
                named: *digest,
                found,
            });
        }
        let mut document = self.source.root()?;
        let named = document.digest;
        for _ in 0..=MAX_NESTING {
            let parsed = Document::parse(&document.bytes, document.media_type.as_deref())
                .map_err(|error| self.document_error(error))?;
            let index = match parsed {
                Document::Manifest(manifest) => {
                    let stored = self.find_stored(&document.digest)?;
                    let found = stored.unwrap_or(Found::Fetched(document, manifest));
                    return Ok(Resolved { named, found });
                }
                Document::Index(index) => index,
            };
            let chosen = self.choose(&index)?;
            if let Some(found) = self.find_stored(&chosen.digest)? {
                return Ok(Resolved { named, found });
            }
            document = self.source.document(chosen)?;
        }
        Err(PullError::Nested {
            place: self.source.place(),
        })
    }

    fn look(&self, reference: &Reference) -> Result<Available, PullError> {
        let (manifest_digest, manifest, config) = match self.resolve(reference)?.found {
            Found::Stored(image) => (image.manifest_digest, image.manifest, image.config),
            Found::Fetched(document, manifest) => {
                let config = self.fetch_config(&manifest)?.1;
                (document.digest, manifest, config)
            }
        };
        self.check_platform(&config)?;
        let records = self.find_records(&manifest)?;
        let needed = find_needed(&manifest, &records);
        let sizes = needed.iter().map(|needed| needed.layer.descriptor.size);
        Ok(Available {
            manifest_digest,
            missing_layers: needed.len(),
            missing_bytes: sizes.sum(),
            manifest,
            config,
        })
    }

    /// The configuration, as bytes and read, checked against its manifest.
    fn fetch_config(&self, manifest: &Manifest) -> Result<(Vec<u8>, ImageConfig), PullError> {
        let descriptor = &manifest.config;
        let bytes = source::small_blob(self.source, descriptor, "the configuration", MAX_CONFIG)?;
        let config = ImageConfig::parse(&bytes).map_err(|error| self.document_error(error))?;
        config
            .check_against(manifest)
            .map_err(|error| self.document_error(error))?;
        Ok((bytes, config))
    }

    /// The image with this manifest, if it is in the store and whole.
    fn find_stored(&self, manifest: &Digest) -> Result<Option<Found>, PullError> {
        if self.session.repairing() {
            return Ok(None);
        }
        match Image::load(self.session.store(), manifest) {
            Ok(image) => Ok(Some(Found::Stored(image))),
            Err(error) if error.is_incomplete() => Ok(None),
            Err(LoadError::Store { source, .. }) => Err(PullError::Store(*source)),
            Err(_) => Ok(None),
        }
    }

    fn choose<'i>(&self, index: &'i Index) -> Result<&'i Descriptor, PullError> {
        let offers: Vec<_> = index
            .manifests
            .iter()
            .map(|entry| entry.platform.clone())
            .collect();
        match self.platform.choose(&offers) {
            Some(place) => Ok(&index.manifests[place].descriptor),
            None => Err(PullError::NoPlatform {
                place: self.source.place(),
                wanted: Box::new(self.platform.clone()),
                offered: show_offers(&offers),
            }),
        }
    }

    fn check_platform(&self, config: &ImageConfig) -> Result<(), PullError> {
        if self.platform.accepts(&config.platform) {
            return Ok(());
        }
        Err(PullError::WrongPlatform {
            place: self.source.place(),
            wanted: Box::new(self.platform.clone()),
            found: Box::new(config.platform.clone()),
        })
    }

    /// Fetches what the store lacks of an image.
    fn fetch(&self, document: Fetched, manifest: Manifest) -> Result<(Image, Fetching), PullError> {
        let (config_bytes, config) = self.fetch_config(&manifest)?;
        self.check_platform(&config)?;

        let mut records = self.find_records(&manifest)?;
        let needed = find_needed(&manifest, &records);
        self.report_layers(&manifest, &needed);
        self.progress.report(Event::Stage(Stage::Fetching));
        let blobs: u64 = needed
            .iter()
            .map(|needed| needed.layer.descriptor.size)
            .sum();
        let fetching = Fetching {
            bytes: manifest.config.size + blobs,
            layers: needed.len(),
            documents: Some(Documents {
                manifest: document.bytes,
                config: config_bytes,
            }),
        };
        self.forget_stored()?;
        self.tidy_spool(&needed, Keep::default())?;
        self.check_room(&needed)?;
        records.extend(self.fetch_layers(needed)?);

        self.progress.report(Event::Stage(Stage::Recording));
        let image = Image {
            manifest_digest: document.digest,
            layers: manifest
                .layers
                .iter()
                .filter_map(|layer| records.get(&layer.descriptor.digest).copied())
                .collect(),
            manifest,
            config,
        };
        Ok((image, fetching))
    }

    /// The records that the store has of an image's layers, by their blobs.
    fn find_records(&self, manifest: &Manifest) -> Result<HashMap<Digest, ObjectId>, StoreError> {
        let mut records = HashMap::new();
        if self.session.repairing() {
            return Ok(records);
        }
        for layer in &manifest.layers {
            let blob = layer.descriptor.digest;
            if let Some(record) = layer::find(self.session.store(), &blob)? {
                records.insert(blob, record);
            }
        }
        Ok(records)
    }

    /// Fetches layers, several at a time, the largest first. The first failure
    /// stops the others; layers that were done by then stay in the store.
    fn fetch_layers(
        &self,
        mut needed: Vec<Needed<'_>>,
    ) -> Result<HashMap<Digest, ObjectId>, PullError> {
        needed.sort_by_key(|needed| std::cmp::Reverse(needed.layer.descriptor.size));
        let parallel = self.parallel.min(needed.len());
        if parallel == 0 {
            return Ok(HashMap::new());
        }
        layer::with_workers(self.session, parallel, |workers| {
            self.fetch_with(workers, parallel, &needed)
        })
    }

    fn fetch_with(
        &self,
        workers: &Workers<'_>,
        parallel: usize,
        needed: &[Needed<'_>],
    ) -> Result<HashMap<Digest, ObjectId>, PullError> {
        let failure = Failure::default();
        let transfer = Transfer {
            session: self.session,
            workers,
            source: self.source,
            progress: self.progress,
            cancelled: &failure.happened,
        };
        let commits = Commits {
            session: self.session,
            progress: self.progress,
            resumed: &self.resumed,
        };
        let next = AtomicUsize::new(0);
        let (came, layers) = std::sync::mpsc::channel();
        let work = |came: Sender<Came>| {
            while let Some(Needed { place, layer }) =
                needed.get(next.fetch_add(1, Ordering::Relaxed))
                && !failure.happened.load(Ordering::Relaxed)
            {
                match self.fetch_layer(&transfer, *place, layer) {
                    // That nobody takes it any more is a failure, which is told.
                    Ok(layer) => drop(came.send(layer)),
                    Err(error) => failure.set(error),
                }
            }
        };
        let records = std::thread::scope(|scope| {
            for _ in 0..parallel {
                let came = came.clone();
                scope.spawn(|| work(came));
            }
            drop(came);
            let records = commits.run(&layers);
            records.map_err(|error| failure.set(error)).ok()
        });
        failure.into_result()?;
        Ok(records.unwrap_or_default())
    }

    /// Lets go of parts of layers that the store has: who fetched them was killed right then.
    fn forget_stored(&self) -> Result<(), PullError> {
        let Some(spool) = self.spool.filter(|_| !self.session.repairing()) else {
            return Ok(());
        };
        for blob in spool.blobs().map_err(SourceError::Spool)? {
            if layer::find(self.session.store(), &blob)?.is_some() {
                spool.forget(&blob).map_err(SourceError::Spool)?;
            }
        }
        Ok(())
    }

    /// Lets go of parts of other images, beyond what is to be kept.
    fn tidy_spool(&self, needed: &[Needed<'_>], keep: Keep) -> Result<(), SourceError> {
        if let Some(spool) = self.spool {
            let needed = needed.iter().map(|needed| needed.layer.descriptor.digest);
            spool.collect(&needed.collect(), keep)?;
        }
        Ok(())
    }

    /// Refuses to download what cannot fit. Parts of other images go first.
    fn check_room(&self, needed: &[Needed<'_>]) -> Result<(), PullError> {
        if needed.is_empty() {
            return Ok(());
        }
        let store = self.session.store();
        let is_update = !store.refs(Kind::Stream)?.is_empty();
        let layers: Vec<_> = needed.iter().map(|needed| needed.layer).collect();
        let need = Need::of(&layers, is_update, self.parallel, self.spool);
        let room =
            || Room::on(store).map_err(|error| StoreError::io("measuring the free space", error));
        if need.fits(&room()?) {
            return Ok(());
        }
        self.tidy_spool(needed, Keep::NOTHING)?;
        let room = room()?;
        if need.fits(&room) {
            return Ok(());
        }
        Err(PullError::NoRoom {
            place: self.source.place(),
            need,
            room,
        })
    }

    /// Fetches one layer. What was put together from parts, or came from a mirror, and
    /// proves wrong is fetched once more from its begin; without the spool, where that damaged it.
    fn fetch_layer(
        &self,
        transfer: &Transfer<'_, '_>,
        place: usize,
        layer: &Layer,
    ) -> Result<Came, PullError> {
        let mut is_last = false;
        let mut spool = self.spool;
        loop {
            let blob = source::kept_blob(self.source, &layer.descriptor, spool)?;
            let ticket = blob.ticket();
            let error = match transfer.import(place, layer, blob) {
                Ok(record) => {
                    return Ok(Came {
                        place,
                        blob: layer.descriptor.digest,
                        record,
                        ticket,
                    });
                }
                Err(error) if error.is_about_content() => error,
                Err(error) => {
                    ticket.record_whole();
                    return Err(error);
                }
            };
            ticket.remove_part().map_err(SourceError::Spool)?;
            let damage = ticket.damage();
            let again =
                damage.is_some() || self.source.distrust(&layer.descriptor) || ticket.is_pieced();
            if is_last || !again {
                return Err(error);
            }
            if let Some(damage) = damage {
                // The disk may be failing: whoever looks after it should know.
                let remark = format!("{damage}; the layer is fetched once more, without the spool");
                self.progress.report(Event::Remark(&remark));
                spool = None;
            }
            is_last = true;
        }
    }

    fn report_layers(&self, manifest: &Manifest, needed: &[Needed<'_>]) {
        let mut infos: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| LayerInfo {
                digest: layer.descriptor.digest,
                size: layer.descriptor.size,
                cached: true,
            })
            .collect();
        for needed in needed {
            infos[needed.place].cached = false;
        }
        self.progress.report(Event::Layers(&infos));
    }

    fn document_error(&self, source: ManifestError) -> PullError {
        PullError::Document {
            place: self.source.place(),
            source: Box::new(source),
        }
    }
}

/// The layers that have no record, each blob once.
fn find_needed<'a>(manifest: &'a Manifest, records: &HashMap<Digest, ObjectId>) -> Vec<Needed<'a>> {
    let mut seen = HashSet::new();
    manifest
        .layers
        .iter()
        .enumerate()
        .filter(|(_, layer)| {
            let blob = layer.descriptor.digest;
            !records.contains_key(&blob) && seen.insert(blob)
        })
        .map(|(place, layer)| Needed { place, layer })
        .collect()
}

/// The platforms of an index, for a message.
fn show_offers(offers: &[Option<Platform>]) -> String {
    let mut shown: Vec<String> = offers.iter().flatten().map(Platform::to_string).collect();
    shown.sort();
    shown.dedup();
    shown.truncate(20);
    if shown.is_empty() {
        return "nothing that names a platform".to_owned();
    }
    shown.join(", ")
}
