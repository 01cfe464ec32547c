//! Places that images come from: registries, layouts, archives.
//!
//! A [`Source`] is open for one reference. It gives documents whole, with their
//! digest checked, and blobs as streams that are checked while they pass.

mod agents;
mod archive;
mod auth;
mod body;
mod certificates;
mod challenge;
mod containers_storage;
mod docker_archive;
mod error;
mod helper;
mod http;
mod input;
mod layout;
mod place;
mod plain;
mod proxy;
mod registries;
mod registry;
mod remote;
mod retry;
mod secret;
mod tar_files;
mod tls;
mod token;
mod trust;
pub(crate) mod upload;
mod url;
mod used_up;
mod verifier;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::agents::Agents;
pub use self::auth::{AuthError, AuthFiles, CredentialsUsed};
use self::certificates::Certificates;
pub use self::certificates::CertificatesError;
#[cfg(fuzzing)]
pub use self::containers_storage::fuzz_tar_split;
pub use self::containers_storage::{OwnerRange, Owners, StorageError, StorageOptions};
pub(crate) use self::docker_archive::whole_name as docker_name;
pub use self::error::{Asked, Attempt, Fault, RegistryError, SourceError};
pub use self::helper::Helpers;
pub use self::http::Timeouts;
pub(crate) use self::plain::file;
pub use self::proxy::Proxies;
pub use self::registries::{ConfigDirs, Endpoint, RegistriesConf, RegistriesError, ShortNameError};
pub use self::retry::Retry;
pub use self::upload::UploadError;
use crate::digest::{BlobError, Digest, VerifyingReader};
use crate::manifest::{Descriptor, ManifestError};
use crate::reference::{FileReference, Reference};
use crate::spool::{Damage, PartHandle, Spool, SpoolError};

/// How to reach the places that images come from.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Where credentials are.
    pub auth: AuthFiles,
    /// Where `registries.conf`, its drop-ins and `certs.d` are; without them, nothing is
    /// redirected, blocked or insecure.
    pub config: ConfigDirs,
    /// Where Docker keeps a registry's certificates (`/etc/docker/certs.d`); looked at last.
    pub docker_certs: Option<PathBuf>,
    /// Where files of signatures are, unless registries.d says it
    /// (`/var/lib/containers/sigstore`).
    pub lookaside: Option<PathBuf>,
    /// The proxies to use.
    pub proxies: Proxies,
    /// Allows plain HTTP and unverified TLS, as `insecure = true` does for one registry.
    pub insecure: bool,
    /// Allows the same for registries on this machine, as Docker does: nobody is between.
    /// Not for other machines that such a registry names (a token service, a storage).
    pub trust_loopback: bool,
    /// Where podman's stores are.
    pub storage: StorageOptions,
    /// Where an archive is copied to that comes through a pipe or is compressed
    /// (`/var/tmp`). The copy has no name, and leaves a twentieth of the space free.
    pub temporary: Option<PathBuf>,
    /// How long to wait for servers.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retry: Retry,
}

/// Where temporary files are made unless the options say otherwise: images are too
/// large for a /tmp in memory.
const TEMPORARY: &str = "/var/tmp";

impl SourceOptions {
    /// The directory for temporary files.
    pub(crate) fn temporary(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(Path::new(TEMPORARY))
    }

    /// What a program on the machine with this root directory uses, when
    /// neither options nor the environment say otherwise.
    pub fn for_root(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            config: ConfigDirs {
                vendor: Some(root.join("usr/share/containers")),
                system: Some(root.join("etc/containers")),
                ..ConfigDirs::default()
            },
            docker_certs: Some(root.join("etc/docker/certs.d")),
            lookaside: Some(root.join("var/lib/containers/sigstore")),
            auth: AuthFiles {
                root: Some(root),
                ..AuthFiles::default()
            },
            ..Self::default()
        }
    }

    fn load_registries(&self) -> Result<RegistriesConf, RegistriesError> {
        RegistriesConf::load(&self.config)
    }

    /// Connections for a registry, with the certificates that are set for it.
    fn agents(&self, registry: &str) -> Result<Agents, CertificatesError> {
        let mut dirs: Vec<_> = self
            .config
            .best_first()
            .map(|dir| dir.join("certs.d"))
            .collect();
        dirs.extend(self.docker_certs.clone());
        let certificates = Certificates::load(&dirs, registry)?;
        let proxies = self.proxies.clone();
        Ok(Agents::new(registry, certificates, proxies, self.timeouts))
    }
}

