//! Certificates of a registry, and proxies.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hull_oci::PullOptions;
use hull_oci::source::Proxies;

use crate::certificates::{self, Shown};
use crate::docker_registry::DockerRegistry;
use crate::faulty::Faulty;
use crate::image::three_layers;
use crate::local_store::{LocalStore, options, show};

/// Options that verify certificates, with what `dir` holds for each host.
fn verifying(dir: &Path) -> PullOptions {
    let mut options = options();
    options.source.insecure = false;
    options.source.trust_loopback = false;
    options.source.config.system = Some(dir.to_owned());
    options
}

#[test]
fn a_registry_is_trusted_by_its_own_certificate_authority() {
    let registry = DockerRegistry::with_own_certificate();
    let temp = tempfile::tempdir().unwrap();
    three_layers("1").write_layout(&temp.path().join("layout"), "test");
    let from = format!("oci:{}/layout:test", temp.path().display());
    registry.push(&from, "debian:stable", &[]);
    let options = verifying(temp.path());
    let local = LocalStore::new();
    let name = registry.name("debian:stable");
    let error = show(&local.pull_with(&name, &options).unwrap_err());
    assert!(error.contains("certificate"), "{error}");

    let host = temp
        .path()
        .join(format!("certs.d/127.0.0.1:{}", registry.port));
    std::fs::create_dir_all(&host).unwrap();
    std::fs::copy(registry.path("cert.pem"), host.join("ca.crt")).unwrap();
    local.pull_with(&name, &options).unwrap();
}

#[test]
fn a_certificate_that_has_expired_is_refused_and_said_to_have() {
    let registry = DockerRegistry::with_expired_certificate();
    let temp = tempfile::tempdir().unwrap();
    let host = temp
        .path()
        .join(format!("certs.d/127.0.0.1:{}", registry.port));
    std::fs::create_dir_all(&host).unwrap();
    std::fs::copy(registry.path("expired.pem"), host.join("ca.crt")).unwrap();
    let local = LocalStore::new();
    let name = registry.name("debian:stable");
    let error = show(&local.pull_with(&name, &verifying(temp.path())).unwrap_err());
    let place = format!("127.0.0.1:{}", registry.port);
    assert!(
        error.contains("expired") && error.contains(&place),
        "{error}"
    );
}

/// What comes of a pull from a server that shows this certificate, and is called `host`,
/// where some of the certificates are trusted.
fn pulled_from(shown: &Arc<Shown>, host: &str, trusted: &[&str]) -> Result<(), String> {
    let server = Faulty::start(three_layers("1"), Some(shown.config()), |_, _| None);
    let name = server.image("debian:stable").replace("127.0.0.1", host);
    let temp = tempfile::tempdir().unwrap();
    let called = server.host().replace("127.0.0.1", host);
    certificates::trust_these(temp.path(), &called, trusted);
    let pulled = LocalStore::new().pull_with(&name, &verifying(temp.path()));
    pulled.map(drop).map_err(|error| show(&error))
}

#[test]
fn an_authority_that_shows_its_own_certificate_is_trusted_if_that_is() {
    pulled_from(&Shown::authority(), "127.0.0.1", &["authority"]).unwrap();
}

