//! One partial blob: its file, its record, and the lock on it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hull_sys::durable;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::record::Record;
use crate::digest::{BlobError, Digest, Hasher};
use crate::manifest::Descriptor;
use crate::space::Room;

/// A record is a few hundred bytes.
const MAX_RECORD: u64 = 16 << 10;
/// How long a reader that was cancelled may take to let go.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong with what is read of a part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// The check sum is another one.
    #[error("it holds other bytes than were written")]
    Changed,
    /// It ends before what was written does.
    #[error("it is shorter than what was written")]
    Short,
    /// The machine cannot read it.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Short,
            _ => Self::Unreadable(error),
        }
    }
}

/// A partial blob that nobody else uses.
#[derive(Debug)]
pub(super) struct Part {
    dir: Arc<OwnedFd>,
    name: String,
    descriptor: Descriptor,
    boot: Option<String>,
    /// Holds the lock.
    file: File,
    /// So many bytes of the file are the blob's.
    kept: AtomicU64,
    /// What there is to record once the blob is whole.
    whole: Mutex<Unrecorded>,
    /// What was read back is not what was written: the first such error.
    damage: OnceLock<BlobError>,
    /// Set once it was removed: a reader that is about to end must not bring a record back.
    removed: Mutex<bool>,
}

/// What an earlier run left of a blob.
#[derive(Debug)]
pub(super) struct Left {
    /// So many bytes of the file went into the hasher.
    pub(super) hashed: u64,
    /// The CRC-32 of those.
    pub(super) crc: u32,
    /// So many bytes of the file are the blob's.
    pub(super) length: u64,
    pub(super) hasher: Hasher,
}

/// A blob of which every byte is in the file, and right.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) length: u64,
    pub(super) crc: u32,
    pub(super) hasher: Hasher,
}

/// Whether the record of a whole blob can be written, and whether it is wanted.
#[derive(Debug, Default)]
struct Unrecorded {
    /// The blob came whole, and no record says so yet.
    whole: Option<Whole>,
    /// It is to be recorded as soon as it is known to be whole.
    wanted: bool,
}

/// The name of a blob's file. The record's has `.json` after it.
pub(super) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.to_hex())
}

/// The blob whose file has that name, if it is one.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

/// The name of the blob's file that a name of the spool belongs to: it is that, or that of
/// the record, or of a record that is being written.
pub(super) fn blob_of(name: &str) -> Option<&str> {
    let unfinished = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".json.new"));
    let blob = unfinished
        .or_else(|| name.strip_suffix(".json"))
        .unwrap_or(name);
    digest_of(blob).map(|_| blob)
}

pub(super) fn record_name(name: &str) -> String {
    format!("{name}.json")
}

