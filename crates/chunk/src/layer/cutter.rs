//! Where the content of a file is cut into chunks.
//!
//! The same rule as in `containers/storage`, so that a client that has a chunk from
//! an image of podman's need not fetch it from one of hull's: a chunk ends where the
//! lower 16 bits of a rolling sum over the last 64 bytes are ones, which is every
//! 64 KiB on average, and a run of 1 KiB of zeros or more is a chunk of its own.
//! No chunk is longer than a frame may be.

use std::io;

use super::frames::FRAME_MAX;

/// Zeros from which on a run is a chunk of its own.
const HOLE_MIN: u64 = 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// What comes out of a [`Cutter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// The next bytes of the chunk.
    Bytes(&'a [u8]),
    /// The chunk ends; whether all of it is zeros.
    End { zeros: bool },
}

/// Cuts the content of one file.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    sum: RollingSum,
    /// The bytes of the chunk so far.
    length: usize,
    /// Zeros that may be the beginning of a hole, and are not part of a chunk yet.
    zeros: u64,
}

impl Cutter {
    /// Takes the next bytes.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        out: &mut impl FnMut(Cut<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(&first) = bytes.first() {
            let is_zero = first == 0;
            let run = bytes.iter().position(|&byte| (byte == 0) != is_zero);
            let (run, rest) = bytes.split_at(run.unwrap_or(bytes.len()));
            if is_zero {
                self.zeros += run.len() as u64;
            } else {
                self.settle(out)?;
                self.data(run, out)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the last chunk.
    pub(super) fn finish(
        mut self,
        out: &mut impl FnMut(Cut<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.settle(out)?;
        self.end(false, out)
    }

    /// Decides on the zeros that were held back.
    fn settle(&mut self, out: &mut impl FnMut(Cut<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut zeros = std::mem::take(&mut self.zeros);
        if zeros < HOLE_MIN {
            return self.data(&ZEROS[..usize::try_from(zeros).unwrap_or(0)], out);
        }
        self.end(false, out)?;
        while zeros > 0 {
            let most = ZEROS.len().min(FRAME_MAX - self.length);
            let count = usize::try_from(zeros).map_or(most, |zeros| zeros.min(most));
            out(Cut::Bytes(&ZEROS[..count]))?;
            self.length += count;
            zeros -= count as u64;
            if self.length == FRAME_MAX {
                self.end(true, out)?;
            }
        }
        self.end(true, out)?;
        // The window holds nothing but zeros, as at the beginning.
        self.sum = RollingSum::default();
        Ok(())
    }

    fn data(
        &mut self,
        mut bytes: &[u8],
        out: &mut impl FnMut(Cut<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let most = bytes.len().min(FRAME_MAX - self.length);
            let cut = bytes[..most].iter().position(|&byte| self.sum.roll(byte));
            let (chunk, rest) = bytes.split_at(cut.map_or(most, |place| place + 1));
            out(Cut::Bytes(chunk))?;
            self.length += chunk.len();
            if cut.is_some() || self.length == FRAME_MAX {
                self.end(false, out)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn end(
        &mut self,
        zeros: bool,
        out: &mut impl FnMut(Cut<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        self.length = 0;
        out(Cut::End { zeros })
    }
}

/// The sum of rsync and bup over a window of 64 bytes, with 31 added to each.
#[derive(Debug)]
struct RollingSum {
    /// The sum of the window.
    first: u32,
    /// The sum of the window, each byte times its distance from the end.
    second: u32,
    window: [u8; Self::WINDOW],
    next: usize,
}

impl Default for RollingSum {
    fn default() -> Self {
        let window = u32::try_from(Self::WINDOW).unwrap_or(0);
        Self {
            first: window * Self::OFFSET,
            second: window * (window - 1) * Self::OFFSET,
            window: [0; Self::WINDOW],
            next: 0,
        }
    }
}

impl RollingSum {
    const WINDOW: usize = 64;
    const OFFSET: u32 = 31;
    const MASK: u32 = 0xffff;

    /// Takes a byte into the window; whether a chunk ends with it.
    fn roll(&mut self, byte: u8) -> bool {
        let gone = u32::from(std::mem::replace(&mut self.window[self.next], byte));
        self.next = (self.next + 1) % Self::WINDOW;
        self.first = self.first.wrapping_add(byte.into()).wrapping_sub(gone);
        let left = 64 * (gone + Self::OFFSET);
        self.second = self.second.wrapping_add(self.first).wrapping_sub(left);
        self.second & Self::MASK == Self::MASK
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The length of each chunk, and whether it is zeros.
    fn chunks(pieces: &[&[u8]]) -> (Vec<u8>, Vec<(usize, bool)>) {
        let mut all = Vec::new();
        let mut chunks = Vec::new();
        let mut begin = 0;
        let mut out = |cut: Cut<'_>| {
            match cut {
                Cut::Bytes(bytes) => all.extend_from_slice(bytes),
                Cut::End { zeros } => {
                    chunks.push((all.len() - begin, zeros));
                    begin = all.len();
                }
            }
            Ok(())
        };
        let mut cutter = Cutter::default();
        for piece in pieces {
            cutter.push(piece, &mut out).unwrap();
        }
        cutter.finish(&mut out).unwrap();
        (all, chunks)
    }

    /// Bytes that no one chose.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn chunks_are_64_kib_on_average() {
        let (_, chunks) = chunks(&[&noise(16 << 20)]);
        assert!((160..400).contains(&chunks.len()), "{}", chunks.len());
    }

    #[test]
    fn a_chunk_begins_anew_after_a_byte_more() {
        let content = noise(2 << 20);
        let longer = [b"x", &content[..]].concat();
        let ends = |content: &[u8]| -> Vec<usize> {
            let (_, chunks) = chunks(&[content]);
            let mut left = content.len();
            let ends = chunks.iter().map(|(length, _)| {
                left -= length;
                left
            });
            ends.collect()
        };
        let (one, other) = (ends(&content), ends(&longer));
        assert_eq!(one[1..], other[1..]);
    }

    #[test]
    fn a_long_run_of_zeros_is_a_chunk_and_a_short_one_is_not() {
        let mut content = b"begin".to_vec();
        content.extend([0; 1023]);
        content.extend(b"middle");
        content.extend([0; 1024]);
        content.extend(b"end");
        content.extend([0; 5000]);
        let (_, chunks) = chunks(&[&content]);
        let expected = [
            (5 + 1023 + 6, false),
            (1024, true),
            (3, false),
            (5000, true),
        ];
        assert_eq!(chunks, expected);
    }

    #[test]
    fn no_chunk_is_longer_than_a_frame() {
        for byte in [0, 7] {
            let content = vec![byte; 2 * FRAME_MAX + 5];
            let (all, chunks) = chunks(&[&content]);
            assert_eq!(all, content);
            let zeros = byte == 0;
            let expected = [(FRAME_MAX, zeros), (FRAME_MAX, zeros), (5, zeros)];
            assert_eq!(chunks, expected);
        }
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_depend_on_how_the_bytes_come(
            runs in proptest::collection::vec((any::<bool>(), 1usize..3000), 0..20),
            step in 1usize..5000,
        ) {
            let mut content = Vec::new();
            let noise = noise(3000);
            for (zeros, length) in runs {
                match zeros {
                    true => content.resize(content.len() + length, 0),
                    false => content.extend(&noise[..length]),
                }
            }
            let pieces: Vec<&[u8]> = content.chunks(step).collect();
            let (all, apart) = chunks(&pieces);
            prop_assert_eq!(&all, &content);
            prop_assert_eq!(apart, chunks(&[&content]).1);
        }
    }
}
