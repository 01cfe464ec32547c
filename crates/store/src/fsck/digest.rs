//! The digest that an object really has.

use std::fs::File;
use std::io::Read;

use hull_erofs::ObjectId;
use hull_erofs::fsverity::Hasher;
use hull_sys::verity::State;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{During, StoreError};
use crate::names;
use crate::store::{Store, verity_error};

/// Opens an object without comparing anything.
pub(crate) fn open_unchecked(store: &Store, id: &ObjectId) -> Result<File, StoreError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::openat(store.root(), names::object_path(id), flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::NOENT) => Err(StoreError::Missing { object: *id }),
        Err(error) => Err(StoreError::io(format!("opening object {id}"), error.into())),
    }
}

/// Reads an object and hashes it.
pub(crate) fn content_digest(store: &Store, id: &ObjectId) -> Result<ObjectId, StoreError> {
    hash(open_unchecked(store, id)?, id)
}

fn hash(mut file: File, id: &ObjectId) -> Result<ObjectId, StoreError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = match file.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.during(|| format!("reading object {id}"))?,
        };
        if count == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&buffer[..count]);
    }
}

/// Asks the kernel, or where the object has no fs-verity reads and hashes it.
pub(crate) fn quick_digest(store: &Store, id: &ObjectId) -> Result<ObjectId, StoreError> {
    let file = open_unchecked(store, id)?;
    match measured(store, &file, id)? {
        Some(digest) => Ok(digest),
        None => hash(file, id),
    }
}

/// The digest that the kernel measures, where the object has fs-verity.
pub(super) fn measured(
    store: &Store,
    file: &File,
    id: &ObjectId,
) -> Result<Option<ObjectId>, StoreError> {
    if !store.verity() {
        return Ok(None);
    }
    match hull_sys::verity::measure(file) {
        Ok(State::Enabled(digest)) => Ok(Some(ObjectId::from_bytes(digest))),
        Ok(State::Disabled | State::Unsupported) => Ok(None),
        Err(error) => Err(verity_error(format!("measuring object {id}"), error)),
    }
}
