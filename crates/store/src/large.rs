//! Objects too large for memory: found by their length, since the digest of a
//! content is known only when all of it has come.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hull_erofs::ObjectId;
use hull_sys::direct::DirectFile;
use rustix::fs::AtFlags;

use crate::error::{During, StoreError};
use crate::object::{self, length};
use crate::session::Session;
use crate::store::Store;

/// Contents above this many bytes are not held in memory.
pub(crate) const LARGE: u64 = 8 << 20;
/// How many objects of one length an incoming content is compared with.
const CANDIDATES: usize = 4;
/// The unit of comparing and copying.
const PIECE: usize = 256 << 10;

/// The objects above [`LARGE`] of a store, by their lengths.
#[derive(Debug)]
pub(crate) struct LargeObjects {
    by_size: HashMap<u64, Vec<ObjectId>>,
}

impl LargeObjects {
    /// Looks at the length of every object: some microseconds each.
    pub(crate) fn find(store: &Store) -> Result<Self, StoreError> {
        let mut by_size = HashMap::<u64, Vec<ObjectId>>::new();
        let listing = || "listing the objects of the store".to_owned();
        let objects = hull_sys::dir::open_dir_beneath(store, "objects").during(listing)?;
        for shard in hull_sys::dir::entries(&objects).during(listing)? {
            let Some(prefix) = shard.utf8_name() else {
                continue;
            };
            let Ok(shard) = hull_sys::dir::open_dir_beneath(&objects, prefix) else {
                continue;
            };
            hull_sys::dir::for_each_entry(&shard, |name, _| {
                let stat = rustix::fs::statat(&shard, name, AtFlags::SYMLINK_NOFOLLOW);
                let size = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
                if size <= LARGE {
                    return Ok(());
                }
                let id = name.to_str().map(|rest| format!("{prefix}{rest}").parse());
                if let Ok(Ok(id)) = id {
                    by_size.entry(size).or_default().push(id);
                }
                Ok(())
            })
            .map_err(|error: std::io::Error| StoreError::io(listing(), error))?;
        }
        for ids in by_size.values_mut() {
            ids.sort_unstable();
            ids.truncate(CANDIDATES);
        }
        Ok(Self { by_size })
    }

    fn of_size(&self, size: u64) -> &[ObjectId] {
        self.by_size.get(&size).map_or(&[], Vec::as_slice)
    }
}

/// A large content on its way: compared with objects of its length as long as one
/// of them has the same bytes, else written to a file without a name.
#[derive(Debug)]
pub(crate) struct LargeContent<'s> {
    session: &'s Session,
    size: u64,
    state: Mutex<State>,
}

type Candidate = (ObjectId, Arc<File>);

#[derive(Debug, Default)]
struct State {
    /// Objects that have all of `same`.
    candidates: Vec<Candidate>,
    /// Set once a segment was in no candidate: no more are compared.
    differs: bool,
    /// Segments that all candidates have, as offset and length.
    same: Vec<(u64, u64)>,
    /// Where the other segments are.
    file: Option<Arc<DirectFile>>,
}

impl<'s> LargeContent<'s> {
    pub(crate) fn new(session: &'s Session, size: u64) -> Result<Self, StoreError> {
        let mut state = State::default();
        if !session.repairing() {
            for id in session.large()?.of_size(size) {
                // One that was removed, or cannot be opened, is of no help.
                if let Ok(file) = session.store().open_object(id) {
                    state.candidates.push((*id, Arc::new(file)));
                }
            }
        }
        state.differs = state.candidates.is_empty();
        Ok(Self {
            session,
            size,
            state: Mutex::new(state),
        })
    }

    /// Takes in a segment that begins at `offset`.
    pub(crate) fn add<P: AsRef<[u8]>>(&self, offset: u64, pieces: &[P]) -> Result<(), StoreError> {
        let candidates = {
            let state = self.lock();
            if state.differs {
                Vec::new()
            } else {
                state.candidates.clone()
            }
        };
        let same: Vec<_> = candidates
            .into_iter()
            .filter(|(_, file)| has(file, offset, pieces))
            .map(|(id, _)| id)
            .collect();
        if self.keep_candidates(&same, offset, pieces) {
            return Ok(());
        }
        let file = self.file()?;
        file.write_all_at(pieces, offset).during(writing)?;
        self.session.count_written(object::total(pieces));
        Ok(())
    }

    /// Puts the content, all of whose segments came, into its place.
    pub(crate) fn finish(&self, id: &ObjectId) -> Result<(), StoreError> {
        if object::is_there(self.session, id, self.size)? {
            return Ok(());
        }
        let file = self.file()?;
        let State {
            candidates, same, ..
        } = std::mem::take(&mut *self.lock());
        if let Some((_, candidate)) = candidates.first() {
            for (offset, length) in same {
                copy(candidate, file.file(), offset, length, self.session)?;
            }
        }
        let file = Arc::into_inner(file).expect("the threads that wrote segments are done");
        object::place_file(self.session, id, file.into_file(), self.size)
    }

    /// Whether one of the candidates is left when only those with the segment are.
    /// The others are not this content, whatever their names say.
    fn keep_candidates<P: AsRef<[u8]>>(
        &self,
        same: &[ObjectId],
        offset: u64,
        pieces: &[P],
    ) -> bool {
        let mut state = self.lock();
        if state.differs {
            return false;
        }
        for (id, _) in &state.candidates {
            if !same.contains(id) {
                self.session.doubt().add(*id);
            }
        }
        if !state.candidates.iter().any(|(id, _)| same.contains(id)) {
            state.differs = true;
            return false;
        }
        state.candidates.retain(|(id, _)| same.contains(id));
        state.same.push((offset, object::total(pieces)));
        true
    }

    fn file(&self) -> Result<Arc<DirectFile>, StoreError> {
        let mut state = self.lock();
        if state.file.is_none() {
            let file = object::unnamed(self.session, "objects").during(writing)?;
            state.file = Some(Arc::new(DirectFile::new(
                File::from(file),
                self.session.direct_io(),
            )));
        }
        Ok(state.file.clone().expect("it was made above"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn writing() -> String {
    "writing an object".to_owned()
}

/// Whether the file has these bytes there; one that cannot be read has not.
fn has<P: AsRef<[u8]>>(file: &File, offset: u64, pieces: &[P]) -> bool {
    let mut buffer = vec![0; PIECE];
    let mut at = offset;
    for part in pieces.iter().flat_map(|piece| piece.as_ref().chunks(PIECE)) {
        let there = &mut buffer[..part.len()];
        if file.read_exact_at(there, at).is_err() || there != part {
            return false;
        }
        at += length(part);
    }
    true
}

fn copy(
    from: &File,
    to: &File,
    offset: u64,
    length: u64,
    session: &Session,
) -> Result<(), StoreError> {
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < length {
        let count = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
        let part = &mut buffer[..count];
        from.read_exact_at(part, offset + done).during(writing)?;
        to.write_all_at(part, offset + done).during(writing)?;
        session.count_written(object::length(part));
        done += object::length(part);
    }
    Ok(())
}
