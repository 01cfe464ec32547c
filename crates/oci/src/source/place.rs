//! One place that has the image: a mirror, or the registry itself.

use std::io::{self, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::SourceOptions;
use super::error::{Asked, Attempt, Fault, SourceError};
use super::http::{self, Http, Response};
use super::registries::Endpoint;
use super::secret::Secret;
use super::token::Authenticator;
use super::trust::Trust;
use super::url::{Scheme, Url};
use crate::digest::{BlobError, Digest};
use crate::manifest::{MANIFEST_TYPES, OCI_INDEX};
use crate::reference::RegistryReference;

/// A repository in a registry, with what was learned of it.
#[derive(Debug)]
pub(super) struct Place {
    /// The image under the name that it has there.
    pub(super) reference: RegistryReference,
    /// Its own, for the certificates differ from one registry to the next.
    http: Http,
    trust: Trust,
    authenticator: Authenticator,
    /// The scheme that worked, of a registry where both are allowed.
    scheme: OnceLock<Scheme>,
    /// It answered a request for the rest of a blob with nonsense.
    lacks_ranges: AtomicBool,
}

impl Place {
    pub(super) fn new(endpoint: Endpoint, options: &SourceOptions) -> Result<Self, SourceError> {
        let Endpoint {
            reference,
            insecure,
            ..
        } = endpoint;
        let trust = Trust::in_registry(reference.host(), insecure, options);
        let credentials = options.auth.find(&reference)?;
        Ok(Self {
            authenticator: Authenticator::new(credentials, reference.repository(), trust),
            http: Http::new(options.agents(reference.host())?, options.timeouts),
            reference,
            trust,
            scheme: OnceLock::new(),
            lacks_ranges: AtomicBool::new(false),
        })
    }

    /// Asks for something whole; what is given has status 200.
    pub(super) fn get(&self, asked: &Asked) -> Result<Response, Fault> {
        self.get_authorized(asked, 0)
    }

    /// A blob of `size` bytes from `offset` on.
    ///
    /// Where the server cannot give the rest alone, the whole is fetched, and what
    /// comes before `offset` is passed over.
    pub(super) fn get_blob(
        &self,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, Fault> {
        let asked = Asked::Blob(*digest);
        if offset > 0 && !self.lacks_ranges.load(Ordering::Relaxed) {
            let response = self.get_authorized(&asked, offset)?;
            if response.is_rest(offset, size) {
                return Ok(response.body);
            }
            if response.status == 200 {
                return skip(response, digest, size, offset);
            }
            self.lacks_ranges.store(true, Ordering::Relaxed);
        }
        skip(self.get(&asked)?, digest, size, offset)
    }

    /// Asks, and asks once more after a challenge was answered.
    fn get_authorized(&self, asked: &Asked, offset: u64) -> Result<Response, Fault> {
        let mut answered = false;
        loop {
            let authorization = self.authenticator.current();
            let secret = authorization.header.as_ref();
            let response = self.get_over_any_scheme(asked, secret, offset)?;
            let sent: Vec<_> = secret.into_iter().collect();
            // Only the registry itself may ask who we are, not where it sent us.
            let is_registry = response.url.authority() == self.host().to_ascii_lowercase();
            match response.status {
                200 => return Ok(response),
                206 | 416 if offset > 0 => return Ok(response),
                401 if is_registry && !answered => {
                    self.authenticator
                        .answer(&self.http, response, &authorization)?;
                    answered = true;
                }
                status @ (401 | 403) if is_registry => {
                    return Err(Fault::Denied {
                        status,
                        message: response.into_message_without(&sent),
                    });
                }
                status => {
                    return Err(Fault::Status {
                        host: response.url.authority().to_owned(),
                        status,
                        retry_after: response.retry_after(),
                        message: response.into_message_without(&sent),
                    });
                }
            }
        }
    }

    /// HTTPS; and where the registry is declared insecure, HTTP if that fails.
    fn get_over_any_scheme(
        &self,
        asked: &Asked,
        authorization: Option<&Secret>,
        offset: u64,
    ) -> Result<Response, Fault> {
        let accept = match asked {
            Asked::Manifest(_) => MANIFEST_TYPES.join(", "),
            Asked::Blob(_) => "*/*".to_owned(),
            Asked::Referrers(_) => OCI_INDEX.to_owned(),
        };
        let get = |scheme| {
            let url = self.url(scheme, asked)?;
            self.http
                .get_from(&url, self.trust, &accept, authorization, offset)
        };
        if self.trust == Trust::Verified {
            return get(Scheme::Https);
        }
        if let Some(scheme) = self.scheme.get() {
            return get(*scheme);
        }
        let https = match get(Scheme::Https) {
            Err(Fault::Transport(https)) => https,
            answer => {
                self.scheme.get_or_init(|| Scheme::Https);
                return answer;
            }
        };
        match get(Scheme::Http) {
            Err(Fault::Transport(http)) => Err(Fault::NoScheme { https, http }),
            answer => {
                self.scheme.get_or_init(|| Scheme::Http);
                answer
            }
        }
    }

    /// The host that serves the API; Docker Hub's is not the one in its names.
    fn host(&self) -> &str {
        match self.reference.host() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        }
    }

    fn url(&self, scheme: Scheme, asked: &Asked) -> Result<Url, Fault> {
        let repository = self.reference.repository();
        let path = match asked {
            Asked::Manifest(selector) => format!("/v2/{repository}/manifests/{selector}"),
            Asked::Blob(digest) => format!("/v2/{repository}/blobs/{digest}"),
            Asked::Referrers(digest) => format!("/v2/{repository}/referrers/{digest}"),
        };
        Url::new(scheme, self.host(), &path)
            .map_err(|error| Fault::Transport(format!("{}: {error}", self.host())))
    }

    /// What came of asking here, for the error.
    pub(super) fn attempt(&self, fault: Fault) -> Attempt {
        Attempt {
            registry: self.reference.host().to_owned(),
            repository: self.reference.repository().to_owned(),
            credentials: self.authenticator.credentials().used.clone(),
            fault,
        }
    }
}

/// The body of a whole blob without its first bytes. One that announces another
/// length is another document, such as a login page.
fn skip(
    mut response: Response,
    digest: &Digest,
    size: u64,
    offset: u64,
) -> Result<Box<dyn Read + Send>, Fault> {
    let announced: Option<u64> = response
        .header("content-length")
        .and_then(|length| length.parse().ok());
    match announced {
        Some(got) if got < size => {
            return Err(Fault::Content(BlobError::Truncated {
                digest: *digest,
                expected: size,
                got,
            }));
        }
        Some(got) if got > size => {
            return Err(Fault::Content(BlobError::TooLong {
                digest: *digest,
                expected: size,
            }));
        }
        _ => {}
    }
    let broken = |reason| Fault::Transport(format!("{}: {reason}", response.url));
    let skipped = io::copy(&mut (&mut response.body).take(offset), &mut io::sink())
        .map_err(|error| broken(http::describe(&error)))?;
    if skipped < offset {
        return Err(broken(format!("only {skipped} bytes came")));
    }
    Ok(response.body)
}
