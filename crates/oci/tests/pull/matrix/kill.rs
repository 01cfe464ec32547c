//! `kill -9` at each fault at each seat: soon after the answer that has the fault was begun.

use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use hull_oci::source::Retry;
use hull_store::gc;

use super::faults::{EXPIRED, FAULTS, FaultCase};
use super::flips::Flip;
use super::*;
use crate::kill::{is_mark, start, told, wait_until};
use crate::local_store::{LocalStore, open, show};

/// The longest times from the begin of the answer to the kill, in milliseconds: while it comes, and
/// while hull makes the best of it.
const LONGEST_DELAYS: [usize; 2] = [8, 40];

struct Cell {
    seat: Seat,
    case: &'static FaultCase,
    delay: Duration,
    random: usize,
}

#[test]
#[ignore = "the test below runs it in processes of its own"]
fn child() {
    let (dir, name) = told();
    let reference = hull_oci::Reference::parse(&name).unwrap();
    let mut options = options_in(&dir, port_of(&name));
    // It is still at it when it is killed, where trying again may help.
    options.source.retry = Retry {
        longest_pause: Duration::from_secs(2),
        ..Retry::default()
    };
    let silent = &hull_oci::progress::Silent;
    match hull_oci::pull(&open(&dir), &reference, &options, silent) {
        Ok(_) => println!("it worked"),
        Err(error) => println!("{}", show(&error)),
    }
}

fn port_of(name: &str) -> u16 {
    let (_, rest) = name.split_once("127.0.0.1:").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// Whether the process was still at work when it was killed.
fn check(cell: &Cell) -> bool {
    let Cell {
        seat,
        case,
        delay,
        random,
    } = *cell;
    let what = format!(
        "{seat:?}, {}, killed after {delay:?}, seed {SEED}",
        case.name
    );
    let other = Faulty::with_answer(IMAGE.clone(), "/", Answer::status(404));
    let (bad, seen) = case.registry(seat, false, other.host(), random);
    let local = LocalStore::new();
    let dir = local.path("");
    introduce(&dir, &bad, seat);
    let was_at_work = kill_pull(&dir, &bad, delay, || seen.load(Ordering::SeqCst) > 0);
    assert_sound(&local.store, &what);
    for request in other.requests() {
        assert_eq!(request.header("authorization"), None, "{what}");
        assert!(!case.encrypted, "{what}: it was asked for {}", request.path);
    }

    let good = guarded(&IMAGE, None, |_, _| None);
    introduce(&dir, &good, seat);
    let mut options = options_in(&dir, good.port());
    options.parallel = NonZeroUsize::new(1 + random % 4);
    match local.pull_with(&good.image("debian:stable"), &options) {
        Ok(pulled) => assert_image(&local.store, &pulled, &IMAGE),
        Err(error) => panic!("{what}, afterwards: {}", show(&error)),
    }
    assert_sound(&local.store, &what);
    let left = options.spool.unwrap().leftovers().unwrap();
    assert_eq!(left, [], "{what}");
    assert_no_secret(&dir, &what);
    assert_collectable(&local, &what);
    was_at_work
}

/// Pulls in another process and kills that, so long after the fault; tells whether it was still at work.
fn kill_pull(dir: &Path, bad: &Faulty, delay: Duration, is_faulty: impl Fn() -> bool) -> bool {
    let mut child = start("matrix::kill::child", dir, &bad.image("debian:stable"));
    wait_until("the fault", is_faulty);
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

/// All that the killed one left beside contents is its mark, and that goes with the next collection.
fn assert_collectable(local: &LocalStore, what: &str) {
    let plan = gc::plan(&local.store, &[]).unwrap();
    assert!(
        plan.leftovers.iter().all(|name| is_mark(name)),
        "{what}: {:?}",
        plan.leftovers
    );
    gc::execute(&local.store, &plan, Duration::from_secs(60)).unwrap();
    let plan = gc::plan(&local.store, &[]).unwrap();
    assert!(plan.is_empty(), "{what}: {plan}");
}

/// Nothing that was written holds a password or a token, but for what the test wrote.
fn assert_no_secret(dir: &Path, what: &str) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert_no_secret(&path, what);
        } else if entry.file_type().unwrap().is_file() && !name.starts_with("auth-") {
            let content = std::fs::read(&path).unwrap();
            let has_secret = content.windows(5).any(|part| part == b"hush-");
            assert!(!has_secret, "{what}: {}", path.display());
        }
    }
}

impl Random {
    /// Up to so many milliseconds.
    fn delay(&mut self, longest: usize) -> Duration {
        Duration::from_millis(u64::try_from(self.next() % (longest + 1)).unwrap())
    }
}

/// The same while the tag moves, and with the registry as it is then.
fn check_flip(flip: Flip, delay: Duration) {
    let what = format!("{flip:?}, killed after {delay:?}, seed {SEED}");
    let (server, moved) = flip.registry();
    let local = LocalStore::new();
    let dir = local.path("");
    introduce(&dir, &server, Seat::Signature);
    kill_pull(&dir, &server, delay, || moved.load(Ordering::SeqCst));
    assert_sound(&local.store, &what);

    let options = options_in(&dir, server.port());
    match local.pull_with(&server.image("debian:stable"), &options) {
        Ok(pulled) => flip.assert_new(&local, &pulled),
        Err(error) => panic!("{what}, afterwards: {}", show(&error)),
    }
    assert_sound(&local.store, &what);
    flip.assert_tidy(&options.spool.unwrap(), &what);
    assert_no_secret(&dir, &what);
    assert_collectable(&local, &what);
}

#[test]
fn a_pull_killed_while_its_tag_moves_leaves_a_whole_store_and_the_next_one_works() {
    let mut random = Random(SEED);
    let mut cells = Vec::new();
    for flip in Flip::all().into_iter().filter(Flip::keeps_form) {
        cells.push((flip, random.delay(LONGEST_DELAYS[1])));
    }
    check_all(&cells, |(flip, delay)| check_flip(*flip, *delay));
}

#[test]
fn a_pull_killed_at_any_fault_leaves_a_whole_store_and_the_next_one_works() {
    let mut random = Random(SEED);
    let mut cells = Vec::new();
    for seat in SEATS {
        for case in &FAULTS {
            for longest in LONGEST_DELAYS {
                cells.push(Cell {
                    seat,
                    case,
                    delay: random.delay(longest),
                    random: random.next(),
                });
            }
        }
    }
    let killed = AtomicUsize::new(0);
    check_all(&cells, |cell| {
        killed.fetch_add(usize::from(check(cell)), Ordering::SeqCst);
    });
    let killed = killed.into_inner();
    println!("{killed} of {} were still at work", cells.len());
    // The others had given up by then, as they should.
    assert!(killed * 3 > cells.len(), "{killed} of {}", cells.len());
    let asked = EXPIRED.requests();
    assert!(asked.is_empty(), "{asked:?}");
}
