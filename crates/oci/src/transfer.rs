//! One layer's way from its source into the store.
//!
//! ```text
//! source ─▶ digest ─▶ channel ─▶ decompress ─▶ channel ─▶ tar ─▶ record
//!  └─── a thread ───┘            └ a thread ┘             └ caller ┘
//!                                                            ├─▶ objects
//!                                              threads of the whole pull
//! ```

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use hull_store::{Session, UnlinkedStream};

use crate::decompress::decompress;
use crate::digest::{BlobError, Digest};
use crate::layer::{self, Feed, Memory, Piece, Workers};
use crate::manifest::{Compression, Layer};
use crate::progress::{Event, Progress};
use crate::pull::PullError;
use crate::source::{self, Blob, Source, SourceError};

/// What the thread that reads is ahead by: so many pieces of so many bytes.
const PIECES: usize = 8;
const PIECE: usize = 256 << 10;
/// What the thread that decompresses is ahead by, in buffers.
const DECOMPRESSED: usize = 4;
/// How much more is read of a blob that makes no sense, to learn whether it is the
/// right one.
const POST_MORTEM: u64 = 64 << 20;
/// How long a failure elsewhere may go unnoticed.
const CANCEL_WITHIN: Duration = Duration::from_millis(100);

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
        let mut blob = Watched {
            inner: ReadAhead::start(blob, self.cancelled, &abandoned),
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
        if !blob.ended {
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

/// The layer is not wanted any more, by its own importer.
#[derive(Debug, thiserror::Error)]
#[error("the import of the layer ended")]
struct Abandoned;

/// A reader whose content is fetched by a thread of its own.
struct ReadAhead<'a> {
    pieces: Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
    cancelled: &'a AtomicBool,
    abandoned: &'a AtomicBool,
}

impl<'a> ReadAhead<'a> {
    fn start(
        reader: impl Read + Send + 'static,
        cancelled: &'a AtomicBool,
        abandoned: &'a AtomicBool,
    ) -> Self {
        let (sender, pieces) = sync_channel(PIECES);
        std::thread::spawn(move || pump(reader, &sender));
        Self {
            pieces,
            current: io::Cursor::default(),
            ended: false,
            cancelled,
            abandoned,
        }
    }

    /// The next piece; an empty one is the end. A server that is silent does not
    /// keep this from being cancelled.
    fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("another layer failed"));
            }
            if self.abandoned.load(Ordering::Relaxed) {
                return Err(io::Error::other(Abandoned));
            }
            match self.pieces.recv_timeout(CANCEL_WITHIN) {
                Ok(piece) => return piece,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the thread that reads the blob died"));
                }
            }
        }
    }
}

/// Sends all of `reader` in pieces, at last an empty one, or an error. Ends as
/// soon as nobody listens any more.
fn pump(mut reader: impl Read, sender: &SyncSender<io::Result<Vec<u8>>>) {
    let limit = u64::try_from(PIECE).expect("a quarter of a megabyte");
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let result = (&mut reader).take(limit).read_to_end(&mut piece);
        if !piece.is_empty() && sender.send(Ok(piece)).is_err() {
            return;
        }
        let last = match result {
            Ok(0) => Ok(Vec::new()),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        // That nobody listens any more is as well.
        drop(sender.send(last));
        return;
    }
}

impl Read for ReadAhead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || self.ended || buffer.is_empty() {
                return Ok(count);
            }
            let piece = self.receive()?;
            self.ended = piece.is_empty();
            self.current = io::Cursor::new(piece);
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives pieces of changing length, then perhaps an error.
    struct Jumpy {
        content: Vec<u8>,
        taken: usize,
        fails: bool,
    }

    impl Read for Jumpy {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let left = &self.content[self.taken..];
            if left.is_empty() && self.fails {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let count = left.len().min(buffer.len()).min(1 + self.taken % 97_000);
            buffer[..count].copy_from_slice(&left[..count]);
            self.taken += count;
            Ok(count)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn reading_ahead_changes_neither_content_nor_end(length in 0usize..1_000_000, fails: bool) {
            let content: Vec<u8> = (0..=250u8).cycle().take(length).collect();
            let jumpy = Jumpy { content: content.clone(), taken: 0, fails };
            let mut out = Vec::new();
            let never = AtomicBool::new(false);
            let result = ReadAhead::start(jumpy, &never, &never).read_to_end(&mut out);
            prop_assert_eq!(result.is_err(), fails);
            prop_assert!(out == content);
        }
    }

    #[test]
    fn a_reader_that_nobody_listens_to_ends() {
        /// Has the sender dropped with it.
        struct Endless {
            _dropped: std::sync::mpsc::Sender<()>,
        }
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                Ok(buffer.len())
            }
        }
        let (dropped, wait) = std::sync::mpsc::channel();
        let never = AtomicBool::new(false);
        drop(ReadAhead::start(
            Endless { _dropped: dropped },
            &never,
            &never,
        ));
        // The sender goes with the reader, and the reader with its thread.
        assert!(wait.recv().is_err());
    }
}
