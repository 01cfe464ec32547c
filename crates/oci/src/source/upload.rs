//! Writing to a registry (OCI distribution specification 1.1, "Push").
//!
//! Blobs go in chunks. A chunk stays in memory until the registry has said that it
//! has it, so that a connection that breaks costs one chunk at the most; a registry that lost
//! the upload gets the blob from its beginning.

use std::fmt;
use std::io::{self, Read};
use std::sync::OnceLock;

use ureq::http::Method;
use ureq::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION,
};

use super::auth::CredentialsUsed;
use super::error::{Fault, SourceError};
use super::http::{Http, Response, Trust};
use super::proxy::is_loopback;
use super::retry::{Patience, Retry};
use super::token::Authenticator;
use super::url::{Scheme, Url};
use super::{SourceOptions, registries::Endpoint};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MANIFEST_TYPES};
use crate::reference::RegistryReference;

/// The length of a chunk in bytes; a blob that is no longer goes in one piece.
const CHUNK: usize = 8 << 20;

/// An upload that failed, with all that is needed to see why.
#[derive(Debug, thiserror::Error)]
pub struct UploadError {
    /// Host, and port where given.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// What was to be written.
    pub what: String,
    /// Which credentials there were.
    pub credentials: CredentialsUsed,
    /// How often it was tried.
    pub attempts: u32,
    /// What came back.
    pub fault: Fault,
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            repository,
            what,
            credentials,
            attempts,
            fault,
        } = self;
        write!(
            f,
            "registry {registry}, repository {repository}: {what} could not be written {credentials}: {fault}"
        )?;
        if *attempts > 1 {
            write!(f, " (tried {attempts} times)")?;
        }
        f.write_str(&fault.advice(registry))
    }
}

/// Why a blob was not uploaded.
#[derive(Debug)]
pub(crate) enum PutError {
    /// The registry.
    Registry(Box<UploadError>),
    /// The blob could not be read.
    Read(io::Error),
}

/// A repository that is written to.
#[derive(Debug)]
pub(crate) struct Repository {
    reference: RegistryReference,
    http: Http,
    trust: Trust,
    authenticator: Authenticator,
    retry: Retry,
    scheme: OnceLock<Scheme>,
}

/// A request to the registry, or to where it said an upload goes on.
struct Asking<'a> {
    method: Method,
    url: Url,
    headers: Vec<(HeaderName, String)>,
    body: &'a [u8],
}

/// Where an upload stands.
struct Session {
    location: Url,
    /// Bytes that the registry has.
    acknowledged: u64,
}

/// Why an upload did not go on.
enum Stopped {
    /// It has to begin anew, if at all.
    Lost(Fault),
    Read(io::Error),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Lost(fault)
    }
}

impl Repository {
    /// The repository of a reference, as registries.conf has it; never a mirror.
    pub(crate) fn open(
        reference: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let mut endpoints = options.load_registries()?.endpoints(reference)?;
        let Endpoint {
            reference,
            insecure,
            ..
        } = endpoints.pop().expect("the registry itself is the last");
        let on_this_machine = options.trust_loopback && is_loopback(reference.host());
        let trust = if insecure || options.insecure || on_this_machine {
            Trust::Unverified
        } else {
            Trust::Verified
        };
        let credentials = options.auth.find(&reference)?;
        Ok(Self {
            authenticator: Authenticator::new(credentials, reference.repository(), trust)
                .for_writing(),
            http: Http::new(options.agents(reference.host())?, options.timeouts),
            reference,
            trust,
            retry: options.retry,
            scheme: OnceLock::new(),
        })
    }

    pub(crate) fn reference(&self) -> &RegistryReference {
        &self.reference
    }

    /// Whether the repository has a blob of that digest and length.
    pub(crate) fn has_blob(&self, blob: &Descriptor) -> Result<bool, Box<UploadError>> {
        let path = format!("blobs/{}", blob.digest);
        let what = format!("the blob {}", blob.digest);
        self.patiently(&what, || {
            let response = self.ask(Method::HEAD, &path, Vec::new(), &[])?;
            match response.status {
                // Some registries send elsewhere for content, which is there then.
                200 | 301 | 302 | 303 | 307 | 308 => {
                    let length = response.header("content-length");
                    let length = length.and_then(|text| text.parse::<u64>().ok());
                    Ok(response.status != 200 || length.is_none_or(|length| length == blob.size))
                }
                404 => Ok(false),
                _ => Err(failed(response)),
            }
        })
    }

