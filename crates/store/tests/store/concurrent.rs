//! Several users at the same time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hull_store::gc::{self, GcError};
use hull_store::{Kind, StoreError};

use crate::scratch::{assert_sound, check, collect, pull, store_in};

#[test]
fn pulls_of_the_same_image_at_once_are_one_pull() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store_in(temp.path());
    let images: Vec<_> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // Each opens the store itself, as another process does.
                    let store = store_in(temp.path());
                    let session = store.session().unwrap();
                    pull(&session, "same", 0..300).unwrap()
                })
            })
            .collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(check(&store).findings, []);
}

#[test]
fn threads_of_one_session_can_write_at_once() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store_in(temp.path());
    let session = store.session().unwrap();
    std::thread::scope(|scope| {
        for layer in 0..4 {
            let session = &session;
            scope.spawn(move || {
                let seeds = layer * 50..layer * 50 + 100;
                pull(session, &format!("layer{layer}"), seeds).unwrap();
            });
        }
    });
    assert_eq!(check(&store).findings, []);
}

#[test]
fn a_collection_beside_pulls_takes_nothing_that_they_need() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store_in(temp.path());
    let done = AtomicBool::new(false);
    let collected = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..2)
            .map(|puller: u32| {
                let (store, collected) = (&store, &collected);
                scope.spawn(move || {
                    let has_been = || collected.load(Ordering::Relaxed) > 0;
                    for round in (0..1000).take_while(|round| *round < 25 || !has_been()) {
                        if round % 5 == 4 {
                            // A collection needs a moment in which neither has a session.
                            std::thread::sleep(Duration::from_millis(50));
                        }
                        let session = store.session().unwrap();
                        let name = format!("{puller}-{}", round % 3);
                        // Ever other contents under the same names: garbage.
                        pull(&session, &name, round * 5..round * 5 + 20).unwrap();
                        assert_sound_now(store);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let plan = gc::plan(&store, &[]).unwrap();
                match gc::execute(&store, &plan, Duration::from_millis(5)) {
                    Ok(what) => {
                        let objects = u32::try_from(what.objects).unwrap();
                        collected.fetch_add(objects, Ordering::Relaxed);
                    }
                    Err(GcError::Busy { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for pull in pulls {
            pull.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    collect(&store);
    assert_eq!(check(&store).findings, []);
    assert_eq!(store.refs(Kind::Image).unwrap().len(), 6);
    assert!(collected.into_inner() > 0, "no collection got its turn");
}

/// A check of what is linked, beside everything else.
fn assert_sound_now(store: &hull_store::Store) {
    for (_, target) in store.refs(Kind::Stream).unwrap() {
        let id = store.find_stream(&target).unwrap().unwrap();
        match store.open_stream(&id) {
            // Replaced by the other puller, and collected: it was looked up twice.
            Ok(_) | Err(StoreError::Missing { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_check_beside_a_pull_sees_no_damage() {
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = store_in(temp.path());
    std::thread::scope(|scope| {
        let puller = scope.spawn(|| {
            for round in 0..20 {
                let session = store.session().unwrap();
                pull(
                    &session,
                    &format!("image{round}"),
                    round * 3..round * 3 + 30,
                )
                .unwrap();
            }
        });
        while !puller.is_finished() {
            assert_sound(&store);
        }
        puller.join().unwrap();
    });
}
