//! Uploads to registries that fail on the way.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::faulty::{Answer, Faulty, Request};
use crate::image::{TestImage, three_layers};
use crate::local_store::show;
use crate::push::{copy_options, copy_with, large};
use crate::writable::{query, reset, writable};

const MIB: usize = 1 << 20;

/// An image in a layout, which goes with the first value.
fn source(image: &TestImage) -> (tempfile::TempDir, String) {
    let temp = tempfile::tempdir().unwrap();
    image.write_layout(temp.path(), "test");
    let name = format!("oci:{}:test", temp.path().display());
    (temp, name)
}

/// The parts of blobs that were sent, as their headers say.
fn ranges(server: &Faulty) -> Vec<String> {
    let requests = server.requests();
    let patches = requests.iter().filter(|request| request.method == "PATCH");
    patches
        .map(|request| request.header("content-range").unwrap().to_owned())
        .collect()
}

fn count(server: &Faulty, method: &str, part: &str) -> usize {
    let requests = server.requests();
    requests
        .iter()
        .filter(|request| request.method == method && request.path.contains(part))
        .count()
}

/// Whether this is the `n`-th request with this method.
fn nth(counter: &AtomicUsize, request: &Request, method: &str, n: usize) -> bool {
    request.method == method && counter.fetch_add(1, Ordering::SeqCst) + 1 == n
}

#[test]
fn a_chunk_that_breaks_off_goes_on_where_the_registry_has_it() {
    let image = large();
    let (_temp, name) = source(&image);
    let patches = AtomicUsize::new(0);
    let (server, written) = writable(move |request, written| {
        nth(&patches, request, "PATCH", 2).then(|| {
            written.take(request, 3 * MIB);
            reset()
        })
    });
    let copied = copy_with(&name, &server.image("os:1"), &copy_options()).unwrap();
    assert_eq!(copied.digest, Some(image.digest()));
    let end = image.blobs[&image.layers[0]].len() - 1;
    let expected = [
        format!("0-{}", 8 * MIB - 1),
        format!("{}-{}", 8 * MIB, 16 * MIB - 1),
        format!("{}-{}", 11 * MIB, 16 * MIB - 1),
        format!("{}-{end}", 16 * MIB),
    ];
    assert_eq!(ranges(&server), expected);
    let blob = written.blob("os", &image.layers[0]).unwrap();
    assert!(blob == image.blobs[&image.layers[0]]);
}

#[test]
fn an_upload_that_the_registry_lost_begins_anew() {
    let image = large();
    let (_temp, name) = source(&image);
    let patches = AtomicUsize::new(0);
    let (server, written) = writable(move |request, written| {
        nth(&patches, request, "PATCH", 2).then(|| {
            written.forget();
            reset()
        })
    });
    copy_with(&name, &server.image("os:1"), &copy_options()).unwrap();
    assert_eq!(ranges(&server).len(), 2 + 3);
    assert!(written.blob("os", &image.layers[0]).is_some());
    assert_eq!(written.manifest("os", "1").unwrap(), image.manifest());
}

#[test]
fn a_blob_whose_last_answer_was_lost_is_not_sent_again() {
    let image = large();
    let (_temp, name) = source(&image);
    let large = image.layers[0];
    let puts = AtomicUsize::new(0);
    let (server, _) = writable(move |request, written| {
        let is_last = query(request, "digest") == Some(&large.to_string());
        (is_last && nth(&puts, request, "PUT", 1)).then(|| {
            written.answer(request);
            reset()
        })
    });
    copy_with(&name, &server.image("os:1"), &copy_options()).unwrap();
    assert_eq!(ranges(&server).len(), 3);
    assert_eq!(count(&server, "PUT", &large.to_string()), 1);
}

