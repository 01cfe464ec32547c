//! Which objects may lack bytes although they have their length.
//!
//! File systems write the length of a file and its content at different times, so a
//! power cut before a barrier can leave an object of the right length with zeros in
//! it. A session therefore leaves a mark in the store's directory before it names its
//! first object, and takes the mark away when all that it put is on disk. A mark that
//! an earlier boot left says that there was a cut: until a collection removes the mark,
//! together with all that no link leads to, sessions compare what they find.
//!
//! Where the file system has fs-verity there are no marks: an object gets it before
//! its name, and the kernel writes the content first. Nor are there in a store that is
//! made to be copied.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hull_erofs::ObjectId;
use hull_sys::durable;

use crate::error::{During, StoreError};
use crate::names::UNSYNCED;
use crate::store::Store;

/// What a session knows about objects that it should not trust.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Nothing that is found can be trusted.
    after_cut: bool,
    /// Objects that lacked bytes which a content of their length has: each of another
    /// content, or damaged.
    objects: Mutex<HashSet<ObjectId>>,
    /// The name of the session's mark.
    mark: Mutex<Option<String>>,
}

impl Doubt {
    /// Looks for marks of earlier boots.
    pub(crate) fn begin(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            after_cut: store.is_marked() && has_foreign_mark(store)?,
            objects: Mutex::default(),
            mark: Mutex::default(),
        })
    }

    /// Whether the content of an object has to be looked at.
    pub(crate) fn concerns(&self, id: &ObjectId) -> bool {
        self.after_cut || lock(&self.objects).contains(id)
    }

    pub(crate) fn add(&self, id: ObjectId) {
        lock(&self.objects).insert(id);
    }

    /// Called before an object gets its name: on return the mark is on disk.
    pub(crate) fn leave_mark(&self, store: &Store) -> Result<(), StoreError> {
        let mut mark = lock(&self.mark);
        if mark.is_some() || !store.is_marked() {
            return Ok(());
        }
        let marking = || "marking the store as being written to".to_owned();
        let name = loop {
            let name = format!("{}.{}", boot_prefix(), crate::session::process_name());
            match durable::write_new(store.root(), &name, 0o644, b"") {
                // Of a process that had the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                written => break written.map(|()| name).during(marking)?,
            }
        };
        durable::sync_dir(store.root()).during(marking)?;
        *mark = Some(name);
        Ok(())
    }

    pub(crate) fn has_mark(&self) -> bool {
        lock(&self.mark).is_some()
    }

    /// Called when all that was put is on disk. That a mark stays costs time only.
    pub(crate) fn take_mark(&self, store: &Store) {
        if let Some(mark) = lock(&self.mark).take() {
            durable::remove(store.root(), &mark).ok();
        }
    }
}

/// How the marks of this boot begin.
fn boot_prefix() -> String {
    format!("{UNSYNCED}{}", boot_id().unwrap_or_default())
}

/// The kernel's name for this boot.
fn boot_id() -> Option<String> {
    let file = std::fs::File::open("/proc/sys/kernel/random/boot_id").ok()?;
    let text = hull_sys::dir::read_at_most(file, 100).ok()?;
    Some(String::from_utf8(text).ok()?.trim().to_owned())
}

fn has_foreign_mark(store: &Store) -> Result<bool, StoreError> {
    let mine = format!("{}.", boot_prefix());
    let entries = hull_sys::dir::entries(store).during(|| "listing the store".to_owned())?;
    Ok(entries
        .iter()
        .filter_map(|entry| entry.utf8_name())
        .any(|name| name.starts_with(UNSYNCED) && !name.starts_with(&mine)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
