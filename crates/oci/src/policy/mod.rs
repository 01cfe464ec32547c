//! containers-policy.json(5): which images may be pulled, and who must have signed them.
//!
//! A signature names a manifest by its digest. hull checks that against the
//! digest of the very bytes that it goes on with: those of the document that the
//! reference names, which may be an index, or of the image's own manifest that it
//! leads to. What hull cannot check is refused, never skipped.

mod attached;
mod bundle;
mod error;
mod file;
mod identity;
mod key;
mod lookaside;
mod openpgp;
mod payload;
mod registries_d;
mod scope;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use self::error::{Mistrust, PolicyError};
use self::identity::Identity;
use self::key::{Keys, PublicKey};
use self::openpgp::Keyring;
use self::payload::Claim;
use self::registries_d::SignaturePlaces;
use crate::digest::Digest;
use crate::reference::{Reference, RegistryReference};
use crate::source::SourceOptions;

/// The most signatures of one image that are looked at.
pub const MAX_SIGNATURES: usize = 64;
/// The longest signature, payload or bundle that is read, in bytes.
pub const MAX_SIGNATURE: u64 = 1 << 20;

/// What a policy.json says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The file it came from, for messages.
    path: PathBuf,
    default: Vec<Requirement>,
    /// Transport, scope, requirements.
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must fulfil; all of those of its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    AcceptAnything,
    Reject,
    /// A signature as cosign makes it, by one of these keys.
    Sigstore {
        keys: Keys,
        identity: Identity,
    },
    /// A signature as skopeo and podman make it, by one of these OpenPGP keys.
    OpenPgp {
        keys: Keys,
        identity: Identity,
    },
    /// One that hull cannot check; the text says which.
    Uncheckable(String),
}

/// A signature that says something about an image, yet to be checked.
#[derive(Debug)]
enum Candidate {
    /// What was signed, and the signature over it.
    Simple {
        payload: Vec<u8>,
        signature: Vec<u8>,
    },
    /// A bundle of sigstore's.
    Bundle(bundle::Bundle),
    /// An OpenPGP message.
    OpenPgp(Vec<u8>),
    /// One of a form that hull does not know.
    Unknown,
}

/// Who may have signed.
enum Signers {
    Sigstore(Vec<PublicKey>),
    OpenPgp(Keyring),
}

impl Signers {
    fn sigstore(keys: &Keys) -> Result<Self, PolicyError> {
        keys.load().map(Self::Sigstore)
    }

    fn open_pgp(keys: &Keys) -> Result<Self, PolicyError> {
        keys.load_keyring().map(Self::OpenPgp)
    }
}

impl Policy {
    /// Reads the policy that counts: the user's, else the machine's; nothing where
    /// there is none.
    pub fn load(options: &SourceOptions) -> Result<Option<Self>, PolicyError> {
        let path = options
            .config
            .best_first()
            .map(|dir| dir.join("policy.json"))
            // One that cannot be looked at is not one that is not there.
            .find(|path| !is_missing(path));
        path.map(|path| Self::read(&path)).transpose()
    }

    /// Reads the policy in this file.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        file::read(path)
    }

    /// Whether an image that no scope mentions is accepted whoever made it: such a
    /// policy protects nothing that it does not name.
    pub fn accepts_anything(&self) -> bool {
        self.default
            .iter()
            .all(|requirement| *requirement == Requirement::AcceptAnything)
    }

    /// The policy, where one is to be enforced: there must be one, and its default
    /// must not accept anything.
    pub fn require(policy: Option<&Self>) -> Result<&Self, PolicyError> {
        match policy {
            None => Err(PolicyError::Missing),
            Some(policy) if policy.accepts_anything() => Err(PolicyError::Open {
                path: policy.path.clone(),
            }),
            Some(policy) => Ok(policy),
        }
    }

    /// Refuses what is refused whatever its signatures; asks nobody.
    pub(crate) fn check_before(&self, reference: &Reference) -> Result<(), PolicyError> {
        let (scope, requirements) = self.requirements(reference)?;
        for requirement in requirements {
            match requirement {
                Requirement::Reject => {
                    return Err(self.refuse(reference, &scope, Mistrust::Rejected));
                }
                Requirement::Uncheckable(what) => {
                    let what = Mistrust::Uncheckable(what.clone());
                    return Err(self.refuse(reference, &scope, what));
                }
                Requirement::AcceptAnything
                | Requirement::Sigstore { .. }
                | Requirement::OpenPgp { .. } => {}
            }
        }
        Ok(())
    }

    /// Checks the requirements for an image whose documents have these digests: the
    /// one that the reference names, and the manifest that it led to.
    pub(crate) fn check(
        &self,
        reference: &Reference,
        digests: &[Digest],
        options: &SourceOptions,
    ) -> Result<(), PolicyError> {
        self.check_before(reference)?;
        let (scope, requirements) = self.requirements(reference)?;
        for requirement in requirements {
            let (load, keys, identity): (fn(&Keys) -> _, _, _) = match requirement {
                Requirement::Sigstore { keys, identity } => (Signers::sigstore, keys, identity),
                Requirement::OpenPgp { keys, identity } => (Signers::open_pgp, keys, identity),
                _ => continue,
            };
            let refuse = |why| self.refuse(reference, &scope, why);
            let Reference::Registry(named) = reference else {
                return Err(refuse(Mistrust::NoPlace));
            };
            let signers = load(keys)?;
            let places = SignaturePlaces::find(named, options)?;
            let candidates = candidates(named, digests, &signers, &places, options)?;
            let mut reasons = Vec::new();
            let accepted = candidates.iter().any(|candidate| {
                match accept(candidate, &signers, identity, named, digests) {
                    Ok(()) => true,
                    Err(reason) => {
                        reasons.push(reason);
                        false
                    }
                }
            });
            if !accepted {
                let unattached = matches!(signers, Signers::Sigstore(_)) && !places.attached;
                return Err(refuse(Mistrust::Signatures {
                    unattached,
                    reasons,
                }));
            }
        }
        Ok(())
    }

    /// The requirements of the most specific scope that fits, and its name.
    fn requirements(&self, reference: &Reference) -> Result<(String, &[Requirement]), PolicyError> {
        let transport = scope::transport(reference);
        let Some(scopes) = self.transports.get(transport) else {
            return Ok(("default".to_owned(), &self.default));
        };
        if scope::is_unnamed(reference) && scopes.keys().any(|scope| !scope.is_empty()) {
            // Which of them fits cannot be told, so the strictest might be passed over.
            let what = Mistrust::Uncheckable(format!("the scopes of {transport}"));
            return Err(self.refuse(reference, transport, what));
        }
        for scope in scope::of(reference) {
            if let Some(requirements) = scopes.get(&scope) {
                return Ok((format!("{transport} {scope:?}"), requirements));
            }
        }
        Ok(("default".to_owned(), &self.default))
    }

    fn refuse(&self, reference: &Reference, scope: &str, why: Mistrust) -> PolicyError {
        PolicyError::Refused {
            reference: reference.to_string(),
            path: self.path.clone(),
            scope: scope.to_owned(),
            why: Box::new(why),
        }
    }
}

