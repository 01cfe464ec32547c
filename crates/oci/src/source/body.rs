//! A blob on its way from a registry: it goes on after a broken connection.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Asked, Fault, RegistryError};
use super::http;
use super::remote::Remote;
use super::retry::Patience;
use crate::digest::Digest;
use crate::manifest::Descriptor;

/// The bytes of a blob from some offset on, unchecked.
///
/// Nothing is asked for before the first read. When the connection breaks, the
/// rest is fetched over a new one, from the next place if this one gave little;
/// that is tried as often as [`Retry`](super::Retry) says. Errors hold a
/// [`RegistryError`].
pub(super) struct Body {
    remote: Arc<Remote>,
    digest: Digest,
    size: u64,
    position: u64,
    /// The connection, and the place it leads to.
    open: Option<(usize, Box<dyn Read + Send>)>,
    /// Whom to ask next.
    next: usize,
    patience: Patience,
    /// Set when the blob comes in several pieces.
    pieced: Arc<AtomicBool>,
}

impl Body {
    pub(super) fn new(
        remote: Arc<Remote>,
        descriptor: &Descriptor,
        offset: u64,
        pieced: Arc<AtomicBool>,
    ) -> Self {
        let mut patience = Patience::new(remote.retry);
        patience.reached(offset);
        Self {
            remote,
            digest: descriptor.digest,
            size: descriptor.size,
            position: offset,
            open: None,
            next: 0,
            patience,
            pieced,
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        let asked = Asked::Blob(self.digest);
        let digest = &self.digest;
        let answer = self
            .remote
            .ask(&asked, self.next, &mut self.patience, |place| {
                place.get_blob(digest, self.size, self.position)
            });
        let (place, body) = answer.map_err(|error| into_io(*error, io::ErrorKind::Other))?;
        self.remote.serves(digest, place);
        self.next = place;
        self.open = Some((place, body));
        Ok(())
    }

    /// After the connection broke: waits, or gives up.
    fn recover(&mut self, reason: String, kind: io::ErrorKind) -> io::Result<()> {
        let Some((place, _)) = self.open.take() else {
            return Ok(());
        };
        self.pieced.store(true, Ordering::Relaxed);
        if !self.patience.reached(self.position) {
            self.next = place + 1;
        }
        let fault = Fault::Broken {
            position: self.position,
            size: self.size,
            reason,
        };
        if self.patience.wait(&fault) {
            return Ok(());
        }
        let faults = BTreeMap::from([(place, fault)]);
        let asked = Asked::Blob(self.digest);
        let error = self.remote.error(&asked, faults, &self.patience);
        Err(into_io(*error, kind))
    }
}

fn into_io(error: RegistryError, kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, error)
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some((_, inner)) = &mut self.open else {
                if self.position >= self.size {
                    return Ok(0);
                }
                self.connect()?;
                continue;
            };
            match inner.read(buffer) {
                Ok(0) if self.position < self.size && !buffer.is_empty() => {
                    self.recover("it ended early".to_owned(), io::ErrorKind::UnexpectedEof)?;
                }
                Ok(count) => {
                    self.position += u64::try_from(count).unwrap_or(0);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                // All that is needed is here.
                Err(_) if self.position >= self.size => return Ok(0),
                Err(error) => self.recover(http::describe(&error), error.kind())?,
            }
        }
    }
}
