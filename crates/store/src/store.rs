//! Opening a store, and reading from it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use hull_erofs::ObjectId;
use hull_sys::verity::State;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{During, StoreError};
use crate::meta::{self, Meta};
use crate::names::{self, Kind};
use crate::session::Session;
use crate::stream::StreamReader;

/// Whether objects must have fs-verity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verity {
    /// Refuse a file system that has none.
    Required,
    /// Enable it where the file system has it.
    WhereSupported,
    /// Leave it alone, also where the file system has it: for a store that is
    /// only read for a moment, or copied to another file system before it is used.
    Never,
}

/// A store: one directory with objects, images, streams and references.
///
/// A handle that is cheap to clone. Reading needs no lock, but only what a
/// reference leads to, or what was found during a [`Session`], stays.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: OwnedFd,
    /// None where it is damaged and the store was opened all the same.
    meta: Option<Meta>,
    verity: bool,
    /// It is read soon and not kept: made anew after a power cut.
    passing: bool,
}

impl Store {
    /// Makes `dir` a store unless it is one, and opens it.
    ///
    /// On return `meta.json` is on disk; it is written last, so a directory that
    /// a killed process left behind is taken over. Where the file system has
    /// fs-verity, `meta.json` has it too, which tells composefs-rs that every
    /// object has.
    pub fn create(dir: OwnedFd, verity: Verity) -> Result<Self, StoreError> {
        if Meta::read(&dir)?.is_none() {
            initialize(&dir, verity)?;
        }
        let store = Self::open(dir)?;
        match verity {
            Verity::Required if !store.verity() => Err(StoreError::NoVerity),
            Verity::Never => store.without_verity(),
            _ => Ok(store),
        }
    }

