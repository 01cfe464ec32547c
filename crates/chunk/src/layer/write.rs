//! Writing one layer: archive, digest, compression, digest, file, in one pass.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use hull_oci::Digest;
use hull_oci::digest::{Algorithm, Hasher};

use super::sparse::Segments;
use super::tar::{self, Item};
use crate::components::Components;
use crate::scan::{Entry, FullPath, Inode, Kind, Opened, Scan};

/// The unit in which contents are read, in bytes.
const BUFFER: usize = 128 * 1024;

/// How the bytes of a layer are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of a level from 0 to 9.
    Gzip(u32),
    /// Zstandard, of a level from 1 to 22.
    Zstd(i32),
}

impl Compression {
    /// The media type of a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The digest of the archive.
    pub diff_id: Digest,
    /// The digest of the blob.
    pub digest: Digest,
    /// The length of the blob in bytes.
    pub size: u64,
    /// The length of the archive in bytes.
    pub length: u64,
}

/// A layer that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file of the root.
    #[error("{path} cannot be read; nothing was written under the image's name")]
    Read {
        /// The file.
        path: FullPath,
        /// Why.
        source: io::Error,
    },
    /// A file of the root is written to while the image is made.
    #[error("{0} changed while it was read; stop what writes to it and try again")]
    Changed(FullPath),
    /// The blob.
    #[error("a layer cannot be written; nothing was written under the image's name")]
    Write(#[source] io::Error),
}

/// Writes the layer of these entries (places in the scan, ascending) and the directories above them.
pub fn write(
    scan: &Scan,
    components: &Components,
    members: &[usize],
    compression: Compression,
    file: &File,
) -> Result<Written, LayerError> {
    let blob = Hashed::new(BufWriter::with_capacity(BUFFER, file));
    let mut archive = Archive {
        scan,
        components,
        out: Hashed::new(Encoder::new(blob, compression).map_err(LayerError::Write)?),
        links: HashMap::new(),
        buffer: vec![0; BUFFER],
    };
    for place in with_parents(scan, members) {
        archive.entry(place)?;
    }
    tar::write_end(&mut archive.out).map_err(LayerError::Write)?;
    let (encoder, diff_id, length) = archive.out.finish();
    let blob = encoder.finish().map_err(LayerError::Write)?;
    let (mut file, digest, size) = blob.finish();
    file.flush().map_err(LayerError::Write)?;
    Ok(Written {
        diff_id,
        digest,
        size,
        length,
    })
}

/// The entries with all directories above them, in the order of their paths.
fn with_parents(scan: &Scan, members: &[usize]) -> Vec<usize> {
    let mut all = members.to_vec();
    let mut last: &[u8] = b"/";
    for &member in members {
        let path = &scan.entries[member].path;
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
            continue;
        };
        let mut parent = &path[..slash];
        if parent == last {
            continue;
        }
        last = parent;
        loop {
            all.extend(scan.find(parent));
            match parent.iter().rposition(|&byte| byte == b'/') {
                Some(slash) => parent = &parent[..slash],
                None => break,
            }
        }
    }
    all.extend(scan.find(b""));
    all.sort_unstable();
    all.dedup();
    all
}

struct Archive<'a, W: Write> {
    scan: &'a Scan,
    components: &'a Components,
    out: Hashed<W>,
    /// The first name of each inode that has several.
    links: HashMap<Inode, &'a [u8]>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Archive<'a, W> {
    fn entry(&mut self, place: usize) -> Result<(), LayerError> {
        let entry = &self.scan.entries[place];
        if let Some(inode) = entry.links {
            if let Some(target) = self.links.get(&inode) {
                return self.header(place, Item::HardLink(target));
            }
            self.links.insert(inode, &entry.path);
        }
        match &entry.kind {
            Kind::Regular(size) => self.file(place, entry, *size),
            Kind::Directory => self.header(place, Item::Directory),
            Kind::Symlink(target) => self.header(place, Item::Symlink(target)),
            Kind::CharacterDevice(device) => self.header(place, Item::CharacterDevice(*device)),
            Kind::BlockDevice(device) => self.header(place, Item::BlockDevice(*device)),
            Kind::Fifo => self.header(place, Item::Fifo),
        }
    }

    fn header(&mut self, place: usize, item: Item<'_>) -> Result<(), LayerError> {
        let entry = &self.scan.entries[place];
        let time = self.components.times[place];
        tar::write_header(&mut self.out, &entry.path, item, &entry.metadata, time)
            .map_err(LayerError::Write)
    }

    fn file(&mut self, place: usize, entry: &'a Entry, size: u64) -> Result<(), LayerError> {
        if size == 0 {
            return self.header(place, Item::Regular(0));
        }
        let unreadable = |source: io::Error| LayerError::Read {
            path: FullPath::new(&entry.path),
            source,
        };
        let mut file = self.scan.open(entry).map_err(unreadable)?;
        let sparse = match &file {
            Opened::File(file) => Segments::find(file, size)
                .map_err(unreadable)?
                .map(|found| (file, found)),
            Opened::Bytes(_) => None,
        };
        match sparse {
            None => {
                self.header(place, Item::Regular(size))?;
                self.content(entry, &mut file, size)?;
                tar::write_padding(&mut self.out, size).map_err(LayerError::Write)?;
            }
            Some((file, segments)) => {
                self.header(place, Item::Sparse(&segments))?;
                self.out
                    .write_all(&segments.map())
                    .map_err(LayerError::Write)?;
                for &(offset, length) in &segments.pieces {
                    let mut piece = At { file, offset };
                    self.content(entry, &mut piece, length)?;
                }
                tar::write_padding(&mut self.out, segments.stored()).map_err(LayerError::Write)?;
            }
        }
        match self.scan.is_unchanged(entry, &file).map_err(unreadable)? {
            true => Ok(()),
            false => Err(LayerError::Changed(FullPath::new(&entry.path))),
        }
    }

    fn content(
        &mut self,
        entry: &Entry,
        source: &mut impl Read,
        length: u64,
    ) -> Result<(), LayerError> {
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let count = match source.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(LayerError::Changed(FullPath::new(&entry.path))),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(LayerError::Read {
                        path: FullPath::new(&entry.path),
                        source,
                    });
                }
            };
            self.out
                .write_all(&self.buffer[..count])
                .map_err(LayerError::Write)?;
            left -= u64::try_from(count).unwrap_or(left);
        }
        Ok(())
    }
}

/// A file from some place on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

/// Passes bytes on, counts and hashes them.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(Algorithm::Sha256),
            count: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
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

/// Compresses, or not.
enum Encoder<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    fn new(inner: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(inner),
            // The header has no time, and says "unknown" of the system.
            Compression::Gzip(level) => Self::Gzip(
                flate2::GzBuilder::new()
                    .mtime(0)
                    .operating_system(255)
                    .write(inner, flate2::Compression::new(level)),
            ),
            Compression::Zstd(level) => {
                Self::Zstd(zstd::stream::write::Encoder::new(inner, level)?)
            }
        })
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::None(inner) => Ok(inner),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(inner) => inner.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