#[test]
fn an_authority_that_shows_its_own_certificate_is_trusted_in_its_time_and_by_its_name_only() {
    for (shown, host, trusted, expected) in [
        // Others of the same key and subject.
        (
            Shown::authority(),
            "127.0.0.1",
            &["cert", "old-authority"],
            "CA:FALSE",
        ),
        (
            Shown::old_authority(),
            "127.0.0.1",
            &["authority", "old-authority"],
            "certificate expired",
        ),
        (
            Shown::authority(),
            "localhost",
            &["cert", "authority"],
            "not valid for name",
        ),
    ] {
        let error = pulled_from(&shown, host, trusted).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_certificate_of_another_time_is_refused_and_the_clock_is_to_be_looked_at() {
    for (shown, what) in [
        (Shown::expired(), "certificate expired"),
        (Shown::future(), "certificate not valid yet"),
    ] {
        let server = Faulty::start(three_layers("1"), Some(shown.config()), |_, _| None);
        let temp = tempfile::tempdir().unwrap();
        certificates::trust(temp.path(), &server.host());
        let error = LocalStore::new()
            .pull_with(&server.image("debian:stable"), &verifying(temp.path()))
            .unwrap_err();
        let error = show(&error);
        assert!(error.contains(what), "{error}");
        assert!(error.contains("check this machine's clock"), "{error}");
        // It would be bad advice.
        assert!(!error.contains("insecure"), "{error}");
        assert_eq!(server.requests().len(), 0);
    }
}

#[test]
fn a_registry_that_wants_a_client_certificate_gets_it() {
    let registry = DockerRegistry::with_client_certificates();
    let temp = tempfile::tempdir().unwrap();
    three_layers("1").write_layout(&temp.path().join("layout"), "test");
    let from = format!("oci:{}/layout:test", temp.path().display());
    let own = registry.path("");
    registry.push(
        &from,
        "debian:stable",
        &["--dest-cert-dir", own.to_str().unwrap()],
    );

    let options = verifying(temp.path());
    let host = temp
        .path()
        .join(format!("certs.d/127.0.0.1:{}", registry.port));
    std::fs::create_dir_all(&host).unwrap();
    std::fs::copy(registry.path("cert.pem"), host.join("ca.crt")).unwrap();
    let local = LocalStore::new();
    let name = registry.name("debian:stable");
    let error = show(&local.pull_with(&name, &options).unwrap_err());
    assert!(error.contains("ertificate"), "{error}");
    std::fs::copy(registry.path("cert.pem"), host.join("me.cert")).unwrap();
    let error = show(&local.pull_with(&name, &options).unwrap_err());
    assert!(error.contains("me.key is missing"), "{error}");
    std::fs::copy(registry.path("key.pem"), host.join("me.key")).unwrap();
    local.pull_with(&name, &options).unwrap();
}

/// A proxy that leads every connection to one server, and logs what it is asked.
fn start_proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = log.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (to, log) = (to.clone(), log.clone());
            std::thread::spawn(move || connect(stream, &to, &log));
        }
    });
    (address, kept)
}

fn connect(mut stream: TcpStream, to: &str, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    log.lock().unwrap().push(head);
    let mut server = TcpStream::connect(to).ok()?;
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
    let mut up = server.try_clone().ok()?;
    std::thread::spawn(move || std::io::copy(&mut reader, &mut up));
    std::io::copy(&mut server, &mut stream).ok()?;
    stream.shutdown(std::net::Shutdown::Both).ok()
}

#[test]
fn a_registry_that_speaks_tls_1_2_is_pulled_from() {
    let shown = Shown::good();
    let server = Faulty::start(three_layers("1"), Some(shown.old_config()), |_, _| None);
    let temp = tempfile::tempdir().unwrap();
    certificates::trust(temp.path(), &server.host());
    let name = server.image("debian:stable");
    LocalStore::new()
        .pull_with(&name, &verifying(temp.path()))
        .unwrap();
}

#[test]
fn a_proxy_that_is_to_be_spoken_to_in_secret_hears_nothing_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut first = [0];
            let count = std::io::Read::read(&mut stream, &mut first).unwrap_or(0);
            sender.send(first[..count].to_vec()).ok();
        }
    });
    let mut options = options();
    let proxy = Some(format!("https://user:hush@{address}"));
    options.source.proxies = Proxies::new(None, None, proxy, None);
    // Neither with TLS behind it, nor without, nor where anybody is taken for the registry.
    for insecure in [true, false] {
        options.source.insecure = insecure;
        let pulled = LocalStore::new().pull_with("registry.invalid/debian:stable", &options);
        let error = show(&pulled.unwrap_err());
        assert!(!error.contains("hush"), "{error}");
    }
    let heard: Vec<_> = heard.try_iter().collect();
    assert!(!heard.is_empty());
    // 22 begins a handshake.
    assert!(heard.iter().all(|first| *first == [22]), "{heard:?}");
}