    /// Makes a blob of another repository of the same registry this one's too; false
    /// where that is not possible.
    pub(crate) fn mount(&self, digest: &Digest, from: &str) -> Result<bool, Box<UploadError>> {
        let what = format!("the blob {digest}, which {from} has,");
        self.patiently(&what, || {
            let url = self.url("blobs/uploads/")?;
            let url = url.with_query(&[("mount", &digest.to_string()), ("from", from)]);
            let response = self.send(&Asking {
                method: Method::POST,
                url,
                headers: Vec::new(),
                body: &[],
            })?;
            match response.status {
                201 => Ok(true),
                202 => {
                    // An upload was begun in its place: take it back.
                    if let Ok(session) = session(&response) {
                        drop(self.send(&Asking {
                            method: Method::DELETE,
                            url: session.location,
                            headers: Vec::new(),
                            body: &[],
                        }));
                    }
                    Ok(false)
                }
                // Not every token allows to look into the other repository.
                401 | 403 | 404 | 405 => Ok(false),
                _ => Err(failed(response)),
            }
        })
    }

    /// Uploads a blob. `open` gives its content from the beginning, checked while it is
    /// read; it is called again where the registry lost an upload. `sent` hears how many bytes
    /// the registry has.
    pub(crate) fn put_blob(
        &self,
        blob: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
        sent: &dyn Fn(u64),
    ) -> Result<(), PutError> {
        let mut patience = Patience::new(self.retry);
        loop {
            let fault = match self.upload(blob, open, sent, &mut patience) {
                Ok(()) => return Ok(()),
                Err(Stopped::Read(error)) => return Err(PutError::Read(error)),
                Err(Stopped::Lost(fault)) => fault,
            };
            // A session that the registry forgot is begun anew.
            let fault = match fault {
                Fault::Status {
                    status: 404 | 416, ..
                } => Fault::Transport(format!("the registry lost the upload: {fault}")),
                fault => fault,
            };
            if !patience.wait(&fault) {
                let what = format!("the blob {}", blob.digest);
                return Err(PutError::Registry(self.error(what, fault, &patience)));
            }
        }
    }

    fn upload(
        &self,
        blob: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
        sent: &dyn Fn(u64),
        patience: &mut Patience,
    ) -> Result<(), Stopped> {
        let response = self.ask(Method::POST, "blobs/uploads/", Vec::new(), &[])?;
        if response.status != 202 {
            return Err(failed(response).into());
        }
        let mut session = session(&response)?;
        let mut content = open().map_err(Stopped::Read)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut start = 0;
        loop {
            chunk.clear();
            let limit = u64::try_from(CHUNK).unwrap_or(u64::MAX);
            let read = (&mut content).take(limit).read_to_end(&mut chunk);
            read.map_err(Stopped::Read)?;
            let end = start + chunk.len() as u64;
            if start == 0 && end == blob.size {
                // The end is asked for: only then is the digest known to be right.
                content
                    .read_to_end(&mut Vec::new())
                    .map_err(Stopped::Read)?;
                self.finish(session, blob, &chunk)?;
                sent(end);
                return Ok(());
            }
            if chunk.is_empty() {
                self.finish(session, blob, &[])?;
                return Ok(());
            }
            session = self.put_chunk(session, start, &chunk, patience)?;
            start = end;
            sent(end);
        }
    }