    /// The same store, whose sessions enable no fs-verity.
    fn without_verity(self) -> Result<Self, StoreError> {
        let root = self.root().try_clone_to_owned();
        let root = root.during(|| "opening the store again".to_owned())?;
        let inner = Inner {
            root,
            meta: self.inner.meta.clone(),
            verity: false,
            passing: true,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Opens the store in the directory `dir`. Nothing is written.
    pub fn open(dir: OwnedFd) -> Result<Self, StoreError> {
        let Some(meta) = Meta::read(&dir)? else {
            return Err(if has_objects(&dir)? {
                StoreError::OldFormat
            } else {
                StoreError::NotAStore
            });
        };
        Self::with_meta(dir, Some(meta))
    }

    /// Opens a store to check it and to restore its meta.json, also where that is
    /// damaged or missing. What another program wrote is refused all the same.
    pub fn open_damaged(dir: OwnedFd) -> Result<Self, StoreError> {
        let meta = match Meta::read(&dir) {
            Ok(None) if !has_objects(&dir)? => return Err(StoreError::NotAStore),
            Ok(meta) => meta,
            Err(StoreError::BadMeta { .. }) => None,
            Err(error) => return Err(error),
        };
        Self::with_meta(dir, meta)
    }

    fn with_meta(root: OwnedFd, meta: Option<Meta>) -> Result<Self, StoreError> {
        let verity = match meta {
            Some(_) => supports_verity(&root)?,
            None => hull_sys::verity::probe(&root).during(probing)?,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                meta,
                verity,
                passing: false,
            }),
        })
    }

    /// Whether the file system has fs-verity: then every object that a session
    /// writes has it. Those written before it had (a disk made offline) may
    /// lack it: see [`crate::verity`].
    pub fn verity(&self) -> bool {
        self.inner.verity
    }

    /// Whether a power cut can leave an object of the right length with other bytes.
    pub(crate) fn is_marked(&self) -> bool {
        !self.verity() && !self.inner.passing
    }

    /// Whether what is put is read before long: to be copied, or by the kernel, to enable
    /// fs-verity.
    pub(crate) fn is_read_soon(&self) -> bool {
        self.verity() || self.inner.passing
    }

    /// Begins to use the store: until the session is dropped, nothing that is in
    /// the store is collected. Waits for a collection at work, up to a minute.
    pub fn session(&self) -> Result<Session, StoreError> {
        Session::begin(self, false)
    }

    /// A session whose `put`s read an object that is there already, and replace
    /// it where its content is damaged: to pull again what [`crate::fsck`] found.
    pub fn repair_session(&self) -> Result<Session, StoreError> {
        Session::begin(self, true)
    }

    /// Opens an object for reading.
    ///
    /// Its digest is compared where the object has fs-verity, so what is read is
    /// what the name says. Elsewhere it is not: the digest is that of the time
    /// when it was written.
    pub fn open_object(&self, id: &ObjectId) -> Result<File, StoreError> {
        let path = names::object_path(id);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match rustix::fs::openat(self.root(), path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(StoreError::Missing { object: *id }),
            Err(error) => return Err(StoreError::io(format!("opening object {id}"), error.into())),
        };
        if self.verity() {
            compare_measured(&fd, id)?;
        }
        Ok(File::from(fd))
    }

    /// Reads a whole object of at most `max` bytes into memory, and compares its
    /// digest.
    pub fn read_object(&self, id: &ObjectId, max: u64) -> Result<Vec<u8>, StoreError> {
        let file = self.open_object(id)?;
        let reading = || format!("reading object {id}");
        let size = file.metadata().during(reading)?.len();
        if size > max {
            return Err(StoreError::TooLarge {
                object: *id,
                size,
                max,
            });
        }
        let content = hull_sys::dir::read_at_most(file, max).during(reading)?;
        let actual = hull_erofs::fsverity::digest(&content);
        if actual == *id {
            Ok(content)
        } else {
            Err(StoreError::Corrupt {
                expected: *id,
                actual: Box::new(actual),
            })
        }
    }

    /// The size in bytes of an object that is there. Its content is not looked at.
    pub fn object_size(&self, id: &ObjectId) -> Result<Option<u64>, StoreError> {
        let path = names::object_path(id);
        match rustix::fs::statat(self.root(), path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            // The kernel's own sizes are never negative.
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::io(
                format!("looking for object {id}"),
                error.into(),
            )),
        }
    }

    /// The object that holds the stream `name`, if the stream is in the store:
    /// then it and all that it refers to are on disk.
    pub fn find_stream(&self, name: &str) -> Result<Option<ObjectId>, StoreError> {
        names::check_stream_name(name)?;
        self.read_object_link(&format!("{}/{name}", Kind::Stream.directory()))
    }

    /// Whether the image is in the store: then it and all its objects are on disk.
    pub fn has_image(&self, id: &ObjectId) -> Result<bool, StoreError> {
        let link = self.read_object_link(&format!("{}/{id}", Kind::Image.directory()))?;
        Ok(link == Some(*id))
    }

    /// Opens a stream that [`Self::find_stream`] found, or that another refers to.
    pub fn open_stream(&self, id: &ObjectId) -> Result<StreamReader, StoreError> {
        Ok(StreamReader::open(self.open_object(id)?, *id)?)
    }

    /// The object that a link in `images/` or `streams/` leads to.
    pub(crate) fn read_object_link(&self, path: &str) -> Result<Option<ObjectId>, StoreError> {
        let Some(target) = self.read_link(path)? else {
            return Ok(None);
        };
        match names::parse_object_link(&target) {
            Some(id) => Ok(Some(id)),
            None => Err(StoreError::BadLink {
                path: path.to_owned(),
                target,
            }),
        }
    }

    pub(crate) fn read_link(&self, path: &str) -> Result<Option<String>, StoreError> {
        match rustix::fs::readlinkat(self.root(), path, Vec::new()) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(StoreError::io(format!("reading link {path}"), error.into())),
        }
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.inner.root.as_fd()
    }

    /// Refuses to write where meta.json is damaged or forbids it.
    pub(crate) fn require_writable(&self) -> Result<(), StoreError> {
        match &self.inner.meta {
            Some(meta) => meta.require_writable(),
            None => Err(StoreError::BadMeta {
                reason: "the store was opened to be repaired only".to_owned(),
            }),
        }
    }

    /// Reads meta.json again.
    pub(crate) fn reread_meta(&self) -> Result<Option<()>, StoreError> {
        Ok(Meta::read(&self.inner.root)?.map(drop))
    }

    /// Writes meta.json in place of one that is damaged.
    pub(crate) fn rewrite_meta(&self) -> Result<(), StoreError> {
        match self.reread_meta() {
            Ok(Some(())) => return Ok(()),
            Ok(None) | Err(StoreError::BadMeta { .. }) => {}
            Err(error) => return Err(error),
        }
        let root = &self.inner.root;
        let passing = crate::session::passing_name();
        write_meta(root, &passing, self.verity())?;
        hull_sys::durable::rename(root, &passing, root, meta::FILE)
            .and_then(|()| hull_sys::durable::sync_dir(root))
            .during(|| "writing meta.json of the store".to_owned())
    }
}

