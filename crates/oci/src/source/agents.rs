//! Connections: whom to trust, which certificate to show, which proxy to use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use super::certificates::Certificates;
use super::error::Fault;
use super::http::Timeouts;
use super::proxy::Proxies;
use super::trust::Trust;
use super::url::{Scheme, Url};

const MAX_HEADER: usize = 64 << 10;

/// Keeps the connections that requests for one registry need.
///
/// Its own authorities are trusted wherever it sends us (a token service often
/// is another host of the same company); its client certificate is for it alone.
#[derive(Debug)]
pub(super) struct Agents {
    registry: String,
    certificates: Certificates,
    proxies: Proxies,
    timeouts: Timeouts,
    made: Mutex<HashMap<Kind, Agent>>,
}

/// What connections differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    scheme: Scheme,
    verified: bool,
    /// To the registry itself.
    own: bool,
    proxied: bool,
}

impl Agents {
    /// For a registry by its `host[:port]`.
    pub(super) fn new(
        registry: &str,
        certificates: Certificates,
        proxies: Proxies,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            registry: registry.to_ascii_lowercase(),
            certificates,
            proxies,
            timeouts,
            made: Mutex::default(),
        }
    }

    /// What to send a request to `url` with.
    pub(super) fn get(&self, url: &Url, trust: Trust) -> Result<Agent, Fault> {
        if trust.forbids(url) {
            return Err(Fault::Transport(format!("{url}: it is not encrypted")));
        }
        let proxy = self.proxies.choose(url);
        let kind = Kind {
            scheme: url.scheme(),
            verified: trust.must_verify(url),
            own: url.authority() == self.registry,
            proxied: proxy.is_some(),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = made.get(&kind) {
            return Ok(agent.clone());
        }
        let proxy = match proxy {
            // The address may hold a password, so it is not shown.
            Some(address) => Some(Proxy::new(address.expose()).map_err(|_| {
                Fault::Transport(format!(
                    "{url}: the proxy that the environment names for it is no valid address"
                ))
            })?),
            None => None,
        };
        let agent = agent(self.timeouts, self.tls(kind), proxy);
        made.insert(kind, agent.clone());
        Ok(agent)
    }

    fn tls(&self, kind: Kind) -> TlsConfig {
        if kind.scheme == Scheme::Http {
            return TlsConfig::default();
        }
        let client = self.certificates.client.clone().filter(|_| kind.own);
        let tls = TlsConfig::builder().client_cert(client);
        match kind.verified {
            true => tls.root_certs(roots(&self.certificates.authorities)),
            false => tls.disable_verification(true),
        }
        .build()
    }
}

fn agent(timeouts: Timeouts, tls: TlsConfig, proxy: Option<Proxy>) -> Agent {
    Agent::config_builder()
        .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .timeout_resolve(Some(timeouts.connect))
        .timeout_connect(Some(timeouts.connect))
        .timeout_recv_response(Some(timeouts.idle))
        .timeout_per_read(Some(timeouts.idle))
        .timeout_per_write(Some(timeouts.idle))
        .max_response_header_size(MAX_HEADER)
        .tls_config(tls)
        .build()
        .new_agent()
}

/// The certificates that the system trusts, so that a company's CA counts as it
/// does for every other program; those of Mozilla, built in, where the system
/// has none at all (a recovery shell). And `more`.
fn roots(more: &[Certificate<'static>]) -> RootCerts {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() && more.is_empty() {
        return RootCerts::WebPki;
    }
    let certificates: Vec<_> = found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .chain(more.iter().cloned())
        .collect();
    RootCerts::Specific(Arc::new(certificates))
}
