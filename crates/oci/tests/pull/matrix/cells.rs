//! Each fault at each seat, for a while and for ever; then a registry without faults.

use std::num::NonZeroUsize;
use std::time::Duration;

use hull_store::gc;

use super::faults::{EXPIRED, FAULTS, FaultCase};
use super::*;
use crate::local_store::{LocalStore, show};

struct Cell {
    seat: Seat,
    case: &'static FaultCase,
    passing: bool,
    random: usize,
}

fn check(cell: &Cell) {
    let Cell {
        seat,
        case,
        passing,
        random,
    } = *cell;
    let what = format!("{seat:?}, {}, passing: {passing}, seed {SEED}", case.name);
    let other = Faulty::with_answer(IMAGE.clone(), "/", Answer::status(404));
    let (bad, _) = case.registry(seat, passing, other.host(), random);
    let local = LocalStore::new();
    let dir = local.path("");
    introduce(&dir, &bad, seat);
    let mut options = options_in(&dir, bad.port());
    if case.name.starts_with("silence") || case.name == "drips" {
        options.source.timeouts.idle = Duration::from_millis(1000);
    }
    if case.is_of_registry() {
        // It hits whatever else is asked for at the same time.
        options.parallel = NonZeroUsize::new(1);
    }
    let outcome = local.pull_with(&bad.image("debian:stable"), &options);
    assert_eq!(
        outcome.is_ok(),
        case.works(seat, passing),
        "{what}: {outcome:?}"
    );
    match outcome {
        Ok(pulled) => assert_image(&local.store, &pulled, &IMAGE),
        Err(error) => {
            let told = show(&error);
            assert!(
                !format!("{told} {error:?}").contains("hush"),
                "{what}: {told}"
            );
            check_error(&told, seat, case, &bad);
        }
    }
    for request in other.requests() {
        assert_eq!(request.header("authorization"), None, "{what}");
        assert!(!case.encrypted, "{what}: it was asked for {}", request.path);
    }
    assert_sound(&local.store, &what);

    let good = guarded(&IMAGE, None, |_, _| None);
    introduce(&dir, &good, seat);
    let options = options_in(&dir, good.port());
    match local.pull_with(&good.image("debian:stable"), &options) {
        Ok(pulled) => assert_image(&local.store, &pulled, &IMAGE),
        Err(error) => panic!("{what}, afterwards: {}", show(&error)),
    }
    assert_sound(&local.store, &what);
    let plan = gc::plan(&local.store, &[]).unwrap();
    assert!(plan.leftovers.is_empty(), "{what}: {:?}", plan.leftovers);
    let spool = options.spool.unwrap();
    assert_eq!(spool.leftovers().unwrap(), [], "{what}");
}

/// An error names who, what, with which credentials, what came, and what to do.
#[track_caller]
fn check_error(told: &str, seat: Seat, case: &FaultCase, bad: &Faulty) {
    let what = format!("{seat:?}, {}: {told}", case.name);
    if seat.is_of_policy() && told.contains("not trusted by") {
        // It came that there is no signature, or another one.
        assert!(
            told.contains(&bad.host()) && told.contains("policy.json"),
            "{what}"
        );
        return;
    }
    let place = format!("registry {}, repository debian: asked for", bad.host());
    let auth = auth_file(bad.port());
    for part in [&*place, &seat.asked(), &auth, "; "] {
        assert!(told.contains(part), "{what}: {part} is missing");
    }
    let is_token = told.contains("the token service");
    assert_eq!(
        is_token,
        seat == Seat::Token && !case.is_of_registry(),
        "{what}"
    );
    assert!(case.says.iter().any(|says| told.contains(says)), "{what}");
}

#[test]
fn every_fault_at_every_seat_ends_in_an_error_or_the_image_and_harms_nothing() {
    let mut random = Random(SEED);
    let mut cells = Vec::new();
    for seat in SEATS {
        for case in &FAULTS {
            let random = random.next();
            for passing in [false, true] {
                cells.push(Cell {
                    seat,
                    case,
                    passing,
                    random,
                });
            }
        }
    }
    check_all(&cells, check);
    // Nobody believed in its certificate, so nobody asked it for anything.
    let asked = EXPIRED.requests();
    assert!(asked.is_empty(), "{asked:?}");
}