impl AsFd for Store {
    /// The store's directory, to mount its `objects/`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root()
    }
}

/// Fails where the file has fs-verity of another digest.
pub(crate) fn compare_measured(file: impl AsFd, id: &ObjectId) -> Result<State, StoreError> {
    let state = hull_sys::verity::measure(file)
        .map_err(|error| verity_error(format!("measuring object {id}"), error))?;
    match state {
        State::Enabled(digest) if digest != *id.as_bytes() => Err(StoreError::Corrupt {
            expected: *id,
            actual: Box::new(ObjectId::from_bytes(digest)),
        }),
        state => Ok(state),
    }
}

/// The store's word for what `hull_sys::verity` says.
pub(crate) fn verity_error(what: String, error: hull_sys::verity::VerityError) -> StoreError {
    match error {
        hull_sys::verity::VerityError::Unsupported => StoreError::NoVerity,
        hull_sys::verity::VerityError::Io(error) => StoreError::io(what, error),
        error @ hull_sys::verity::VerityError::OtherAlgorithm { .. } => {
            StoreError::io(what, std::io::Error::other(error))
        }
    }
}

fn probing() -> String {
    "probing for fs-verity".to_owned()
}

/// Makes the directories, then, on disk after them, meta.json.
fn initialize(root: &OwnedFd, verity: Verity) -> Result<(), StoreError> {
    if has_objects(root)? {
        return Err(StoreError::OldFormat);
    }
    let supported = verity != Verity::Never && hull_sys::verity::probe(root).during(probing)?;
    if verity == Verity::Required && !supported {
        return Err(StoreError::NoVerity);
    }
    make_directories(root)?;
    hull_sys::durable::sync_dir(root).during(|| "writing the store's directories".to_owned())?;
    match write_meta(root, meta::FILE, supported) {
        // Another process was faster, and its meta.json is read next.
        Err(StoreError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::AlreadyExists =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Makes the three directories unless they are there.
pub(crate) fn make_directories(root: impl AsFd) -> Result<(), StoreError> {
    let root = root.as_fd();
    for name in ["objects", Kind::Image.directory(), Kind::Stream.directory()] {
        hull_sys::durable::make_dir(root, name, 0o755)
            .during(|| format!("writing the directory {name} of the store"))?;
    }
    Ok(())
}

fn write_meta(root: &OwnedFd, name: &str, verity: bool) -> Result<(), StoreError> {
    let writing = || "writing meta.json of the store".to_owned();
    let file = rustix::fs::openat(
        root,
        ".",
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o644),
    )
    .during(writing)?;
    let mut file = File::from(file);
    std::io::Write::write_all(&mut file, &Meta::new().to_json()).during(writing)?;
    hull_sys::durable::sync_file(&file).during(writing)?;
    let readable = hull_sys::verity::reopen_read_only(&file).during(writing)?;
    drop(file);
    if verity {
        hull_sys::verity::enable(&readable).map_err(|error| verity_error(writing(), error))?;
    }
    hull_sys::durable::link_unnamed(&readable, root, name).during(writing)?;
    hull_sys::durable::sync_dir(root).during(writing)
}

fn has_objects(root: &OwnedFd) -> Result<bool, StoreError> {
    let listing = || "listing the objects of the store".to_owned();
    match hull_sys::dir::open_dir_beneath(root, "objects") {
        Ok(objects) => Ok(!hull_sys::dir::entries(&objects).during(listing)?.is_empty()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io(listing(), error)),
    }
}

fn supports_verity(root: &OwnedFd) -> Result<bool, StoreError> {
    let what = || "measuring meta.json of the store".to_owned();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(root, meta::FILE, flags, Mode::empty()).during(what)?;
    let state = hull_sys::verity::measure(&file).map_err(|error| verity_error(what(), error))?;
    Ok(state != State::Unsupported)
}
