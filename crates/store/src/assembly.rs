//! Putting a content whose segments are hashed at the same time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hull_erofs::ObjectId;
use hull_erofs::fsverity::{Blocks, Hasher};

use crate::error::StoreError;
use crate::large::{LARGE, LargeContent};
use crate::object;
use crate::session::Session;

/// The length of every segment but the last, in bytes.
pub const SEGMENT: usize = 1 << 20;

/// Segments that threads write at the same time share no page, whatever the machine's is.
const _: () = assert!(SEGMENT.is_multiple_of(64 << 10));

/// A content that comes in segments, each of which may be hashed by another
/// thread; of pieces of memory that it keeps until the digest is known.
///
/// Nothing is written for one that is in the store already. Up to 8 MiB are kept in
/// memory. Of a longer one no piece is kept: it is compared with the objects of its
/// length, and written to a file without a name from where it differs from them.
/// Dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub struct Assembly<'s, P> {
    session: &'s Session,
    /// For a content that is not kept in memory.
    large: Option<LargeContent<'s>>,
    state: Mutex<State<P>>,
}

#[derive(Debug)]
struct State<P> {
    /// Takes in the segments in their order.
    hasher: Box<Hasher>,
    next: u64,
    /// Segments that came before those in front of them.
    waiting: BTreeMap<u64, Blocks>,
    kept: BTreeMap<u64, Vec<P>>,
    /// Segments that are still to come.
    left: u64,
}

impl<'s, P: AsRef<[u8]>> Assembly<'s, P> {
    pub(crate) fn new(session: &'s Session, size: u64) -> Result<Self, StoreError> {
        let large = (size > LARGE)
            .then(|| LargeContent::new(session, size))
            .transpose()?;
        Ok(Self {
            session,
            large,
            state: Mutex::new(State {
                hasher: Box::default(),
                next: 0,
                waiting: BTreeMap::new(),
                kept: BTreeMap::new(),
                left: size.div_ceil(SEGMENT as u64).max(1),
            }),
        })
    }

    /// Takes in the segment at this place, from 0; each once. The last one to come puts
    /// the content into the store, and gets its name.
    ///
    /// On disk only after [`Session::barrier`], or once a link leads to it.
    pub fn add(&self, place: u64, pieces: Vec<P>) -> Result<Option<ObjectId>, StoreError> {
        let blocks = Blocks::hash(&pieces);
        let kept = match &self.large {
            Some(large) => large.add(place * SEGMENT as u64, &pieces).map(|()| None)?,
            None => Some(pieces),
        };
        let mut state = lock(&self.state);
        if let Some(pieces) = kept {
            state.kept.insert(place, pieces);
        }
        state.take(place, blocks);
        if state.left > 0 {
            return Ok(None);
        }
        let hasher = std::mem::take(&mut state.hasher);
        let kept = std::mem::take(&mut state.kept);
        drop(state);
        let id = hasher.finalize();
        self.place(&id, kept)?;
        self.session.mark_unsynced();
        Ok(Some(id))
    }

    fn place(&self, id: &ObjectId, kept: BTreeMap<u64, Vec<P>>) -> Result<(), StoreError> {
        if let Some(large) = &self.large {
            return large.finish(id);
        }
        let pieces: Vec<P> = kept.into_values().flatten().collect();
        object::place_content(self.session, id, &pieces)
    }
}

impl<P> State<P> {
    fn take(&mut self, place: u64, blocks: Blocks) {
        self.left -= 1;
        self.waiting.insert(place, blocks);
        while let Some(blocks) = self.waiting.remove(&self.next) {
            self.hasher.append(&blocks);
            self.next += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
