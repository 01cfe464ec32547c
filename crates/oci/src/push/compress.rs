//! Compressing a layer again, where its blob is not at hand.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::digest::{Digest, Hasher};
use crate::manifest::Compression;
use crate::manifest::write::NewBlob;

const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// A blob in a file without a name.
pub(super) struct Compressed {
    file: File,
    pub(super) blob: NewBlob,
    /// The digest of what went in.
    pub(super) diff_id: Digest,
}

impl Compressed {
    /// The same tar gives the same blob, with the same version of hull.
    pub(super) fn make(
        tar: &mut dyn Read,
        compression: Compression,
        temporary: &Path,
    ) -> io::Result<Self> {
        let file = tempfile::tempfile_in(temporary)?;
        let mut out = Counting {
            file: &file,
            hasher: Hasher::default(),
            length: 0,
        };
        let mut input = Hashing {
            inner: tar,
            hasher: Hasher::default(),
        };
        match compression {
            Compression::None => drop(io::copy(&mut input, &mut out)?),
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut encoder = flate2::write::GzEncoder::new(&mut out, level);
                io::copy(&mut input, &mut encoder)?;
                encoder.finish()?;
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(&mut out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                io::copy(&mut input, &mut encoder)?;
                encoder.finish()?;
            }
        }
        let blob = NewBlob {
            digest: out.hasher.finish(),
            size: out.length,
            compression,
        };
        let diff_id = input.hasher.finish();
        Ok(Self {
            file,
            blob,
            diff_id,
        })
    }

    /// The blob from its beginning; one reader at a time.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(Box::new(file))
    }
}

struct Counting<'a> {
    file: &'a File,
    hasher: Hasher,
    length: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Hashing<'a> {
    inner: &'a mut dyn Read,
    hasher: Hasher,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
