//! From a layer's blob to its tar.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::manifest::Compression;

const BUFFER: usize = 128 << 10;
/// The largest zstd window, as a power of two: 128 MiB, what the format's own tool
/// accepts without being told to.
const MAX_WINDOW_LOG: u32 = 27;

/// A blob that is not compressed as its media type says.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("the media type says {}, but the content is {}", name(*.said), name(*.found))]
pub struct CompressionMismatch {
    /// After the media type.
    pub said: Compression,
    /// After the first bytes.
    pub found: Compression,
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "uncompressed",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

/// The uncompressed content of `blob`, which must begin as `said` wants.
///
/// Memory is bounded whatever the blob holds. The content ends when the blob
/// does: all gzip members, all zstd frames; anything after them is an error.
pub(crate) fn decompress<'a>(
    said: Compression,
    blob: impl Read + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut blob = BufReader::with_capacity(BUFFER, blob);
    let found = sniff(blob.fill_buf()?);
    if found != said {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            CompressionMismatch { said, found },
        ));
    }
    Ok(match said {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(blob)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// What `compressed` was made of, whatever it is compressed with; for files that no
/// media type describes.
pub(crate) fn decompress_any(
    compressed: impl Read + Send + 'static,
) -> io::Result<(Compression, Box<dyn Read + Send>)> {
    let mut compressed = BufReader::with_capacity(BUFFER, compressed);
    let found = sniff(compressed.fill_buf()?);
    Ok((
        found,
        match found {
            Compression::None => Box::new(compressed),
            Compression::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        },
    ))
}

/// The compression that these first bytes are of.
pub(crate) fn sniff(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // RFC 8878: a frame, or one to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    fn read(said: Compression, blob: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        decompress(said, blob)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn members_and_frames_are_read_one_after_the_other() {
        let blob = [gzip(b"one"), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(Compression::Gzip, &blob).unwrap(), b"onetwo");
        let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        let blob = [skipped.clone(), zstd(b"one"), skipped, zstd(b"two")].concat();
        assert_eq!(read(Compression::Zstd, &blob).unwrap(), b"onetwo");
        assert_eq!(read(Compression::None, b"plain").unwrap(), b"plain");
        assert_eq!(read(Compression::None, b"").unwrap(), b"");
    }

    #[test]
    fn the_media_type_must_tell_the_truth() {
        let blobs = [b"plain".to_vec(), gzip(b"x"), zstd(b"x")];
        let kinds = [Compression::None, Compression::Gzip, Compression::Zstd];
        for (said, wanted) in kinds.iter().zip(&blobs) {
            for blob in &blobs {
                assert_eq!(read(*said, blob).is_ok(), blob == wanted, "{said:?}");
            }
        }
    }

    #[test]
    fn junk_behind_and_a_cut_are_errors() {
        let mut blob = gzip(&[7; 10_000]);
        assert!(read(Compression::Gzip, &blob[..blob.len() - 1]).is_err());
        blob.extend(b"junk");
        assert!(read(Compression::Gzip, &blob).is_err());
        let mut blob = zstd(&[7; 10_000]);
        assert!(read(Compression::Zstd, &blob[..blob.len() - 1]).is_err());
        blob.extend(b"junk");
        assert!(read(Compression::Zstd, &blob).is_err());
    }

    #[test]
    fn a_window_of_two_gigabytes_is_refused() {
        // A frame header with the window descriptor for 2^31 bytes, then a block.
        let blob = [
            0x28,
            0xb5,
            0x2f,
            0xfd,
            0x00,
            (31 - 10) << 3,
            0x01,
            0x00,
            0x00,
        ];
        assert!(read(Compression::Zstd, &blob).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decompressed_or_refused(mut blob: Vec<u8>, kind in 0usize..3) {
            let (said, magic): (_, &[u8]) = [
                (Compression::None, &[][..]),
                (Compression::Gzip, &[0x1f, 0x8b, 8][..]),
                (Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd][..]),
            ][kind];
            blob.splice(0..0, magic.iter().copied());
            drop(read(said, &blob));
        }
    }
}