/// A document as it came: a manifest, an index or a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The bytes. Their digest is [`digest`](Self::digest).
    pub bytes: Vec<u8>,
    /// The digest that was asked for, else SHA-256.
    pub digest: Digest,
    /// What the source says it is.
    pub media_type: Option<String>,
}

impl Fetched {
    /// `checked` is a digest that the bytes were seen to have.
    fn new(bytes: Vec<u8>, checked: Option<Digest>, media_type: Option<String>) -> Self {
        Self {
            digest: checked.unwrap_or_else(|| Digest::sha256(&bytes)),
            bytes,
            media_type,
        }
    }

    /// Compares with the descriptor that led here, and takes its media type.
    fn check_type(&mut self, descriptor: &Descriptor, place: &str) -> Result<(), SourceError> {
        let length = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        let digest = descriptor.digest;
        let expected = descriptor.size;
        let wrong = match length.cmp(&expected) {
            std::cmp::Ordering::Less => BlobError::Truncated {
                digest,
                expected,
                got: length,
            },
            std::cmp::Ordering::Greater => BlobError::TooLong { digest, expected },
            std::cmp::Ordering::Equal => {
                if !descriptor.media_type.is_empty() {
                    self.media_type = Some(descriptor.media_type.clone());
                }
                return Ok(());
            }
        };
        Err(SourceError::Content {
            place: place.to_owned(),
            source: Box::new(wrong),
        })
    }
}

/// A place that one image comes from.
///
/// What it gives has the digest that was asked for, or it is an error. It may
/// be used from several threads at once.
pub trait Source: Send + Sync + fmt::Debug {
    /// Where that is, for messages.
    fn place(&self) -> String;

    /// The document that the reference names: a manifest or an index.
    fn root(&self) -> Result<Fetched, SourceError>;

    /// A document that an index lists; at most
    /// [`MAX_MANIFEST`](crate::manifest::MAX_MANIFEST) bytes.
    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError>;

    /// A blob as it comes, unchecked; use [`blob`].
    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError>;

    /// A blob from `offset` on, unchecked, of a place that is far away. Nothing is
    /// asked for before it is read. `pieced` gets set when it did not come over one
    /// connection.
    ///
    /// None where blobs are at hand, and keeping parts of them is of no use.
    fn rest_of_blob(
        &self,
        _descriptor: &Descriptor,
        _offset: u64,
        _pieced: &Arc<AtomicBool>,
    ) -> Option<Box<dyn Read + Send>> {
        None
    }

    /// What refers to the manifest of that digest, such as signatures: an index, unchecked,
    /// as the registry lists it. None where the place keeps no such lists.
    fn referrers(&self, _digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(None)
    }

    /// Tells that what came was not the blob; whether somebody else can be asked for it.
    fn distrust(&self, _descriptor: &Descriptor) -> bool {
        false
    }

    /// The error for a blob that proved wrong when it had come.
    fn wrong_blob(&self, error: BlobError) -> SourceError {
        SourceError::Content {
            place: self.place(),
            source: Box::new(error),
        }
    }

    /// What people should know about how the image comes, a sentence each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A blob, checked while it streams (see [`VerifyingReader`]).
///
/// An error is a [`BlobError`] or a [`RegistryError`] within, else of this machine.
pub struct Blob {
    reader: Box<dyn Read + Send>,
    ticket: Ticket,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Blob {
    /// Where this blob's parts come from, for when it has come or proved wrong.
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }
}

/// What is left of a [`Blob`] when its reader is gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket {
    pieced: Arc<AtomicBool>,
    part: Option<Arc<PartHandle>>,
}

impl Ticket {
    #[cfg(test)]
    pub(crate) fn of(part: PartHandle) -> Self {
        Self {
            pieced: Arc::default(),
            part: Some(Arc::new(part)),
        }
    }

    /// Whether the blob was put together from parts: a wrong one may come right when
    /// it is fetched in one piece.
    pub(crate) fn is_pieced(&self) -> bool {
        self.pieced.load(Ordering::Relaxed)
    }

