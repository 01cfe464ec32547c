//! Passwords and tokens.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hull_oci::PullOptions;
use serde_json::json;

use crate::docker_registry::DockerRegistry;
use crate::faulty::{Answer, Faulty, Request};
use crate::image::three_layers;
use crate::local_store::{LocalStore, options, show};

const PASSWORD: &str = "hush";

fn auth_file(dir: &Path, key: &str) -> PathBuf {
    let path = dir.join("auth.json");
    let auth = STANDARD.encode(format!("user:{PASSWORD}"));
    let value = json!({"auths": {key: {"auth": auth}}});
    serde_json::to_writer(std::fs::File::create(&path).unwrap(), &value).unwrap();
    path
}

fn with_auth_file(path: PathBuf) -> PullOptions {
    let mut options = options();
    options.source.auth.explicit = Some(path);
    options
}

#[test]
fn a_password_opens_a_registry_and_its_absence_is_explained() {
    let image = three_layers("1");
    let temp = tempfile::tempdir().unwrap();
    image.write_layout(&temp.path().join("layout"), "test");
    let registry = DockerRegistry::with_password();
    let from = format!("oci:{}/layout:test", temp.path().display());
    registry.push(&from, "debian:stable", &["--dest-creds", "user:hush"]);
    let name = registry.name("debian:stable");
    let local = LocalStore::new();

    let error = show(&local.pull(&name).unwrap_err());
    assert!(error.contains("access denied (401)"), "{error}");
    assert!(error.contains("without credentials"), "{error}");
    assert!(error.contains("--authfile"), "{error}");

    let wrong = auth_file(temp.path(), "127.0.0.1:1");
    let error = show(&local.pull_with(&name, &with_auth_file(wrong)).unwrap_err());
    assert!(error.contains("without credentials"), "{error}");

    let host = format!("127.0.0.1:{}", registry.port);
    let path = auth_file(temp.path(), &format!("{host}/debian"));
    local.pull_with(&name, &with_auth_file(path)).unwrap();
}

#[test]
fn a_wrong_password_is_blamed_on_its_file_and_not_shown() {
    let registry = DockerRegistry::with_password();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("auth.json");
    let auth = STANDARD.encode("user:topsecret");
    let value = json!({"auths": {format!("127.0.0.1:{}", registry.port): {"auth": auth}}});
    serde_json::to_writer(std::fs::File::create(&path).unwrap(), &value).unwrap();
    let local = LocalStore::new();
    let error = local
        .pull_with(&registry.name("debian"), &with_auth_file(path.clone()))
        .unwrap_err();
    let text = format!("{} {error:?}", show(&error));
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(
        !text.contains("topsecret") && !text.contains(&auth),
        "{text}"
    );
}

/// A registry whose tokens are good for `uses` requests each.
fn with_tokens(uses: usize) -> Faulty {
    let image = three_layers("1");
    let issued = AtomicUsize::new(0);
    let used = AtomicUsize::new(0);
    Faulty::new(image, move |request, server| {
        if request.path.starts_with("/token?") {
            let count = issued.fetch_add(1, Ordering::SeqCst) + 1;
            used.store(0, Ordering::SeqCst);
            return Some(Answer::ok(
                "application/json",
                json!({"token": format!("secret-token-{count}")}).to_string(),
            ));
        }
        let good = format!("Bearer secret-token-{}", issued.load(Ordering::SeqCst));
        let is_good = request.header("authorization") == Some(&good)
            && used.fetch_add(1, Ordering::SeqCst) < uses;
        if is_good {
            return None;
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token?x=1\",service=\"test service\",scope=\"repository:debian:pull\"",
            server.host()
        );
        Some(Answer::status(401).header("WWW-Authenticate", challenge))
    })
}

fn token_requests(server: &Faulty) -> Vec<Request> {
    let requests = server.requests();
    requests
        .into_iter()
        .filter(|request| request.path.starts_with("/token"))
        .collect()
}

#[test]
fn a_token_is_fetched_once_with_the_password_and_used_for_all() {
    let server = with_tokens(usize::MAX);
    let temp = tempfile::tempdir().unwrap();
    let path = auth_file(temp.path(), &server.host());
    let local = LocalStore::new();
    local
        .pull_with(&server.image("debian:stable"), &with_auth_file(path))
        .unwrap();
    let tokens = token_requests(&server);
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?x=1&scope=repository:debian:pull&service=test%20service&account=user"
    );
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{PASSWORD}")));
    assert_eq!(tokens[0].header("authorization"), Some(&*basic));
    let others = server.requests();
    let leaks = others
        .iter()
        .filter(|request| !request.path.starts_with("/token"))
        .filter(|request| request.header("authorization") == Some(&*basic));
    assert_eq!(
        leaks.count(),
        0,
        "the password is for the token service only"
    );
}

