//! Certificates for servers on this machine: one that is good, one whose time is over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use hull_sys::run::Program;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What all encrypted servers of this process share, by name: a directory of it would outlive them.
static FILES: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let temp = tempfile::tempdir().unwrap();
    make_certificate(temp.path());
    let names = [&["key"], &CERTIFICATES[..]].concat();
    let read = |name| {
        let name = format!("{name}.pem");
        let bytes = std::fs::read(temp.path().join(&name)).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
});

/// All of one key.
pub(crate) const CERTIFICATES: [&str; 5] =
    ["cert", "expired", "future", "authority", "old-authority"];

/// What a server shows: its certificate, and where that is wanted, the one that has expired.
#[derive(Debug)]
pub(crate) struct Shown {
    good: Arc<CertifiedKey>,
    expired: Arc<CertifiedKey>,
    /// For so many connections more.
    is_expired_for: AtomicUsize,
}

impl Shown {
    pub(crate) fn good() -> Arc<Self> {
        Self::new(0)
    }

    /// Only the one that has expired.
    pub(crate) fn expired() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// Only one whose time is yet to come.
    pub(crate) fn future() -> Arc<Self> {
        Arc::new(Self {
            good: read("future.pem"),
            expired: read("expired.pem"),
            is_expired_for: AtomicUsize::new(0),
        })
    }

    /// Only that of an authority, as `openssl req -x509` makes one.
    pub(crate) fn authority() -> Arc<Self> {
        Self::always("authority.pem")
    }

    /// The same, whose time is over.
    pub(crate) fn old_authority() -> Arc<Self> {
        Self::always("old-authority.pem")
    }

    fn always(name: &str) -> Arc<Self> {
        Arc::new(Self {
            good: read(name),
            expired: read("expired.pem"),
            is_expired_for: AtomicUsize::new(0),
        })
    }

    fn new(is_expired_for: usize) -> Arc<Self> {
        Arc::new(Self {
            good: read("cert.pem"),
            expired: read("expired.pem"),
            is_expired_for: AtomicUsize::new(is_expired_for),
        })
    }

    /// The next connections get the one that has expired.
    pub(crate) fn expire_for(&self, connections: usize) {
        self.is_expired_for.store(connections, Ordering::SeqCst);
    }

    /// What a server needs. No session goes on with what an earlier connection proved.
    pub(crate) fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        self.config_for(rustls::ALL_VERSIONS)
    }

    /// The same of a server that knows TLS up to 1.2.
    pub(crate) fn old_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        self.config_for(&[&rustls::version::TLS12])
    }

    fn config_for(
        self: &Arc<Self>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_protocol_versions(versions)
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let less = |count: usize| count.checked_sub(1);
        let is_expired = self
            .is_expired_for
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        Some(match is_expired {
            Ok(_) => self.expired.clone(),
            Err(_) => self.good.clone(),
        })
    }
}

fn read(name: &str) -> Arc<CertifiedKey> {
    let certificate = CertificateDer::from_pem_slice(&FILES[name]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&FILES["key.pem"]).unwrap();
    let key = ring::sign::any_supported_type(&key).unwrap();
    Arc::new(CertifiedKey::new(vec![certificate], key))
}

/// Writes a certs.d(5) in which all certificates are authorities for `host`, so that time alone
/// tells them apart.
pub(crate) fn trust(dir: &Path, host: &str) {
    trust_these(dir, host, &CERTIFICATES);
}

/// The same with some of [`CERTIFICATES`].
pub(crate) fn trust_these(dir: &Path, host: &str, names: &[&str]) {
    let dir = dir.join("certs.d").join(host);
    std::fs::create_dir_all(&dir).unwrap();
    for name in names {
        let mut file = File::create(dir.join(format!("{name}.crt"))).unwrap();
        file.write_all(&FILES[&format!("{name}.pem")]).unwrap();
    }
}

/// Writes `cert.pem` for 127.0.0.1 with its `key.pem`; the same of 2020, `expired.pem`; and the
/// same of 2199, `future.pem`; and the same as an authority, `authority.pem` and `old-authority.pem`.
pub(crate) fn make_certificate(dir: &Path) {
    Program::new("openssl")
        .package("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .run()
        .unwrap();
    prepare_authority(dir);
    make_by_hand(
        dir,
        "expired.pem",
        "server",
        "20200101000000Z",
        "20200102000000Z",
    );
    make_by_hand(
        dir,
        "future.pem",
        "server",
        "21990101000000Z",
        "21990102000000Z",
    );
    make_by_hand(
        dir,
        "authority.pem",
        "authority",
        "20200101000000Z",
        "21990102000000Z",
    );
    make_by_hand(
        dir,
        "old-authority.pem",
        "authority",
        "20200101000000Z",
        "20200102000000Z",
    );
    // As skopeo's --dest-cert-dir wants them.
    for (from, to) in [
        ("cert.pem", "ca.crt"),
        ("cert.pem", "client.cert"),
        ("key.pem", "client.key"),
    ] {
        std::fs::copy(dir.join(from), dir.join(to)).unwrap();
    }
}

/// What `openssl ca` needs: nothing else takes any dates.
fn prepare_authority(dir: &Path) {
    let text = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, content: &str| {
        let mut file = File::create(dir.join(name)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    };
    write("index.txt", "");
    write("serial", "01\n");
    write(
        "ca.cnf",
        &format!(
            "[ca]\ndefault_ca=own\n[own]\ndatabase={}\nserial={}\nnew_certs_dir={}\ndefault_md=sha256\npolicy=any\n\
             unique_subject=no\nx509_extensions=server\n[any]\ncommonName=supplied\n\
             [server]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n\
             [authority]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n",
            text("index.txt"),
            text("serial"),
            dir.display()
        ),
    );
    let (key, request) = (text("key.pem"), text("request.pem"));
    Program::new("openssl")
        .package("openssl")
        .args([
            "req", "-new", "-subj", "/CN=test", "-key", &key, "-out", &request,
        ])
        .run()
        .unwrap();
}

fn make_by_hand(dir: &Path, name: &str, extensions: &str, from: &str, to: &str) {
    let text = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    Program::new("openssl")
        .package("openssl")
        .args(["ca", "-batch", "-notext", "-selfsign"])
        .args([
            "-startdate",
            from,
            "-enddate",
            to,
            "-extensions",
            extensions,
        ])
        .args(["-config", &text("ca.cnf"), "-keyfile", &text("key.pem")])
        .args(["-in", &text("request.pem"), "-out", &text(name)])
        .run()
        .unwrap();
}
