//! Writing objects.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use hull_erofs::ObjectId;
use hull_erofs::fsverity::Hasher;
use hull_sys::direct::DirectFile;
use hull_sys::durable;
use hull_sys::verity::State;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{During, StoreError};
use crate::names;
use crate::session::{Session, passing_name};
use crate::store::{compare_measured, verity_error};

/// Contents up to this length are collected in memory, so that nothing is
/// written for one that is in the store already.
const IN_MEMORY: usize = 128 * 1024;

/// Contents that are in memory go past the page cache from this length on, where they can.
/// Of shorter ones the kernel makes longer writes than each is.
const DIRECT: u64 = 256 * 1024;

/// The permissions that upstream gives an object.
const MODE: u32 = 0o644;

/// Takes in a content in pieces, and names it by its digest at the end.
///
/// Dropped without [`Self::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct ObjectWriter<'s> {
    session: &'s Session,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    /// Once the content is too long for the memory, the file without a name that
    /// it is written to, and the digest of what is in there.
    file: Option<(File, Box<Hasher>)>,
}

impl<'s> ObjectWriter<'s> {
    pub(crate) fn new(session: &'s Session) -> Self {
        Self {
            session,
            buffer: Vec::new(),
            file: None,
        }
    }

    /// Takes in the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_all(bytes)
            .during(|| "writing an object".to_owned())
    }

    /// Takes in so many zeros. Long runs become holes of the file: a layer of a
    /// kilobyte can ask for gigabytes of them.
    pub fn append_zeros(&mut self, mut count: u64) -> Result<(), StoreError> {
        const BLOCK: u64 = 4096;
        static ZEROS: [u8; IN_MEMORY] = [0; IN_MEMORY];
        if count > ZEROS.len() as u64 {
            // Up to a block of the file, then a hole of whole blocks. At least one
            // byte is left to be written: were the file made longer without, a power
            // cut could leave it at its length without the data before the hole.
            let taken = self.length();
            let lead = taken.next_multiple_of(BLOCK) - taken;
            self.append(&ZEROS[..usize::try_from(lead).expect("less than a block")])?;
            let hole = (count - lead - 1) / BLOCK * BLOCK;
            self.skip(hole).during(|| "writing an object".to_owned())?;
            count -= lead + hole;
        }
        self.append(&ZEROS[..usize::try_from(count).expect("it is short by now")])
    }

    /// How many bytes were taken in so far.
    fn length(&self) -> u64 {
        let written = self.file.as_ref().map_or(0, |(_, hasher)| hasher.length());
        written + length(&self.buffer)
    }

    /// Leaves a hole in the file.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        self.spill(&[])?;
        let (file, hasher) = self.file.as_mut().expect("spilling makes it");
        hasher.update_zeros(count);
        file.seek(SeekFrom::Start(hasher.length()))?;
        Ok(())
    }

    /// Puts the content into the store, unless it is there; returns its name and
    /// its size in bytes.
    ///
    /// On disk only after [`Session::barrier`], or once a link leads to it.
    pub fn finish(mut self) -> Result<(ObjectId, u64), StoreError> {
        let placed = if self.file.is_some() {
            self.spill(&[]).during(|| "writing an object".to_owned())?;
            let (file, hasher) = self.file.take().expect("it was looked at above");
            let size = hasher.length();
            let id = hasher.finalize();
            place_file(self.session, &id, file, size)?;
            (id, size)
        } else {
            let id = hull_erofs::fsverity::digest(&self.buffer);
            place_content(self.session, &id, &[&self.buffer])?;
            (id, length(&self.buffer))
        };
        self.session.mark_unsynced();
        Ok(placed)
    }

    /// Writes the buffer and `more` to the file.
    fn spill(&mut self, more: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            let file = unnamed(self.session, "objects")?;
            self.file = Some((File::from(file), Box::default()));
        }
        let (file, hasher) = self.file.as_mut().expect("it was made above");
        for bytes in [self.buffer.as_slice(), more] {
            hasher.update(bytes);
            file.write_all(bytes)?;
            self.session.count_written(length(bytes));
        }
        self.buffer.clear();
        Ok(())
    }
}

