//! An archive that `docker load` and `podman load` read as the place to write to.
//!
//! It has a configuration and plain tars, and no manifest: the image keeps its ID, and has no digest.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::tar_file::TarFile;
use super::{Form, Image, Open, PushError, Target, Written};
use crate::decompress::decompress_any;
use crate::digest::{Digest, Hasher};
use crate::manifest::write::to_bytes;
use crate::manifest::{Descriptor, Layer};
use crate::reference::FileReference;
use crate::source::SourceOptions;

/// An archive under way.
pub(super) struct DockerArchive {
    tags: Vec<String>,
    state: Mutex<State>,
}

struct State {
    tar: TarFile,
    written: HashSet<Digest>,
}

impl DockerArchive {
    pub(super) fn create(
        reference: &FileReference,
        options: &SourceOptions,
    ) -> Result<Self, PushError> {
        let tags = match reference.name() {
            Some(name) if name.starts_with('@') => {
                return Err(PushError::Unsupported {
                    place: format!("docker-archive:{reference}"),
                    reason: "an archive is written with one image, which is named by a tag",
                });
            }
            name => name.map(crate::source::docker_name).into_iter().collect(),
        };
        Ok(Self {
            tags,
            state: Mutex::new(State {
                tar: TarFile::create(reference, options)?,
                written: HashSet::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.to_hex())
}

/// Hashes what is read through it.
struct Hashing<'a> {
    inner: Box<dyn Read + Send>,
    hasher: &'a mut Hasher,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl Target for DockerArchive {
    fn place(&self) -> String {
        format!("docker-archive:{}", self.lock().tar.path().display())
    }

    fn form(&self) -> Form {
        Form::PlainTars
    }

    fn has(&self, _: &Descriptor) -> Result<bool, PushError> {
        Ok(false)
    }

    fn put(&self, _: &Descriptor, _: Open<'_>, _: &dyn Fn(u64)) -> Result<(), PushError> {
        Err(PushError::Unsupported {
            place: self.place(),
            reason: "it keeps plain tars alone",
        })
    }

    fn put_tar(&self, layer: &Layer, diff_id: &Digest, open: Open<'_>) -> Result<(), PushError> {
        let blob = layer.descriptor.digest;
        let reading = |error| PushError::reading("the source".to_owned(), blob, error);
        let mut state = self.lock();
        if state.written.contains(diff_id) {
            return Ok(());
        }
        let (_, tar) = open().and_then(decompress_any).map_err(reading)?;
        let mut hasher = Hasher::new(diff_id.algorithm());
        let mut tar = Hashing {
            inner: tar,
            hasher: &mut hasher,
        };
        state
            .tar
            .stream(&file(diff_id), &mut tar, &|_| {})
            .map_err(reading)??;
        let actual = hasher.finish();
        if actual != *diff_id {
            return Err(PushError::DiffId {
                layer: blob,
                expected: Box::new(*diff_id),
                actual: Box::new(actual),
            });
        }
        state.written.insert(*diff_id);
        Ok(())
    }

    fn put_document(&self, _: &Written) -> Result<(), PushError> {
        Err(PushError::Unsupported {
            place: self.place(),
            reason: "it keeps one image, not several for different platforms",
        })
    }

    fn finish(&self, _: &Written, image: Option<&Image<'_>>) -> Result<(), PushError> {
        let Some(image) = image else {
            return Err(PushError::Unsupported {
                place: self.place(),
                reason: "it keeps one image, not several for different platforms",
            });
        };
        let mut state = self.lock();
        let config = format!("{}.json", Digest::sha256(image.config).to_hex());
        state.tar.small(&config, image.config)?;
        let layers: Vec<_> = image.diff_ids.iter().map(file).collect();
        let list = json!([{"Config": config, "RepoTags": self.tags, "Layers": layers}]);
        state.tar.small("manifest.json", &to_bytes(&list))?;
        state.tar.commit()
    }
}
