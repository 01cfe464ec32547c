//! What a person writes to name an image, parsed.
//!
//! The syntax is that of the containers tools: `docker://host/repository`, with
//! a tag, a digest or both, or the same without `docker://`, or with rpm-ostree's
//! `registry:` in its place;
//! `oci:directory[:name]`, `oci-archive:file[:name]`, `docker-archive:file[:name]`
//! and `containers-storage:[store]image`.

mod storage;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use self::storage::{ImageSelector, StorageReference, StoreSpecifier};
use crate::digest::Digest;

/// The tag that is meant where neither tag nor digest is given.
pub const DEFAULT_TAG: &str = "latest";

/// Transports of other programs: those of containers-transports(5) that hull does not read, and
/// those that ostree's containers put in front.
const FOREIGN: &[&str] = &[
    "atomic",
    "dir",
    "docker-daemon",
    "ostree",
    "ostree-image-signed",
    "ostree-remote-image",
    "ostree-remote-registry",
    "ostree-unverified-image",
    "ostree-unverified-registry",
    "sif",
    "tarball",
];
const MAX_LENGTH: usize = 4096;
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
const MAX_NAME: usize = 255;

/// Names an image and says where it is.
///
/// [`fmt::Display`] writes what [`Reference::parse`] reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// An image in a registry.
    Registry(RegistryReference),
    /// An image in a directory with the OCI image layout.
    Layout(FileReference),
    /// An image in an uncompressed tar of such a directory.
    Archive(FileReference),
    /// An image in a file as `docker save` writes it.
    DockerArchive(FileReference),
    /// An image in a store of podman's.
    Storage(StorageReference),
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryReference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// An image in a directory or a file; the file may be standard input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileReference {
    path: String,
    name: Option<String>,
    digest: Option<Digest>,
}

impl RegistryReference {
    /// The registry: a host name or address, with `:port` where one is given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository within the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is given; it decides then, whatever the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `host/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What to ask the registry for: the digest, else the tag, else `latest`.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// Parses `host/repository` with a tag, a digest or both.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_LENGTH {
            return Err(ReferenceError::TooLong(text.len()));
        }
        parse_registry(text, text)
    }
}

impl FileReference {
    /// The directory or the file.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// Whether it is read from standard input: `-` or `/dev/stdin`.
    pub fn is_stdin(&self) -> bool {
        matches!(self.path.as_str(), "-" | "/dev/stdin")
    }

    /// Whether it is written to standard output: `-` or `/dev/stdout`.
    pub fn is_stdout(&self) -> bool {
        matches!(self.path.as_str(), "-" | "/dev/stdout")
    }

