//! One layer's way from its source into the store.
//!
//! ```text
//! source ─▶ digest ─▶ spool ─▶ channel ─▶ decompress ─▶ channel ─▶ tar ─▶ record
//!  └─────── a thread ───────┘            └ a thread ┘             └ caller ┘
//!                                                                    ├─▶ objects
//!                                                      threads of the whole pull
//! ```

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hull_store::{Session, UnlinkedStream};

use crate::decompress::decompress;
use crate::digest::{BlobError, Digest};
use crate::layer::{self, Feed, Memory, Piece, Workers};
use crate::manifest::{Compression, Layer};
use crate::progress::{Event, Progress};
use crate::pull::PullError;
use crate::read_ahead::{Abandoned, ReadAhead};
use crate::source::{self, Blob, Source, SourceError};

/// What the thread that decompresses is ahead by, in buffers.
const DECOMPRESSED: usize = 4;
/// How much more is read of a blob that makes no sense, to learn whether it is the
/// right one.
const POST_MORTEM: u64 = 64 << 20;

/// The layers of one pull on their way.
pub(crate) struct Transfer<'a, 's> {
    pub(crate) session: &'a Session,
    pub(crate) workers: &'a Workers<'s>,
    pub(crate) source: &'a dyn Source,
    pub(crate) progress: &'a dyn Progress,
    /// Set when another layer failed: then all stop.
    pub(crate) cancelled: &'a AtomicBool,
}

impl Transfer<'_, '_> {
    /// Fetches and imports the layer at `place`. There is a record once the blob's
    /// digest proved right.
    pub(crate) fn import(
        &self,
        place: usize,
        layer: &Layer,
        blob: Blob,
    ) -> Result<UnlinkedStream, PullError> {
        let digest = layer.descriptor.digest;
        let abandoned = AtomicBool::new(false);
        let ticket = blob.ticket();
        let mut blob = Watched {
            inner: ReadAhead::start(blob, ticket, self.cancelled, &abandoned),
            layer: place,
            bytes: 0,
            progress: self.progress,
            failure: None,
            ended: false,
        };
        let imported = match self.decode(layer, &mut blob, &abandoned) {
            Ok(imported) => imported,
            Err(error) => return Err(blob.explain(digest, self.source, error)),
        };
        if !blob.ended || blob.failure.is_some() {
            return Err(PullError::NotRead {
                place: self.source.place(),
                layer: digest,
            });
        }
        imported
            .put(self.session, &digest)
            .map_err(PullError::Store)
    }

    /// Decompresses the blob in a thread that ends with this, and imports what comes.
    fn decode(
        &self,
        layer: &Layer,
        blob: &mut Watched<'_>,
        abandoned: &AtomicBool,
    ) -> Result<layer::Imported, PullError> {
        let digest = layer.descriptor.digest;
        let memory = self.workers.memory();
        let (sender, pieces) = sync_channel(DECOMPRESSED);
        let (imported, decompressed) = std::thread::scope(|scope| {
            let decompressing =
                scope.spawn(|| send_decompressed(layer.compression, blob, memory, sender));
            let mut pieces = Decompressed {
                pieces,
                ended: false,
            };
            let imported = layer::import_with(self.workers, &mut pieces);
            // The thread must not wait for somebody to listen, nor for a server.
            drop(pieces);
            abandoned.store(imported.is_err(), Ordering::Relaxed);
            let decompressed = decompressing.join();
            abandoned.store(false, Ordering::Relaxed);
            (imported, decompressed)
        });
        match decompressed {
            Ok(Ok(())) => {}
            Ok(Err(source)) => {
                return Err(PullError::Decompress {
                    place: self.source.place(),
                    layer: digest,
                    source,
                });
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
        imported.map_err(|source| PullError::Layer {
            place: self.source.place(),
            layer: digest,
            source: Box::new(source),
        })
    }
}

/// What the thread that decompresses sends: at last nothing, or an error.
type Sent = io::Result<Option<Piece>>;

/// Sends all that `blob` holds, as long as somebody listens. An error of the layer's
/// beginning is the result; later ones go the same way as the content.
fn send_decompressed(
    said: Compression,
    blob: &mut Watched<'_>,
    memory: &Arc<Memory>,
    sender: SyncSender<Sent>,
) -> io::Result<()> {
    let mut tar = decompress(said, blob)?;
    loop {
        let piece = memory.read(&mut *tar);
        let is_last = !matches!(piece, Ok(Some(_)));
        if sender.send(piece).is_err() || is_last {
            return Ok(());
        }
    }
}

/// What comes from the thread that decompresses.
struct Decompressed {
    pieces: Receiver<Sent>,
    /// The end may be asked for more than once.
    ended: bool,
}

impl Feed for Decompressed {
    fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        let gone = |_| io::Error::other("the layer could not be decompressed");
        let piece = self.pieces.recv().map_err(gone)??;
        self.ended = piece.is_none();
        Ok(piece)
    }
}

/// Reports progress, and remembers how the blob ended.
struct Watched<'a> {
    inner: ReadAhead<'a>,
    layer: usize,
    bytes: u64,
    progress: &'a dyn Progress,
    failure: Option<io::Error>,
    ended: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(0) if !buffer.is_empty() => {
                self.ended = true;
                Ok(0)
            }
            Ok(count) => {
                self.count(count);
                Ok(count)
            }
            Err(error) if error.get_ref().is_some_and(|error| error.is::<Abandoned>()) => {
                Err(error)
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                Err(copy)
            }
        }
    }
}

impl Watched<'_> {
    fn count(&mut self, count: usize) {
        const STEP: u64 = 256 << 10;
        let before = self.bytes / STEP;
        self.bytes += u64::try_from(count).unwrap_or(0);
        if self.bytes / STEP != before {
            self.progress.report(Event::LayerBytes {
                layer: self.layer,
                bytes: self.bytes,
            });
        }
    }

    /// The reason behind an error: the blob, if it broke off or is another one;
    /// else what was made of it.
    fn explain(mut self, digest: Digest, source: &dyn Source, error: PullError) -> PullError {
        let is_about_content = matches!(
            error,
            PullError::Decompress { .. } | PullError::Layer { .. }
        );
        if self.failure.is_none() && is_about_content && !error.is_no_space() {
            // Damage on the way looks like nonsense first.
            drop(io::copy(
                &mut (&mut self).take(POST_MORTEM),
                &mut io::sink(),
            ));
        }
        let Some(failure) = self.failure else {
            return error;
        };
        let is_wrong = BlobError::find(&failure).is_some();
        match source::explain(failure, source, || digest.to_string()) {
            wrong if is_wrong => PullError::Content {
                source: Box::new(wrong),
            },
            SourceError::Read { path, source, .. } => PullError::Transfer {
                place: path.display().to_string(),
                layer: digest,
                source,
            },
            error => PullError::Source(error),
        }
    }
}
