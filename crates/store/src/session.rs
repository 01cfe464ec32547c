//! Using a store: writing to it, and keeping what is in it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hull_erofs::ObjectId;
use hull_erofs::image::Image;
use hull_sys::direct::DirectIo;
use hull_sys::durable;
use hull_sys::lock::{Lock, LockError, Wait};

use crate::assembly::Assembly;
use crate::barrier::Barrier;
use crate::doubt::Doubt;
use crate::error::{During, StoreError};
use crate::large::LargeObjects;
use crate::names::{self, Kind, PASSING};
use crate::object::{self, ObjectWriter};
use crate::refs::{self, Target};
use crate::store::{Store, make_directories};
use crate::stream::StreamBuilder;

/// How long a session waits for a collection, which takes a second or so.
const PATIENCE: Duration = Duration::from_secs(60);

/// A time of use of a store: what it wrote or saw is not collected before it is
/// dropped.
///
/// Threads may share it. Sessions of several processes may write the same things
/// at once. What no reference leads to when the session ends is collected later.
#[derive(Debug)]
pub struct Session {
    store: Store,
    repairing: bool,
    /// Marked when something was put, or found there, put by a session that may not
    /// have come to its barrier yet.
    barrier: Barrier,
    doubt: Doubt,
    /// The objects that threads of this session are placing.
    claimed: Mutex<HashSet<ObjectId>>,
    unclaimed: Condvar,
    written: AtomicU64,
    large: Mutex<Option<Arc<LargeObjects>>>,
    direct: OnceLock<Option<DirectIo>>,
    /// Held for its lock.
    _lock: Lock,
}

/// A stream in the store that no name leads to: a collection takes it after the session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the stream is lost without its link"]
pub struct UnlinkedStream {
    name: String,
    id: ObjectId,
}

impl UnlinkedStream {
    /// The stream's object.
    pub fn id(&self) -> ObjectId {
        self.id
    }
}

/// The right to place one object; other threads of the session wait for its end.
pub(crate) struct Claim<'s> {
    session: &'s Session,
    id: ObjectId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.session.claimed).remove(&self.id);
        self.session.unclaimed.notify_all();
    }
}