    /// Sends a chunk until the registry has all of it.
    fn put_chunk(
        &self,
        mut session: Session,
        start: u64,
        chunk: &[u8],
        patience: &mut Patience,
    ) -> Result<Session, Stopped> {
        let end = start + chunk.len() as u64;
        while session.acknowledged < end {
            let done = session.acknowledged.checked_sub(start);
            let done = done.and_then(|done| usize::try_from(done).ok());
            let rest = done.and_then(|done| chunk.get(done..)).ok_or_else(|| {
                Fault::Transport("the registry has less of it than it said".to_owned())
            })?;
            let range = format!("{}-{}", session.acknowledged, end - 1);
            let answer = self.send(&Asking {
                method: Method::PATCH,
                url: session.location.clone(),
                headers: vec![
                    (CONTENT_TYPE, "application/octet-stream".to_owned()),
                    (CONTENT_RANGE, range),
                ],
                body: rest,
            });
            let fault = match answer {
                Ok(response) if response.status == 202 => {
                    let mut next = self::session(&response)?;
                    // Without a word about it, all was taken.
                    if response.header("range").is_none() {
                        next.acknowledged = end;
                    }
                    if next.acknowledged <= session.acknowledged {
                        return Err(Fault::Transport("the registry took nothing".to_owned()).into());
                    }
                    patience.reached(next.acknowledged);
                    session = next;
                    continue;
                }
                Ok(response) => failed(response),
                Err(fault) => fault,
            };
            if !(fault.is_transient() && patience.wait(&fault)) {
                return Err(fault.into());
            }
            session = self.status(&session)?;
        }
        if session.acknowledged > end {
            return Err(
                Fault::Transport("the registry has more of it than was sent".to_owned()).into(),
            );
        }
        Ok(session)
    }

    /// Asks the registry how much of an upload it has.
    fn status(&self, session: &Session) -> Result<Session, Fault> {
        let response = self.send(&Asking {
            method: Method::GET,
            url: session.location.clone(),
            headers: Vec::new(),
            body: &[],
        })?;
        match response.status {
            200 | 202 | 204 => {
                let mut next = self::session(&response).unwrap_or(Session {
                    location: session.location.clone(),
                    acknowledged: 0,
                });
                next.acknowledged = acknowledged(&response);
                Ok(next)
            }
            _ => Err(failed(response)),
        }
    }

    /// Closes an upload, with what is left of it.
    fn finish(&self, session: Session, blob: &Descriptor, rest: &[u8]) -> Result<(), Fault> {
        let url = session.location;
        let url = url.with_query(&[("digest", &blob.digest.to_string())]);
        let response = self.send(&Asking {
            method: Method::PUT,
            url,
            headers: vec![(CONTENT_TYPE, "application/octet-stream".to_owned())],
            body: rest,
        })?;
        match response.status {
            201 | 204 => Ok(()),
            _ => Err(failed(response)),
        }
    }