    /// How many of its bytes an earlier run had fetched.
    pub(crate) fn resumed(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.resumed())
    }

    /// How many of its bytes, from its begin, can be read back: those that were checked are among them.
    pub(crate) fn kept(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.kept())
    }

    /// Reads what is kept of it, at `offset`.
    pub(crate) fn read_back(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.part {
            Some(part) => part.read_exact_at(bytes, offset),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The error for when what is kept cannot be read back as it was.
    pub(crate) fn damaged(&self, how: Damage) -> io::Error {
        match &self.part {
            Some(part) => io::Error::other(part.damaged(&how)),
            None => io::Error::other(how),
        }
    }

    /// The first such error, if there was one: it says nothing of where the blob came from.
    pub(crate) fn damage(&self) -> Option<&BlobError> {
        self.part.as_ref()?.damage()
    }

    /// Puts on disk that the blob came whole, if it did or as soon as it has, for when its layer
    /// is not in the store, or not soon. Without that record, the one before holds.
    pub(crate) fn record_whole(&self) {
        if let Some(part) = &self.part {
            part.record_whole().ok();
        }
    }

    /// Removes what is kept of it: the layer is in the store, or the blob is wrong.
    pub(crate) fn remove_part(&self) -> Result<(), SpoolError> {
        match &self.part {
            Some(part) => part.remove(),
            None => Ok(()),
        }
    }
}

/// Opens a blob.
pub fn blob(source: &dyn Source, descriptor: &Descriptor) -> Result<Blob, SourceError> {
    kept_blob(source, descriptor, None)
}

/// Opens a blob; one that a killed process left in the spool goes on where it was.
pub fn kept_blob(
    source: &dyn Source,
    descriptor: &Descriptor,
    spool: Option<&Spool>,
) -> Result<Blob, SourceError> {
    let pieced = Arc::default();
    let kept = match spool {
        Some(spool) => spool.blob(source, descriptor, &pieced)?,
        None => None,
    };
    if let Some(kept) = kept {
        let part = Some(Arc::new(kept.part));
        return Ok(Blob {
            reader: kept.reader,
            ticket: Ticket { pieced, part },
        });
    }
    let raw = match source.rest_of_blob(descriptor, 0, &pieced) {
        Some(remote) => remote,
        None => source.raw_blob(descriptor)?,
    };
    let reader = VerifyingReader::new(raw, descriptor.digest, descriptor.size);
    Ok(Blob {
        reader: Box::new(reader),
        ticket: Ticket { pieced, part: None },
    })
}

/// A whole blob of at most `limit` bytes, checked.
pub(crate) fn small_blob(
    source: &dyn Source,
    descriptor: &Descriptor,
    what: &'static str,
    limit: u64,
) -> Result<Vec<u8>, SourceError> {
    let document = |error: ManifestError| SourceError::Document {
        place: source.place(),
        source: Box::new(error),
    };
    crate::manifest::check_size(what, descriptor.size, limit).map_err(document)?;
    let mut bytes = Vec::new();
    match blob(source, descriptor)?.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(explain(error, source, || {
            format!("{what} {}", descriptor.digest)
        })),
    }
}

/// What the error of a [`Blob`] means.
pub(crate) fn explain(
    error: io::Error,
    source: &dyn Source,
    what: impl FnOnce() -> String,
) -> SourceError {
    if let Some(content) = BlobError::find(&error) {
        return source.wrong_blob(content.clone());
    }
    match error.downcast::<RegistryError>() {
        Ok(error) => SourceError::Registry(Box::new(error)),
        Err(error) => SourceError::Read {
            path: source.place().into(),
            what: what(),
            source: error,
        },
    }
}

/// Opens the place that a reference names. No request is made yet.
pub fn open(
    reference: &Reference,
    options: &SourceOptions,
) -> Result<Box<dyn Source>, SourceError> {
    Ok(match reference {
        Reference::Registry(reference) => Box::new(registry::Registry::open(reference, options)?),
        Reference::Layout(reference) => Box::new(layout::Layout::open(reference)?),
        Reference::Archive(reference) => Box::new(archive::open(reference, options)?),
        Reference::DockerArchive(reference) => {
            Box::new(docker_archive::DockerArchive::open(reference, options)?)
        }
        Reference::Storage(reference) => Box::new(containers_storage::ContainersStorage::open(
            reference,
            &options.storage,
        )?),
    })
}

/// Opens a layout that nobody wants afterwards: each of its layers can be read once, and
/// takes no room on disk then.
pub(crate) fn open_used_up(reference: &FileReference) -> Result<Box<dyn Source>, SourceError> {
    Ok(Box::new(layout::Layout::open_used_up(reference)?))
}

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use crate::reference::RegistryReference;

    /// An auth.json (`bare`: a `.dockercfg`), asked for the credentials of an image.
    pub fn auth(bytes: &[u8], bare: bool, reference: &RegistryReference) {
        super::auth::fuzz(bytes, bare, reference);
    }

    /// A registries.conf, asked where an image is.
    pub fn registries(text: &str, reference: &RegistryReference) {
        super::registries::fuzz(text, reference);
    }
}
