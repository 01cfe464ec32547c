//! A pull whose process is killed: the next one goes on where it was.

#![allow(
    clippy::disallowed_methods,
    reason = "a process of its own is started, and told by its environment what to do"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hull_oci::manifest::Compression;
use hull_oci::{Policy, PullOptions, Spool};
use hull_store::fsck::{self, Depth};
use hull_store::gc;

use crate::faulty::{Answer, Fault, Faulty, Request};
use crate::image::{Recipe, TestImage, make, tar};
use crate::local_store::{open, options, read};
use crate::signatures::Signed;

const STORE: &str = "HULL_TEST_KILL_STORE";
const NAME: &str = "HULL_TEST_KILL_IMAGE";
/// What the server sends of an answer before it waits for the kill.
const WAIT: Fault = Fault::Silence(Duration::from_secs(30));

static IMAGE: LazyLock<TestImage> = LazyLock::new(image);
static SIGNED: LazyLock<Signed> = LazyLock::new(|| Signed::new(&IMAGE));

fn image() -> TestImage {
    let large: Vec<u8> = (0..500_000u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ 0x99).to_le_bytes())
        .collect();
    make(&Recipe {
        layers: &[
            (
                Compression::Gzip,
                tar(&[("usr/", b""), ("usr/one", &[b'1'; 300])]),
            ),
            (Compression::None, tar(&[("usr/three", &large)])),
        ],
        architecture: &crate::image::host_architecture(),
        version: "1",
    })
}

fn spooled(dir: &Path) -> PullOptions {
    let mut options = options();
    options.parallel = Some(1.try_into().unwrap());
    let parent = File::open(dir).unwrap();
    options.spool = Some(Spool::create(parent, "spool", dir.join("spool")).unwrap());
    options
}

/// What a child is told: its directory, and what to pull.
pub(crate) fn told() -> (PathBuf, String) {
    let dir = std::env::var_os(STORE).expect("the other tests set it");
    let image = std::env::var(NAME).expect("the other tests set it");
    (dir.into(), image)
}

#[test]
#[ignore = "the tests below run it in a process of its own"]
fn child() {
    let (store, image) = told();
    let mut options = spooled(&store);
    // The parent wrote it.
    options.policy = Some(Arc::new(Policy::read(&store.join("policy.json")).unwrap()));
    let store = open(&store.join("composefs"));
    let reference = hull_oci::Reference::parse(&image).unwrap();
    // The parent kills this before it ends.
    drop(hull_oci::pull(
        &store,
        &reference,
        &options,
        &hull_oci::progress::Silent,
    ));
}