impl Write for ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() <= IN_MEMORY {
            self.buffer.extend_from_slice(bytes);
        } else if bytes.len() < IN_MEMORY / 2 {
            self.spill(&[])?;
            self.buffer.extend_from_slice(bytes);
        } else {
            self.spill(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts a content in memory into its place, unless it is there.
pub(crate) fn place_content<P: AsRef<[u8]>>(
    session: &Session,
    id: &ObjectId,
    content: &[P],
) -> Result<(), StoreError> {
    let size = total(content);
    let _claim = session.claim(id);
    if is_there(session, id, size)? {
        return Ok(());
    }
    let writing = || format!("writing object {id}");
    let hex = id.to_hex();
    let shard = format!("objects/{}", &hex[..2]);
    let file = match unnamed(session, &shard) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_shard(session, id)?;
            unnamed(session, &shard)
        }
        opened => opened,
    };
    let direct = (size >= DIRECT).then(|| session.direct_io()).flatten();
    let file = DirectFile::new(File::from(file.during(writing)?), direct);
    file.write_all_at(content, 0).during(writing)?;
    session.count_written(size);
    name(session, id, file.into_file(), size)
}

/// Puts a file without a name into its place, unless it is there.
pub(crate) fn place_file(
    session: &Session,
    id: &ObjectId,
    file: File,
    size: u64,
) -> Result<(), StoreError> {
    let _claim = session.claim(id);
    if is_there(session, id, size)? {
        return Ok(());
    }
    name(session, id, file, size)
}

/// Whether the object is there and whole.
///
/// The length is compared: a power cut before the barrier can leave an object
/// shorter than it was. Where it may have left zeros in it (see [`crate::doubt`]),
/// and in a repairing session, so is the content.
pub(crate) fn is_there(session: &Session, id: &ObjectId, size: u64) -> Result<bool, StoreError> {
    if session.store().object_size(id)? != Some(size) {
        return Ok(false);
    }
    if !session.repairing() && !session.doubt().concerns(id) {
        return Ok(true);
    }
    match crate::fsck::content_digest(session.store(), id) {
        Ok(actual) => Ok(actual == *id),
        // Unreadable is as bad as changed.
        Err(StoreError::Io { .. } | StoreError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the whole file its name as an object, with fs-verity where there is.
fn name(session: &Session, id: &ObjectId, file: File, size: u64) -> Result<(), StoreError> {
    let file = if session.store().verity() {
        with_verity(file, id)?
    } else {
        OwnedFd::from(file)
    };
    let writing = || format!("writing object {id}");
    session.doubt().leave_mark(session.store())?;
    let root = session.store().root();
    let path = names::object_path(id);
    let mut linked = durable::link_unnamed(&file, root, &path);
    if linked
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        make_shard(session, id)?;
        linked = durable::link_unnamed(&file, root, &path);
    }
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another session was faster; or what is there is damaged.
            if is_there(session, id, size)? {
                return Ok(());
            }
            let passing = passing_name();
            durable::link_unnamed(&file, root, &passing).during(writing)?;
            durable::rename(root, &passing, root, &path).during(writing)
        }
        linked => linked.during(writing),
    }
}

fn with_verity(file: File, id: &ObjectId) -> Result<OwnedFd, StoreError> {
    let enabling = || format!("writing object {id} with fs-verity");
    let readable = hull_sys::verity::reopen_read_only(&file).during(enabling)?;
    drop(file);
    hull_sys::verity::enable(&readable).map_err(|error| verity_error(enabling(), error))?;
    match compare_measured(readable.as_fd(), id)? {
        State::Enabled(_) => Ok(readable),
        State::Disabled | State::Unsupported => Err(StoreError::NoVerity),
    }
}

fn make_shard(session: &Session, id: &ObjectId) -> Result<(), StoreError> {
    let path = format!("objects/{}", &id.to_hex()[..2]);
    durable::make_dir(session.store().root(), &path, 0o755)
        .map(drop)
        .during(|| format!("writing the directory {path} of the store"))
}

pub(crate) fn unnamed(session: &Session, directory: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(MODE);
    match rustix::fs::openat(session.store().root(), directory, flags, mode) {
        Err(Errno::OPNOTSUPP) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the file system has no files without a name (O_TMPFILE)",
        )),
        opened => Ok(opened?),
    }
}

/// The length of all pieces together.
pub(crate) fn total<P: AsRef<[u8]>>(pieces: &[P]) -> u64 {
    pieces.iter().map(|piece| length(piece.as_ref())).sum()
}

pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits in 64 bits")
}
