//! Whether a pull fits on the disk, before anything is downloaded.

use std::os::fd::AsFd;

use crate::manifest::{Compression, Layer};
use crate::spool::{SMALLEST, Spool};

/// How much larger a compressed layer is on disk: the low end of what layers of
/// operating systems are, so that nothing is refused that would fit.
const FACTOR: u64 = 2;
/// The same where the store holds images: much of the layer is there.
const FACTOR_OF_UPDATE: u64 = 1;
/// The least that files of an image have on the average, in bytes.
const BYTES_PER_FILE: u64 = 128 << 10;
/// Directories of the store, records, links.
const OTHER_FILES: u64 = 512;
/// What is left free: a hundredth of the file system, up to so many bytes.
const MARGIN: u64 = 256 << 20;
/// The most that may be written before the free space is looked at again, in bytes.
const STEP: u64 = 64 << 20;
/// The least.
const STEP_MIN: u64 = 1 << 20;
/// The tar's length, where the layer's maker says it (eStargz).
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// What a pull needs on the store's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// For the files of the image, in bytes; an estimate for compressed layers.
    pub content: u64,
    /// For partial downloads, in bytes, where they are kept.
    pub downloads: u64,
    /// Files, an estimate.
    pub files: u64,
}

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In bytes; without those that are reserved, and without a margin.
    pub bytes: u64,
    /// Files; none where there is no such limit.
    pub files: Option<u64>,
}

impl Need {
    /// Of layers that the store lacks. `parallel` come at once.
    pub(crate) fn of(
        layers: &[&Layer],
        is_update: bool,
        parallel: usize,
        spool: Option<&Spool>,
    ) -> Self {
        let sizes = layers.iter().map(|layer| content(layer, is_update));
        let content = sizes.fold(0, u64::saturating_add);
        let mut parts: Vec<_> = match spool {
            Some(spool) => layers
                .iter()
                .map(|layer| &layer.descriptor)
                .filter(|blob| blob.size >= SMALLEST)
                .map(|blob| blob.size.saturating_sub(spool.held(&blob.digest)))
                .collect(),
            None => Vec::new(),
        };
        // A part goes as soon as its layer is there.
        parts.sort_unstable_by_key(|part| std::cmp::Reverse(*part));
        let parts = parts.into_iter().take(parallel);
        Self {
            content,
            downloads: parts.fold(0, u64::saturating_add),
            files: content / BYTES_PER_FILE + OTHER_FILES,
        }
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.content.saturating_add(self.downloads)
    }

    /// Whether that is there.
    pub fn fits(&self, room: &Room) -> bool {
        self.bytes() <= room.bytes && room.files.is_none_or(|files| self.files <= files)
    }
}

/// What a layer's files take, in bytes.
fn content(layer: &Layer, is_update: bool) -> u64 {
    let size = layer.descriptor.size;
    let said = layer.descriptor.annotations.get(UNCOMPRESSED_SIZE);
    if let Some(said) = said.and_then(|text| text.parse::<u64>().ok())
        && !is_update
    {
        // It decides nothing else, and can be wrong.
        return said.max(size);
    }
    let factor = if is_update { FACTOR_OF_UPDATE } else { FACTOR };
    match layer.compression {
        Compression::None => size,
        _ => size.saturating_mul(factor),
    }
}

impl Room {
    /// Of the file system that `file` is on.
    pub(crate) fn on(file: impl AsFd) -> std::io::Result<Self> {
        let stat = rustix::fs::fstatvfs(file)?;
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Self {
            bytes: free.saturating_sub(MARGIN.min(total / 100)),
            // Some file systems make them as they are needed.
            files: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    /// How many bytes to write before looking again; none if no more may be written.
    pub(crate) fn step(&self) -> Option<u64> {
        (self.bytes > 0).then(|| (self.bytes / 2).clamp(STEP_MIN, STEP))
    }
}

/// A number of bytes for people.
pub(crate) fn shown(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Digest;
    use crate::manifest::Descriptor;

    fn layer(size: u64, compression: Compression, said: Option<&str>) -> Layer {
        let said = said.map(|said| (UNCOMPRESSED_SIZE.to_owned(), said.to_owned()));
        Layer {
            descriptor: Descriptor {
                media_type: String::new(),
                digest: Digest::sha256(&size.to_le_bytes()),
                size,
                annotations: BTreeMap::from_iter(said),
            },
            compression,
        }
    }

    fn content_of(layer: &Layer, is_update: bool) -> u64 {
        Need::of(&[layer], is_update, 4, None).content
    }

    #[test]
    fn compressed_layers_are_estimated_and_others_known() {
        assert_eq!(content_of(&layer(100, Compression::Zstd, None), false), 200);
        assert_eq!(content_of(&layer(100, Compression::Gzip, None), true), 100);
        assert_eq!(content_of(&layer(100, Compression::None, None), false), 100);
        let said = layer(100, Compression::Gzip, Some("777"));
        assert_eq!(content_of(&said, false), 777);
        let too_small = layer(100, Compression::Gzip, Some("0"));
        assert_eq!(content_of(&too_small, false), 100);
        let nonsense = layer(100, Compression::Gzip, Some("-1"));
        assert_eq!(content_of(&nonsense, false), 200);
        assert_eq!(
            content_of(&layer(u64::MAX, Compression::Gzip, None), false),
            u64::MAX
        );
    }

    #[test]
    fn only_the_parts_that_are_there_at_once_count() {
        let temp = tempfile::tempdir().unwrap();
        let parent = std::fs::File::open(temp.path()).unwrap();
        let spool = Spool::create(&parent, "spool", "spool").unwrap();
        let layers: Vec<_> = (1..=4)
            .map(|number| layer(number * SMALLEST, Compression::Zstd, None))
            .chain([layer(SMALLEST - 1, Compression::Zstd, None)])
            .collect();
        let layers: Vec<_> = layers.iter().collect();
        let need = Need::of(&layers, false, 2, Some(&spool));
        assert_eq!(need.downloads, 7 * SMALLEST);
        assert_eq!(Need::of(&layers, false, 2, None).downloads, 0);
    }

    #[test]
    fn the_free_space_is_looked_at_more_often_when_little_is_left() {
        let step = |bytes| Room { bytes, files: None }.step();
        assert_eq!(step(1 << 40), Some(STEP));
        assert_eq!(step(20 << 20), Some(10 << 20));
        assert_eq!(step(1), Some(STEP_MIN));
        assert_eq!(step(0), None);
    }

    #[test]
    fn bytes_and_files_must_both_be_there() {
        let need = Need {
            content: 5,
            downloads: 5,
            files: 3,
        };
        let fits = |bytes, files| need.fits(&Room { bytes, files });
        assert!(fits(10, None));
        assert!(fits(10, Some(3)));
        assert!(!fits(9, None));
        assert!(!fits(10, Some(2)));
    }
}
