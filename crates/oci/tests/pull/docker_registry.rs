//! Debian's docker-registry on a free port of the loopback device.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hull_sys::run::Program;

use crate::certificates::make_certificate;

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
        let (process, port) = serve(root, http, more);
        Self {
            process,
            port,
            temp,
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

/// Starts it, and gives its port.
fn serve(root: &Path, http: &str, more: &str) -> (Child, u16) {
    // Between the choice of a port and the start, another process may take it.
    for _ in 0..10 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut process = spawn(root, port, http, more);
        if comes_up(&mut process, port) {
            return (process, port);
        }
    }
    let log = std::fs::read_to_string(root.join("log")).unwrap();
    panic!("docker-registry: {log}");
}

fn spawn(root: &Path, port: u16, http: &str, more: &str) -> Child {
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
    let mut registry = std::process::Command::new("docker-registry");
    registry
        .arg("serve")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(File::create(root.join("log")).unwrap())
        .spawn()
        .expect("docker-registry is needed: apt-get install docker-registry")
}

/// Whether it serves; not where it has ended, since another process has the port.
fn comes_up(process: &mut Child, port: u16) -> bool {
    let start = Instant::now();
    while !listens(process.id(), port) {
        if process.try_wait().expect("it is a child").is_some() {
            return false;
        }
        if start.elapsed() > Duration::from_secs(60) {
            process.kill().ok();
            process.wait().ok();
            panic!("docker-registry does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Whether that process listens on that port of the loopback device: another one may have
/// taken the port.
fn listens(process: u32, port: u16) -> bool {
    // Of each socket: its number, its address, the peer's, its state, and its inode as the tenth.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (address, listening) = (format!("0100007F:{port:04X}"), "0A");
    let sockets = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&&*address) && fields.get(3) == Some(&listening);
        is_it.then(|| format!("socket:[{}]", fields[9]))
    });
    let sockets: Vec<_> = sockets.collect();
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        sockets.iter().any(|socket| target.as_os_str() == &**socket)
    })
}

pub(crate) fn skopeo(arguments: &[&str]) {
    Program::new("skopeo")
        .package("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .run()
        .unwrap();
}
