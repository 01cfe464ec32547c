//! A blob as frames that are compressed each for itself.
//!
//! A gzip file is a sequence of members (RFC 1952, 2.2) and a Zstandard file one of
//! frames (RFC 8878, 3.1); what unpacks them joins what is in them. So pieces of a
//! large layer can be compressed at once, and a frame be read alone. Where frames end
//! depends on the bytes only, so a layer is the same with any number of threads.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use hull_oci::Digest;
use hull_oci::digest::{Algorithm, Hasher};

use super::Compression;
use super::pool::Pool;

/// The most bytes of a frame, before compression.
pub(super) const FRAME_MAX: usize = 8 << 20;
/// The most frames that are given away at once: what is known of each waits until it is compressed.
const FRAMES_MAX: usize = 4096;
/// The bytes from which on small frames are given away together.
const PIECE: usize = 1 << 20;
/// The last level of zstd at which a frame does not depend on those that the same compressor made before.
///
/// From the next one on it may find matches in tables whose keys come from what was compressed before. There a
/// compressor makes the frames of one piece and no others, and where pieces end is part of the format.
pub(super) const APART_MAX: i32 = 3;
/// The pieces of a layer that are in work elsewhere, at most.
const WAITING_MAX: usize = 4;
/// The compressed bytes that wait for a piece that is in work elsewhere, beside what came from elsewhere itself.
const DONE_MAX: usize = FRAME_MAX;

/// What a layer is compressed with beside the thread that writes it.
#[derive(Clone)]
pub(crate) struct Helpers {
    /// Threads that have nothing else to do; a job is taken only when one waits for it.
    jobs: SyncSender<Job>,
    pool: Arc<Pool>,
}

impl Helpers {
    /// Helpers that take their jobs from the other end of the channel.
    pub(crate) fn new(jobs: SyncSender<Job>) -> Self {
        Self {
            jobs,
            pool: Arc::default(),
        }
    }
}

/// Some frames to compress.
pub(crate) struct Job {
    pool: Arc<Pool>,
    compression: Compression,
    data: Vec<u8>,
    /// Where each frame ends in the data.
    cuts: Vec<usize>,
    done: SyncSender<io::Result<Packed>>,
}

impl Job {
    /// Compresses; whoever gave the job away has the result then.
    pub(crate) fn run(self) {
        // There is room for one result; a layer that failed does not wait for it.
        let packed = pack(&self.pool, self.compression, &self.data, &self.cuts);
        self.pool.keep_buffer(self.data);
        self.done.send(packed).ok();
    }
}

/// Compressed frames.
#[derive(Debug)]
struct Packed {
    bytes: Vec<u8>,
    /// The length of each frame.
    lengths: Vec<usize>,
}

#[derive(Debug)]
enum Waiting {
    Done(Packed),
    Elsewhere(Receiver<io::Result<Packed>>),
}

/// Cuts what is written into frames, and writes those into a file.
pub(super) struct Frames<'a> {
    compression: Compression,
    helpers: &'a Helpers,
    blob: Hashed<BufWriter<&'a File>>,
    data: Vec<u8>,
    cuts: Vec<usize>,
    waiting: VecDeque<Waiting>,
    /// How many frames have ended.
    count: usize,
    ends: Ends,
}

/// A file of frames.
pub(super) struct Blob<'a> {
    pub(super) out: Hashed<BufWriter<&'a File>>,
    pub(super) ends: Ends,
}

/// Where the frames that are written end in the blob.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Of the last ones.
    ends: VecDeque<u64>,
    /// How many before them are not wanted any more.
    forgotten: usize,
}

impl Ends {
    /// How many frames are written.
    pub(super) fn count(&self) -> usize {
        self.forgotten + self.ends.len()
    }

    /// Where a frame begins of which the one before is written and not forgotten.
    pub(super) fn begin(&self, frame: usize) -> u64 {
        if frame == 0 {
            return 0;
        }
        let before = frame.checked_sub(self.forgotten + 1);
        let end = before.and_then(|before| self.ends.get(before));
        *end.expect("the frame before is written, and wanted until the row of this one is")
    }

    /// Forgets where frames begin before this one.
    pub(super) fn forget_before(&mut self, frame: usize) {
        while self.forgotten + 1 < frame && self.ends.len() > 1 {
            self.ends.pop_front();
            self.forgotten += 1;
        }
    }

