//! Writing one layer: archive, digest, compression, digest, file, in one pass.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hull_erofs::tree::Timestamp;
use hull_oci::Digest;

use super::contents::Contents;
use super::frames::{Frames, Hashed, Helpers};
use super::sparse::Segments;
use super::tar::{self, Item};
use crate::components::Components;
use crate::scan::{self, Entry, FullPath, Kind, Opened, Scan};
use hull_sys::bits::Bits;

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
    /// Zstandard with a table of contents, so that clients of `containers/storage` can fetch by file.
    ZstdChunked(i32),
}

impl Compression {
    /// The media type of a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd(_) | Self::ZstdChunked(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
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
    /// What the manifest has to say of the blob: where its table of contents is.
    pub annotations: BTreeMap<String, String>,
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

/// Writes the layer of these entries (places in the scan) and the directories above them,
/// into a file; others may be needed in its directory, without names.
pub(crate) fn write(
    scan: &Scan,
    components: &Components,
    members: impl Iterator<Item = usize>,
    compression: Compression,
    (file, dir): (&File, &Path),
    helpers: &Helpers,
) -> Result<Written, LayerError> {
    let contents = match compression {
        Compression::ZstdChunked(_) => Some(Contents::new(dir).map_err(LayerError::Write)?),
        _ => None,
    };
    let mut archive = Archive {
        scan,
        components,
        out: Hashed::new(Frames::new(file, compression, helpers)),
        contents,
        buffer: vec![0; BUFFER],
    };
    for place in with_parents(scan, members).places() {
        archive.entry(place)?;
    }
    archive.finish().map_err(LayerError::Write)
}

/// The entries with all directories above them. A bit for each entry of the root is less than a list would be.
fn with_parents(scan: &Scan, members: impl Iterator<Item = usize>) -> Bits {
    let mut all = Bits::none(scan.entries.len());
    // The root, in a layer of nothing, too.
    all.set(0, true);
    for member in members {
        all.set(member, true);
        let mut next = scan.entries.parent(member);
        while let Some(parent) = next {
            // Whoever was here before was above it, too.
            let known = all.set(parent, true);
            next = (!known).then(|| scan.entries.parent(parent)).flatten();
        }
    }
    all
}

struct Archive<'a> {
    scan: &'a Scan,
    components: &'a Components,
    out: Hashed<Frames<'a>>,
    contents: Option<Contents>,
    buffer: Vec<u8>,
}

/// An entry with the time that it has in the image.
struct Placed {
    entry: Entry,
    time: Timestamp,
}

impl Deref for Placed {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Archive<'_> {
    fn entry(&mut self, place: usize) -> Result<(), LayerError> {
        let entry = Placed {
            time: self.components.time(self.scan, place),
            entry: self.scan.entries.get(place),
        };
        // All names of an inode are of one component, so the first one is in this layer, too.
        let first = self.scan.entries.first_name(place);
        if let Some(first) = first.filter(|&first| first != place) {
            let target = self.scan.entries.path(first);
            return self.header(&entry, Item::HardLink(&target));
        }
        match &entry.kind {
            Kind::Regular(size) => self.file(&entry, *size),
            Kind::Directory => self.header(&entry, Item::Directory),
            Kind::Symlink(target) => self.header(&entry, Item::Symlink(target)),
            Kind::CharacterDevice(device) => self.header(&entry, Item::CharacterDevice(*device)),
            Kind::BlockDevice(device) => self.header(&entry, Item::BlockDevice(*device)),
            Kind::Fifo => self.header(&entry, Item::Fifo),
        }
    }

    fn header(&mut self, entry: &Placed, item: Item<'_>) -> Result<(), LayerError> {
        let time = entry.time;
        let blocks = tar::header(&entry.path, item, &entry.metadata, time);
        self.out.write_all(&blocks).map_err(LayerError::Write)?;
        let Some(contents) = &mut self.contents else {
            return Ok(());
        };
        let ends = self.out.inner.ends();
        let listed = contents
            .entry(&blocks, &entry.path, item, (&entry.metadata, time), ends)
            .map_err(LayerError::Write)?;
        if !listed {
            self.contents = None;
        }
        Ok(())
    }

    fn file(&mut self, entry: &Placed, size: u64) -> Result<(), LayerError> {
        if size == 0 {
            return self.header(entry, Item::Regular(0));
        }
        let unreadable = |source: io::Error| {
            let path = FullPath::new(&entry.path);
            match scan::is_changed(&source) {
                true => LayerError::Changed(path),
                false => LayerError::Read { path, source },
            }
        };
        let mut file = self.scan.open(entry).map_err(unreadable)?;
        let sparse = match &file {
            // The table of contents has no sparse files; zeros are chunks there that nobody fetches.
            Opened::File(file) if self.contents.is_none() => {
                Segments::find(file, size).map_err(unreadable)?
            }
            _ => None,
        };
        match (&file, sparse) {
            (Opened::File(file), Some(segments)) => self.sparse(entry, file, &segments)?,
            _ => self.whole(entry, &mut file, size)?,
        }
        match self.scan.is_unchanged(entry, &file).map_err(unreadable)? {
            true => Ok(()),
            false => Err(LayerError::Changed(FullPath::new(&entry.path))),
        }
    }

    fn whole(&mut self, entry: &Placed, file: &mut Opened, size: u64) -> Result<(), LayerError> {
        self.header(entry, Item::Regular(size))?;
        match &mut self.contents {
            None => copy(entry, file, size, &mut self.buffer, &mut self.out)?,
            Some(contents) => {
                let payload = contents.payload(&mut self.out);
                let mut payload = payload.map_err(LayerError::Write)?;
                copy(entry, file, size, &mut self.buffer, &mut payload)?;
                payload.finish().map_err(LayerError::Write)?;
            }
        }
        self.fill(tar::padding(size)).map_err(LayerError::Write)
    }

    fn sparse(
        &mut self,
        entry: &Placed,
        file: &File,
        segments: &Segments,
    ) -> Result<(), LayerError> {
        self.header(entry, Item::Sparse(segments))?;
        self.out
            .write_all(&segments.map())
            .map_err(LayerError::Write)?;
        for &(offset, length) in &segments.pieces {
            let mut piece = At { file, offset };
            copy(entry, &mut piece, length, &mut self.buffer, &mut self.out)?;
        }
        let padding = tar::padding(segments.stored());
        self.fill(padding).map_err(LayerError::Write)
    }

    /// Writes bytes that belong to no entry.
    fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(contents) = &mut self.contents {
            contents.filling(bytes);
        }
        self.out.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<Written> {
        self.fill(&tar::END)?;
        let (frames, diff_id, length) = self.out.finish();
        let mut blob = frames.finish()?;
        let annotations = match self.contents {
            Some(contents) => contents.finish(&mut blob)?,
            None => None,
        };
        let (mut file, digest, size) = blob.out.finish();
        file.flush()?;
        Ok(Written {
            diff_id,
            digest,
            size,
            length,
            annotations: annotations.unwrap_or_default(),
        })
    }
}

/// Copies so many bytes of a file of the root.
fn copy(
    entry: &Entry,
    source: &mut impl Read,
    length: u64,
    buffer: &mut [u8],
    out: &mut impl Write,
) -> Result<(), LayerError> {
    let mut left = length;
    while left > 0 {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = match source.read(&mut buffer[..most]) {
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
        out.write_all(&buffer[..count]).map_err(LayerError::Write)?;
        left -= u64::try_from(count).unwrap_or(left);
    }
    Ok(())
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