#[test]
fn a_token_that_expires_on_the_way_is_replaced() {
    let server = with_tokens(2);
    let local = LocalStore::new();
    let mut options = options();
    options.parallel = Some(1.try_into().unwrap());
    local
        .pull_with(&server.image("debian:stable"), &options)
        .unwrap();
    assert_eq!(
        token_requests(&server).len(),
        3,
        "five requests, two a token"
    );
}

#[test]
fn a_registry_that_never_accepts_its_token_is_asked_twice() {
    let server = with_tokens(0);
    let local = LocalStore::new();
    let error = local.pull(&server.image("debian:stable")).unwrap_err();
    let text = format!("{} {error:?}", show(&error));
    assert!(text.contains("access denied (401)"), "{text}");
    assert!(!text.contains("secret-token"), "{text}");
    // HTTPS is tried first, which a server of plain HTTP does not log.
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_token_service_that_refuses_or_talks_nonsense_is_named() {
    for (answer, expected) in [
        (
            Answer::status(401).body(r#"{"details":"wrong password"}"#),
            "wrong password",
        ),
        (
            Answer::ok("application/json", "[]"),
            "the token service http://",
        ),
        (
            Answer::ok("application/json", vec![b' '; 2 << 20]),
            "longer than",
        ),
    ] {
        let server = Faulty::new(three_layers("1"), move |request, server| {
            if request.path.starts_with("/token") {
                return Some(answer.clone());
            }
            let challenge = format!("Bearer realm=\"http://{}/token\"", server.host());
            Some(Answer::status(401).header("WWW-Authenticate", challenge))
        });
        let local = LocalStore::new();
        let error = show(&local.pull(&server.image("debian:stable")).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let image = three_layers("1");
    let storage = Faulty::new(image.clone(), |_, _| None);
    let elsewhere = storage.host();
    let server = Faulty::new(image, move |request, _| {
        if request.header("authorization").is_none() {
            return Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=test"));
        }
        request.path.contains("/blobs/").then(|| {
            let location = format!("http://{elsewhere}{}?signature=top", request.path);
            Answer::status(307).header("Location", location)
        })
    });
    let temp = tempfile::tempdir().unwrap();
    let path = auth_file(temp.path(), &server.host());
    let local = LocalStore::new();
    local
        .pull_with(&server.image("debian:stable"), &with_auth_file(path))
        .unwrap();
    let requests = storage.requests();
    assert_eq!(requests.len(), 4, "configuration and three layers");
    for request in requests {
        assert_eq!(request.header("authorization"), None);
        assert!(request.path.ends_with("?signature=top"));
    }
}

#[test]
fn a_host_that_we_are_sent_to_gets_no_answer_to_its_challenge() {
    let image = three_layers("1");
    let thief = Faulty::new(image.clone(), |_, _| {
        Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=test"))
    });
    let elsewhere = thief.host();
    let server = Faulty::new(image, move |request, _| {
        if request.header("authorization").is_none() {
            return Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=test"));
        }
        let location = format!("http://{elsewhere}{}?signature=top", request.path);
        Some(Answer::status(302).header("Location", location))
    });
    let temp = tempfile::tempdir().unwrap();
    let path = auth_file(temp.path(), &server.host());
    let local = LocalStore::new();
    let error = local
        .pull_with(&server.image("debian:stable"), &with_auth_file(path))
        .unwrap_err();
    let text = format!("{} {error:?}", show(&error));
    assert!(text.contains(&thief.host()), "{text}");
    assert!(!text.contains("signature=top"), "{text}");
    assert!(
        thief
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

/// A registry that gives tokens only for `refresh-hush` in a form, and wants one.
fn with_refresh_tokens(redirect_to: Option<String>) -> Faulty {
    Faulty::new(three_layers("1"), move |request, server| {
        if request.path.starts_with("/token") {
            if let Some(elsewhere) = &redirect_to {
                return Some(Answer::status(307).header("Location", format!("{elsewhere}/token")));
            }
            let good =
                String::from_utf8_lossy(&request.body).contains("&refresh_token=refresh-hush");
            return Some(if good {
                Answer::ok("application/json", r#"{"access_token":"short-hush"}"#)
            } else {
                Answer::status(401)
            });
        }
        if request.header("authorization") == Some("Bearer short-hush") {
            return None;
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"test service\"",
            server.host()
        );
        Some(Answer::status(401).header("WWW-Authenticate", challenge))
    })
}

fn identity_token_file(dir: &Path, key: &str) -> PathBuf {
    let path = dir.join("auth.json");
    let value = json!({"auths": {key: {"identitytoken": "refresh-hush"}}});
    serde_json::to_writer(std::fs::File::create(&path).unwrap(), &value).unwrap();
    path
}

#[test]
fn an_identity_token_is_exchanged_in_a_form_and_nowhere_else() {
    let server = with_refresh_tokens(None);
    let temp = tempfile::tempdir().unwrap();
    let path = identity_token_file(temp.path(), &server.host());
    LocalStore::new()
        .pull_with(&server.image("debian:stable"), &with_auth_file(path))
        .unwrap();
    let tokens = token_requests(&server);
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        String::from_utf8_lossy(&tokens[0].body),
        "scope=repository:debian:pull&service=test%20service&grant_type=refresh_token\
         &client_id=hull&refresh_token=refresh-hush"
    );
    for request in server.requests() {
        assert!(
            !format!("{} {:?}", request.path, request.header("authorization")).contains("refresh")
        );
    }
}

#[test]
fn an_identity_token_does_not_follow_a_redirect() {
    let thief = Faulty::new(three_layers("1"), |_, _| Some(Answer::status(200)));
    let server = with_refresh_tokens(Some(format!("http://{}", thief.host())));
    let temp = tempfile::tempdir().unwrap();
    let path = identity_token_file(temp.path(), &server.host());
    let error = LocalStore::new()
        .pull_with(&server.image("debian:stable"), &with_auth_file(path))
        .unwrap_err();
    let text = format!("{} {error:?}", show(&error));
    assert!(!text.contains("hush"), "{text}");
    assert!(thief.requests().is_empty());
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_port_of_the_same_host_and_back() {
    let image = three_layers("1");
    let storage = Faulty::new(image.clone(), |_, _| None);
    let elsewhere = storage.host();
    let server = Faulty::new(image, move |request, _| {
        if request.path.contains("/blobs/") {
            let location = format!("http://{elsewhere}{}", request.path);
            return Some(Answer::status(307).header("Location", location));
        }
        let known = request.header("authorization").is_some();
        (!known).then(|| Answer::status(401).header("WWW-Authenticate", "Basic realm=test"))
    });
    let temp = tempfile::tempdir().unwrap();
    let path = auth_file(temp.path(), &server.host());
    LocalStore::new()
        .pull_with(&server.image("debian:stable"), &with_auth_file(path))
        .unwrap();
    assert!(!storage.requests().is_empty());
    for request in storage.requests() {
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn a_password_is_not_sent_in_the_clear_because_an_encrypted_registry_says_so() {
    let service = Faulty::new(three_layers("1"), |_, _| {
        Some(Answer::ok("application/json", r#"{"token": "x"}"#))
    });
    let realm = format!("http://{}/token", service.host());
    let registry = DockerRegistry::with_token_service(&realm);
    let temp = tempfile::tempdir().unwrap();
    let host = registry.name("").trim_end_matches('/').to_owned();
    let certificates = temp.path().join(format!("certs.d/{host}"));
    std::fs::create_dir_all(&certificates).unwrap();
    std::fs::copy(registry.path("cert.pem"), certificates.join("ca.crt")).unwrap();
    let mut options = with_auth_file(auth_file(temp.path(), &host));
    // Whether or not the registry must prove who it is: what is said to it is encrypted.
    for insecure in [false, true] {
        options.source.insecure = insecure;
        options.source.config.system = (!insecure).then(|| temp.path().to_owned());
        let result = LocalStore::new().pull_with(&registry.name("debian:stable"), &options);
        let error = show(&result.unwrap_err());
        assert!(error.contains("it is not encrypted"), "{insecure}: {error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
    assert!(service.requests().is_empty());
}

#[test]
fn nothing_secret_is_in_the_debug_form_of_options_and_errors() {
    let server = Faulty::new(three_layers("1"), |_, _| {
        Some(Answer::status(401).header("WWW-Authenticate", "Basic realm=test"))
    });
    let temp = tempfile::tempdir().unwrap();
    let mut options = with_auth_file(auth_file(temp.path(), &server.host()));
    let proxy = Some("http://user:hush@proxy.example:3128".to_owned());
    options.source.proxies = hull_oci::source::Proxies::new(proxy.clone(), proxy, None, None);
    let reference = server.image("debian").parse().unwrap();
    let source = hull_oci::source::open(&reference, &options.source).unwrap();
    let error = source.root().unwrap_err();
    // The connections, the authenticator and its state are all in the source.
    let text = format!("{options:?} {source:?} {error:?} {error}");
    let encoded = STANDARD.encode(format!("user:{PASSWORD}"));
    assert!(
        !text.contains(PASSWORD) && !text.contains(&encoded),
        "{text}"
    );
}
