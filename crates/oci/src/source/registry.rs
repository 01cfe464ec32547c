//! Images in a registry (OCI distribution specification 1.1, "Pull").

use std::io::{self, Read};
use std::sync::OnceLock;

use super::error::{Asked, Fault, RegistryError, SourceError, TransferError};
use super::http::{self, Http, Response, Trust};
use super::registries::Endpoint;
use super::retry::Retry;
use super::token::Authenticator;
use super::url::{Scheme, Url};
use super::{Fetched, Source, SourceOptions};
use crate::digest::{BlobError, Digest};
use crate::manifest::{Descriptor, MANIFEST_TYPES, MAX_MANIFEST};
use crate::reference::RegistryReference;

/// One image's repository in a registry.
#[derive(Debug)]
pub(super) struct Registry {
    /// Where the image is, after `location` of registries.conf.
    reference: RegistryReference,
    trust: Trust,
    http: Http,
    authenticator: Authenticator,
    retry: Retry,
    /// The scheme that worked, of a registry where both are allowed.
    scheme: OnceLock<Scheme>,
}

/// Whether a registry is on this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address: Option<std::net::IpAddr> = name.parse().ok();
    name == "localhost" || address.is_some_and(|address| address.is_loopback())
}

impl Registry {
    pub(super) fn open(
        reference: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let Endpoint {
            reference,
            insecure,
        } = options.load_registries()?.resolve(reference)?;
        let on_this_machine = options.trust_loopback && is_loopback(reference.host());
        let trust = if insecure || options.insecure || on_this_machine {
            Trust::Unverified
        } else {
            Trust::Verified
        };
        let credentials = options.auth.find(&reference)?;
        Ok(Self {
            authenticator: Authenticator::new(credentials, reference.repository(), trust),
            reference,
            trust,
            http: Http::new(options.timeouts),
            retry: options.retry,
            scheme: OnceLock::new(),
        })
    }

    /// Asks until there is an answer with status 200, as often as [`Retry`] allows.
    fn get(&self, asked: &Asked) -> Result<Response, SourceError> {
        let mut done = 0;
        loop {
            let fault = match self.get_authorized(asked) {
                Ok(response) => return Ok(response),
                Err(fault) => fault,
            };
            done += 1;
            let wanted = match &fault {
                Fault::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            match self.retry.pause_after(done, wanted) {
                Some(pause) if fault.is_transient() => std::thread::sleep(pause),
                _ => return Err(self.error(asked, fault)),
            }
        }
    }

    /// Asks, and asks once more after a challenge was answered.
    fn get_authorized(&self, asked: &Asked) -> Result<Response, Fault> {
        let mut answered = false;
        loop {
            let authorization = self.authenticator.current();
            let response = self.get_over_any_scheme(asked, authorization.header.as_ref())?;
            // Only the registry itself may ask who we are, not where it sent us.
            let is_registry = response.url.authority() == self.host().to_ascii_lowercase();
            match response.status {
                200 => return Ok(response),
                401 if is_registry && !answered => {
                    self.authenticator
                        .answer(&self.http, response, &authorization)?;
                    answered = true;
                }
                status @ (401 | 403) if is_registry => {
                    return Err(Fault::Denied {
                        status,
                        message: response.into_message(),
                    });
                }
                status => {
                    return Err(Fault::Status {
                        host: response.url.authority().to_owned(),
                        status,
                        retry_after: response.retry_after(),
                        message: response.into_message(),
                    });
                }
            }
        }
    }

    /// HTTPS; and where the registry is declared insecure, HTTP if that fails.
    fn get_over_any_scheme(
        &self,
        asked: &Asked,
        authorization: Option<&super::secret::Secret>,
    ) -> Result<Response, Fault> {
        let accept = match asked {
            Asked::Manifest(_) => MANIFEST_TYPES.join(", "),
            Asked::Blob(_) => "*/*".to_owned(),
        };
        let get = |scheme| {
            let url = self.url(scheme, asked)?;
            self.http.get(&url, self.trust, &accept, authorization)
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
        };
        Url::new(scheme, self.host(), &path)
            .map_err(|error| Fault::Transport(format!("{}: {error}", self.host())))
    }

    fn error(&self, asked: &Asked, fault: Fault) -> SourceError {
        SourceError::Registry(Box::new(RegistryError {
            registry: self.reference.host().to_owned(),
            repository: self.reference.repository().to_owned(),
            asked: asked.clone(),
            credentials: self.authenticator.credentials().used.clone(),
            fault,
        }))
    }

    fn fetch_manifest(
        &self,
        selector: &str,
        expected: Option<&Digest>,
    ) -> Result<Fetched, SourceError> {
        let asked = Asked::Manifest(selector.to_owned());
        let response = self.get(&asked)?;
        let media_type = response.header("content-type").map(str::to_owned);
        // The registry's own word for the digest, where the name does not fix it.
        let promised = response
            .header("docker-content-digest")
            .and_then(|text| text.parse::<Digest>().ok());
        let bytes = response
            .read_body(MAX_MANIFEST)
            .map_err(|fault| self.error(&asked, fault))?;
        for digest in expected.into_iter().chain(&promised) {
            let actual = Digest::compute(digest.algorithm(), &bytes);
            if actual != *digest {
                let wrong = BlobError::WrongDigest {
                    digest: *digest,
                    actual: Box::new(actual),
                };
                return Err(self.error(&asked, Fault::Content(wrong)));
            }
        }
        Ok(Fetched::new(bytes, expected.copied(), media_type))
    }
}

impl Source for Registry {
    fn place(&self) -> String {
        format!("docker://{}", self.reference.name())
    }

    fn root(&self) -> Result<Fetched, SourceError> {
        self.fetch_manifest(&self.reference.selector(), self.reference.digest())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Fetched, SourceError> {
        let mut fetched =
            self.fetch_manifest(&descriptor.digest.to_string(), Some(&descriptor.digest))?;
        fetched.check_type(descriptor, &self.place())?;
        Ok(fetched)
    }

    fn raw_blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        let response = self.get(&Asked::Blob(descriptor.digest))?;
        Ok(Box::new(Body {
            place: self.place(),
            digest: descriptor.digest,
            inner: response.body,
        }))
    }
}

/// A blob as it comes; its errors say whose they are.
struct Body {
    place: String,
    digest: Digest,
    inner: Box<dyn Read + Send>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind == io::ErrorKind::Interrupted {
                return error;
            }
            let source = io::Error::new(kind, http::describe(&error));
            io::Error::new(
                kind,
                TransferError {
                    place: self.place.clone(),
                    digest: self.digest,
                    source,
                },
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_trusted_without_a_certificate() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.0.1",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "10.0.2.2:5000",
            "quay.io",
            "[fe80::1]",
            "127.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