    /// The name of the image in there, if given: the annotation
    /// `org.opencontainers.image.ref.name`; in Docker's archives a tag, or `@` and the
    /// image's place in the list.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The digest, if one is given; it decides then, whatever the name.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl Reference {
    /// Parses what a person wrote.
    ///
    /// Without a transport it is the name of an image in a registry. Short
    /// names (`debian`) are refused: which registry is meant depends on the
    /// machine, and what boots must not.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_LENGTH {
            return Err(ReferenceError::TooLong(text.len()));
        }
        if let Some(rest) = in_registry(text) {
            return parse_registry(rest, text).map(Self::Registry);
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return parse_file(rest, text).map(Self::Layout);
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return parse_file(rest, text).map(Self::Archive);
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return parse_file(rest, text).map(Self::DockerArchive);
        }
        if let Some(rest) = text.strip_prefix("containers-storage:") {
            return StorageReference::parse(rest, text).map(Self::Storage);
        }
        if let Some(transport) = Self::names_foreign_transport(text) {
            return Err(ReferenceError::UnknownTransport(transport.to_owned()));
        }
        parse_registry(text, text).map(Self::Registry)
    }

    /// Parses the two fields of bootc's status: the transport (`registry`, `oci`,
    /// `oci-archive`, `docker-archive`, `containers-storage`) and the image.
    pub fn from_transport(transport: &str, image: &str) -> Result<Self, ReferenceError> {
        if image.len() > MAX_LENGTH {
            return Err(ReferenceError::TooLong(image.len()));
        }
        match transport {
            "registry" | "docker" => {
                parse_registry(in_registry(image).unwrap_or(image), image).map(Self::Registry)
            }
            "oci" => parse_file(image, image).map(Self::Layout),
            "oci-archive" => parse_file(image, image).map(Self::Archive),
            "docker-archive" => parse_file(image, image).map(Self::DockerArchive),
            "containers-storage" => StorageReference::parse(image, image).map(Self::Storage),
            other => Err(ReferenceError::UnknownTransport(other.to_owned())),
        }
    }

    /// The transport that the text begins with, where other programs know it and hull does not read it:
    /// containers-transports(5), ostree's, and what is before `://`.
    pub fn names_foreign_transport(text: &str) -> Option<&str> {
        if Self::names_transport(text) {
            return None;
        }
        let by_slashes = text.split_once("://").map(|(transport, _)| transport);
        let (first, _) = text.split_once(':')?;
        by_slashes.or_else(|| FOREIGN.contains(&first).then_some(first))
    }

    /// Whether the text begins with one of the transports that hull reads, and so says itself
    /// where the image is.
    pub fn names_transport(text: &str) -> bool {
        let others = [
            "oci:",
            "oci-archive:",
            "docker-archive:",
            "containers-storage:",
        ];
        in_registry(text).is_some() || others.iter().any(|prefix| text.starts_with(prefix))
    }

    /// The transport as bootc's status names it.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Registry(_) => "registry",
            Self::Layout(_) => "oci",
            Self::Archive(_) => "oci-archive",
            Self::DockerArchive(_) => "docker-archive",
            Self::Storage(_) => "containers-storage",
        }
    }

    /// The image without its transport, as in bootc's status.
    pub fn image(&self) -> String {
        match self {
            Self::Registry(reference) => reference.to_string(),
            Self::Layout(reference) | Self::Archive(reference) | Self::DockerArchive(reference) => {
                reference.to_string()
            }
            Self::Storage(reference) => reference.to_string(),
        }
    }

    /// The digest, if one is given.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Registry(reference) => reference.digest(),
            Self::Layout(reference) | Self::Archive(reference) | Self::DockerArchive(reference) => {
                reference.digest()
            }
            Self::Storage(reference) => reference.digest(),
        }
    }

    /// The same place, with exactly the manifest of that digest: what a tag was moved to
    /// since does not matter. The tag stays, for people.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        let mut pinned = self.clone();
        match &mut pinned {
            Self::Registry(reference) => reference.digest = Some(digest),
            Self::Layout(reference) | Self::Archive(reference) | Self::DockerArchive(reference) => {
                reference.digest = Some(digest);
            }
            Self::Storage(reference) => reference.pin(digest),
        }
        pinned
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "docker://{reference}"),
            Self::Layout(reference) => write!(f, "oci:{reference}"),
            Self::Archive(reference) => write!(f, "oci-archive:{reference}"),
            Self::DockerArchive(reference) => write!(f, "docker-archive:{reference}"),
            Self::Storage(reference) => write!(f, "containers-storage:{reference}"),
        }
    }
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        write_selectors(f, self.tag.as_deref(), self.digest.as_ref())
    }
}

impl fmt::Display for FileReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        write_selectors(f, self.name.as_deref(), self.digest.as_ref())
    }
}

fn write_selectors(
    f: &mut fmt::Formatter<'_>,
    tag: Option<&str>,
    digest: Option<&Digest>,
) -> fmt::Result {
    if let Some(tag) = tag {
        write!(f, ":{tag}")?;
    }
    if let Some(digest) = digest {
        write!(f, "@{digest}")?;
    }
    Ok(())
}

/// A text that names no image.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Longer than any sensible name.
    #[error("the image reference is {0} bytes long; {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// A name without a registry.
    #[error(
        "{0:?} names no registry: write it in full, such as docker.io/library/debian or quay.io/team/image"
    )]
    ShortName(String),
    /// A transport that hull does not read.
    #[error(
        "the transport {0:?} is not supported: use docker://, oci:, oci-archive:, docker-archive: or containers-storage:"
    )]
    UnknownTransport(String),
    /// The host part is none.
    #[error("{text:?}: {host:?} is not a registry's host name, address or host:port")]
    Host {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        host: String,
    },
    /// The repository part is none.
    #[error(
        "{text:?}: {repository:?} is not a repository name: lower-case letters, digits and single separators . _ __ - between slashes"
    )]
    Repository {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        repository: String,
    },
    /// The tag part is none.
    #[error(
        "{text:?}: {tag:?} is not a tag: up to 128 letters, digits and _ . - that do not begin with . or -"
    )]
    Tag {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        tag: String,
    },
    /// The digest part is none.
    #[error("{text:?}: {source}")]
    Digest {
        /// The whole reference.
        text: String,
        /// What is wrong.
        source: crate::digest::InvalidDigest,
    },
    /// No path, or one that cannot be.
    #[error(
        "{0:?} names no directory or file: write oci:DIR[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME]"
    )]
    Path(String),
    /// The store in brackets is none.
    #[error(
        "{text:?}: {reason}; write containers-storage:[DRIVER@GRAPHROOT+RUNROOT:OPTIONS]IMAGE, of which the brackets and most in them may be left out"
    )]
    Store {
        /// The whole reference.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The name of an image in podman's store is none.
    #[error(
        "{text:?}: {image:?} names no image of a store: write NAME[:TAG][@DIGEST], or @ID with the digits of `podman images --no-trunc`"
    )]
    StoredImage {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        image: String,
    },
    /// The name of an image in a layout is none.
    #[error("{text:?}: {name:?} is not the name of an image in a layout")]
    Name {
        /// The whole reference.
        text: String,
        /// The part that is wrong.
        name: String,
    },
}