#[test]
fn a_registry_that_has_less_than_it_said_is_asked_where_to_go_on() {
    let image = large();
    let (_temp, name) = source(&image);
    let patches = AtomicUsize::new(0);
    // It answers 416 once, although what was sent is right: the upload goes on after a question.
    let (server, written) =
        writable(move |request, _| nth(&patches, request, "PATCH", 2).then(|| Answer::status(416)));
    copy_with(&name, &server.image("os:1"), &copy_options()).unwrap();
    assert_eq!(ranges(&server).len(), 4);
    assert!(written.blob("os", &image.layers[0]).is_some());
}

#[test]
fn each_request_is_tried_again_while_the_registry_is_in_trouble() {
    let image = large();
    let (_temp, name) = source(&image);
    for (method, part) in [
        ("HEAD", "/blobs/"),
        ("POST", "/blobs/uploads/"),
        ("PATCH", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
    ] {
        for answer in [
            Answer::status(500),
            Answer::status(503),
            Answer::status(429).header("Retry-After", "0"),
            reset(),
        ] {
            let shown = format!("{method} {part}: {answer:?}");
            let seen = AtomicUsize::new(0);
            let (server, written) = writable(move |request, _| {
                (request.path.contains(part) && nth(&seen, request, method, 1))
                    .then(|| answer.clone())
            });
            let copied = copy_with(&name, &server.image("os:1"), &copy_options());
            let copied = copied.unwrap_or_else(|error| panic!("{shown}: {}", show(&error)));
            assert_eq!(copied.digest, Some(image.digest()), "{shown}");
            assert_eq!(written.manifest("os", "1").unwrap(), image.manifest());
        }
    }
}

#[test]
fn what_a_registry_refuses_for_good_is_told_once_and_no_name_leads_to_it() {
    let image = three_layers("1");
    let (_temp, name) = source(&image);
    for (method, part, status, expected) in [
        ("POST", "/blobs/uploads/", 403, "access denied (403)"),
        ("PUT", "/blobs/uploads/", 400, "answered 400"),
        ("PUT", "/manifests/", 413, "answered 413"),
    ] {
        let (server, written) = writable(move |request, _| {
            (request.method == method && request.path.contains(part)).then(|| {
                Answer::status(status).body(r#"{"errors":[{"message":"the quota is used up"}]}"#)
            })
        });
        let copied = copy_with(&name, &server.image("team/os:1"), &copy_options());
        let error = show(&copied.unwrap_err());
        for part in [
            &*server.host(),
            "repository team/os",
            "could not be written",
            expected,
            "the quota is used up",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(written.manifest("team/os", "1"), None);
    }
}

#[test]
fn a_registry_that_takes_nothing_is_given_up_on() {
    let (_temp, name) = source(&large());
    let (server, written) = writable(|request, _| {
        (request.method == "PATCH").then(|| {
            Answer::status(202)
                .header("Location", request.path.clone())
                .header("Range", "0-0")
        })
    });
    let error = show(&copy_with(&name, &server.image("os:1"), &copy_options()).unwrap_err());
    assert!(error.contains("the registry took nothing"), "{error}");
    assert!(error.contains("tried"), "{error}");
    assert_eq!(written.manifest("os", "1"), None);
}

#[test]
fn a_registry_that_wants_longer_chunks_gets_them() {
    let image = large();
    let (_temp, name) = source(&image);
    let (server, _) = writable(|request, written| {
        (request.method == "POST").then(|| {
            let answer = written.answer(request);
            answer.header("OCI-Chunk-Min-Length", (12 * MIB).to_string())
        })
    });
    copy_with(&name, &server.image("os:1"), &copy_options()).unwrap();
    let end = image.blobs[&image.layers[0]].len() - 1;
    let expected = [format!("0-{}", 12 * MIB - 1), format!("{}-{end}", 12 * MIB)];
    assert_eq!(ranges(&server), expected);
}

#[test]
fn a_registry_that_records_another_digest_is_found_out() {
    let (_temp, name) = source(&three_layers("1"));
    let other = hull_oci::Digest::sha256(b"other").to_string();
    let expected = other.clone();
    let (server, _) = writable(move |request, _| {
        let is_manifest = request.path.contains("/manifests/");
        is_manifest.then(|| Answer::status(201).header("Docker-Content-Digest", &*other))
    });
    let error = show(&copy_with(&name, &server.image("os:1"), &copy_options()).unwrap_err());
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_blob_that_the_registry_has_in_another_length_is_sent() {
    let image = three_layers("1");
    let (_temp, name) = source(&image);
    let layer = image.layers[0];
    let (server, written) = writable(move |request, _| {
        (request.method == "HEAD" && request.path.ends_with(&layer.to_string()))
            .then(|| Answer::ok("application/octet-stream", "short"))
    });
    let copied = copy_with(&name, &server.image("os:1"), &copy_options()).unwrap();
    assert_eq!(copied.sent_blobs, 4);
    assert!(written.blob("os", &layer).is_some());
}

#[test]
fn a_source_that_is_damaged_leaves_no_upload_and_no_manifest() {
    let image = large();
    let (temp, name) = source(&image);
    let path = temp
        .path()
        .join(format!("blobs/sha256/{}", image.layers[0].to_hex()));
    let mut blob = image.blobs[&image.layers[0]].clone();
    blob[19 * MIB] ^= 1;
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), &blob).unwrap();
    let (server, written) = writable(|_, _| None);
    let error = show(&copy_with(&name, &server.image("os:1"), &copy_options()).unwrap_err());
    assert!(error.contains("wrong content"), "{error}");
    assert_eq!(written.manifest("os", "1"), None);
    assert_eq!(written.blob("os", &image.layers[0]), None);
    assert_eq!(written.uploads(), 0, "the registry was told");
}

#[test]
fn blobs_of_another_repository_are_mounted_and_where_that_fails_sent() {
    let image = three_layers("1");
    let (_temp, name) = source(&image);
    let (server, written) = writable(|_, _| None);
    copy_with(&name, &server.image("one/os:1"), &copy_options()).unwrap();
    let (one, two) = (server.image("one/os:1"), server.image("two/os:1"));
    let copied = copy_with(&one, &two, &copy_options()).unwrap();
    assert_eq!((copied.sent_blobs, copied.present_blobs), (0, 4));
    assert_eq!(written.manifest("two/os", "1").unwrap(), image.manifest());
    for status in [202, 401, 403, 404, 405] {
        let (server, written) = writable(move |request, written| {
            query(request, "mount").map(|_| match status {
                202 => {
                    let mut plain = request.clone();
                    plain.path = plain.path.split('?').next().unwrap().to_owned();
                    written.answer(&plain)
                }
                status => Answer::status(status),
            })
        });
        copy_with(&name, &server.image("one/os:1"), &copy_options()).unwrap();
        let (one, two) = (server.image("one/os:1"), server.image("two/os:1"));
        let copied = copy_with(&one, &two, &copy_options()).unwrap();
        assert_eq!(
            (copied.sent_blobs, copied.present_blobs),
            (4, 0),
            "{status}"
        );
        assert_eq!(written.uploads(), 0, "{status}: uploads are taken back");
    }
}

/// What a request may only do with a token, in the words of a token's scope.
fn needed(request: &Request) -> Vec<String> {
    let path = request.path.strip_prefix("/v2/").unwrap_or_default();
    let end = path.find("/blobs/").or(path.find("/manifests/"));
    let repository = &path[..end.unwrap_or(0)];
    let actions = match &*request.method {
        "GET" | "HEAD" => "pull",
        _ => "pull,push",
    };
    let mut scopes = vec![format!("repository:{repository}:{actions}")];
    if let Some(from) = query(request, "from") {
        scopes.push(format!("repository:{from}:pull"));
    }
    scopes
}

/// A registry that wants a token which allows what is asked for; whether it says what
/// that is, as most do.
fn with_scopes(tells: bool) -> (Faulty, std::sync::Arc<crate::writable::Written>) {
    writable(move |request, _| {
        if request.path.starts_with("/token") {
            let (_, query) = request.path.split_once('?').unwrap();
            let scopes: Vec<_> = query
                .split('&')
                .filter_map(|pair| pair.strip_prefix("scope="))
                .collect();
            // The token is what it allows.
            let token = format!(r#"{{"token":"{}"}}"#, scopes.join("|"));
            return Some(Answer::ok("application/json", token));
        }
        let bearer = request.header("authorization").unwrap_or_default();
        let held: Vec<_> = bearer.trim_start_matches("Bearer ").split('|').collect();
        let needed = needed(request);
        let allows = |scope: &String| {
            let pull = scope.strip_suffix(",push").unwrap_or(scope);
            held.iter()
                .any(|held| held == scope || *held == format!("{pull},push"))
        };
        if needed.iter().all(allows) {
            return None;
        }
        let host = request.header("host").unwrap();
        let mut challenge = format!(r#"Bearer realm="http://{host}/token",service="test""#);
        if tells {
            challenge += &format!(r#",scope="{}""#, needed.join(" "));
        }
        Some(Answer::status(401).header("WWW-Authenticate", challenge))
    })
}

#[test]
fn tokens_allow_what_is_done_and_no_more() {
    let image = three_layers("1");
    let (_temp, name) = source(&image);
    let (server, written) = with_scopes(true);
    copy_with(&name, &server.image("one/os:1"), &copy_options()).unwrap();
    let before = server.requests().len();
    let (one, two) = (server.image("one/os:1"), server.image("two/os:1"));
    let copied = copy_with(&one, &two, &copy_options()).unwrap();
    assert_eq!(copied.sent_blobs, 0, "the token opens both repositories");
    assert!(written.manifest("two/os", "1").is_some());
    let requests = server.requests();
    let tokens = requests.iter().skip(before);
    let tokens: Vec<_> = tokens
        .filter(|request| request.path.starts_with("/token"))
        .map(|request| request.path.replace("/token?", ""))
        .collect();
    let mount = "scope=repository:two/os:pull,push&scope=repository:one/os:pull&service=test";
    assert!(tokens.iter().any(|token| token == mount), "{tokens:?}");
    let writes_the_source = |token: &String| token.contains("one/os:pull,push");
    assert!(!tokens.iter().any(writes_the_source), "{tokens:?}");
}

#[test]
fn a_registry_that_does_not_say_what_a_token_must_allow_is_written_too() {
    let image = three_layers("1");
    let (_temp, name) = source(&image);
    let (server, written) = with_scopes(false);
    copy_with(&name, &server.image("one/os:1"), &copy_options()).unwrap();
    assert!(written.manifest("one/os", "1").is_some());
}

#[test]
fn a_password_does_not_go_where_an_upload_is_sent_to() {
    let image = three_layers("1");
    let (temp, name) = source(&image);
    let (elsewhere, _) = writable(|request, _| {
        Some(match &*request.method {
            "PUT" => Answer::status(201),
            _ => Answer::status(202).header("Location", request.path.clone()),
        })
    });
    let other = elsewhere.host();
    let basic = format!("Basic {}", STANDARD.encode("user:hush"));
    let expected = basic.clone();
    let (server, _) = writable(move |request, _| {
        if request.header("authorization") != Some(&*expected) {
            return Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
        }
        (request.method == "POST").then(|| {
            let location = format!("http://{other}/upload?key=signed");
            Answer::status(202).header("Location", location)
        })
    });
    let auth = temp.path().join("auth.json");
    let login =
        serde_json::json!({"auths": {server.host(): {"auth": STANDARD.encode("user:hush")}}});
    std::io::Write::write_all(
        &mut std::fs::File::create(&auth).unwrap(),
        login.to_string().as_bytes(),
    )
    .unwrap();
    let mut options = copy_options();
    options.target.auth.explicit = Some(auth);
    copy_with(&name, &server.image("os:1"), &options).unwrap();
    let sent = elsewhere.requests();
    assert_eq!(
        sent.iter()
            .filter(|request| request.method == "PUT")
            .count(),
        4
    );
    for request in sent {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
        assert_eq!(query(&request, "key"), Some("signed"));
    }
}
