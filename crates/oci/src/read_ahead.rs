//! A blob that a thread of its own reads, as far ahead as it can.
//!
//! ```text
//! blob ─┬─────── piece ───────▶ channel ─▶ reader
//!       └─▶ spool   place, CRC ─▶ channel ─┤
//!             └────────────────────────────┘
//! ```
//!
//! So many pieces wait in memory. Behind those only places in the spool do, where the blob is
//! kept while it comes: an import that is busy does not keep a server waiting, and what the
//! network brought is on this machine and not in the kernel's buffers when the process dies.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Crc;

use crate::source::Ticket;
use crate::spool::Damage;

/// How many pieces of so many bytes wait in memory.
const PIECES: usize = 8;
const PIECE: usize = 256 << 10;
/// How long a failure elsewhere may go unnoticed.
const CANCEL_WITHIN: Duration = Duration::from_millis(100);

/// When a layer is still being imported so long after its blob came whole, that is recorded:
/// after a power cut the blob need not come again.
const RECORD_AFTER: Duration = Duration::from_secs(10);

/// The layer is not wanted any more, by its own importer.
#[derive(Debug, thiserror::Error)]
#[error("the import of the layer ended")]
pub(crate) struct Abandoned;

/// What the thread sends: at last an empty piece, or an error.
enum Piece {
    Here(Vec<u8>),
    Kept(KeptPiece),
}

/// A piece of the blob that is read back from the spool.
struct KeptPiece {
    /// Its place in the blob.
    offset: u64,
    length: usize,
    /// Its digest was right on the way in; this tells whether it is the same on the way out.
    crc: u32,
}

/// A reader whose content is fetched by a thread of its own.
pub(crate) struct ReadAhead<'a> {
    pieces: Receiver<io::Result<Piece>>,
    /// An entry for each piece in memory: the thread waits when it is full.
    places: Receiver<()>,
    ticket: Ticket,
    current: io::Cursor<Vec<u8>>,
    ended: bool,
    cancelled: &'a AtomicBool,
    abandoned: &'a AtomicBool,
}

impl<'a> ReadAhead<'a> {
    /// Reads `reader` in a thread. What its ticket says is kept need not wait in memory.
    pub(crate) fn start(
        reader: impl Read + Send + 'static,
        ticket: Ticket,
        cancelled: &'a AtomicBool,
        abandoned: &'a AtomicBool,
    ) -> Self {
        let (sender, pieces) = channel();
        let (take_place, places) = sync_channel(PIECES);
        let pump = Pump {
            pieces: sender,
            places: take_place,
            ticket: ticket.clone(),
            position: 0,
        };
        thread::spawn(move || pump.run(reader));
        Self {
            pieces,
            places,
            ticket,
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
                Ok(Ok(Piece::Here(piece))) => {
                    // The end takes no place.
                    self.places.try_recv().ok();
                    return Ok(piece);
                }
                Ok(Ok(Piece::Kept(kept))) => return self.read_back(&kept),
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the thread that reads the blob died"));
                }
            }
        }
    }

    fn read_back(&self, kept: &KeptPiece) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; kept.length];
        let how = match self.ticket.read_back(&mut piece, kept.offset) {
            Ok(()) if crc_of(&piece) == kept.crc => return Ok(piece),
            Ok(()) => Damage::Changed,
            Err(error) => error.into(),
        };
        Err(self.ticket.damaged(how))
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

/// The side of the thread.
struct Pump {
    pieces: Sender<io::Result<Piece>>,
    places: SyncSender<()>,
    ticket: Ticket,
    /// So many bytes of the blob were read.
    position: u64,
}

/// Nobody listens any more.
struct Unwanted;

impl Pump {
    /// Sends all of `reader`. Ends as soon as nobody listens any more.
    fn run(mut self, mut reader: impl Read) {
        let limit = u64::try_from(PIECE).expect("a quarter of a megabyte");
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let result = (&mut reader).take(limit).read_to_end(&mut piece);
            if !piece.is_empty() && self.send(piece).is_err() {
                return;
            }
            let last = match result {
                Ok(0) => Ok(Piece::Here(Vec::new())),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let is_whole = last.is_ok();
            // That nobody listens any more is as well.
            drop(self.pieces.send(last));
            drop(reader);
            if is_whole && self.ticket.kept() > 0 {
                self.wait_for_import();
            }
            return;
        }
    }

    /// Waits until nobody listens any more; not for long.
    fn wait_for_import(&self) {
        let whole_at = Instant::now();
        while whole_at.elapsed() < RECORD_AFTER {
            thread::sleep(CANCEL_WITHIN);
            if let Err(TrySendError::Disconnected(())) = self.places.try_send(()) {
                return;
            }
        }
        self.ticket.record_whole();
    }

    fn send(&mut self, piece: Vec<u8>) -> Result<(), Unwanted> {
        let offset = self.position;
        self.position += u64::try_from(piece.len()).unwrap_or(0);
        let piece = match self.places.try_send(()) {
            Ok(()) => Piece::Here(piece),
            Err(TrySendError::Full(())) if self.ticket.kept() >= self.position => {
                Piece::Kept(KeptPiece {
                    offset,
                    length: piece.len(),
                    crc: crc_of(&piece),
                })
            }
            Err(TrySendError::Full(())) => {
                self.places.send(()).map_err(|_| Unwanted)?;
                Piece::Here(piece)
            }
            Err(TrySendError::Disconnected(())) => return Err(Unwanted),
        };
        self.pieces.send(Ok(piece)).map_err(|_| Unwanted)
    }
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spool::PartHandle;

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
            let result = ReadAhead::start(jumpy, Ticket::default(), &never, &never).read_to_end(&mut out);
            prop_assert_eq!(result.is_err(), fails);
            prop_assert!(out == content);
        }
    }

    #[test]
    fn why_a_piece_cannot_be_read_back_is_told() {
        /// Tells when all of it was read.
        struct Telling(io::Cursor<Vec<u8>>, Sender<()>);
        impl Read for Telling {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.read(buffer)?;
                if count == 0 {
                    self.1.send(()).ok();
                }
                Ok(count)
            }
        }
        let content = vec![7; (PIECES + 2) * PIECE];
        let temp = tempfile::tempdir().unwrap();
        let part = PartHandle::unreadable(temp.path(), &content);
        let (tell, all_read) = channel();
        let blob = Telling(io::Cursor::new(content), tell);
        let never = AtomicBool::new(false);
        let ticket = Ticket::of(part);
        let mut reader = ReadAhead::start(blob, ticket.clone(), &never, &never);
        // More pieces wait than memory has places for.
        all_read.recv().unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        let reason = "it cannot be read: Bad file descriptor";
        assert!(error.to_string().contains(reason), "{error}");
        let damage = ticket.damage().unwrap().to_string();
        assert_eq!(damage, error.to_string());
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
            Ticket::default(),
            &never,
            &never,
        ));
        // The sender goes with the reader, and the reader with its thread.
        assert!(wait.recv().is_err());
    }
}
