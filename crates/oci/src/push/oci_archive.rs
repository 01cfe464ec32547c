//! An `oci-archive:` as the place to write to: the same image gives the same bytes.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layout::{MARKER, with_entry};
use super::tar_file::TarFile;
use super::{Open, PushError, Target, Written};
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::reference::FileReference;
use crate::source::SourceOptions;

/// An archive under way.
pub(super) struct OciArchive {
    name: Option<String>,
    state: Mutex<State>,
}

struct State {
    tar: TarFile,
    written: HashSet<Digest>,
}

impl OciArchive {
    pub(super) fn create(
        reference: &FileReference,
        options: &SourceOptions,
    ) -> Result<Self, PushError> {
        let mut tar = TarFile::create(reference, options)?;
        tar.small("oci-layout", MARKER)?;
        tar.directory("blobs/")?;
        tar.directory("blobs/sha256/")?;
        Ok(Self {
            name: reference.name().map(str::to_owned),
            state: Mutex::new(State {
                tar,
                written: HashSet::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.to_hex())
}

impl Target for OciArchive {
    fn place(&self) -> String {
        format!("oci-archive:{}", self.lock().tar.path().display())
    }

    fn has(&self, blob: &Descriptor) -> Result<bool, PushError> {
        Ok(self.lock().written.contains(&blob.digest))
    }

    fn put(&self, blob: &Descriptor, open: Open<'_>, sent: &dyn Fn(u64)) -> Result<(), PushError> {
        let reading = |error| PushError::reading("the source".to_owned(), blob.digest, error);
        let mut state = self.lock();
        let mut content = open().map_err(reading)?;
        state
            .tar
            .stream(&file(&blob.digest), &mut *content, sent)
            .map_err(reading)??;
        state.written.insert(blob.digest);
        Ok(())
    }

    fn put_document(&self, document: &Written) -> Result<(), PushError> {
        let mut state = self.lock();
        if state.written.insert(document.digest) {
            state.tar.small(&file(&document.digest), &document.bytes)?;
        }
        Ok(())
    }

    fn finish(&self, document: &Written, _: Option<&super::Image<'_>>) -> Result<(), PushError> {
        self.put_document(document)?;
        let mut state = self.lock();
        let index = with_entry(None, document, self.name.as_deref()).map_err(|reason| {
            PushError::NotALayout {
                path: state.tar.path().to_owned(),
                reason,
            }
        })?;
        state.tar.small("index.json", &index)?;
        state.tar.commit()
    }
}
