//! Copying an image from one place to another, and out of hull's store.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hull_store::Store;

use super::compress::Compressed;
use super::outcome::{Copied, CopyOptions, Done};
use super::stored::Stored;
use super::{Form, Image, PushError, Target, Written};
use crate::digest::{BlobError, Digest};
use crate::manifest::write::{NewBlob, with_blobs};
use crate::manifest::{
    Compression, Descriptor, Document, ImageConfig, Index, Layer, MAX_CONFIG, Manifest,
    ManifestError, OCI_INDEX, OCI_MANIFEST,
};
use crate::platform::Platform;
use crate::progress::{Event, LayerInfo, Progress, Stage};
use crate::reference::{FileReference, Reference};
use crate::source::{self, Fetched, Source};

/// How deep indexes may lie in each other.
const MAX_NESTING: usize = 3;

/// Copies an image from a source to a place.
///
/// Bytes are kept as they are where the place takes them so: then the digest stays.
pub fn copy(
    from: &Reference,
    to: &Reference,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, PushError> {
    if let Some(policy) = &options.policy {
        policy.check_before(from).map_err(Box::new)?;
    }
    let source = source::open(from, &options.source)?;
    copy_from(&*source, from, to, options, progress)
}

/// Moves the image of a layout into an archive.
///
/// The room of its layers is given back while they are copied, so that both together never take
/// much more than one. What is left of the layout is of no use, also after an error. Archives
/// read each layer once; a registry may want one again, for which this is not made.
pub fn move_into_archive(
    from: &FileReference,
    archive: &Reference,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, PushError> {
    let source = source::open_used_up(from)?;
    let from = Reference::Layout(from.clone());
    copy_from(&*source, &from, archive, options, progress)
}

fn copy_from(
    source: &dyn Source,
    from: &Reference,
    to: &Reference,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, PushError> {
    let having = options.mount_from.as_ref().unwrap_or(from);
    let target = super::open(to, Some(having), &options.target)?;
    let job = Job {
        source,
        stored: None,
        judged: Some(from),
        target: &*target,
        options,
        progress,
        done: Done::default(),
    };
    job.run(from)
}

/// Writes an image of hull's store to a place.
///
/// `origin` is where the image came from, if that is known: blobs that its registry has need
/// not be sent to another repository there. Compressed blobs are not in the store: what the place lacks
/// is compressed again, and the digest changes with it.
pub fn push(
    store: &Store,
    manifest: &Digest,
    origin: Option<&Reference>,
    to: &Reference,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, PushError> {
    // What is read must stay.
    let _session = store.session()?;
    let stored = Stored::open(store, manifest).map_err(Box::new)?;
    let having = options.mount_from.as_ref().or(origin);
    let target = super::open(to, having, &options.target)?;
    let job = Job {
        source: &stored,
        stored: Some(&stored),
        // What is in the store went through the policy when it was pulled.
        judged: None,
        target: &*target,
        options,
        progress,
        done: Done::default(),
    };
    job.run(to)
}

struct Job<'a> {
    source: &'a dyn Source,
    /// The source, where that is hull's store.
    stored: Option<&'a Stored>,
    /// What the policy is asked about.
    judged: Option<&'a Reference>,
    target: &'a dyn Target,
    options: &'a CopyOptions,
    progress: &'a dyn Progress,
    done: Done,
}

impl Job<'_> {
    fn run(self, shown: &Reference) -> Result<Copied, PushError> {
        self.progress.report(Event::Stage(Stage::Resolving));
        let root = self.source.root()?;
        let source_digest = root.digest;
        for remark in self.source.remarks() {
            self.done.remark(remark);
        }
        self.progress.report(Event::Resolved {
            reference: shown,
            manifest: &source_digest,
        });
        let digest = self.root(root)?;
        let keeps_digest = self.target.form() == Form::Blobs;
        Ok(Copied {
            digest: keeps_digest.then_some(digest),
            source_digest,
            sent_blobs: self.done.sent.into_inner(),
            sent_bytes: self.done.bytes.into_inner(),
            present_blobs: self.done.present.into_inner(),
            remarks: self
                .done
                .remarks
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// Asks the policy about what was found: what is copied has one of these digests.
    fn judge(&self, digests: &[Digest]) -> Result<(), PushError> {
        if let (Some(policy), Some(reference)) = (&self.options.policy, self.judged) {
            policy
                .check(reference, digests, &self.options.source)
                .map_err(Box::new)?;
        }
        Ok(())
    }

    /// Copies what the reference names; gives the digest that it has then.
    fn root(&self, root: Fetched) -> Result<Digest, PushError> {
        let named = root.digest;
        let mut document = root;
        for _ in 0..=MAX_NESTING {
            match self.parse(&document)? {
                Document::Manifest(manifest) => {
                    self.judge(&[named, document.digest])?;
                    return self.image(&document, &manifest, true);
                }
                Document::Index(index) if self.options.all => {
                    self.judge(&[named])?;
                    return self.index(&document, &index, 0, true);
                }
                Document::Index(index) => document = self.source.document(self.choose(&index)?)?,
            }
        }
        Err(self.nested())
    }

    fn nested(&self) -> PushError {
        PushError::Unsupported {
            place: self.source.place(),
            reason: "its indexes are nested too deep",
        }
    }

    fn parse(&self, document: &Fetched) -> Result<Document, PushError> {
        Document::parse(&document.bytes, document.media_type.as_deref())
            .map_err(|error| self.document_error(error))
    }

    fn document_error(&self, source: ManifestError) -> PushError {
        PushError::Document {
            place: self.source.place(),
            source: Box::new(source),
        }
    }

    fn choose<'i>(&self, index: &'i Index) -> Result<&'i Descriptor, PushError> {
        let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
        let offers: Vec<_> = index
            .manifests
            .iter()
            .map(|entry| entry.platform.clone())
            .collect();
        match wanted.choose(&offers) {
            Some(place) => Ok(&index.manifests[place].descriptor),
            None => Err(PushError::NoPlatform {
                place: self.source.place(),
                wanted: Box::new(wanted),
            }),
        }
    }

    /// Copies an index and all that it lists, which keeps its bytes.
    fn index(
        &self,
        document: &Fetched,
        index: &Index,
        depth: usize,
        last: bool,
    ) -> Result<Digest, PushError> {
        if depth > MAX_NESTING {
            return Err(self.nested());
        }
        for entry in &index.manifests {
            // Indexes that list each other again and again must not take for ever.
            if !self.done.is_first(&entry.descriptor.digest) {
                continue;
            }
            let inner = self.source.document(&entry.descriptor)?;
            match self.parse(&inner) {
                Ok(Document::Manifest(manifest)) => {
                    let digest = self.image(&inner, &manifest, false)?;
                    if digest != inner.digest {
                        return Err(PushError::Unsupported {
                            place: self.target.place(),
                            reason: "an image of an index must keep its digest; leave --compress out",
                        });
                    }
                }
                Ok(Document::Index(index)) => {
                    self.index(&inner, &index, depth + 1, false)?;
                }
                Err(error) => return Err(error),
            }
        }
        let written = written(document, OCI_INDEX);
        match last {
            true => self.target.finish(&written, None)?,
            false => self.target.put_document(&written)?,
        }
        Ok(written.digest)
    }

    /// Copies one image; gives the digest of its manifest where it went.
    fn image(
        &self,
        document: &Fetched,
        manifest: &Manifest,
        last: bool,
    ) -> Result<Digest, PushError> {
        let config_descriptor = &manifest.config;
        let bytes = source::small_blob(
            self.source,
            config_descriptor,
            "the configuration",
            MAX_CONFIG,
        )?;
        let config = ImageConfig::parse(&bytes).map_err(|error| self.document_error(error))?;
        config
            .check_against(manifest)
            .map_err(|error| self.document_error(error))?;
        self.check_platform(&config)?;
        self.report_layers(manifest);
        self.progress.report(Event::Stage(Stage::Fetching));
        let new = self.layers(manifest, &config)?;
        self.progress.report(Event::Stage(Stage::Recording));
        let document = self.rewritten(document, &new)?;
        let image = Image {
            config: &bytes,
            diff_ids: &config.diff_ids,
        };
        if self.target.form() == Form::Blobs {
            self.small(config_descriptor, &bytes)?;
        }
        match last {
            true => self.target.finish(&document, Some(&image))?,
            false => self.target.put_document(&document)?,
        }
        Ok(document.digest)
    }

    /// An image that stands alone is for one platform; it is taken as it is unless one was named.
    fn check_platform(&self, config: &ImageConfig) -> Result<(), PushError> {
        match &self.options.platform {
            Some(wanted) if !wanted.accepts(&config.platform) => Err(PushError::WrongPlatform {
                place: self.source.place(),
                wanted: Box::new(wanted.clone()),
                found: Box::new(config.platform.clone()),
            }),
            _ => Ok(()),
        }
    }

    fn rewritten(&self, document: &Fetched, new: &[Option<NewBlob>]) -> Result<Written, PushError> {
        let mut written = written(document, OCI_MANIFEST);
        if new.iter().any(Option::is_some) {
            written.bytes = with_blobs(&document.bytes, None, new)
                .map_err(|error| self.document_error(error))?;
            written.digest = Digest::sha256(&written.bytes);
            let count = new.iter().flatten().count();
            let what = match count {
                1 => "1 layer was".to_owned(),
                count => format!("{count} layers were"),
            };
            self.done.remark(format!(
                "{what} compressed anew, so the image has the digest {} instead of {}",
                written.digest, document.digest
            ));
        }
        Ok(written)
    }

    fn report_layers(&self, manifest: &Manifest) {
        let infos: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| LayerInfo {
                digest: layer.descriptor.digest,
                size: layer.descriptor.size,
                cached: false,
            })
            .collect();
        self.progress.report(Event::Layers(&infos));
    }

    /// Copies the layers, several at once where the place takes that; gives those whose
    /// blobs are new ones. The first failure stops the others.
    fn layers(
        &self,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<Vec<Option<NewBlob>>, PushError> {
        let next = AtomicUsize::new(0);
        let cancelled = AtomicBool::new(false);
        let outcome = Mutex::new(Ok(vec![None; manifest.layers.len()]));
        let work = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(layer) = manifest.layers.get(place) else {
                    return;
                };
                if cancelled.load(Ordering::Relaxed) {
                    return;
                }
                let result = self.layer(place, layer, &config.diff_ids[place]);
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match (result, &mut *outcome) {
                    (Ok(blob), Ok(blobs)) => blobs[place] = blob,
                    (Err(error), Ok(_)) => {
                        cancelled.store(true, Ordering::Relaxed);
                        *outcome = Err(error);
                    }
                    (_, Err(_)) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.target.parallel().min(manifest.layers.len()) {
                scope.spawn(work);
            }
        });
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a layer; gives the blob that stands for it if that is another one.
    fn layer(
        &self,
        place: usize,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<Option<NewBlob>, PushError> {
        let new = match self.target.form() {
            Form::PlainTars => {
                let open = || self.open(place, layer);
                self.target.put_tar(layer, diff_id, &open)?;
                self.count(layer.descriptor.size);
                None
            }
            Form::Blobs => self.blob(place, layer, diff_id)?,
        };
        self.progress.report(Event::LayerDone { layer: place });
        Ok(new)
    }

    fn blob(
        &self,
        place: usize,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<Option<NewBlob>, PushError> {
        let descriptor = &layer.descriptor;
        let wanted = match (layer.compression, self.options.compress) {
            (Compression::None, Some(compression)) => Some(compression),
            _ => None,
        };
        if wanted.is_none() && self.target.has(descriptor)? {
            self.done.present.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        let at_hand = self.stored.is_none() || layer.compression == Compression::None;
        if wanted.is_none() && at_hand {
            let open = || self.open(place, layer);
            self.put(place, descriptor, &open)?;
            return Ok(None);
        }
        let compression = wanted.unwrap_or(layer.compression);
        let compressed = self.compress(place, layer, diff_id, compression)?;
        let blob = compressed.blob;
        let descriptor = Descriptor {
            digest: blob.digest,
            size: blob.size,
            ..descriptor.clone()
        };
        if self.target.has(&descriptor)? {
            self.done.present.fetch_add(1, Ordering::Relaxed);
        } else {
            self.put(place, &descriptor, &|| compressed.open())?;
        }
        let same = blob.digest == layer.descriptor.digest;
        Ok((!same).then_some(blob))
    }

    fn compress(
        &self,
        place: usize,
        layer: &Layer,
        diff_id: &Digest,
        compression: Compression,
    ) -> Result<Compressed, PushError> {
        let blob = layer.descriptor.digest;
        let temporary = self.options.source.temporary();
        let failed = |source| PushError::reading(self.source.place(), blob, source);
        let mut tar = self.open(place, layer).map_err(failed)?;
        let compressed = Compressed::make(&mut tar, compression, temporary);
        let compressed = compressed.map_err(failed)?;
        if compressed.diff_id != *diff_id {
            return Err(PushError::DiffId {
                layer: blob,
                expected: Box::new(*diff_id),
                actual: Box::new(compressed.diff_id),
            });
        }
        Ok(compressed)
    }

    /// A layer's blob, checked while it is read; of hull's store, its tar.
    fn open(&self, place: usize, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        match self.stored {
            Some(stored) if layer.compression != Compression::None => stored.tar(place),
            _ => {
                let blob = source::blob(self.source, &layer.descriptor);
                Ok(Box::new(blob.map_err(io::Error::other)?))
            }
        }
    }

    fn put(
        &self,
        place: usize,
        descriptor: &Descriptor,
        open: super::Open<'_>,
    ) -> Result<(), PushError> {
        let sent = |bytes| {
            self.progress.report(Event::LayerBytes {
                layer: place,
                bytes,
            })
        };
        let result = self.target.put(descriptor, open, &sent);
        if let Err(PushError::Read { source, .. }) = &result
            && let Some(content) = BlobError::find(source)
        {
            return Err(PushError::Content {
                place: self.source.place(),
                source: Box::new(content.clone()),
            });
        }
        result?;
        self.count(descriptor.size);
        Ok(())
    }

    fn count(&self, bytes: u64) {
        self.done.sent.fetch_add(1, Ordering::Relaxed);
        self.done.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A blob that is in memory.
    fn small(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), PushError> {
        if self.target.has(descriptor)? {
            self.done.present.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let open = || -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(io::Cursor::new(bytes.to_vec())))
        };
        self.target.put(descriptor, &open, &|_| {})?;
        self.count(descriptor.size);
        Ok(())
    }
}

/// A document as it came, with the type that it says it is, or was said to be.
fn written(document: &Fetched, otherwise: &str) -> Written {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let own = serde_json::from_slice(&document.bytes);
    let own = own.ok().and_then(|typed: Typed| typed.media_type);
    let announced = document.media_type.as_deref().map(|text| {
        let essence = text.split(';').next().unwrap_or_default();
        essence.trim().to_owned()
    });
    Written {
        bytes: document.bytes.clone(),
        digest: document.digest,
        media_type: own
            .filter(|text| !text.is_empty())
            .or(announced)
            .unwrap_or_else(|| otherwise.to_owned()),
    }
}
