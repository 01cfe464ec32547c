//! A registry that fails in every way is reported, and does no harm.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hull_oci::digest::BlobError;
use hull_oci::manifest::{Compression, ManifestError};
use hull_oci::progress::{Event, Stage};
use hull_oci::source::{self, SourceError};
use hull_oci::{Digest, Image, Progress, PullError, PullOptions, Reference};
use hull_store::{Kind, gc};
use rustix::net::{self, AddressFamily, SocketType};
use serde_json::json;

use crate::faulty::{Answer, Fault, Faulty};
use crate::image::{OCI_MANIFEST, Recipe, TestImage, make, tar, three_layers};
use crate::local_store::{LocalStore, options, read, show};

/// Pulls from a server with one wrong answer; then from one without.
#[track_caller]
fn fails_then_works(part: &str, answer: Answer) -> PullError {
    let image = three_layers("1");
    let local = LocalStore::new();
    let bad = Faulty::with_answer(image.clone(), part, answer);
    let error = local.pull(&bad.image("debian:stable")).unwrap_err();
    local.assert_lacks(&image.digest());
    let good = Faulty::new(image, |_, _| None);
    let pulled = local.pull(&good.image("debian:stable")).unwrap();
    let tree = pulled.image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "usr/three").len() > 2_800_000);
    error
}

#[track_caller]
fn content_error(error: PullError) -> BlobError {
    let error = match error {
        PullError::Content { source } => *source,
        PullError::Source(source) => source,
        error => panic!("{}", show(&error)),
    };
    match error {
        SourceError::Registry(error) => match &error.attempts[..] {
            [attempt] => match &attempt.fault {
                source::Fault::Content(content) => content.clone(),
                _ => panic!("{error}"),
            },
            _ => panic!("{error}"),
        },
        error => panic!("{}", show(&error)),
    }
}

fn layer(place: usize) -> (String, Vec<u8>) {
    let image = three_layers("1");
    let digest = image.layers[place];
    (digest.to_string(), image.blobs[&digest].clone())
}

fn blob(body: Vec<u8>) -> Answer {
    Answer::ok("application/octet-stream", body)
}

#[test]
fn a_second_pull_asks_for_the_manifest_and_nothing_else() {
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let local = LocalStore::new();
    local.pull(&server.image("debian:stable")).unwrap();
    let before = server.requests().len();
    assert_eq!(before, 5, "manifest, configuration, three layers");
    let pulled = local.pull(&server.image("debian:stable")).unwrap();
    assert_eq!(pulled.downloaded_bytes, 0);
    let after = server.requests();
    assert_eq!(after.len(), before + 1);
    assert_eq!(after[before].path, "/v2/debian/manifests/stable");

    let digest = pulled.image.manifest_digest;
    local
        .pull(&server.image(&format!("debian@{digest}")))
        .unwrap();
    assert_eq!(
        server.requests().len(),
        before + 1,
        "a digest that is there needs no request"
    );
}

