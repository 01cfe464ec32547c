//! What goes wrong between hull and the place where an image is.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::auth::{AuthError, CredentialsUsed};
use super::certificates::CertificatesError;
use super::registries::RegistriesError;
use crate::digest::{BlobError, Digest};
use crate::manifest::ManifestError;
use crate::spool::SpoolError;

/// A source that does not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A registry failed or refused.
    #[error(transparent)]
    Registry(#[from] Box<RegistryError>),
    /// The credentials cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The directory for partial downloads cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The configuration of registries cannot be followed.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// The certificates for a registry cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// podman's store does not give it.
    #[error(transparent)]
    Storage(#[from] super::StorageError),
    /// A file of a layout or an archive cannot be read.
    #[error("{}: {what}: {source}", path.display())]
    Read {
        /// The directory or archive.
        path: PathBuf,
        /// What in it.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// It is no image layout.
    #[error("{}: this is no OCI image layout: {reason}", path.display())]
    NotALayout {
        /// The directory or archive.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// It is no archive of `docker save`.
    #[error("{}: this is no archive of docker save: {reason}", path.display())]
    NotADockerArchive {
        /// The archive.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The layout holds no image of that name.
    #[error("{}: no image {wanted} in it; it holds: {offered}", path.display())]
    NoSuchImage {
        /// The directory or archive.
        path: PathBuf,
        /// The name or digest asked for.
        wanted: String,
        /// The names it has.
        offered: String,
    },
    /// The layout holds several images, and none was named.
    #[error("{}: it holds several images; name one of: {offered}", path.display())]
    Ambiguous {
        /// The directory or archive.
        path: PathBuf,
        /// The names it has.
        offered: String,
    },
    /// The layout lacks a blob.
    #[error("{}: the blob {digest} is missing", path.display())]
    MissingBlob {
        /// The directory or archive.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A document is not what its digest says.
    #[error("{place}: {source}")]
    Content {
        /// Where it came from.
        place: String,
        /// What is wrong.
        source: Box<BlobError>,
    },
    /// A document is too long or malformed.
    #[error("{place}: {source}")]
    Document {
        /// Where it came from.
        place: String,
        /// What is wrong.
        source: Box<ManifestError>,
    },
}

/// What a registry was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The manifest of a tag or digest.
    Manifest(String),
    /// A blob.
    Blob(Digest),
    /// The list of what refers to a manifest.
    Referrers(Digest),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(selector) => write!(f, "the manifest {selector}"),
            Self::Blob(digest) => write!(f, "the blob {digest}"),
            Self::Referrers(digest) => write!(f, "what refers to {digest}"),
        }
    }
}

/// A request to a registry that failed, with all that is needed to see why.
#[derive(Debug, thiserror::Error)]
pub struct RegistryError {
    /// The registry that the image is named by: host, and port where given.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// What was asked for.
    pub asked: Asked,
    /// Each place that was asked and what came of it: mirrors in their order, then
    /// the registry itself.
    pub attempts: Vec<Attempt>,
    /// How often all of them were tried.
    pub rounds: u32,
}

/// One place that was asked, and its answer at last.
#[derive(Debug)]
pub struct Attempt {
    /// Host, and port where given.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// Which credentials there were.
    pub credentials: CredentialsUsed,
    /// What came back.
    pub fault: Fault,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            repository,
            asked,
            ..
        } = self;
        write!(
            f,
            "registry {registry}, repository {repository}: asked for {asked}"
        )?;
        match &self.attempts[..] {
            [only] if only.registry == *registry && only.repository == *repository => {
                write!(f, " {}: {}", only.credentials, only.fault)?;
            }
            attempts => {
                for (place, attempt) in attempts.iter().enumerate() {
                    let sign = if place == 0 { ':' } else { ';' };
                    let Attempt {
                        registry,
                        repository,
                        credentials,
                        fault,
                    } = attempt;
                    write!(
                        f,
                        "{sign} at {registry}/{repository} {credentials}: {fault}"
                    )?;
                }
            }
        }
        if self.rounds > 1 {
            write!(f, " (tried {} times)", self.rounds)?;
        }
        match self.attempts.last() {
            Some(last) => f.write_str(&last.fault.advice(&last.registry)),
            None => Ok(()),
        }
    }
}