/// The name in a registry, where the text says that it is one: `docker://NAME` or `registry:NAME`.
///
/// `registry:5000/image` is an image of a host of that name, and `registry:2` a tag of the short
/// name: both had a meaning before the transport, and keep it.
fn in_registry(text: &str) -> Option<&str> {
    if let Some(name) = text.strip_prefix("docker://") {
        return Some(name);
    }
    let name = text.strip_prefix("registry:")?;
    let (host, _) = name.split_once('/')?;
    (!is_port(host)).then_some(name)
}

fn parse_registry(rest: &str, text: &str) -> Result<RegistryReference, ReferenceError> {
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest, text)?)),
        None => (rest, None),
    };
    // A colon after the last slash begins a tag; one before it, a port.
    let slash = rest.rfind('/').unwrap_or(0);
    let (name, tag) = match rest[slash..].find(':') {
        Some(colon) => (&rest[..slash + colon], Some(&rest[slash + colon + 1..])),
        None => (rest, None),
    };
    let (host, repository) = parse_name(name, text)?;
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(ReferenceError::Tag {
            text: text.to_owned(),
            tag: tag.to_owned(),
        });
    }
    Ok(RegistryReference {
        host,
        repository,
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn parse_name(name: &str, text: &str) -> Result<(String, String), ReferenceError> {
    let short = || ReferenceError::ShortName(text.to_owned());
    let (host, repository) = name.split_once('/').ok_or_else(short)?;
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(short());
    }
    if !is_host(host) {
        return Err(ReferenceError::Host {
            text: text.to_owned(),
            host: host.to_owned(),
        });
    }
    if !is_repository(repository) {
        return Err(ReferenceError::Repository {
            text: text.to_owned(),
            repository: repository.to_owned(),
        });
    }
    // Docker Hub's official images have a name of two parts, of which people write one.
    let repository = if host == "docker.io" && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    Ok((host.to_owned(), repository))
}

fn parse_file(rest: &str, text: &str) -> Result<FileReference, ReferenceError> {
    let (rest, digest) = match rest.rsplit_once('@') {
        Some((rest, digest)) if digest.starts_with("sha256:") || digest.starts_with("sha512:") => {
            (rest, Some(parse_digest(digest, text)?))
        }
        _ => (rest, None),
    };
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) => (path, Some(name)),
        None => (rest, None),
    };
    if path.is_empty() || path.contains('\0') {
        return Err(ReferenceError::Path(text.to_owned()));
    }
    if let Some(name) = name
        && !is_layout_name(name)
    {
        return Err(ReferenceError::Name {
            text: text.to_owned(),
            name: name.to_owned(),
        });
    }
    Ok(FileReference {
        path: path.to_owned(),
        name: name.map(str::to_owned),
        digest,
    })
}

fn parse_digest(digest: &str, text: &str) -> Result<Digest, ReferenceError> {
    digest.parse().map_err(|source| ReferenceError::Digest {
        text: text.to_owned(),
        source,
    })
}

fn is_host(host: &str) -> bool {
    let (name, port) = if host.starts_with('[') {
        match host.split_once(']') {
            Some((address, rest)) => {
                if address[1..].parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                match rest.strip_prefix(':') {
                    Some(port) => (None, Some(port)),
                    None if rest.is_empty() => (None, None),
                    None => return false,
                }
            }
            None => return false,
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        }
    };
    name.is_none_or(is_host_name) && port.is_none_or(is_port)
}

fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

// distribution-spec, "Pulling manifests".
fn is_repository(repository: &str) -> bool {
    repository.len() <= MAX_REPOSITORY && repository.split('/').all(is_repository_component)
}

fn is_repository_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_in_words = component.bytes().next().is_some_and(is_word)
        && component.bytes().next_back().is_some_and(is_word);
    ends_in_words
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
}

fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

// image-spec, annotations: org.opencontainers.image.ref.name.
fn is_layout_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'@' | b'/' | b'+')
        })
}

#[cfg(test)]
mod tests;
