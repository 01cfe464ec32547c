//! containers-certs.d(5): the certificate authorities and the client
//! certificate of one registry.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const MAX_FILE: u64 = 1 << 20;

/// What a registry's directory in `certs.d` holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates {
    /// Trusted for this registry, beside those of the system.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Shown to this registry alone.
    pub(super) client: Option<Arc<CertifiedKey>>,
}

/// A directory of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what its name promises.
    #[error("{}: it holds no {expected} in PEM form", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What its name promises.
        expected: &'static str,
    },
    /// A client certificate without its key, or a key without its certificate.
    #[error("{}: {} is missing beside it (certificates of authorities end in .crt)", path.display(), missing.display())]
    Unpaired {
        /// The file.
        path: PathBuf,
        /// What should be there.
        missing: PathBuf,
    },
    /// A client certificate whose key is another one's, or of a kind that hull does not know.
    #[error("{}: it cannot be used with {}: {source}", path.display(), key.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// More than one client certificate.
    #[error("{}: there are several client certificates (*.cert); which is meant?", path.display())]
    Ambiguous {
        /// The directory.
        path: PathBuf,
    },
}

impl Certificates {
    /// Reads the first of `dirs` (each a `certs.d`) that has a directory for
    /// `host`, a name with `:port` where the reference has one.
    pub(super) fn load(dirs: &[PathBuf], host: &str) -> Result<Self, CertificatesError> {
        match dirs
            .iter()
            .map(|dir| dir.join(host))
            .find(|dir| dir.is_dir())
        {
            Some(dir) => Self::read(&dir),
            None => Ok(Self::default()),
        }
    }

    fn read(dir: &Path) -> Result<Self, CertificatesError> {
        let fail = |source| CertificatesError::Read {
            path: dir.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            paths.push(entry.map_err(fail)?.path());
        }
        paths.sort();
        let mut found = Self::default();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.extend(read_certificates(&path)?),
                Some("cert") if found.client.is_some() => {
                    let path = dir.to_owned();
                    return Err(CertificatesError::Ambiguous { path });
                }
                Some("cert") => {
                    found.client = Some(Arc::new(read_pair(&path)?));
                }
                Some("key") => drop(partner(&path, "cert")?),
                _ => {}
            }
        }
        Ok(found)
    }
}

fn partner(path: &Path, extension: &str) -> Result<PathBuf, CertificatesError> {
    let other = path.with_extension(extension);
    if other.exists() {
        return Ok(other);
    }
    Err(CertificatesError::Unpaired {
        path: path.to_owned(),
        missing: other,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, CertificatesError> {
    File::open(path)
        .and_then(|file| hull_sys::dir::read_at_most(file, MAX_FILE))
        .map_err(|source| CertificatesError::Read {
            path: path.to_owned(),
            source,
        })
}

fn read_pair(path: &Path) -> Result<CertifiedKey, CertificatesError> {
    let key = partner(path, "key")?;
    let pair = CertifiedKey::from_der(
        read_certificates(path)?,
        read_key(&key)?,
        &ring::default_provider(),
    );
    pair.map_err(|source| CertificatesError::Unusable {
        path: path.to_owned(),
        key,
        source,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    let bytes = read_file(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .collect();
    if certificates.is_empty() {
        return Err(CertificatesError::Malformed {
            path: path.to_owned(),
            expected: "certificate",
        });
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificatesError> {
    PrivateKeyDer::from_pem_slice(&read_file(path)?).map_err(|_| CertificatesError::Malformed {
        path: path.to_owned(),
        expected: "private key",
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn put(path: &Path, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path)
            .unwrap()
            .write_all(content.as_bytes())
            .unwrap();
    }

    #[test]
    fn a_host_without_directory_has_nothing_of_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = [temp.path().to_owned()];
        let found = Certificates::load(&dirs, "r.example:5000").unwrap();
        assert!(found.authorities.is_empty() && found.client.is_none());
    }

    #[test]
    fn half_a_pair_and_wrong_content_are_refused_by_name() {
        for (name, content, expected) in [
            ("a.cert", "x", "a.key is missing"),
            ("a.key", "x", "a.cert is missing"),
            ("ca.crt", "x", "ca.crt: it holds no certificate"),
        ] {
            let temp = tempfile::tempdir().unwrap();
            put(&temp.path().join("r.example").join(name), content);
            let dirs = [temp.path().to_owned()];
            let error = Certificates::load(&dirs, "r.example")
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_certificate_with_the_key_of_another_one_is_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("r.example");
        std::fs::create_dir(&dir).unwrap();
        let make = |name: &str| {
            let file = |extension| dir.join(format!("{name}.{extension}"));
            hull_sys::run::Program::new("openssl")
                .package("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=x"])
                .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-keyout"])
                .arg(file("key"))
                .arg("-out")
                .arg(file("cert"))
                .run()
                .unwrap();
        };
        make("other");
        make("me");
        let load = || Certificates::load(&[temp.path().to_owned()], "r.example");
        std::fs::remove_file(dir.join("other.cert")).unwrap();
        let other = std::fs::read_to_string(dir.join("other.key")).unwrap();
        std::fs::remove_file(dir.join("other.key")).unwrap();
        assert!(load().unwrap().client.is_some());
        put(&dir.join("me.key"), &other);
        let error = load().unwrap_err().to_string();
        assert!(
            error.contains("me.cert") && error.contains("me.key"),
            "{error}"
        );
    }

    #[test]
    fn only_the_first_directory_of_a_host_counts() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = [temp.path().join("a"), temp.path().join("b")];
        put(&dirs[0].join("r.example/README"), "nothing");
        put(&dirs[1].join("r.example/ca.crt"), "broken");
        Certificates::load(&dirs, "r.example").unwrap();
        assert!(Certificates::load(&dirs[1..], "r.example").is_err());
    }
}
