//! A download that breaks off goes on where it was: over a new connection, from
//! another place, and in another process.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hull_oci::spool::Keep;
use hull_oci::{Digest, PullOptions, Spool};

use crate::faulty::{Answer, Fault, Faulty, Length, Request};
use crate::image::{TestImage, three_layers};
use crate::local_store::{LocalStore, options, read, show};
use crate::matrix::IDLE;

/// The layer that is large enough for the spool.
fn large(image: &TestImage) -> (Digest, Vec<u8>) {
    let digest = image.layers[2];
    (digest, image.blobs[&digest].clone())
}

pub(crate) fn is_about(request: &Request, digest: &Digest) -> bool {
    request.path.ends_with(&digest.to_string())
}

/// A server that gives `count` times only so many bytes of the large layer.
fn breaking(image: &TestImage, count: usize, bytes: usize) -> Faulty {
    let (digest, _) = large(image);
    let done = AtomicUsize::new(0);
    Faulty::new(image.clone(), move |request, server| {
        let breaks = is_about(request, &digest) && done.fetch_add(1, Ordering::SeqCst) < count;
        breaks.then(|| server.answer(request).cut(bytes, Fault::Close))
    })
}

pub(crate) fn spooled(local: &LocalStore) -> PullOptions {
    let parent = std::fs::File::open(local.path("")).unwrap();
    let mut options = options();
    options.spool = Some(Spool::create(parent, "spool", local.path("spool")).unwrap());
    options
}

/// The same, and a broken connection is the end.
fn hasty(local: &LocalStore) -> PullOptions {
    let mut options = spooled(local);
    options.source.retry.attempts = 1;
    options
}