/// A thread that died left nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn begin(store: &Store, repairing: bool) -> Result<Self, StoreError> {
        store.require_writable()?;
        let lock = lock_shared(store)?;
        make_directories(store.root())?;
        Ok(Self {
            store: store.clone(),
            repairing,
            barrier: Barrier::default(),
            doubt: Doubt::begin(store)?,
            claimed: Mutex::default(),
            unclaimed: Condvar::new(),
            written: AtomicU64::new(0),
            large: Mutex::default(),
            direct: OnceLock::new(),
            _lock: lock,
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether this session was begun with [`Store::repair_session`]: then a
    /// stream that is found has to be made again, since its objects may be bad.
    pub fn repairing(&self) -> bool {
        self.repairing
    }

    /// Puts a content that is in memory into the store, unless it is there.
    ///
    /// On disk only after [`Self::barrier`], or once a link leads to it.
    pub fn put(&self, content: &[u8]) -> Result<ObjectId, StoreError> {
        let id = hull_erofs::fsverity::digest(content);
        object::place_content(self, &id, &[content])?;
        self.mark_unsynced();
        Ok(id)
    }

    /// The same for many contents, each in several pieces; `before` is asked in front of each.
    ///
    /// They are hashed together, which for small ones is quicker, and put one after the other,
    /// as the results are taken.
    pub fn put_all<P: AsRef<[u8]>, C: AsRef<[P]>>(
        &self,
        contents: &[C],
        before: impl Fn() -> Result<(), StoreError>,
    ) -> impl Iterator<Item = Result<ObjectId, StoreError>> {
        let ids = hull_erofs::fsverity::digest_all(contents);
        ids.into_iter().zip(contents).map(move |(id, pieces)| {
            before()?;
            object::place_content(self, &id, pieces.as_ref())?;
            self.mark_unsynced();
            Ok(id)
        })
    }

    /// Begins to put a content of `size` bytes whose segments come in any order, from
    /// several threads.
    pub fn assemble<P: AsRef<[u8]>>(&self, size: u64) -> Result<Assembly<'_, P>, StoreError> {
        Assembly::new(self, size)
    }

    /// How many bytes of objects this session wrote so far, those that then proved to
    /// be there already among them.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Begins to put a content that comes in pieces.
    pub fn writer(&self) -> ObjectWriter<'_> {
        ObjectWriter::new(self)
    }

    /// Whether the object is there. Its content is not looked at.
    pub fn has(&self, id: &ObjectId) -> Result<bool, StoreError> {
        let there = self.store.object_size(id)?.is_some();
        if there {
            self.barrier.mark();
        }
        Ok(there)
    }

    /// Begins a stream. `content_type` is any number, which readers compare.
    pub fn stream(&self, content_type: u64) -> StreamBuilder {
        StreamBuilder::new(&self.store, content_type)
    }

    /// Puts an EROFS image whose objects are all in the store, and links it in
    /// `images/`.
    ///
    /// On return the image's objects are on disk. Until a reference leads to it,
    /// it goes with the first collection after this session.
    pub fn put_image(&self, image: &[u8]) -> Result<ObjectId, StoreError> {
        let id = self.put(image)?;
        self.link_image(&id)?;
        Ok(id)
    }

    /// The same for an image that is made on its way into the store, and so need not
    /// fit the memory.
    pub fn make_image(&self, image: &Image<'_>) -> Result<ObjectId, StoreError> {
        let mut writer = self.writer();
        image.make(|bytes| writer.append(bytes))?;
        let (id, _) = writer.finish()?;
        self.link_image(&id)?;
        Ok(id)
    }

    fn link_image(&self, id: &ObjectId) -> Result<(), StoreError> {
        let link = self.missing_link(Kind::Image, &id.to_hex(), id)?;
        self.make_links(link.as_slice())
    }

    /// Puts a stream whose objects are all in the store, and links it in
    /// `streams/` in place of any other of that name.
    ///
    /// On return all that the stream refers to is on disk. Until a reference
    /// leads to it, it goes with the first collection after this session.
    pub fn put_stream(&self, name: &str, stream: StreamBuilder) -> Result<ObjectId, StoreError> {
        let stream = self.put_unlinked_stream(name, stream)?;
        self.link_streams([&stream])?;
        Ok(stream.id)
    }

    /// Puts a stream whose objects are all in the store, to be linked as `name` by
    /// [`Self::link_streams`].
    pub fn put_unlinked_stream(
        &self,
        name: &str,
        stream: StreamBuilder,
    ) -> Result<UnlinkedStream, StoreError> {
        names::check_stream_name(name)?;
        let mut writer = self.writer();
        stream.write_to(&mut writer)?;
        let (id, _) = writer.finish()?;
        let name = name.to_owned();
        Ok(UnlinkedStream { name, id })
    }

    /// Links streams in `streams/` in place of any others of their names, all after one
    /// write to disk.
    ///
    /// On return all that they refer to is on disk. After an error some may be linked.
    pub fn link_streams<'a>(
        &self,
        streams: impl IntoIterator<Item = &'a UnlinkedStream>,
    ) -> Result<(), StoreError> {
        let mut links = Vec::new();
        for UnlinkedStream { name, id } in streams {
            links.extend(self.missing_link(Kind::Stream, name, id)?);
        }
        self.make_links(&links)
    }

    /// Makes the reference `name` lead to a stream or an image that is linked,
    /// in place of where it led before: a root for the collection.
    ///
    /// On return the reference and all behind it are on disk.
    pub fn set_ref(&self, name: &str, target: Target<'_>) -> Result<(), StoreError> {
        refs::set(self, name, target)
    }

    /// Removes a reference; that it is not there is fine. On return that is on
    /// disk. What it led to is kept until a collection.
    pub fn remove_ref(&self, kind: Kind, name: &str) -> Result<(), StoreError> {
        refs::remove(self, kind, name)
    }

    /// Waits until all that was put is on disk.
    ///
    /// Threads that wait at the same time share a write to disk. After one failed, all
    /// of this session fail: what was put may be lost, and no name may lead to it.
    pub fn barrier(&self) -> Result<(), StoreError> {
        self.barrier
            .wait(|| durable::barrier(self.store.root()))
            .during(|| "writing objects to disk".to_owned())
    }

    /// What is known about objects that should not be trusted.
    pub(crate) fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    /// Called by the writers of objects.
    pub(crate) fn mark_unsynced(&self) {
        self.barrier.mark();
    }

    pub(crate) fn count_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits until no other thread of this session places the object: what two layers
    /// have in common is written once.
    pub(crate) fn claim(&self, id: &ObjectId) -> Claim<'_> {
        let mut claimed = lock(&self.claimed);
        while !claimed.insert(*id) {
            claimed = self
                .unclaimed
                .wait(claimed)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Claim {
            session: self,
            id: *id,
        }
    }

    /// Whether long contents go past the page cache, so that who puts one waits for the disk.
    pub fn writes_directly(&self) -> bool {
        self.direct_io().is_some()
    }

    /// How long contents go past the page cache; none where they go through it. That is also where they are read soon.
    pub(crate) fn direct_io(&self) -> Option<DirectIo> {
        *self.direct.get_or_init(|| {
            if self.store.is_read_soon() {
                return None;
            }
            DirectIo::of(object::unnamed(self, "objects").ok()?)
        })
    }

    /// The large objects that were there when this was first asked. Who asks meanwhile waits.
    pub(crate) fn large(&self) -> Result<Arc<LargeObjects>, StoreError> {
        let mut large = lock(&self.large);
        if let Some(found) = &*large {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(LargeObjects::find(&self.store)?);
        *large = Some(Arc::clone(&found));
        Ok(found)
    }

    /// The link by which `name` leads to the object, as path and target; none if it is there.
    fn missing_link(
        &self,
        kind: Kind,
        name: &str,
        id: &ObjectId,
    ) -> Result<Option<(String, String)>, StoreError> {
        let path = format!("{}/{name}", kind.directory());
        let target = names::object_link(id);
        let is_there = self.store.read_link(&path)?.as_deref() == Some(&*target);
        Ok((!is_there).then_some((path, target)))
    }

    /// Makes links to objects once these are on disk.
    fn make_links(&self, links: &[(String, String)]) -> Result<(), StoreError> {
        if links.is_empty() {
            return Ok(());
        }
        self.barrier()?;
        links
            .iter()
            .try_for_each(|(path, target)| self.replace_link(path, target))
    }

    /// Makes the link `path` say `target`, atomically; `path` is from the
    /// store's directory.
    pub(crate) fn replace_link(&self, path: &str, target: &str) -> Result<(), StoreError> {
        let writing = || format!("writing link {path}");
        let root = self.store.root();
        match durable::symlink(target, root, path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io(writing(), error)),
        }
        let passing = loop {
            let name = passing_name();
            match durable::symlink(target, root, &name) {
                Ok(()) => break name,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io(writing(), error)),
            }
        };
        durable::rename(root, &passing, root, path).during(writing)
    }
}

impl Drop for Session {
    /// Takes the session's mark away once all that it put is on disk.
    fn drop(&mut self) {
        if self.doubt.has_mark() && (self.barrier.is_done() || self.barrier().is_ok()) {
            self.doubt.take_mark(&self.store);
        }
    }
}

/// Keeps collections away, after waiting for one at work.
pub(crate) fn lock_shared(store: &Store) -> Result<Lock, StoreError> {
    Lock::shared(store.root(), Wait::For(PATIENCE)).map_err(|error| match error {
        LockError::Busy => StoreError::Busy {
            seconds: PATIENCE.as_secs(),
        },
        LockError::Io(error) => StoreError::io("locking the store", error),
    })
}

/// A name in the store's directory that no other live process uses.
pub(crate) fn passing_name() -> String {
    format!("{PASSING}{}", process_name())
}

/// A part of a name that no other live process uses, and this one once.
pub(crate) fn process_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let pid = rustix::process::getpid().as_raw_nonzero();
    format!("{pid}-{count}")
}
