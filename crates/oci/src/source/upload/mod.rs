//! Writing to a registry (OCI distribution specification 1.1, "Push").

mod blob;

use std::fmt;
use std::io;
use std::sync::OnceLock;

use ureq::http::Method;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};

use super::auth::CredentialsUsed;
use super::error::{Fault, SourceError};
use super::http::{Http, Response};
use super::retry::{Patience, Retry};
use super::token::Authenticator;
use super::trust::Trust;
use super::url::{Scheme, Url};
use super::{SourceOptions, registries::Endpoint};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MANIFEST_TYPES};
use crate::reference::RegistryReference;

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

impl Asking<'_> {
    fn empty(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: &[],
        }
    }
}

impl Repository {
    /// Where a repository is by registries.conf; never a mirror.
    pub(crate) fn locate(
        reference: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Endpoint, SourceError> {
        let mut endpoints = options.load_registries()?.endpoints(reference)?;
        Ok(endpoints.pop().expect("the registry itself is the last"))
    }

    /// The repository of a reference, as registries.conf has it.
    pub(crate) fn open(
        reference: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let Endpoint {
            reference,
            insecure,
            ..
        } = Self::locate(reference, options)?;
        let trust = Trust::in_registry(reference.host(), insecure, options);
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
                _ => Err(self.failed(response)),
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
            let response = match self.send(&Asking::empty(Method::POST, url)) {
                // Not everyone may look into the other repository.
                Err(fault) if fault.is_denial() => return Ok(false),
                answer => answer?,
            };
            match response.status {
                201 => Ok(true),
                202 => {
                    // An upload was begun in its place.
                    self.take_back(&response);
                    Ok(false)
                }
                400..=405 => Ok(false),
                _ => Err(self.failed(response)),
            }
        })
    }

    /// Writes a manifest or an index, whose blobs are there.
    pub(crate) fn put_manifest(
        &self,
        selector: &str,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Box<UploadError>> {
        let what = format!("the manifest {selector}");
        let path = format!("manifests/{selector}");
        self.patiently(&what, || {
            let headers = vec![(CONTENT_TYPE, media_type.to_owned())];
            let response = self.ask(Method::PUT, &path, headers, bytes)?;
            match response.status {
                200..=204 => agrees(&response, digest),
                _ => Err(self.failed(response)),
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

    /// An answer that is no success; what it quotes of the credentials is left out.
    fn failed(&self, response: Response) -> Fault {
        let authorization = self.authenticator.current();
        let sent: Vec<_> = authorization.header.as_ref().into_iter().collect();
        match response.status {
            status @ (401 | 403) => Fault::Denied {
                status,
                message: response.into_message_without(&sent),
            },
            status => Fault::Status {
                host: response.url.authority().to_owned(),
                status,
                retry_after: response.retry_after(),
                message: response.into_message_without(&sent),
            },
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

/// Whether the registry knows what it took by the digest that it has.
fn agrees(response: &Response, digest: &Digest) -> Result<(), Fault> {
    let said = response.header("docker-content-digest");
    match said.and_then(|text| text.trim().parse::<Digest>().ok()) {
        Some(said) if said != *digest => Err(Fault::OtherDigest {
            sent: *digest,
            said,
        }),
        _ => Ok(()),
    }
}
