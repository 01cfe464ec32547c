//! GnuPG with a home of its own, as a signer that is not hull's.

use std::path::{Path, PathBuf};

use hull_sys::run::Program;

use crate::signatures::put;

/// Keys, and what signs with them.
pub(crate) struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    pub(crate) fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// A home with one key of this algorithm, for signing.
    pub(crate) fn with_key(algorithm: &str) -> Self {
        let gpg = Self::new();
        gpg.add_key("signer", &[algorithm, "sign", "never"], &[]);
        gpg
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn program(&self) -> Program {
        Program::new("gpg")
            .package("gnupg")
            .args(["--batch", "--quiet", "--yes", "--no-tty", "--homedir"])
            .arg(self.home())
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .args(["--trust-model", "always"])
    }

    /// Makes a key; `parameters` are its algorithm, its use and when it expires.
    pub(crate) fn add_key(&self, name: &str, parameters: &[&str], options: &[&str]) {
        let user = format!("{name} <{name}@signed.example>");
        self.program()
            .args(options)
            .args(["--quick-generate-key", &user])
            .args(parameters)
            .run()
            .unwrap();
    }

    /// Adds a subkey to the newest key.
    pub(crate) fn add_subkey(&self, parameters: &[&str], options: &[&str]) {
        self.program()
            .args(options)
            .args(["--quick-add-key", &self.fingerprint()])
            .args(parameters)
            .run()
            .unwrap();
    }

    /// Of the newest primary key.
    pub(crate) fn fingerprint(&self) -> String {
        let listed = self
            .program()
            .args(["--with-colons", "--list-secret-keys"])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed).unwrap();
        let mut lines = listed.lines().skip_while(|line| !line.starts_with("sec:"));
        let line = lines.find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// Its public keys in a file.
    pub(crate) fn export(&self, options: &[&str]) -> PathBuf {
        let path = self.home().join("exported");
        self.program()
            .args(options)
            .arg("--output")
            .arg(&path)
            .arg("--export")
            .run()
            .unwrap();
        path
    }

    /// Puts the revocation that gpg made along with the newest key on it.
    pub(crate) fn revoke(&self) {
        let path = format!("openpgp-revocs.d/{}.rev", self.fingerprint());
        let text = std::fs::read_to_string(self.home().join(path)).unwrap();
        let text = text.replace(":-----BEGIN", "-----BEGIN");
        self.program().arg("--import").input(text).run().unwrap();
    }

    /// A signed message, as the containers tools let gpg make it.
    pub(crate) fn sign(&self, text: &[u8], options: &[&str]) -> Vec<u8> {
        let (from, to) = (self.home().join("text"), self.home().join("signed"));
        put(&from, text);
        let program = self.program().args(options).arg("--output").arg(&to);
        program.arg("--sign").arg(&from).run().unwrap();
        std::fs::read(to).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        Program::new("gpgconf")
            .package("gnupg")
            .arg("--homedir")
            .arg(self.home())
            .args(["--kill", "all"])
            .run()
            .ok();
    }
}
