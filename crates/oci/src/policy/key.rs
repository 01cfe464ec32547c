//! Public keys: ECDSA on P-256 and P-384, Ed25519, RSA of 2048 bits and more.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{Error, RawPublicKeyEntity, ring};

use super::PolicyError;
use super::openpgp::Keyring;

/// A keyring of a whole distribution's has some hundred KiB.
const MAX_FILE: u64 = 4 << 20;
/// What a message says in the place of a file.
const IN_POLICY: &str = "the key in policy.json";

/// The hash is SHA-256 for every key in signatures that name none; cosign takes
/// SHA-384 with P-384.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
];

/// Where keys are; read when they are needed, for the scopes of other images may
/// name files that are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keys {
    Files(Vec<PathBuf>),
    Data(Vec<Vec<u8>>),
}

/// One public key.
pub(super) struct PublicKey(SubjectPublicKeyInfoDer<'static>);

impl Keys {
    /// Each of them, in PEM, as `openssl` and cosign write it.
    pub(super) fn load(&self) -> Result<Vec<PublicKey>, PolicyError> {
        match self {
            Self::Files(paths) => paths.iter().map(|path| parse(&read(path)?, path)).collect(),
            Self::Data(datas) => datas
                .iter()
                .map(|data| parse(data, Path::new(IN_POLICY)))
                .collect(),
        }
    }

    /// All of them, as OpenPGP certificates.
    pub(super) fn load_keyring(&self) -> Result<Keyring, PolicyError> {
        let mut keyring = Keyring::default();
        let mut add = |bytes: &[u8], path: &Path| {
            keyring.add(bytes).map_err(|reason| PolicyError::Malformed {
                path: path.to_owned(),
                reason,
            })
        };
        match self {
            Self::Files(paths) => paths.iter().try_for_each(|path| add(&read(path)?, path))?,
            Self::Data(datas) => datas
                .iter()
                .try_for_each(|data| add(data, Path::new(IN_POLICY)))?,
        }
        Ok(keyring)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
    File::open(path)
        .and_then(|file| hull_sys::dir::read_at_most(file, MAX_FILE))
        .map_err(|source| PolicyError::Read {
            path: path.to_owned(),
            source,
        })
}

fn parse(bytes: &[u8], path: &Path) -> Result<PublicKey, PolicyError> {
    let malformed = |reason: &str| PolicyError::Malformed {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(bytes);
    let (Some(Ok(key)), None) = (keys.next(), keys.next()) else {
        return Err(malformed("one PUBLIC KEY in PEM form is expected"));
    };
    let key = PublicKey(key);
    if !key.is_usable() {
        return Err(malformed(
            "the key is none of ECDSA P-256 or P-384, Ed25519, RSA from 2048 bits",
        ));
    }
    Ok(key)
}

impl PublicKey {
    fn is_usable(&self) -> bool {
        let wrong = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            matches!(
                self.try_verify(*algorithm, b"", b""),
                Err(Error::InvalidSignatureForPublicKey)
            )
        };
        ALGORITHMS.iter().any(wrong)
    }

    /// Whether `signature` is one of this key's over `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        ALGORITHMS
            .iter()
            .any(|algorithm| self.try_verify(*algorithm, message, signature).is_ok())
    }

    fn try_verify(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        RawPublicKeyEntity::try_from(&self.0)?.verify_signature(algorithm, message, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(…)")
    }
}