/// Opens the file `name` and locks it; none where another process uses it.
pub(super) fn open_locked(
    dir: impl AsFd,
    name: &str,
    flags: OFlags,
    wait: Duration,
) -> io::Result<Option<File>> {
    let deadline = Instant::now() + wait;
    let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    loop {
        let file = rustix::fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Who had it may have removed it meanwhile: then the name leads elsewhere.
        let here = rustix::fs::fstat(&file)?;
        match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) => {
                return Ok(Some(File::from(file)));
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Drop for Part {
    /// Unlocks rather than only closing: a child that was forked at this moment
    /// shares the descriptor until it executes its program.
    fn drop(&mut self) {
        // It cannot fail on a descriptor that was locked; closing is the fallback.
        rustix::fs::flock(&self.file, FlockOperation::Unlock).ok();
    }
}

impl Part {
    /// Opens what is there of a blob, or begins it; none where another process is at it.
    pub(super) fn open(
        dir: &Arc<OwnedFd>,
        descriptor: &Descriptor,
        boot: Option<&str>,
    ) -> io::Result<Option<(Self, Left)>> {
        let name = file_name(&descriptor.digest);
        let Some(file) = open_locked(dir, &name, OFlags::CREATE, PATIENCE)? else {
            return Ok(None);
        };
        let part = Self {
            dir: dir.clone(),
            name,
            descriptor: descriptor.clone(),
            boot: boot.map(str::to_owned),
            file,
            kept: AtomicU64::new(0),
            whole: Mutex::default(),
            damage: OnceLock::new(),
            removed: Mutex::new(false),
        };
        let left = match part.read()? {
            Some(left) => left,
            None => part.begin()?,
        };
        part.file.set_len(left.length)?;
        part.kept.store(left.length, Ordering::Release);
        Ok(Some((part, left)))
    }

    fn read(&self) -> io::Result<Option<Left>> {
        let json = match hull_sys::dir::read_file_at_most(
            &self.dir,
            record_name(&self.name),
            MAX_RECORD,
        ) {
            Ok(json) => json,
            // Missing, or longer than any record: begin anew.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some((record, hasher)) = Record::parse(&json, &self.descriptor) else {
            return Ok(None);
        };
        let length = record.usable(self.file.metadata()?.len(), self.boot.as_deref());
        Ok(length.map(|length| Left {
            hashed: record.bytes,
            crc: record.crc,
            length,
            hasher,
        }))
    }

    /// Writes the record of nothing, without waiting for the disk: it serves while the
    /// machine runs, and after that there is no other.
    fn begin(&self) -> io::Result<Left> {
        let hasher = Hasher::new(self.descriptor.digest.algorithm());
        let boot = self.boot.as_deref();
        let record = Record::new(&self.descriptor, boot, 0, 0, &hasher);
        durable::remove(&self.dir, &record_name(&self.name))?;
        self.file.set_len(0)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&*self.dir, record_name(&self.name), flags, mode)?;
        File::from(file).write_all_at(&record.to_json(), 0)?;
        Ok(Left {
            hashed: 0,
            crc: 0,
            length: 0,
            hasher,
        })
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// What its file system has left.
    pub(super) fn room(&self) -> io::Result<Room> {
        Room::on(&self.file)
    }

    /// How many bytes of the blob the file has, from its begin.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// Writes bytes of the blob that stand at `offset`, where those that are
    /// [`kept`](Self::kept) end or before that.
    pub(super) fn keep(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let end = offset + u64::try_from(bytes.len()).unwrap_or(0);
        self.kept.store(end, Ordering::Release);
        Ok(())
    }

    /// The error for what is read and is not what was written, or cannot be read.
    pub(super) fn damaged(&self, how: &Damage) -> BlobError {
        let error = BlobError::DamagedPart {
            digest: self.descriptor.digest,
            reason: how.to_string(),
        };
        self.damage.get_or_init(|| error).clone()
    }

    /// The first such error, if there was one.
    pub(super) fn damage(&self) -> Option<&BlobError> {
        self.damage.get()
    }

    /// Notes that the blob is whole. Whether that is worth a write to disk shows when its layer
    /// is imported; where it has shown already, that is written.
    pub(super) fn is_whole(&self, whole: Whole) -> io::Result<()> {
        let mut unrecorded = self.unrecorded();
        unrecorded.whole = Some(whole);
        if unrecorded.wanted {
            return self.record(unrecorded);
        }
        Ok(())
    }

    /// Records that the blob is whole, if it is, or else as soon as that is known: an import
    /// may end before the one who reads the blob has seen its end.
    pub(super) fn record_whole(&self) -> io::Result<()> {
        let mut unrecorded = self.unrecorded();
        unrecorded.wanted = true;
        self.record(unrecorded)
    }

    fn record(&self, mut unrecorded: MutexGuard<'_, Unrecorded>) -> io::Result<()> {
        let whole = unrecorded.whole.take();
        // Nobody waits for the disk with this lock.
        drop(unrecorded);
        match whole {
            Some(whole) => self.checkpoint(whole.length, whole.crc, &whole.hasher),
            None => Ok(()),
        }
    }

    fn unrecorded(&self) -> MutexGuard<'_, Unrecorded> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts on disk what was written, then that it is.
    pub(super) fn checkpoint(&self, bytes: u64, crc: u32, hasher: &Hasher) -> io::Result<()> {
        let removed = self.removed();
        if *removed {
            return Ok(());
        }
        durable::sync_file(&self.file)?;
        let record = Record::new(&self.descriptor, self.boot.as_deref(), bytes, crc, hasher);
        let name = record_name(&self.name);
        durable::replace(&self.dir, &name, 0o600, &record.to_json())
    }

    /// Removes both files. The record goes first: a file without one is worth nothing.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut removed = self.removed();
        if !std::mem::replace(&mut *removed, true) {
            remove(&self.dir, &self.name)?;
        }
        Ok(())
    }

    fn removed(&self) -> MutexGuard<'_, bool> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Part {
    /// The same with a file that cannot be read, as on a disk that fails.
    pub(super) fn write_only(mut self) -> Self {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*self.dir, &*self.name, flags, Mode::empty());
        self.file = File::from(file.unwrap());
        self
    }
}

pub(super) fn remove(dir: impl AsFd, name: &str) -> io::Result<()> {
    let dir = dir.as_fd();
    durable::remove(dir, &record_name(name))?;
    durable::remove(dir, &format!(".{}.new", record_name(name)))?;
    durable::remove(dir, name)
}