fn is_missing(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The signatures of an image in the places where those of such signers are.
fn candidates(
    named: &RegistryReference,
    digests: &[Digest],
    signers: &Signers,
    places: &SignaturePlaces,
    options: &SourceOptions,
) -> Result<Vec<Candidate>, PolicyError> {
    let mut found = Vec::new();
    if matches!(signers, Signers::Sigstore(_)) && places.attached {
        found = attached::fetch(named, digests, options)?;
    }
    if let Some(lookaside) = &places.lookaside {
        found.extend(lookaside.fetch(named, digests, options)?);
    }
    // Which of the two a signature is for is no secret: the others are none at all.
    found.retain(|candidate| {
        matches!(candidate, Candidate::OpenPgp(_)) == matches!(signers, Signers::OpenPgp(_))
    });
    Ok(found)
}

/// Whether one signature is by one of the keys, for this content and this name.
fn accept(
    candidate: &Candidate,
    signers: &Signers,
    identity: &Identity,
    named: &RegistryReference,
    digests: &[Digest],
) -> Result<(), String> {
    match (candidate, signers) {
        (Candidate::Simple { payload, signature }, Signers::Sigstore(keys)) => {
            by_one_of(keys, payload, signature)?;
            let claim = Claim::parse(payload, payload::COSIGN)?;
            claim.check_digest(digests)?;
            identity.check(named, &claim.reference)
        }
        (Candidate::Bundle(bundle), Signers::Sigstore(keys)) => {
            by_one_of(keys, &bundle.signed, &bundle.signature)?;
            bundle.check_digest(digests)?;
            // A bundle names no repository, so only a digest says what is meant.
            match named.digest() {
                Some(_) => Ok(()),
                None => Err(
                    "it is a bundle, which names no repository: name the image by its digest"
                        .to_owned(),
                ),
            }
        }
        (Candidate::OpenPgp(message), Signers::OpenPgp(keyring)) => {
            let payload = openpgp::open(message, keyring, openpgp::now())?;
            let claim = Claim::parse(&payload, payload::ATOMIC)?;
            claim.check_digest(digests)?;
            identity.check(named, &claim.reference)
        }
        _ => Err("it is of a form that hull does not know".to_owned()),
    }
}

fn by_one_of(keys: &[PublicKey], message: &[u8], signature: &[u8]) -> Result<(), String> {
    keys.iter()
        .any(|key| key.verify(message, signature))
        .then_some(())
        .ok_or("it is not by a key of the policy".to_owned())
}

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use super::*;

    /// A policy.json, and what it says of an image, as far as nobody has to be asked.
    pub fn policy(bytes: &[u8], reference: &Reference) {
        if let Ok(policy) = file::parse(bytes, Path::new("policy.json")) {
            drop(policy.check_before(reference));
            let _open = policy.accepts_anything();
        }
    }

    /// Bytes in the place of a signature: a payload, a bundle, an OpenPGP message, a file
    /// of a lookaside, and of a key.
    pub fn signature(bytes: &[u8]) {
        for kind in [payload::COSIGN, payload::ATOMIC] {
            drop(Claim::parse(bytes, kind));
        }
        if let Ok(bundle) = bundle::Bundle::parse(bytes) {
            drop(bundle.check_digest(&[]));
        }
        drop(lookaside::candidate(bytes.to_vec()));
        let mut keyring = Keyring::default();
        drop(keyring.add(bytes));
        drop(openpgp::open(bytes, &keyring, openpgp::now()));
    }
}

#[cfg(test)]
mod tests;
