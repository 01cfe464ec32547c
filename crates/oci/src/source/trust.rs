//! Which servers must prove who they are.

use super::SourceOptions;
use super::proxy::is_loopback;
use super::url::{Scheme, Url};

/// Whether the servers that a registry needs must prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// All of them.
    Verified,
    /// All but those on this machine, as the registry is: nobody is between. Where it
    /// sends us on the network is another matter.
    ThisMachine,
    /// None: somebody said so.
    Unverified,
}

impl Trust {
    /// For a registry by its `host[:port]`, which is declared `insecure` or not.
    pub(super) fn in_registry(host: &str, insecure: bool, options: &SourceOptions) -> Self {
        if insecure || options.insecure {
            Self::Unverified
        } else if options.trust_loopback && is_loopback(host) {
            Self::ThisMachine
        } else {
            Self::Verified
        }
    }

    /// Whether the server at `url` must prove it.
    pub(super) fn must_verify(self, url: &Url) -> bool {
        match self {
            Self::Verified => true,
            Self::ThisMachine => !is_loopback(url.authority()),
            Self::Unverified => false,
        }
    }

    /// Whether a server that must prove who it is cannot.
    pub(super) fn forbids(self, url: &Url) -> bool {
        url.scheme() == Scheme::Http && self.must_verify(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_on_this_machine_cannot_make_others_be_trusted() {
        let options = SourceOptions {
            trust_loopback: true,
            ..SourceOptions::default()
        };
        let trust = Trust::in_registry("localhost:5000", false, &options);
        let forbids = |url| trust.forbids(&Url::parse(url).unwrap());
        assert!(!forbids("http://localhost:5000/v2/"));
        assert!(!forbids("http://127.0.0.1:5001/token"));
        assert!(forbids("http://auth.example/token"));
        assert!(!forbids("https://auth.example/token"));
        let must_verify = |url| trust.must_verify(&Url::parse(url).unwrap());
        assert!(must_verify("https://auth.example/token"));
        assert!(!must_verify("https://localhost:5000/v2/"));

        let trust = Trust::in_registry("r.example", false, &options);
        assert_eq!(trust, Trust::Verified);
        let declared = Trust::in_registry("localhost:5000", true, &options);
        assert_eq!(declared, Trust::Unverified);
    }
}
