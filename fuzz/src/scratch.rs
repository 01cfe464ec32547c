//! A store in memory that does not grow without end.

use std::cell::RefCell;
use std::fs::File;

use hull_store::{Store, Verity};
use tempfile::TempDir;

/// After so many inputs their objects are thrown away.
const INPUTS: u32 = 2000;

thread_local! {
    static SCRATCH: RefCell<Option<(u32, TempDir, Store)>> = const { RefCell::new(None) };
}

/// The store, a new one now and then.
pub fn store() -> Store {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.as_ref().is_none_or(|(uses, ..)| *uses == INPUTS) {
            *scratch = None;
            let dir = tempfile::tempdir_in("/dev/shm").expect("there is memory for a store");
            let handle = File::open(dir.path()).expect("it was made just now");
            let store = Store::create(handle.into(), Verity::Never).expect("it is empty");
            *scratch = Some((0, dir, store));
        }
        let (uses, _, store) = scratch.as_mut().expect("it was made if it was missing");
        *uses += 1;
        store.clone()
    })
}