/// Runs one ignored test of this program, which pulls.
pub(crate) fn start(test: &str, dir: &Path, image: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .env(STORE, dir)
        .env(NAME, image)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a registry answers that wants a token, and has a signature.
fn right(request: &Request, server: &Faulty) -> Answer {
    if request.path.starts_with("/token") {
        return Answer::ok("application/json", r#"{"token":"t"}"#);
    }
    if request.header("authorization") != Some("Bearer t") {
        let realm = format!(r#"Bearer realm="http://{}/token""#, server.host());
        return Answer::status(401).header("WWW-Authenticate", realm);
    }
    let signed = SIGNED.answer(&request.path);
    signed.unwrap_or_else(|| server.answer(request))
}

/// Kills a pull when `part` of `seat`'s answer has been sent, pulls again, and gives
/// the bytes that were sent in both together.
#[track_caller]
fn killed_at(seat: &'static str, sent: fn(usize) -> usize) -> (u64, u64) {
    let image = SIGNED.served(&IMAGE);
    let config = image.config.to_string();
    let layers: Vec<_> = image.layers.iter().map(ToString::to_string).collect();
    let is_seat = move |request: &Request| match seat {
        "token" => request.path.starts_with("/token"),
        "manifest" => request.path.ends_with("/manifests/stable"),
        "signature" => request.path.ends_with(".sig"),
        "payload" => request.path.ends_with(&SIGNED.payload.to_string()),
        "config" => request.path.ends_with(&config),
        "small" => request.path.ends_with(&layers[0]),
        _ => request.path.ends_with(&layers[1]),
    };
    let waiting = Arc::new(AtomicBool::new(true));
    let still = waiting.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let server = Faulty::new(image.clone(), move |request, server| {
        let answer = right(request, server);
        if !still.load(Ordering::SeqCst) || !is_seat(request) {
            return Some(answer);
        }
        seen.store(true, Ordering::SeqCst);
        let sent = sent(answer.body_length());
        Some(answer.cut(sent, WAIT))
    });
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("composefs")).unwrap();
    let policy = SIGNED.policy(temp.path());
    let name = server.image("debian:stable");
    let mut child = start("kill::child", temp.path(), &name);
    wait_until("the request", || asked.load(Ordering::SeqCst));
    if seat == "large" {
        // All that was sent has come.
        let digest = image.layers[1].to_hex();
        let part = temp.path().join(format!("spool/sha256-{digest}"));
        let length = u64::try_from(sent(image.blobs[&image.layers[1]].len())).unwrap();
        wait_until("the part", || {
            part.metadata()
                .is_ok_and(|metadata| metadata.len() == length)
        });
    }
    child.kill().unwrap();
    child.wait().unwrap();
    waiting.store(false, Ordering::SeqCst);

    let local = open(&temp.path().join("composefs"));
    let report = fsck::check(&local, Depth::Full, &|_| {}).unwrap();
    assert!(report.is_sound(), "{seat}: after the kill");
    let reference = hull_oci::Reference::parse(&name).unwrap();
    let mut options = spooled(temp.path());
    options.policy = Some(policy);
    let pulled = hull_oci::pull(&local, &reference, &options, &hull_oci::progress::Silent).unwrap();
    let tree = pulled.image.tree(&local).unwrap();
    let content = read(&local, &tree, "usr/three");
    let large = &image.blobs[&image.layers[1]];
    assert_eq!(content, large[512..512 + content.len()]);
    let report = fsck::check(&local, Depth::Full, &|_| {}).unwrap();
    assert!(report.is_sound(), "{seat}: after the second pull");
    // The killed one never came to say that all it put is on disk: its mark stays for a
    // collection, on file systems where there are marks.
    let left = gc::plan(&local, &[]).unwrap().leftovers;
    assert!(left.iter().all(|name| is_mark(name)), "{seat}: {left:?}");
    assert_eq!(options.spool.unwrap().leftovers().unwrap(), [], "{seat}");
    let all = image.blobs.values().map(Vec::len).sum::<usize>();
    (server.sent(), u64::try_from(all).unwrap())
}

/// Whether this is what a killed session leaves until the next collection.
pub(crate) fn is_mark(leftover: &str) -> bool {
    leftover.starts_with(".hull-unsynced-")
}

#[test]
fn a_pull_killed_anywhere_leaves_a_whole_store_and_the_next_one_works() {
    for seat in [
        "token",
        "manifest",
        "signature",
        "payload",
        "config",
        "small",
        "large",
    ] {
        for sent in [
            |_| 0,
            |length| length / 2,
            |length: usize| length.saturating_sub(1),
        ] {
            if seat == "large" && sent(2) == 0 {
                // Nothing of it comes, so there is nothing to wait for.
                continue;
            }
            killed_at(seat, sent);
        }
    }
}

#[test]
fn a_pull_killed_in_the_middle_downloads_next_to_nothing_again() {
    let (sent, size) = killed_at("large", |length| length / 2);
    let again = sent.saturating_sub(size);
    println!("downloaded again after kill -9 at 50 %: {again} of {size} bytes");
    assert!(again * 50 <= size, "{again} of {size} bytes came again");
    // It also shows that the first part was counted.
    assert!(sent >= size);
}