pub(crate) fn spool_files(local: &LocalStore) -> Vec<String> {
    let entries = std::fs::read_dir(local.path("spool")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn offsets(server: &Faulty, digest: &Digest) -> Vec<usize> {
    let requests = server.requests();
    let about = requests.iter().filter(|request| is_about(request, digest));
    about.map(|request| request.offset().unwrap_or(0)).collect()
}

#[track_caller]
fn assert_whole(local: &LocalStore, pulled: &hull_oci::Pulled) {
    let tree = pulled.image.tree(&local.store).unwrap();
    let content = read(&local.store, &tree, "usr/three");
    let image = three_layers("1");
    let (_, layer) = large(&image);
    assert_eq!(content, layer[512..512 + content.len()]);
}

#[test]
fn a_blob_that_breaks_off_goes_on_where_it_was() {
    let image = three_layers("1");
    let (digest, body) = large(&image);
    let server = breaking(&image, 4, 600_000);
    let local = LocalStore::new();
    // Fewer attempts than breaks: progress begins the count anew.
    let pulled = local.pull(&server.image("debian:stable")).unwrap();
    assert_whole(&local, &pulled);
    let offsets = offsets(&server, &digest);
    assert_eq!(offsets, [0, 600_000, 1_200_000, 1_800_000, 2_400_000]);
    assert!(server.sent() < u64::try_from(body.len()).unwrap() + 10_000);
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_begin_again() {
    let image = three_layers("1");
    let (digest, body) = large(&image);
    for answer in [
        Answer::ok("application/octet-stream", body.clone()),
        Answer::status(206)
            .header(
                "Content-Range",
                format!("bytes 5-{}/{}", body.len() - 1, body.len()),
            )
            .body(&body[5..]),
        Answer::status(206).body(&body[600_000..]),
        Answer::status(416),
    ] {
        let count = AtomicUsize::new(0);
        let server = Faulty::new(image.clone(), move |request, server| {
            if !is_about(request, &digest) {
                return None;
            }
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            match request.offset() {
                Some(_) => Some(answer.clone()),
                None => first.then(|| server.answer(request).cut(600_000, Fault::Reset)),
            }
        });
        let local = LocalStore::new();
        let pulled = local.pull(&server.image("debian:stable")).unwrap();
        assert_whole(&local, &pulled);
    }
}

#[test]
fn a_blob_that_ends_early_again_and_again_is_given_up_on() {
    let image = three_layers("1");
    let (digest, _) = large(&image);
    let server = Faulty::new(image.clone(), move |request, server| {
        is_about(request, &digest).then(|| server.answer(request).cut(100, Fault::Close))
    });
    let local = LocalStore::new();
    let error = show(&local.pull(&server.image("debian:stable")).unwrap_err());
    assert!(error.contains("tried 3 times"), "{error}");
    assert!(error.contains(&digest.to_string()), "{error}");
    assert_eq!(offsets(&server, &digest), [0, 100, 200]);
}

#[test]
fn a_pull_after_a_failed_one_fetches_the_rest_alone() {
    let image = three_layers("1");
    let (digest, body) = large(&image);
    let server = breaking(&image, 1, 1_500_000);
    let local = LocalStore::new();
    let name = server.image("debian:stable");
    let error = local.pull_with(&name, &hasty(&local)).unwrap_err();
    assert!(
        show(&error).contains("broke off after 1500000 of"),
        "{}",
        show(&error)
    );
    let stem = format!("sha256-{}", digest.to_hex());
    assert_eq!(spool_files(&local), [stem.clone(), format!("{stem}.json")]);

    let pulled = local.pull_with(&name, &spooled(&local)).unwrap();
    assert_whole(&local, &pulled);
    assert_eq!(offsets(&server, &digest), [0, 1_500_000]);
    assert!(pulled.downloaded_bytes < u64::try_from(body.len()).unwrap() - 1_400_000);
    assert_eq!(spool_files(&local), [""; 0], "the part is gone");
}

/// Makes a part of the large layer, changes it, and pulls on.
#[track_caller]
fn goes_on_after(change: impl Fn(&std::path::Path, &std::path::Path)) -> Vec<usize> {
    let image = three_layers("1");
    let (digest, _) = large(&image);
    let server = breaking(&image, 1, 1_500_000);
    let local = LocalStore::new();
    let name = server.image("debian:stable");
    local.pull_with(&name, &hasty(&local)).unwrap_err();
    let stem = format!("spool/sha256-{}", digest.to_hex());
    change(&local.path(&stem), &local.path(&format!("{stem}.json")));
    let pulled = local.pull_with(&name, &hasty(&local)).unwrap();
    assert_whole(&local, &pulled);
    assert_eq!(spool_files(&local), [""; 0]);
    offsets(&server, &digest)[1..].to_vec()
}

pub(crate) fn put(path: &std::path::Path, bytes: &[u8]) {
    std::fs::File::create(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

#[test]
fn a_damaged_part_is_thrown_away_and_the_blob_fetched_once_more() {
    for place in [0, 700_000, 1_499_999] {
        let asked = goes_on_after(|part, _| {
            let mut bytes = std::fs::read(part).unwrap();
            bytes[place] ^= 1;
            put(part, &bytes);
        });
        assert_eq!(*asked.last().unwrap(), 0, "{place}: from the begin");
        assert!(asked.len() <= 2, "{place}: {asked:?}");
    }
}

#[test]
fn a_part_without_a_usable_record_is_fetched_from_its_begin() {
    for json in [&b""[..], b"{}", b"[", &[0xff; 40_000]] {
        assert_eq!(goes_on_after(|_, record| put(record, json)), [0]);
    }
    assert_eq!(
        goes_on_after(|_, record| std::fs::remove_file(record).unwrap()),
        [0]
    );
    assert_eq!(
        goes_on_after(|part, _| std::fs::remove_file(part).unwrap()),
        [0]
    );
    assert_eq!(goes_on_after(|part, _| put(part, b"short")), [0]);
}

#[test]
fn a_record_whose_hash_is_of_other_bytes_costs_one_more_download() {
    let asked = goes_on_after(|_, record| {
        let text = std::fs::read_to_string(record).unwrap();
        let (begin, state) = text.split_once("\"hash\":\"").unwrap();
        let flipped = if state.starts_with('0') { "1" } else { "0" };
        put(
            record,
            format!("{begin}\"hash\":\"{flipped}{}", &state[1..]).as_bytes(),
        );
    });
    assert_eq!(asked, [1_500_000, 0]);
}

#[test]
fn what_is_not_in_the_record_counts_while_the_machine_runs_only() {
    let more = |boot: Option<&'static str>| {
        goes_on_after(move |part, record| {
            let image = three_layers("1");
            put(part, &large(&image).1[..2_000_000]);
            if let Some(boot) = boot {
                let text = std::fs::read_to_string(record).unwrap();
                let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
                value["boot"] = boot.into();
                put(record, value.to_string().as_bytes());
            }
        })
    };
    assert_eq!(more(None), [2_000_000]);
    assert_eq!(more(Some("another")), [1_500_000]);
}

/// What a power cut can leave: the record is of another boot, and the file or the
/// record may be any shorter, or hold zeros where nothing was written yet.
#[test]
fn after_a_power_cut_nothing_counts_but_what_was_known_to_be_on_disk() {
    const KNOWN: usize = 1_500_000;
    type Change = fn(&mut Vec<u8>, &mut Vec<u8>);
    let cases: [(&str, Change, &[usize]); 8] = [
        ("nothing is lost", |_, _| {}, &[KNOWN]),
        (
            "zeros follow",
            |part, _| part.resize(2_500_000, 0),
            &[KNOWN],
        ),
        (
            "the end was not written",
            |part, _| part.truncate(1_400_000),
            &[0],
        ),
        ("the file is empty", |part, _| part.clear(), &[0]),
        (
            "the end is zeros",
            |part, _| part[1_400_000..].fill(0),
            &[0],
        ),
        ("a block is zeros", |part, _| part[4096..8192].fill(0), &[0]),
        ("the record is empty", |_, record| record.clear(), &[0]),
        ("the record is zeros", |_, record| record.fill(0), &[0]),
    ];
    for (what, change, expected) in cases {
        let asked = goes_on_after(|part, record| {
            let (mut bytes, json) = (std::fs::read(part).unwrap(), std::fs::read(record).unwrap());
            assert_eq!(bytes.len(), KNOWN);
            let mut value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            value["boot"] = "another".into();
            let mut json = value.to_string().into_bytes();
            change(&mut bytes, &mut json);
            put(part, &bytes);
            put(record, &json);
            // And the record that was about to take its place.
            let name = record.file_name().unwrap().to_str().unwrap();
            put(&record.with_file_name(format!(".{name}.new")), b"{\"form");
        });
        assert_eq!(asked, expected, "{what}");
    }
}

#[test]
fn a_part_that_another_pull_is_at_is_left_to_it() {
    let image = three_layers("1");
    let (digest, _) = large(&image);
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let options = spooled(&local);
    let path = local.path(&format!("spool/sha256-{}", digest.to_hex()));
    put(&path, b"of somebody else");
    let file = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let pulled = local
        .pull_with(&server.image("debian:stable"), &options)
        .unwrap();
    assert_whole(&local, &pulled);
    assert_eq!(std::fs::read(&path).unwrap(), b"of somebody else");
    let spool = options.spool.unwrap();
    assert_eq!(spool.collect(&HashSet::new(), Keep::NOTHING).unwrap(), []);
    // Closing would not do: a program that another test starts at this moment shares
    // the descriptor until it runs.
    rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();
    let removed = spool.collect(&HashSet::new(), Keep::NOTHING).unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(spool_files(&local), [""; 0]);
}

#[test]
fn a_part_of_another_image_stays_until_it_is_collected() {
    let image = three_layers("1");
    let server = breaking(&image, 1, 1_500_000);
    let local = LocalStore::new();
    local
        .pull_with(&server.image("debian:stable"), &hasty(&local))
        .unwrap_err();
    let other = Faulty::new(three_layers("2"), |_, _| None);
    let options = spooled(&local);
    local
        .pull_with(&other.image("debian:stable"), &options)
        .unwrap();
    assert_eq!(spool_files(&local).len(), 2);
    let spool = options.spool.unwrap();
    assert_eq!(spool.collect(&HashSet::new(), Keep::default()).unwrap(), []);
    assert!(spool.leftovers().unwrap()[0].bytes >= 1_500_000);
    let small = Keep {
        bytes: 1_000_000,
        ..Keep::default()
    };
    assert_eq!(spool.removable(&HashSet::new(), small).unwrap().len(), 1);
    assert_eq!(spool.collect(&HashSet::new(), small).unwrap().len(), 1);
    assert_eq!(spool_files(&local), [""; 0]);
}

#[test]
fn a_part_of_a_layer_that_the_store_has_goes_with_the_next_pull() {
    let image = three_layers("1");
    let (digest, body) = large(&image);
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    local
        .pull_with(&server.image("debian:stable"), &spooled(&local))
        .unwrap();
    // A process that is killed when the layer has its name leaves this.
    let name = format!("sha256-{}", digest.to_hex());
    std::fs::create_dir_all(local.path("spool")).unwrap();
    let mut part = std::fs::File::create(local.path("spool").join(&name)).unwrap();
    part.write_all(&body).unwrap();
    let stray = std::fs::File::create(local.path("spool").join("sha256-1"));
    drop(stray.unwrap());
    let other = Faulty::new(three_layers("2"), |_, _| None);
    local
        .pull_with(&other.image("debian:stable"), &spooled(&local))
        .unwrap();
    assert_eq!(spool_files(&local), ["sha256-1"], "nothing else is touched");
}

#[test]
fn a_token_that_expires_on_the_way_is_renewed_and_the_blob_goes_on() {
    let image = three_layers("1");
    let (digest, _) = large(&image);
    let port = Arc::new(AtomicUsize::new(0));
    let (known_port, tokens) = (port.clone(), AtomicUsize::new(0));
    let valid = Arc::new(AtomicUsize::new(0));
    let broken = AtomicUsize::new(0);
    let server = Faulty::new(image.clone(), move |request, server| {
        let port = known_port.load(Ordering::SeqCst);
        if request.path.starts_with("/token") {
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            valid.store(number, Ordering::SeqCst);
            return Some(Answer::ok(
                "application/json",
                format!(r#"{{"token":"t{number}"}}"#),
            ));
        }
        let expected = format!("Bearer t{}", valid.load(Ordering::SeqCst));
        if request.header("authorization") != Some(&expected) {
            let realm = format!(r#"Bearer realm="http://127.0.0.1:{port}/token",service="x""#);
            return Some(Answer::status(401).header("WWW-Authenticate", realm));
        }
        if is_about(request, &digest) && broken.fetch_add(1, Ordering::SeqCst) == 0 {
            // From now on the token counts no more.
            valid.store(0, Ordering::SeqCst);
            return Some(server.answer(request).cut(1_000_000, Fault::Reset));
        }
        None
    });
    port.store(server.port().into(), Ordering::SeqCst);
    let local = LocalStore::new();
    let mut options = options();
    options.parallel = Some(1.try_into().unwrap());
    let pulled = local
        .pull_with(&server.image("debian:stable"), &options)
        .unwrap();
    assert_whole(&local, &pulled);
    let tokens = server
        .requests()
        .iter()
        .filter(|request| request.path.starts_with("/token"))
        .count();
    assert_eq!(tokens, 2);
    // Broken, refused, and the rest.
    let offsets = offsets(&server, &digest);
    assert_eq!(offsets.len(), 3);
    assert!(offsets[1] > 0 && offsets[1] == offsets[2], "{offsets:?}");
}

#[test]
fn a_server_that_drips_is_given_up_on() {
    let image = three_layers("1");
    let (digest, _) = large(&image);
    let server = Faulty::new(image.clone(), move |request, server| {
        let drip = Fault::Drip(Duration::from_millis(20));
        is_about(request, &digest).then(|| server.answer(request).cut(1_000_000, drip))
    });
    let local = LocalStore::new();
    let mut options = hasty(&local);
    options.source.timeouts.idle = Duration::from_millis(300);
    let error = local.pull_with(&server.image("debian:stable"), &options);
    let error = show(&error.unwrap_err());
    let says = |text: &&str| error.contains(text);
    assert!(IDLE.iter().any(says), "{error}");
}

#[test]
fn a_blob_whose_length_is_unsaid_is_whole_when_its_digest_is() {
    let image = three_layers("1");
    let (digest, body) = large(&image);
    for length in [Length::Unsaid, Length::Chunked] {
        for end in [700_000, body.len()] {
            let server = Faulty::new(image.clone(), move |request, server| {
                let first = is_about(request, &digest) && request.offset().is_none();
                let fault = if end < 1_000_000 {
                    Fault::Close
                } else {
                    Fault::None
                };
                first.then(|| server.answer(request).length(length).cut(end, fault))
            });
            let local = LocalStore::new();
            let pulled = local.pull(&server.image("debian:stable")).unwrap();
            assert_whole(&local, &pulled);
        }
    }
    let size = body.len();
    for lie in [size - 1, size + 1] {
        let server = Faulty::new(image.clone(), move |request, server| {
            is_about(request, &digest).then(|| server.answer(request).length(Length::Lie(lie)))
        });
        let local = LocalStore::new();
        let error = show(&local.pull(&server.image("debian:stable")).unwrap_err());
        assert!(error.contains("a login page"), "{error}");
    }
}