#[test]
fn a_second_pull_through_an_index_asks_for_the_index_alone() {
    let image = three_layers("1");
    let server = Faulty::new(TestImage::index(&[&image]), |_, _| None);
    let local = LocalStore::new();
    local.pull(&server.image("debian:stable")).unwrap();
    let before = server.requests().len();
    local.pull(&server.image("debian:stable")).unwrap();
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn looking_tells_what_a_pull_would_fetch_and_stores_nothing() {
    let image = three_layers("1");
    let server = Faulty::new(image.clone(), |_, _| None);
    let local = LocalStore::new();
    let reference = Reference::parse(&server.image("debian:stable")).unwrap();
    let look = || hull_oci::look(&local.store, &reference, &options()).unwrap();
    let available = look();
    let lengths = image.layers.iter().map(|layer| image.blobs[layer].len());
    assert_eq!(available.manifest_digest, image.digest());
    assert_eq!(available.config.version(), Some("1"));
    assert_eq!(available.missing_layers, 3);
    assert_eq!(
        available.missing_bytes,
        u64::try_from(lengths.sum::<usize>()).unwrap()
    );
    assert_eq!(server.requests().len(), 2, "manifest and configuration");
    local.assert_lacks(&image.digest());

    local.pull(&server.image("debian:stable")).unwrap();
    let available = look();
    assert_eq!((available.missing_layers, available.missing_bytes), (0, 0));
}

#[test]
fn what_was_pulled_survives_a_collection() {
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let local = LocalStore::new();
    let pulled = local.pull(&server.image("debian:stable")).unwrap();
    let collect = || {
        let plan = gc::plan(&local.store, &[]).unwrap();
        gc::execute(&local.store, &plan, Duration::from_secs(5)).unwrap();
    };
    collect();
    let image = Image::load(&local.store, &pulled.image.manifest_digest).unwrap();
    assert_eq!(image, pulled.image);
    let tree = image.tree(&local.store).unwrap();
    assert!(read(&local.store, &tree, "usr/three").len() > 2_800_000);

    let name = hull_oci::pull::default_ref(&image.manifest_digest);
    local
        .store
        .session()
        .unwrap()
        .remove_ref(Kind::Stream, &name)
        .unwrap();
    collect();
    local.assert_lacks(&image.manifest_digest);
}

#[test]
fn two_pulls_at_once_give_one_image() {
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let local = LocalStore::new();
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| local.pull(&server.image("debian:stable")).unwrap().image))
            .collect();
        let images: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap()).collect();
        assert!(images.iter().all(|image| *image == images[0]));
    });
}