    fn push(&mut self, length: usize) {
        let last = self.ends.back().copied().unwrap_or(0);
        self.ends.push_back(last + length as u64);
    }
}

impl<'a> Frames<'a> {
    pub(super) fn new(file: &'a File, compression: Compression, helpers: &'a Helpers) -> Self {
        Self {
            compression,
            helpers,
            blob: Hashed::new(BufWriter::new(file)),
            data: match compression {
                Compression::None => Vec::new(),
                _ => helpers.pool.buffer(),
            },
            cuts: Vec::new(),
            waiting: VecDeque::new(),
            count: 0,
            ends: Ends::default(),
        }
    }

    /// Ends the frame, unless nothing is in it; returns the number of the next one.
    pub(super) fn cut(&mut self) -> io::Result<usize> {
        if self.data.len() > self.begin() {
            self.cuts.push(self.data.len());
            self.count += 1;
        }
        if self.data.len() >= piece(self.compression) || self.cuts.len() >= FRAMES_MAX {
            self.give()?;
        }
        Ok(self.count)
    }

    /// Where the frames end in the blob that are written.
    pub(super) fn ends(&mut self) -> &mut Ends {
        &mut self.ends
    }

    /// Where the frame begins in the data.
    fn begin(&self) -> usize {
        self.cuts.last().copied().unwrap_or(0)
    }

    /// Has the frames compressed that have ended: by a thread that waits for work, else by this one.
    fn give(&mut self) -> io::Result<()> {
        let (done, result) = sync_channel(1);
        let pool = &self.helpers.pool;
        let job = Job {
            pool: Arc::clone(pool),
            compression: self.compression,
            data: std::mem::take(&mut self.data),
            cuts: std::mem::take(&mut self.cuts),
            done,
        };
        match self.helpers.jobs.try_send(job) {
            Ok(()) => {
                self.waiting.push_back(Waiting::Elsewhere(result));
                self.data = pool.buffer();
            }
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                let packed = pack(pool, job.compression, &job.data, &job.cuts)?;
                self.waiting.push_back(Waiting::Done(packed));
                self.data = job.data;
                self.data.clear();
            }
        }
        self.write_done(WAITING_MAX)
    }

    /// Writes what is compressed, in order; waits while more than so many pieces, or bytes, are not written.
    fn write_done(&mut self, most: usize) -> io::Result<()> {
        while let Some(first) = self.waiting.pop_front() {
            let is_full = self.waiting.len() >= most || self.done() > DONE_MAX;
            let packed = match first {
                Waiting::Done(packed) => packed,
                Waiting::Elsewhere(result) if is_full => {
                    result.recv().map_err(io::Error::other)??
                }
                Waiting::Elsewhere(result) => match result.try_recv() {
                    Ok(packed) => packed?,
                    Err(_) => {
                        self.waiting.push_front(Waiting::Elsewhere(result));
                        return Ok(());
                    }
                },
            };
            self.blob.write_all(&packed.bytes)?;
            for length in packed.lengths {
                self.ends.push(length);
            }
        }
        Ok(())
    }

    /// The bytes that this thread compressed and that wait for those before them.
    fn done(&self) -> usize {
        let lengths = self.waiting.iter().map(|waiting| match waiting {
            Waiting::Done(packed) => packed.bytes.len(),
            Waiting::Elsewhere(_) => 0,
        });
        lengths.sum()
    }

    /// Writes the last frame and waits for all.
    pub(super) fn finish(mut self) -> io::Result<Blob<'a>> {
        self.cut()?;
        if !self.cuts.is_empty() {
            self.give()?;
        }
        self.helpers
            .pool
            .keep_buffer(std::mem::take(&mut self.data));
        self.write_done(0)?;
        Ok(Blob {
            out: self.blob,
            ends: self.ends,
        })
    }
}

