//! A blob that is kept while it comes.
//!
//! ```text
//! file, as far as its hash is known ──▶ CRC ─┐
//! file, what came after that ──────▶ hash ──┼─▶ reader
//! the place it comes from ─────────▶ hash ──┘
//!                                     └──▶ file, record
//! ```

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Crc;

use super::part::{Damage, Left, Part, Whole};
use crate::digest::VerifyingReader;
use crate::manifest::Descriptor;

/// A record is written when so many bytes came since the last one, and so much time
/// went by: what a power cut can cost. On a quick line nothing waits for the disk.
const STEP_BYTES: u64 = 8 << 20;
const STEP_TIME: Duration = Duration::from_secs(2);

/// A blob whose begin may be in the spool, checked while it streams.
pub(super) struct Spooled {
    part: Arc<Part>,
    /// Where the next byte that is read stands in the blob.
    position: u64,
    /// The bytes that need not be hashed again, and their CRC-32.
    hashed: u64,
    expected_crc: u32,
    crc: Crc,
    recorded: u64,
    recorded_at: Instant,
    /// The spool can't be written (its file system is full, but for what is kept free): the
    /// blob goes on without.
    given_up: bool,
    /// From this place of the blob on, the free space is looked at again.
    room_ends: u64,
    rest: VerifyingReader<io::Chain<Tail, Box<dyn Read + Send>>>,
}

/// What is in the file, but not in the record.
struct Tail {
    part: Arc<Part>,
    position: u64,
    end: u64,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_up_to(&self.part, buffer, &mut self.position, self.end)
    }
}

fn read_up_to(part: &Part, buffer: &mut [u8], position: &mut u64, end: u64) -> io::Result<usize> {
    let left = end - *position;
    let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
    if room == 0 {
        return Ok(0);
    }
    let count = match part.read_at(&mut buffer[..room], *position) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
        Err(error) => return Err(io::Error::other(part.damaged(&error.into()))),
        Ok(0) => return Err(io::Error::other(part.damaged(&Damage::Short))),
        Ok(count) => count,
    };
    *position += u64::try_from(count).unwrap_or(0);
    Ok(count)
}

impl Spooled {
    /// `rest` gives the blob from the end of what is left of it.
    pub(super) fn new(
        part: Arc<Part>,
        descriptor: &Descriptor,
        left: Left,
        rest: Box<dyn Read + Send>,
    ) -> Self {
        let Descriptor { digest, size, .. } = *descriptor;
        let tail = Tail {
            part: part.clone(),
            position: left.hashed,
            end: left.length,
        };
        Self {
            part,
            position: 0,
            hashed: left.hashed,
            expected_crc: left.crc,
            crc: Crc::new(),
            recorded: left.hashed,
            recorded_at: Instant::now(),
            given_up: false,
            room_ends: 0,
            rest: VerifyingReader::resume(tail.chain(rest), digest, size, left.hasher, left.hashed),
        }
    }

    /// From the file, what went into the saved hash.
    fn replay(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read_up_to(&self.part, buffer, &mut self.position, self.hashed)?;
        self.crc.update(&buffer[..count]);
        if self.position == self.hashed && self.crc.sum() != self.expected_crc {
            return Err(io::Error::other(self.part.damaged(&Damage::Changed)));
        }
        Ok(count)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let start = self.position;
        self.crc.update(bytes);
        self.position += u64::try_from(bytes.len()).unwrap_or(0);
        if self.given_up || self.position <= self.part.kept() {
            return;
        }
        let kept = self.check_room(start);
        let kept = match kept.and_then(|()| self.part.keep(bytes, start)) {
            Ok(()) => {
                let is_far = self.position - self.recorded >= STEP_BYTES;
                if is_far && self.recorded_at.elapsed() >= STEP_TIME {
                    self.checkpoint()
                } else {
                    Ok(())
                }
            }
            error => error,
        };
        // Keeping the part is for the next try; this one can do without. What was
        // recorded stays true.
        self.given_up = kept.is_err();
    }

    /// Fails once nothing is left but the margin: an import that is busy looks at the free
    /// space too late.
    fn check_room(&mut self, position: u64) -> io::Result<()> {
        if position < self.room_ends {
            return Ok(());
        }
        let step = self.part.room()?.step();
        let step = step.ok_or(io::ErrorKind::StorageFull)?;
        self.room_ends = position.saturating_add(step);
        Ok(())
    }

    /// Records what came, for the next try. There is none of a blob that came whole, unless its
    /// import fails.
    fn leave(&mut self) {
        if self.rest.is_verified() {
            self.leave_whole();
        } else if !self.given_up && self.position > self.recorded {
            // Without the new record, the one before holds.
            self.given_up = self.checkpoint().is_err();
        }
    }

    fn leave_whole(&self) {
        if let Some((length, hasher)) = self.rest.seen()
            && length <= self.part.kept()
            && length > self.recorded
        {
            let whole = Whole {
                length,
                crc: self.crc.sum(),
                hasher: hasher.clone(),
            };
            // Without the new record, the one before holds.
            self.part.is_whole(whole).ok();
        }
    }

    fn checkpoint(&mut self) -> io::Result<()> {
        let Some((seen, hasher)) = self.rest.seen() else {
            return Ok(());
        };
        if seen != self.position || seen > self.part.kept() {
            return Ok(());
        }
        self.part.checkpoint(seen, self.crc.sum(), hasher)?;
        self.recorded = seen;
        self.recorded_at = Instant::now();
        Ok(())
    }
}

impl Read for Spooled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.position < self.hashed {
            return self.replay(buffer);
        }
        match self.rest.read(buffer) {
            Ok(count) => {
                self.keep(&buffer[..count]);
                Ok(count)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.leave();
                }
                Err(error)
            }
        }
    }
}

impl Drop for Spooled {
    /// What came of a blob is also worth keeping when its pull was cancelled.
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Digest;
    use crate::spool::Spool;

    #[test]
    fn a_blob_is_recorded_as_whole_also_where_that_was_wanted_before_its_end_was_seen() {
        let temp = tempfile::tempdir().unwrap();
        let parent = std::fs::File::open(temp.path()).unwrap();
        let spool = Spool::create(&parent, "spool", "spool").unwrap();
        let content = b"all of the blob";
        let descriptor = Descriptor {
            media_type: String::new(),
            digest: Digest::sha256(content),
            size: 15,
            annotations: BTreeMap::new(),
        };
        let open = || Part::open(&spool.dir, &descriptor, None).unwrap().unwrap();
        let (part, left) = open();
        let part = Arc::new(part);
        let rest = Box::new(io::Cursor::new(content));
        let mut reader = Spooled::new(part.clone(), &descriptor, left, rest);
        reader.read_exact(&mut [0; 10]).unwrap();
        // The import has failed.
        part.record_whole().unwrap();
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 5);
        drop(reader);
        drop(part);
        let (_, left) = open();
        assert_eq!((left.hashed, left.length), (15, 15));
    }
}
