//! Debian's docker-registry on a free port of the loopback device.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hull_sys::run::Program;

/// A registry process with its data; both go with this value.
pub(crate) struct DockerRegistry {
    process: Child,
    pub(crate) port: u16,
    temp: tempfile::TempDir,
}

/// `user` with the password `hush`, as `htpasswd -B` writes it.
const HTPASSWD: &[u8] = b"user:$2y$05$EzC9mB66zMHdpE64Gwhe7OCaYh.PFMNF3nbmxMHRFNrko6zSAaP56\n";

impl DockerRegistry {
    pub(crate) fn start() -> Self {
        Self::with_config("", "")
    }

    /// It wants `user` and `hush`.
    pub(crate) fn with_password() -> Self {
        Self::with_config("", "auth: {htpasswd: {realm: test, path: TEMP/htpasswd}}\n")
    }

    /// It speaks HTTPS, with a certificate that nobody trusts.
    pub(crate) fn with_own_certificate() -> Self {
        Self::with_config("tls: {certificate: TEMP/cert.pem, key: TEMP/key.pem}", "")
    }

    /// It speaks HTTPS, with a certificate that was good on one day of 2020.
    pub(crate) fn with_expired_certificate() -> Self {
        Self::with_config(
            "tls: {certificate: TEMP/expired.pem, key: TEMP/key.pem}",
            "",
        )
    }

    /// It speaks HTTPS, and sends everybody to this token service.
    pub(crate) fn with_token_service(realm: &str) -> Self {
        Self::with_config(
            "tls: {certificate: TEMP/cert.pem, key: TEMP/key.pem}",
            &format!(
                "auth: {{token: {{realm: {realm}, service: test, issuer: test, \
                 rootcertbundle: TEMP/cert.pem}}}}\n"
            ),
        )
    }

    /// It speaks HTTPS, and wants the same certificate from its clients.
    pub(crate) fn with_client_certificates() -> Self {
        Self::with_config(
            "tls: {certificate: TEMP/cert.pem, key: TEMP/key.pem, clientcas: [TEMP/cert.pem]}",
            "",
        )
    }

    /// A file of its own.
    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.temp.path().join(inner)
    }

    fn with_config(http: &str, more: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        File::create(root.join("htpasswd"))
            .unwrap()
            .write_all(HTPASSWD)
            .unwrap();
        if !http.is_empty() {
            make_certificate(root);
        }
        // Another process may take the port between this and the start; then the start fails.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\n\
             storage: {{filesystem: {{rootdirectory: TEMP/data}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  {http}\n{more}"
        );
        let config = config.replace("TEMP", root.to_str().unwrap());
        let path = root.join("config.yml");
        File::create(&path)
            .unwrap()
            .write_all(config.as_bytes())
            .unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a server that runs beside the test"
        )]
        let process = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(File::create(root.join("log")).unwrap())
            .spawn()
            .expect("docker-registry is needed: apt-get install docker-registry");
        let registry = Self {
            process,
            port,
            temp,
        };
        registry.wait();
        registry
    }

    fn wait(&self) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(self.temp.path().join("log")).unwrap();
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "docker-registry: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The name of an image in it.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    /// Copies an image into it with skopeo.
    pub(crate) fn push(&self, from: &str, image: &str, arguments: &[&str]) {
        skopeo(
            &[
                &["copy", "--dest-tls-verify=false", "--preserve-digests"],
                arguments,
                &[from, &format!("docker://{}", self.name(image))],
            ]
            .concat(),
        );
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) fn skopeo(arguments: &[&str]) {
    Program::new("skopeo")
        .package("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .run()
        .unwrap();
}

fn make_certificate(dir: &Path) {
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
            // One that is an authority too, rustls does not take for a server.
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .run()
        .unwrap();
    make_expired(dir);
    // As skopeo's --dest-cert-dir wants them.
    for (from, to) in [
        ("cert.pem", "ca.crt"),
        ("cert.pem", "client.cert"),
        ("key.pem", "client.key"),
    ] {
        std::fs::copy(dir.join(from), dir.join(to)).unwrap();
    }
}

/// The same once more, of the past. Only `openssl ca` takes any dates.
fn make_expired(dir: &Path) {
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
             x509_extensions=server\n[any]\ncommonName=supplied\n\
             [server]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n",
            text("index.txt"),
            text("serial"),
            dir.display()
        ),
    );
    let (key, request) = (text("key.pem"), text("request.pem"));
    let openssl = Program::new("openssl").package("openssl");
    openssl
        .clone()
        .args([
            "req", "-new", "-subj", "/CN=test", "-key", &key, "-out", &request,
        ])
        .run()
        .unwrap();
    openssl
        .args([
            "ca",
            "-batch",
            "-notext",
            "-selfsign",
            "-config",
            &text("ca.cnf"),
        ])
        .args([
            "-startdate",
            "20200101000000Z",
            "-enddate",
            "20200102000000Z",
        ])
        .args([
            "-keyfile",
            &key,
            "-in",
            &request,
            "-out",
            &text("expired.pem"),
        ])
        .run()
        .unwrap();
}
