//! The fixed parts of a stream file: the header at its start, and the info
//! section that the header leads to. All integers are little-endian.

use super::StreamFault;

pub(super) const MAGIC: [u8; 11] = *b"SplitStream";
/// `FS_VERITY_HASH_ALG_SHA512`.
const SHA512: u8 = 2;
const LG_BLOCKSIZE: u8 = 12;

pub(super) const HEADER_LEN: usize = 32;
pub(super) const INFO_LEN: usize = 80;

/// A section: from its first byte to the byte after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Range {
    /// The length in bytes, where the range is within a file of `length` bytes.
    pub(super) fn within(self, length: u64, section: &'static str) -> Result<u64, StreamFault> {
        self.end
            .checked_sub(self.start)
            .filter(|_| self.end <= length)
            .ok_or(StreamFault::Section {
                section,
                start: self.start,
                end: self.end,
                length,
            })
    }

    fn parse(bytes: &[u8], at: usize) -> Self {
        Self {
            start: number(bytes, at),
            end: number(bytes, at + 8),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
    }
}

/// Eight bytes at `at`, which the caller made sure are there.
fn number(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8]
        .try_into()
        .expect("a slice of eight bytes has eight bytes");
    u64::from_le_bytes(bytes)
}

/// Where the info section is.
///
/// Two layouts exist. The present one begins with the magic; streams of bootc up
/// to 1.15 have the same fields in the order that the compiler then chose, with
/// the range first.
pub(super) fn parse_header(header: &[u8; HEADER_LEN]) -> Result<Range, StreamFault> {
    if header[..11] == MAGIC {
        check_kind(header[11], header[14], header[15])?;
        Ok(Range::parse(header, 16))
    } else if header[18..29] == MAGIC {
        check_kind(header[29], header[30], header[31])?;
        Ok(Range::parse(header, 0))
    } else {
        Err(StreamFault::NoStream)
    }
}

fn check_kind(version: u8, algorithm: u8, lg_blocksize: u8) -> Result<(), StreamFault> {
    if version != 0 {
        return Err(StreamFault::Version { found: version });
    }
    if (algorithm, lg_blocksize) != (SHA512, LG_BLOCKSIZE) {
        return Err(StreamFault::OtherAlgorithm {
            algorithm,
            lg_blocksize,
        });
    }
    Ok(())
}

pub(super) fn write_header(info: Range) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    header.extend_from_slice(&MAGIC);
    // Version; flags, which nobody reads.
    header.extend_from_slice(&[0, 0, 0, SHA512, LG_BLOCKSIZE]);
    info.write(&mut header);
    header
}

/// The info section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Info {
    /// Digests that named references lead to, one after another.
    pub(super) stream_refs: Range,
    /// Digests of the objects, in the order of their first use.
    pub(super) object_refs: Range,
    /// The compressed chunks.
    pub(super) stream: Range,
    /// The compressed `index:name\0` records.
    pub(super) named_refs: Range,
    /// Any number, which readers compare.
    pub(super) content_type: u64,
    /// The length of the original file in bytes.
    pub(super) stream_size: u64,
}

impl Info {
    pub(super) fn parse(bytes: &[u8; INFO_LEN]) -> Self {
        Self {
            stream_refs: Range::parse(bytes, 0),
            object_refs: Range::parse(bytes, 16),
            stream: Range::parse(bytes, 32),
            named_refs: Range::parse(bytes, 48),
            content_type: number(bytes, 64),
            stream_size: number(bytes, 72),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for range in [
            self.stream_refs,
            self.object_refs,
            self.stream,
            self.named_refs,
        ] {
            range.write(out);
        }
        out.extend_from_slice(&self.content_type.to_le_bytes());
        out.extend_from_slice(&self.stream_size.to_le_bytes());
    }
}
