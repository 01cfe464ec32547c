//! Partial blobs on disk, so that a pull that was killed goes on where it was.
//!
//! A blob is appended to a file named by its digest while it streams. A record
//! beside it says how much of it is known to be on disk, with the state of the
//! blob's hash at that point: neither downloading nor hashing begins anew. What the
//! saved hash covers is not hashed again; a CRC-32 tells damage. Whoever can
//! write here can also write to the store beside it: the directory is its owner's alone.
//!
//! A blob whose layer is in the store needs its file no more. Files that stay,
//! of images that nobody pulls any more, go by age and by size.

mod leftovers;
mod part;
mod reader;
mod record;

use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hull_sys::durable;

pub use self::leftovers::{Keep, Leftover};
pub(crate) use self::part::Damage;
use self::part::Part;
use self::reader::Spooled;
use crate::digest::BlobError;
use crate::manifest::Descriptor;
use crate::source::Source;

/// A blob smaller than this is fetched again sooner than it is kept, in bytes.
pub const SMALLEST: u64 = 1 << 20;

/// A directory of partial blobs.
#[derive(Clone)]
pub struct Spool {
    dir: Arc<OwnedFd>,
    /// For messages.
    path: PathBuf,
    /// The boot of this machine, where it can be told.
    boot: Option<String>,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spool").field(&self.path).finish()
    }
}

/// A spool that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the spool {}: {source}; a file there that is in the way can be removed", path.display())]
pub struct SpoolError {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Spool {
    /// Uses the directory `name` in `parent`, and makes it unless it is there. `path`
    /// is what messages call it.
    pub fn create(
        parent: impl AsFd,
        name: &str,
        path: impl Into<PathBuf>,
    ) -> Result<Self, SpoolError> {
        let path = path.into();
        match durable::make_dir(parent, name, 0o700) {
            Ok(dir) => Ok(Self {
                dir: Arc::new(dir),
                path,
                boot: boot_id(),
            }),
            Err(source) => Err(SpoolError { path, source }),
        }
    }

    /// The same, if the directory is there; nothing is written.
    pub fn open(
        parent: impl AsFd,
        name: &str,
        path: impl Into<PathBuf>,
    ) -> Result<Option<Self>, SpoolError> {
        let path = path.into();
        match hull_sys::dir::open_dir_beneath(parent, name) {
            Ok(dir) => Ok(Some(Self {
                dir: Arc::new(dir),
                path,
                boot: boot_id(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SpoolError { path, source }),
        }
    }

    /// A blob that is kept while it comes; none where keeping it does not pay, or
    /// another process is at the same blob.
    pub(crate) fn blob(
        &self,
        source: &dyn Source,
        descriptor: &Descriptor,
        pieced: &Arc<AtomicBool>,
    ) -> Result<Option<Kept>, SpoolError> {
        if descriptor.size < SMALLEST {
            return Ok(None);
        }
        let opened = Part::open(&self.dir, descriptor, self.boot.as_deref());
        let (part, left) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(None),
            // Without room for a part there may still be room for what it holds.
            Err(error) if is_full(&error) => return Ok(None),
            Err(source) => return Err(self.error(source)),
        };
        let Some(rest) = source.rest_of_blob(descriptor, left.length, pieced) else {
            return part
                .remove()
                .map(|()| None)
                .map_err(|source| self.error(source));
        };
        if left.length > 0 {
            pieced.store(true, Ordering::Relaxed);
        }
        let part = Arc::new(part);
        let resumed = left.length;
        let reader = Spooled::new(part.clone(), descriptor, left, rest);
        Ok(Some(Kept {
            reader: Box::new(reader),
            part: PartHandle {
                part,
                resumed,
                spool: self.clone(),
            },
        }))
    }

    fn error(&self, source: io::Error) -> SpoolError {
        SpoolError {
            path: self.path.clone(),
            source,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A blob under way, and its part.
pub(crate) struct Kept {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) part: PartHandle,
}

/// The part of a blob, for when its reader is gone.
#[derive(Debug)]
pub(crate) struct PartHandle {
    part: Arc<Part>,
    resumed: u64,
    spool: Spool,
}

impl PartHandle {
    /// How many bytes an earlier run had left.
    pub(crate) fn resumed(&self) -> u64 {
        self.resumed
    }

    /// How many bytes of the blob are in the part, from its begin.
    pub(crate) fn kept(&self) -> u64 {
        self.part.kept()
    }

    /// Reads what is in the part.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.part.read_exact_at(bytes, offset)
    }

    /// The error for what is read and is not what was written.
    pub(crate) fn damaged(&self, how: &Damage) -> BlobError {
        self.part.damaged(how)
    }

    /// The first such error, if there was one.
    pub(crate) fn damage(&self) -> Option<&BlobError> {
        self.part.damage()
    }

    /// Puts on disk that the blob came whole, if it did or as soon as it has: its layer is not in
    /// the store, or not soon.
    pub(crate) fn record_whole(&self) -> io::Result<()> {
        self.part.record_whole()
    }

    /// Removes the part: its layer is in the store, or it is of no use.
    pub(crate) fn remove(&self) -> Result<(), SpoolError> {
        self.part
            .remove()
            .map_err(|source| self.spool.error(source))
    }
}

#[cfg(test)]
impl PartHandle {
    /// A part in `dir` that holds `content` and cannot be read.
    pub(crate) fn unreadable(dir: &std::path::Path, content: &[u8]) -> Self {
        let parent = std::fs::File::open(dir).unwrap();
        let spool = Spool::create(&parent, "spool", "spool").unwrap();
        let descriptor = Descriptor {
            media_type: String::new(),
            digest: crate::Digest::sha256(content),
            size: u64::try_from(content.len()).unwrap(),
            annotations: std::collections::BTreeMap::new(),
        };
        let (part, _) = Part::open(&spool.dir, &descriptor, None).unwrap().unwrap();
        part.keep(content, 0).unwrap();
        Self {
            part: Arc::new(part.write_only()),
            resumed: 0,
            spool,
        }
    }
}

/// The kernel's name for this boot. Without `/proc` there is none.
fn boot_id() -> Option<String> {
    let file = std::fs::File::open("/proc/sys/kernel/random/boot_id").ok()?;
    let text = hull_sys::dir::read_at_most(file, 100).ok()?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}
