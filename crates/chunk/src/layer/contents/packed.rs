//! What comes behind the frames of the archive, in frames that other programs skip (RFC 8878, 3.1.2).

use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use hull_oci::Digest;
use tempfile::SpooledTempFile;

use crate::layer::frames::Hashed;

/// The magic number of a frame to skip.
const SKIPPED: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();
const LEVEL: i32 = 9;
/// How what waits for the end of the archive is compressed.
const LEVEL_WAITING: i32 = 1;
/// What is longer waits in a file for the end of the archive, in bytes.
const IN_MEMORY: usize = 256 << 10;

/// Takes what comes behind the archive while that is written. It is compressed at the end, and a little before.
pub(super) struct Packer {
    pub(super) waiting: zstd::stream::write::Encoder<'static, SpooledTempFile>,
    dir: PathBuf,
}

/// What was compressed.
pub(super) struct Packed {
    file: SpooledTempFile,
    pub(super) length: u64,
    pub(super) digest: Digest,
}

impl Packer {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let file = tempfile::spooled_tempfile_in(IN_MEMORY, dir);
        Ok(Self {
            waiting: zstd::stream::write::Encoder::new(file, LEVEL_WAITING)?,
            dir: dir.to_owned(),
        })
    }

    pub(super) fn finish(self) -> io::Result<Packed> {
        let mut waiting = self.waiting.finish()?;
        waiting.rewind()?;
        let file = tempfile::spooled_tempfile_in(IN_MEMORY, self.dir);
        let mut out = zstd::stream::write::Encoder::new(Hashed::new(file), LEVEL)?;
        io::copy(&mut zstd::stream::read::Decoder::new(waiting)?, &mut out)?;
        let (file, digest, length) = out.finish()?.finish();
        Ok(Packed {
            file,
            length,
            digest,
        })
    }
}

impl Packed {
    /// Appends a frame that is skipped; returns where its content begins.
    pub(super) fn append_to(mut self, out: &mut Hashed<impl Write>) -> io::Result<u64> {
        let begin = begin_skipped(out, self.length)?;
        self.file.rewind()?;
        io::copy(&mut self.file, out)?;
        Ok(begin)
    }
}

/// Appends the beginning of a frame that is skipped; returns where its content goes.
pub(super) fn begin_skipped(out: &mut Hashed<impl Write>, length: u64) -> io::Result<u64> {
    let length = u32::try_from(length).map_err(io::Error::other)?;
    out.write_all(&SKIPPED)?;
    out.write_all(&length.to_le_bytes())?;
    Ok(out.count)
}

#[cfg(test)]
mod tests {
    use hull_oci::digest::{Algorithm, Hasher};

    use super::*;

    #[test]
    fn what_is_too_long_for_memory_waits_in_a_file_without_a_name() {
        let temp = tempfile::tempdir().unwrap();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut noise = Vec::new();
        while noise.len() < 2 * IN_MEMORY {
            hasher.update(&noise[noise.len().saturating_sub(32)..]);
            let digest = hasher.clone().finish().to_hex();
            noise.extend_from_slice(digest.as_bytes());
        }
        for length in [0, 100, noise.len()] {
            let expected = {
                let mut out = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).unwrap();
                out.write_all(&noise[..length]).unwrap();
                out.finish().unwrap()
            };
            let mut packer = Packer::new(temp.path()).unwrap();
            packer.waiting.write_all(&noise[..length]).unwrap();
            let packed = packer.finish().unwrap();
            assert_eq!(packed.file.is_rolled(), length == noise.len());
            let (digest, length_packed) = (packed.digest, packed.length);
            let mut out = Hashed::new(Vec::new());
            let begin = packed.append_to(&mut out).unwrap();
            assert_eq!(begin, 8);
            let written = &out.inner[8..];
            assert_eq!(written.len() as u64, length_packed);
            assert_eq!(Digest::sha256(written), digest);
            assert!(written == expected);
            assert!(zstd::decode_all(written).unwrap() == noise[..length]);
        }
        assert_eq!(temp.path().read_dir().unwrap().count(), 0);
    }
}