/// What came back in place of the answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection, or it broke, or it fell silent.
    #[error("{0}")]
    Transport(String),
    /// Neither HTTPS nor HTTP works (of an `insecure` registry).
    #[error("neither https ({https}) nor http ({http}) works")]
    NoScheme {
        /// What happened over HTTPS.
        https: String,
        /// What happened over HTTP.
        http: String,
    },
    /// An HTTP status that is no success.
    #[error("{host} answered {status}{}", message_suffix(message))]
    Status {
        /// Who answered: the registry, or where it sent us.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says in its own words, shortened.
        message: String,
        /// How long it wants us to wait (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The registry does not let us in.
    #[error("access denied ({status}){}", message_suffix(message))]
    Denied {
        /// The HTTP status.
        status: u16,
        /// What the registry or its token service says, shortened.
        message: String,
    },
    /// The token service is unusable.
    #[error("the token service {realm}: {reason}")]
    Token {
        /// Its address.
        realm: String,
        /// What is wrong.
        reason: String,
    },
    /// The token service does not answer as it should.
    #[error("{}", at_token_service(realm, fault))]
    AtTokenService {
        /// Its address.
        realm: String,
        /// What came back.
        fault: Box<Fault>,
    },
    /// The blob did not come whole.
    #[error("it broke off after {position} of {size} bytes: {reason}")]
    Broken {
        /// How far it came.
        position: u64,
        /// Its length.
        size: u64,
        /// What happened.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects: {reason}")]
    Redirect {
        /// Who sent it.
        host: String,
        /// Why it is not followed.
        reason: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLong(u64),
    /// The answer is not what its digest says.
    #[error(transparent)]
    Content(#[from] BlobError),
    /// The answer is no manifest.
    #[error(transparent)]
    Document(Box<ManifestError>),
    /// What the registry took is not what was sent.
    #[error("{sent} was sent, and the registry says that it took {said}")]
    OtherDigest {
        /// The digest of what was sent.
        sent: Digest,
        /// What the registry says.
        said: Digest,
    },
}

fn at_token_service(realm: &str, fault: &Fault) -> String {
    match fault {
        // It begins with the address.
        Fault::Transport(reason) => format!("the token service {reason}"),
        fault => format!("the token service {realm}: {fault}"),
    }
}

/// Whether a certificate was good once, or will be: in the words of rustls.
fn is_about_time(reason: &str) -> bool {
    ["certificate expired", "certificate not valid yet"]
        .iter()
        .any(|words| reason.contains(words))
}

/// Whether a server shows an authority's certificate as its own, as `openssl req -x509` makes one: in the words of rustls.
fn is_of_an_authority(reason: &str) -> bool {
    reason.contains("CaUsedAsEndEntity")
}

fn message_suffix(message: &str) -> String {
    if message.is_empty() {
        return String::new();
    }
    format!(": {message}")
}

impl Fault {
    /// Whether the same request may work a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(_) | Self::NoScheme { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::AtTokenService { fault, .. } => fault.is_transient(),
            _ => false,
        }
    }

    /// Whether the registry, or its token service, does not let us in.
    pub(super) fn is_denial(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::AtTokenService { fault, .. } => fault.is_denial(),
            _ => false,
        }
    }

    /// How long the server wants us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::AtTokenService { fault, .. } => fault.retry_after(),
            _ => None,
        }
    }

    pub(super) fn advice(&self, registry: &str) -> String {
        match self {
            Self::Denied { .. } => format!(
                "; log in (podman login {registry}; on a machine that hull boots with --authfile /etc/ostree/auth.json, which then counts alone) or name a file with --authfile, and check the name"
            ),
            Self::Status { status: 404, .. } => "; check the name and the tag".to_owned(),
            Self::Status { status: 429, .. } => "; wait a while, or log in".to_owned(),
            Self::Status { status: 408 | 500..=599, .. } => {
                "; the registry is in trouble, try again later".to_owned()
            }
            Self::Transport(reason) if is_about_time(reason) => {
                "; check this machine's clock. If it is right, that server needs a new certificate".to_owned()
            }
            Self::Transport(reason) if is_of_an_authority(reason) => format!(
                "; that server shows the certificate of an authority (CA:TRUE) as its own: put this certificate into /etc/containers/certs.d/{registry} as ca.crt if it is to be trusted, or make it one with CA:FALSE"
            ),
            Self::Transport(_) | Self::NoScheme { .. } => format!(
                "; check the network and the name. A registry whose certificate the system does not trust needs its CA as ca.crt in /etc/containers/certs.d/{registry}, or insecure = true for {registry} in /etc/containers/registries.conf.d"
            ),
            Self::Broken { .. } => {
                "; check the network and try again: what has come is not fetched again".to_owned()
            }
            Self::AtTokenService { fault, .. } if fault.is_transient() || matches!(**fault, Self::Denied { .. }) => fault.advice(registry),
            Self::Token { .. } | Self::AtTokenService { .. } => "; the registry's set-up is at fault".to_owned(),
            Self::Content(BlobError::DamagedPart { .. }) => {
                "; this machine's disk may be failing: look at the kernel's messages, and try again".to_owned()
            }
            Self::Redirect { .. } | Self::TooLong(_) | Self::Content(_) | Self::Document(_) | Self::OtherDigest { .. } | Self::Status { .. } => {
                "; something between here and the registry (a proxy, a login page) may have answered: try again, or from another network".to_owned()
            }
        }
    }
}