#[test]
fn an_encrypted_proxy_is_verified_whatever_the_registry_is() {
    // A proxy whose certificate nobody trusts.
    let shown = Shown::good();
    let server = Faulty::start(three_layers("1"), Some(shown.config()), |_, _| None);
    let mut options = options();
    let proxy = Some(format!("https://{}", server.host()));
    options.source.proxies = Proxies::new(None, None, proxy, None);
    let pulled = LocalStore::new().pull_with("registry.invalid/debian:stable", &options);
    let error = show(&pulled.unwrap_err());
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn what_is_encrypted_goes_through_a_proxy_as_it_is() {
    let shown = Shown::good();
    let server = Faulty::start(three_layers("1"), Some(shown.config()), |_, _| None);
    let (address, log) = start_proxy(server.host());
    let mut options = options();
    let proxy = Some(format!("http://{address}"));
    options.source.proxies = Proxies::new(None, proxy, None, None);
    // Of another name, so that only who takes every certificate takes this one.
    let name = "registry.invalid/debian:stable";
    LocalStore::new().pull_with(name, &options).unwrap();
    let asked = log.lock().unwrap()[0].clone();
    assert!(
        asked.starts_with("CONNECT registry.invalid:443 "),
        "{asked}"
    );
    assert!(!server.requests().is_empty());

    options.source.insecure = false;
    let error = show(&LocalStore::new().pull_with(name, &options).unwrap_err());
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_proxy_is_asked_for_what_is_not_excepted() {
    let server = Faulty::new(three_layers("1"), |_, _| None);
    let (address, log) = start_proxy(server.host());
    let mut options = options();
    let proxy = Some(format!("http://user:hush@{address}"));
    let through = |no_proxy| Proxies::new(proxy.clone(), None, None, Some(no_proxy));
    options.source.proxies = through("other.example");
    // The name exists nowhere; only the proxy knows the way.
    let name = "registry.invalid/debian:stable";
    LocalStore::new().pull_with(name, &options).unwrap();
    let asked = log.lock().unwrap().clone();
    assert!(
        asked[0].starts_with("CONNECT registry.invalid:80 "),
        "{}",
        asked[0]
    );
    assert!(
        asked[0]
            .to_ascii_lowercase()
            .contains("proxy-authorization: basic")
    );

    options.source.proxies = through(".invalid");
    let error = show(&LocalStore::new().pull_with(name, &options).unwrap_err());
    assert!(!error.contains("hush"), "{error}");
    assert_eq!(log.lock().unwrap().len(), asked.len());

    // This machine is reached without it.
    options.source.proxies = through("");
    LocalStore::new()
        .pull_with(&server.image("debian:stable"), &options)
        .unwrap();
    assert_eq!(log.lock().unwrap().len(), asked.len());
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let image = three_layers("1");
    let registry = Faulty::new(image.clone(), |_, _| None);
    let mirror = Faulty::new(image, |_, _| None);
    let broken = Faulty::new(three_layers("2"), |_, _| {
        Some(crate::faulty::Answer::status(404))
    });
    let temp = tempfile::tempdir().unwrap();
    for (place, expected) in [(&mirror, 0), (&broken, 5)] {
        let text = format!(
            "[[registry]]\nprefix = 'named.example'\nlocation = '{}'\ninsecure = true\n\
             [[registry.mirror]]\nlocation = '{}/cache'\ninsecure = true\n",
            registry.host(),
            place.host()
        );
        let path = temp.path().join("registries.conf");
        File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let mut options = options();
        options.source.config.system = Some(temp.path().to_owned());
        LocalStore::new()
            .pull_with("named.example/debian:stable", &options)
            .unwrap();
        let cached = |request: &crate::faulty::Request| request.path.contains("/cache/debian/");
        assert!(place.requests().iter().any(cached));
        assert_eq!(registry.requests().len(), expected);
    }
}

#[test]
fn mirrors_are_tried_in_their_order_and_each_is_named_in_the_error() {
    let image = three_layers("1");
    let failing =
        |status| Faulty::with_answer(image.clone(), "/v2/", crate::faulty::Answer::status(status));
    let (first, second, registry) = (failing(404), failing(403), failing(410));
    let temp = tempfile::tempdir().unwrap();
    let text = format!(
        "[[registry]]\nprefix = 'named.example'\nlocation = '{}'\ninsecure = true\n\
         [[registry.mirror]]\nlocation = '{}'\ninsecure = true\n\
         [[registry.mirror]]\nlocation = '{}'\ninsecure = true\n",
        registry.host(),
        first.host(),
        second.host()
    );
    let path = temp.path().join("registries.conf");
    File::create(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let mut options = options();
    options.source.config.system = Some(temp.path().to_owned());
    let error = LocalStore::new().pull_with("named.example/debian:stable", &options);
    let error = crate::local_store::show(&error.unwrap_err());
    let at = |server: &Faulty, came: &str| {
        let text = format!("at {}/debian without credentials: {came}", server.host());
        error
            .find(&text)
            .unwrap_or_else(|| panic!("{text} is not in {error}"))
    };
    let not_found = format!("{} answered 404", first.host());
    let places = [
        at(&first, &not_found),
        at(&second, "access denied (403)"),
        at(&registry, &format!("{} answered 410", registry.host())),
    ];
    assert!(places.is_sorted(), "{error}");
    for server in [&first, &second, &registry] {
        assert_eq!(server.requests().len(), 1, "none is asked again in vain");
    }
}
