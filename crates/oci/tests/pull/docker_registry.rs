//! Debian's docker-registry on a free port of the loopback device.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use hull_sys::run::Program;

use crate::certificates::make_certificate;
use crate::serving;

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
    if let Some(serving) = serving::start(|port| spawn(root, port, http, more)) {
        return serving;
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

pub(crate) fn skopeo(arguments: &[&str]) {
    Program::new("skopeo")
        .package("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .run()
        .unwrap();
}