    /// Writes a manifest or an index, whose blobs are there.
    pub(crate) fn put_manifest(
        &self,
        selector: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Box<UploadError>> {
        let what = format!("the manifest {selector}");
        let path = format!("manifests/{selector}");
        self.patiently(&what, || {
            let headers = vec![(CONTENT_TYPE, media_type.to_owned())];
            let response = self.ask(Method::PUT, &path, headers, bytes)?;
            match response.status {
                200..=204 => Ok(()),
                _ => Err(failed(response)),
            }
        })
    }

    /// Does something until it succeeds, fails for good, or patience ends.
    fn patiently<T>(
        &self,
        what: &str,
        attempt: impl Fn() -> Result<T, Fault>,
    ) -> Result<T, Box<UploadError>> {
        let mut patience = Patience::new(self.retry);
        loop {
            let fault = match attempt() {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            if !patience.wait(&fault) {
                return Err(self.error(what.to_owned(), fault, &patience));
            }
        }
    }

    fn error(&self, what: String, fault: Fault, patience: &Patience) -> Box<UploadError> {
        Box::new(UploadError {
            registry: self.reference.host().to_owned(),
            repository: self.reference.repository().to_owned(),
            what,
            credentials: self.authenticator.credentials().used.clone(),
            attempts: patience.failures(),
            fault,
        })
    }

    /// A request below the repository's own address.
    fn ask(
        &self,
        method: Method,
        path: &str,
        headers: Vec<(HeaderName, String)>,
        body: &[u8],
    ) -> Result<Response, Fault> {
        let url = self.url(path)?;
        self.send(&Asking {
            method,
            url,
            headers,
            body,
        })
    }

    /// Sends a request, and once more after a challenge was answered.
    fn send(&self, asking: &Asking<'_>) -> Result<Response, Fault> {
        let mut answered = false;
        loop {
            let authorization = self.authenticator.current();
            let mut headers = asking.headers.clone();
            headers.push((ACCEPT, MANIFEST_TYPES.join(", ")));
            // What belongs to the registry goes nowhere else, wherever it lets uploads go.
            let own = self
                .origin()
                .is_ok_and(|own| own.is_same_origin(&asking.url));
            if let (Some(secret), true) = (&authorization.header, own) {
                headers.push((AUTHORIZATION, secret.expose().to_owned()));
            }
            let method = asking.method.clone();
            let response =
                self.http
                    .send(method, &asking.url, self.trust, &headers, asking.body)?;
            if response.status != 401 || answered || !own {
                return Ok(response);
            }
            self.authenticator
                .answer(&self.http, response, &authorization)?;
            answered = true;
        }
    }

    fn url(&self, path: &str) -> Result<Url, Fault> {
        let path = format!("/v2/{}/{path}", self.reference.repository());
        self.at(self.scheme()?, &path)
    }

    fn origin(&self) -> Result<Url, Fault> {
        self.at(self.scheme()?, "/")
    }

    fn at(&self, scheme: Scheme, path: &str) -> Result<Url, Fault> {
        let host = match self.reference.host() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        Url::new(scheme, host, path).map_err(|error| Fault::Transport(format!("{host}: {error}")))
    }

    /// HTTPS; and where the registry is declared insecure, HTTP if that fails.
    fn scheme(&self) -> Result<Scheme, Fault> {
        if self.trust == Trust::Verified {
            return Ok(Scheme::Https);
        }
        if let Some(scheme) = self.scheme.get() {
            return Ok(*scheme);
        }
        let ping = |scheme| {
            let url = self.at(scheme, "/v2/")?;
            self.http.send(Method::GET, &url, self.trust, &[], &[])
        };
        let https = match ping(Scheme::Https) {
            Err(Fault::Transport(https)) => https,
            Err(fault) => return Err(fault),
            Ok(_) => return Ok(*self.scheme.get_or_init(|| Scheme::Https)),
        };
        match ping(Scheme::Http) {
            Err(Fault::Transport(http)) => Err(Fault::NoScheme { https, http }),
            Err(fault) => Err(fault),
            Ok(_) => Ok(*self.scheme.get_or_init(|| Scheme::Http)),
        }
    }
}

/// An answer that is no success.
fn failed(response: Response) -> Fault {
    match response.status {
        status @ (401 | 403) => Fault::Denied {
            status,
            message: response.into_message(),
        },
        status => Fault::Status {
            host: response.url.authority().to_owned(),
            status,
            retry_after: response.retry_after(),
            message: response.into_message(),
        },
    }
}

/// Where an upload goes on, after the answer's `Location` and `Range`.
fn session(response: &Response) -> Result<Session, Fault> {
    let location = response.header(LOCATION.as_str()).ok_or_else(|| {
        Fault::Transport(format!(
            "{} does not say where the upload goes on",
            response.url
        ))
    })?;
    let location = response
        .url
        .join(location)
        .map_err(|error| Fault::Redirect {
            host: response.url.authority().to_owned(),
            reason: format!("the upload is not followed: {error}"),
        })?;
    if response.url.scheme() == Scheme::Https && location.scheme() == Scheme::Http {
        return Err(Fault::Redirect {
            host: response.url.authority().to_owned(),
            reason: format!("the upload is to go on at {location}, which is not encrypted"),
        });
    }
    Ok(Session {
        location,
        acknowledged: acknowledged(response),
    })
}

/// How many bytes the registry has: `Range: 0-99` are 100. Of an empty upload registries
/// say `0-0`, so one byte alone is taken for none.
fn acknowledged(response: &Response) -> u64 {
    let parse = |text: &str| {
        let text = text.trim_start_matches("bytes=");
        text.strip_prefix("0-")?.parse::<u64>().ok()
    };
    match response.header("range").and_then(parse) {
        None | Some(0) => 0,
        Some(last) => last.saturating_add(1),
    }
}