impl Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            return self.blob.write(bytes);
        }
        let room = FRAME_MAX - (self.data.len() - self.begin());
        let count = bytes.len().min(room);
        self.data.extend_from_slice(&bytes[..count]);
        if count == room {
            self.cut()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory that a thread needs, in MiB: a piece before and after compression, and the compressor.
pub(crate) fn memory(compression: Compression) -> usize {
    let of_compressor = match compression {
        Compression::None => return 1,
        Compression::Gzip(_) => 1,
        Compression::Zstd(level) | Compression::ZstdChunked(level) => match level {
            ..=3 => 2,
            4..=6 => 4,
            7..=8 => 7,
            9 => 13,
            10..=11 => 25,
            12..=14 | 16..=18 => 52,
            15 => 68,
            19 => 84,
            20.. => 132,
        },
    };
    let pieces = match compression {
        // What does not get smaller is in chunks of 64 KiB; only zeros are in frames of the full length.
        Compression::ZstdChunked(..=APART_MAX) => FRAME_MAX + 3 * PIECE,
        _ => 2 * FRAME_MAX,
    };
    pieces.div_ceil(1 << 20) + of_compressor
}

/// The bytes before compression of what is given away at once, or a frame more.
fn piece(compression: Compression) -> usize {
    match compression {
        Compression::ZstdChunked(level) if level <= APART_MAX => PIECE,
        _ => FRAME_MAX,
    }
}

fn pack(pool: &Pool, compression: Compression, data: &[u8], cuts: &[usize]) -> io::Result<Packed> {
    let mut packed = Packed {
        bytes: Vec::new(),
        lengths: Vec::with_capacity(cuts.len()),
    };
    let mut begin = 0;
    let frames = cuts
        .iter()
        .map(|&end| &data[std::mem::replace(&mut begin, end)..end]);
    match compression {
        Compression::None => {
            for frame in frames {
                packed.bytes.extend_from_slice(frame);
                packed.lengths.push(frame.len());
            }
        }
        Compression::Gzip(level) => {
            for frame in frames {
                gzip(flate2::Compression::new(level), frame, &mut packed)?;
            }
        }
        Compression::Zstd(level) | Compression::ZstdChunked(level) => {
            let mut compressor = pool.compressor(level)?;
            // Of frames behind the first one, of which a piece of a zstd:chunked layer has many.
            let mut scratch = pool.buffer();
            for frame in frames {
                zstd(&mut compressor, frame, &mut packed, &mut scratch)?;
            }
            pool.keep_buffer(scratch);
            pool.keep_compressor(compressor, level);
        }
    }
    Ok(packed)
}

/// Appends a member of these bytes. The header has no time, and says "unknown" of the system.
fn gzip(level: flate2::Compression, data: &[u8], packed: &mut Packed) -> io::Result<()> {
    let before = packed.bytes.len();
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(&mut packed.bytes, level);
    encoder.write_all(data)?;
    encoder.finish()?;
    packed.lengths.push(packed.bytes.len() - before);
    Ok(())
}

/// Appends a frame of these bytes.
fn zstd(
    compressor: &mut zstd::bulk::Compressor<'static>,
    data: &[u8],
    packed: &mut Packed,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    // Of a buffer that is long enough, only what is written to takes memory.
    let room = zstd::zstd_safe::compress_bound(data.len());
    let length = match packed.bytes.is_empty() {
        true => {
            packed.bytes.reserve_exact(room);
            compressor.compress_to_buffer(data, &mut packed.bytes)?
        }
        false => {
            scratch.clear();
            scratch.reserve(room);
            let length = compressor.compress_to_buffer(data, scratch)?;
            packed.bytes.extend_from_slice(scratch);
            length
        }
    };
    packed.lengths.push(length);
    Ok(())
}

/// Passes bytes on, counts and hashes them.
pub(super) struct Hashed<W> {
    pub(super) inner: W,
    hasher: Hasher,
    pub(super) count: u64,
}

impl<W> Hashed<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            count: 0,
        }
    }

    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.count += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_begins_where_the_one_before_ends_and_what_is_not_wanted_is_forgotten() {
        let mut ends = Ends::default();
        for length in [5, 7, 0, 1] {
            ends.push(length);
        }
        let begins =
            |ends: &Ends, from: usize| (from..=4).map(|f| ends.begin(f)).collect::<Vec<_>>();
        assert_eq!(begins(&ends, 0), [0, 5, 12, 12, 13]);
        ends.forget_before(2);
        assert_eq!(begins(&ends, 2), [12, 12, 13]);
        assert_eq!((ends.count(), ends.ends.len()), (4, 3));
        // The end of the last is where the next one ends from.
        ends.forget_before(100);
        ends.push(2);
        assert_eq!((ends.begin(5), ends.count()), (15, 5));
    }
}
