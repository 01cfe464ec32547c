//! An image in hull's store as a source: its layers can be given as plain tars.

use std::fs::File;
use std::io::{self, Cursor, Read};

use hull_erofs::ObjectId;
use hull_store::Store;
use hull_store::stream::{Chunk, StreamReader};

use crate::digest::Digest;
use crate::image::{self, Image};
use crate::layer;
use crate::manifest::{Compression, Descriptor};
use crate::source::{Fetched, Source, SourceError};

/// An image that was pulled.
#[derive(Debug)]
pub(super) struct Stored {
    store: Store,
    image: Image,
    manifest: Vec<u8>,
    config: Vec<u8>,
}

impl Stored {
    pub(super) fn open(store: &Store, manifest: &Digest) -> Result<Self, image::LoadError> {
        let image = Image::load(store, manifest)?;
        let (manifest, config) = image.documents(store)?;
        Ok(Self {
            store: store.clone(),
            image,
            manifest,
            config,
        })
    }

    /// The layer at that place as a tar. Its digest is the caller's to check.
    pub(super) fn tar(&self, place: usize) -> io::Result<Box<dyn Read + Send>> {
        let record = self.image.layers.get(place);
        let record = record.ok_or_else(|| io::Error::other("there is no such layer"))?;
        Ok(Box::new(RecordReader::open(&self.store, record)?))
    }
}

impl Source for Stored {
    fn place(&self) -> String {
        "hull's store".to_owned()
    }

    fn root(&self) -> Result<Fetched, SourceError> {
        Ok(Fetched {
            digest: self.image.manifest_digest,
            bytes: self.manifest.clone(),
            media_type: None,
        })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError> {
        Err(self.missing(&descriptor.digest))
    }

    /// The configuration, and layers whose blobs are plain tars: others cannot be had
    /// as they were.
    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        let manifest = &self.image.manifest;
        if descriptor.digest == manifest.config.digest {
            return Ok(Box::new(Cursor::new(self.config.clone())));
        }
        let mut layers = manifest.layers.iter();
        let place = layers.position(|layer| {
            layer.descriptor.digest == descriptor.digest && layer.compression == Compression::None
        });
        let place = place.ok_or_else(|| self.missing(&descriptor.digest))?;
        self.tar(place).map_err(|source| SourceError::Read {
            path: "hull's store".into(),
            what: format!("the layer {}", descriptor.digest),
            source,
        })
    }
}

impl Stored {
    fn missing(&self, digest: &Digest) -> SourceError {
        SourceError::MissingBlob {
            path: "hull's store".into(),
            digest: *digest,
        }
    }
}

/// The tar that a layer's record stands for.
struct RecordReader {
    store: Store,
    record: StreamReader,
    current: Current,
}

enum Current {
    Inline(Cursor<Vec<u8>>),
    Object(File),
}

impl RecordReader {
    fn open(store: &Store, record: &ObjectId) -> io::Result<Self> {
        let record = store.open_stream(record).map_err(io::Error::other)?;
        record
            .require_content_type(layer::CONTENT_TYPE)
            .map_err(io::Error::other)?;
        Ok(Self {
            store: store.clone(),
            record,
            current: Current::Inline(Cursor::default()),
        })
    }
}

impl Read for RecordReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.current {
                Current::Inline(bytes) => bytes.read(buffer)?,
                Current::Object(file) => file.read(buffer)?,
            };
            if count > 0 {
                return Ok(count);
            }
            self.current = match self.record.next_chunk().map_err(io::Error::other)? {
                None => return Ok(0),
                Some(Chunk::Inline(bytes)) => Current::Inline(Cursor::new(bytes.to_vec())),
                Some(Chunk::Object(id)) => {
                    Current::Object(self.store.open_object(&id).map_err(io::Error::other)?)
                }
            };
        }
    }
}