#[test]
fn a_blob_with_a_wrong_digest_is_refused() {
    for place in 0..3 {
        let (digest, mut body) = layer(place);
        let middle = body.len() / 2;
        body[middle] ^= 1;
        match content_error(fails_then_works(&digest, blob(body))) {
            BlobError::WrongDigest { digest: named, .. } => assert_eq!(named.to_string(), digest),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn a_blob_that_is_another_file_is_refused_by_its_digest() {
    let (digest, _) = layer(0);
    let error = fails_then_works(&digest, blob(b"<html>captive portal</html>".to_vec()));
    let text = show(&error);
    assert!(text.contains("a login page"), "{text}");
    content_error(error);
}

#[test]
fn a_truncated_or_longer_blob_is_refused() {
    let (digest, body) = layer(2);
    for length in [1, body.len() / 2, body.len() - 1] {
        let error = fails_then_works(&digest, blob(body[..length].to_vec()));
        let error = content_error(error);
        assert!(matches!(error, BlobError::Truncated { .. }), "{error}");
        let error = fails_then_works(&digest, blob(body.clone()).cut(length, Fault::Close));
        let error = show(&error);
        assert!(error.contains("broke off after"), "{error}");
        assert!(error.contains("repository debian"), "{error}");
    }
    let mut longer = body;
    longer.push(0);
    let error = fails_then_works(&digest, blob(longer));
    let error = content_error(error);
    assert!(matches!(error, BlobError::TooLong { .. }), "{error}");
}

#[test]
fn a_configuration_with_a_wrong_digest_is_refused() {
    let image = three_layers("1");
    let mut body = image.blobs[&image.config].clone();
    body[5] ^= 1;
    let error = fails_then_works(&image.config.to_string(), blob(body));
    assert!(show(&error).contains(&image.config.to_string()));
}

#[test]
fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let image = three_layers("1");
    let changed = image.with_manifest(|manifest| manifest["annotations"] = json!({"a": "b"}));
    let server = Faulty::with_answer(
        image.clone(),
        "/manifests/",
        Answer::ok(OCI_MANIFEST, changed.manifest()),
    );
    let local = LocalStore::new();
    let error = local.pull(&server.image(&format!("debian@{}", image.digest())));
    let error = show(&error.unwrap_err());
    assert!(
        error.contains("wrong content") && error.contains(&image.digest().to_string()),
        "{error}"
    );

    let lie = Answer::ok(OCI_MANIFEST, image.manifest())
        .header("Docker-Content-Digest", Digest::sha256(b"lie").to_string());
    let error = show(&fails_then_works("/manifests/", lie));
    assert!(error.contains("wrong content"), "{error}");
}

#[test]
fn documents_that_are_none_are_refused() {
    let image = three_layers("1");
    for (answer, expected) in [
        (
            Answer::ok(OCI_MANIFEST, "garbage"),
            "the manifest cannot be read",
        ),
        (
            Answer::ok(OCI_MANIFEST, "{}"),
            "the manifest cannot be read",
        ),
        (
            Answer::ok(OCI_MANIFEST, vec![b' '; (4 << 20) + 1]),
            "longer than 4194304 bytes",
        ),
        (
            Answer::ok("text/html", image.manifest()),
            "announced as \"text/html\"",
        ),
        (
            Answer::ok(
                OCI_MANIFEST,
                r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#,
            ),
            "ambiguous",
        ),
    ] {
        let error = show(&fails_then_works("/manifests/", answer));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_server_error_is_overcome_by_trying_again() {
    for status in [429, 500, 502, 503, 504] {
        let count = AtomicUsize::new(0);
        let server = Faulty::new(three_layers("1"), move |_, _| {
            // Every request fails once.
            count
                .fetch_add(1, Ordering::SeqCst)
                .is_multiple_of(2)
                .then(|| Answer::status(status))
        });
        let local = LocalStore::new();
        let mut options = options();
        options.parallel = Some(1.try_into().unwrap());
        local
            .pull_with(&server.image("debian:stable"), &options)
            .unwrap();
    }
}

#[test]
fn a_lasting_server_error_is_told_with_its_message() {
    let body = r#"{"errors":[{"code":"UNAVAILABLE","message":"the disk is on fire"}]}"#;
    let error = fails_then_works("/manifests/", Answer::status(503).body(body));
    let error = show(&error);
    assert!(
        error.contains("503: UNAVAILABLE: the disk is on fire"),
        "{error}"
    );
    assert!(error.contains("repository debian"), "{error}");
    assert!(error.contains("the manifest stable"), "{error}");
}

#[test]
fn retry_after_is_obeyed_within_reason() {
    let count = AtomicUsize::new(0);
    let server = Faulty::new(three_layers("1"), move |_, _| {
        (count.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| Answer::status(429).header("Retry-After", "1"))
    });
    let local = LocalStore::new();
    let start = Instant::now();
    local.pull(&server.image("debian:stable")).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn retry_after_in_seconds_or_as_a_date_is_never_obeyed_longer_than_allowed() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    for wanted in ["1000000000", "Sun, 06 Nov 2094 08:49:37 GMT"] {
        let count = AtomicUsize::new(0);
        let server = Faulty::new(three_layers("1"), move |_, _| {
            (count.fetch_add(1, Ordering::SeqCst) == 0).then(|| {
                Answer::status(503)
                    .header("Retry-After", wanted)
                    .header("Date", date)
            })
        });
        let mut options = options();
        options.source.retry.longest_pause = Duration::from_millis(20);
        // It would not end in the time of a test otherwise.
        LocalStore::new()
            .pull_with(&server.image("debian:stable"), &options)
            .unwrap();
    }
}

#[test]
fn a_denial_is_not_tried_again() {
    let image = three_layers("1");
    let body = r#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;
    let server = Faulty::with_answer(image, "/v2/", Answer::status(403).body(body));
    let local = LocalStore::new();
    let error = show(&local.pull(&server.image("debian:stable")).unwrap_err());
    assert!(
        error.contains("access denied (403): DENIED: not for you"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    // Bound, so that nobody else gets the port; who does not listen refuses connections.
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(net::getsockname(&socket).unwrap()).unwrap();
    let port = address.port();
    let local = LocalStore::new();
    let error = local
        .pull(&format!("127.0.0.1:{port}/debian:stable"))
        .unwrap_err();
    let error = show(&error);
    assert!(
        error.contains(&format!("registry 127.0.0.1:{port}")),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
}

fn impatient() -> PullOptions {
    let mut options = options();
    options.source.timeouts.idle = Duration::from_millis(300);
    options.source.retry.attempts = 1;
    options
}

#[test]
fn a_server_that_falls_silent_is_given_up_on() {
    let image = three_layers("1");
    let silence = Fault::Silence(Duration::from_secs(600));
    let (digest, body) = layer(2);
    for (part, answer) in [
        ("/manifests/", Answer::status(200).cut(0, silence)),
        (
            "/manifests/",
            Answer::ok(OCI_MANIFEST, image.manifest()).cut(10, silence),
        ),
        (&*digest, blob(body).cut(1_000_000, silence)),
    ] {
        let server = Faulty::with_answer(image.clone(), part, answer);
        let local = LocalStore::new();
        let start = Instant::now();
        let error = local.pull_with(&server.image("debian:stable"), &impatient());
        let error = show(&error.unwrap_err());
        assert!(start.elapsed() < Duration::from_secs(300), "{error}");
        assert!(
            error.contains("silent") || error.contains("timeout"),
            "{error}"
        );
        local.assert_lacks(&image.digest());
    }
}

#[test]
fn redirects_are_followed_five_times_at_most_and_never_out_of_http() {
    let image = three_layers("1");
    let server = Faulty::new(image.clone(), |request, _| {
        let (path, count) = request
            .path
            .split_once("?count=")
            .unwrap_or((&request.path, "0"));
        let count: u32 = count.parse().unwrap();
        let last = if path.contains("/manifests/") { 5 } else { 0 };
        (count < last)
            .then(|| Answer::status(302).header("Location", format!("{path}?count={}", count + 1)))
    });
    let local = LocalStore::new();
    local.pull(&server.image("debian:stable")).unwrap();

    for (location, expected) in [
        ("/v2/debian/manifests/stable", "more than 5 times"),
        ("file:///etc/passwd", "not followed"),
        ("http://user:topsecret@127.0.0.1/", "not followed"),
    ] {
        let answer = Answer::status(302).header("Location", location);
        let server = Faulty::with_answer(image.clone(), "/v2/", answer);
        let local = LocalStore::new();
        let error = show(&local.pull(&server.image("debian:stable")).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
    }
}

#[test]
fn a_tag_that_moves_during_the_pull_does_no_harm() {
    let old = three_layers("1");
    let new = three_layers("2");
    let index = TestImage::index(&[&old]);
    let count = AtomicUsize::new(0);
    let moved = new.clone();
    let server = Faulty::new(index, move |request, _| {
        let is_tag = request.path.ends_with("/manifests/stable");
        (is_tag && count.fetch_add(1, Ordering::SeqCst) > 0)
            .then(|| Answer::ok(OCI_MANIFEST, moved.manifest()))
    });
    let local = LocalStore::new();
    let pulled = local.pull(&server.image("debian:stable")).unwrap();
    assert_eq!(pulled.image.manifest_digest, old.digest());
    assert_eq!(pulled.image.config.version(), Some("1"));
}

#[test]
fn an_image_for_another_platform_is_refused_before_its_layers_come() {
    let image = make(&Recipe {
        layers: &[(Compression::Gzip, tar(&[("a", b"a")]))],
        architecture: "s390x",
        version: "1",
    });
    let server = Faulty::new(image.clone(), |_, _| None);
    let local = LocalStore::new();
    let error = local.pull(&server.image("debian:stable")).unwrap_err();
    assert!(
        matches!(error, PullError::WrongPlatform { .. }),
        "{}",
        show(&error)
    );
    assert!(show(&error).contains("linux/s390x"));
    assert_eq!(server.requests().len(), 2, "manifest and configuration");
    local.assert_lacks(&image.digest());
}

#[test]
fn a_manifest_and_a_configuration_of_different_images_are_refused() {
    let image = three_layers("1").with_manifest(|manifest| {
        manifest["layers"].as_array_mut().unwrap().pop();
    });
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let error = local.pull(&server.image("debian:stable")).unwrap_err();
    let PullError::Document { source, .. } = error else {
        panic!("{}", show(&error));
    };
    let expected = ManifestError::LayerCount {
        diff_ids: 3,
        layers: 2,
    };
    assert_eq!(*source, expected);
}

#[test]
fn a_media_type_that_lies_about_the_compression_is_refused() {
    let image = three_layers("1").with_manifest(|manifest| {
        manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+zstd");
    });
    let server = Faulty::new(image.clone(), |_, _| None);
    let local = LocalStore::new();
    let error = local.pull(&server.image("debian:stable")).unwrap_err();
    assert!(
        matches!(error, PullError::Decompress { .. }),
        "{}",
        show(&error)
    );
    assert!(
        show(&error).contains("the content is gzip"),
        "{}",
        show(&error)
    );
    assert!(show(&error).contains(&image.layers[0].to_string()));
    local.assert_lacks(&image.digest());
}

#[test]
fn a_layer_that_is_no_tar_is_refused_by_its_digest() {
    let image = make(&Recipe {
        layers: &[(Compression::Gzip, vec![b'x'; 100_000])],
        architecture: &crate::image::host_architecture(),
        version: "1",
    });
    let server = Faulty::new(image.clone(), |_, _| None);
    let local = LocalStore::new();
    let error = local.pull(&server.image("debian:stable")).unwrap_err();
    assert!(matches!(error, PullError::Layer { .. }), "{}", show(&error));
    assert!(show(&error).contains(&image.layers[0].to_string()));
    local.assert_lacks(&image.digest());
}

#[test]
fn a_layer_that_comes_twice_is_fetched_once() {
    let same = (Compression::Gzip, tar(&[("usr/file", &[3; 500])]));
    let image = make(&Recipe {
        layers: &[same.clone(), same],
        architecture: &crate::image::host_architecture(),
        version: "1",
    });
    let server = Faulty::new(image, |_, _| None);
    let local = LocalStore::new();
    let pulled = local.pull(&server.image("debian:stable")).unwrap();
    assert_eq!(pulled.image.layers.len(), 2);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn progress_tells_each_layer_from_begin_to_end() {
    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);
    impl Progress for Log {
        fn report(&self, event: Event<'_>) {
            let text = match event {
                Event::Layers(layers) => {
                    let cached: Vec<_> = layers.iter().map(|layer| layer.cached).collect();
                    format!("{cached:?}")
                }
                Event::LayerBytes { layer, .. } => format!("bytes {layer}"),
                Event::LayerDone { layer } => format!("done {layer}"),
                Event::Stage(stage) => format!("{stage:?}"),
                _ => return,
            };
            self.0.lock().unwrap().push(text);
        }
    }
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let local = LocalStore::new();
    let reference = Reference::parse(&server.image("debian:stable")).unwrap();
    let pull = || {
        let log = Log::default();
        hull_oci::pull(&local.store, &reference, &options(), &log).unwrap();
        log.0.into_inner().unwrap()
    };
    let log = pull();
    assert_eq!(log[..3], ["Resolving", "[false, false, false]", "Fetching"]);
    assert_eq!(log.last().unwrap(), &format!("{:?}", Stage::Recording));
    for layer in 0..3 {
        assert_eq!(
            log.iter()
                .filter(|line| **line == format!("done {layer}"))
                .count(),
            1
        );
    }
    assert!(log.iter().filter(|line| *line == "bytes 2").count() >= 10);
    assert_eq!(pull(), ["Resolving", "[true, true, true]"]);
}
