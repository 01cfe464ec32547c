//! Connections: whom to trust, which certificate to show, which proxy to use.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rustls_pki_types::CertificateDer;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    ConnectProxyConnector, Connector, SocksConnector, TcpConnector,
};
use ureq::{Agent, Proxy};

use super::certificates::Certificates;
use super::error::Fault;
use super::http::Timeouts;
use super::proxy::Proxies;
use super::tls::{Settings, Tls, Trusted};
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
        let tls = self
            .tls(kind)
            .map_err(|error| Fault::Transport(format!("{url}: TLS cannot be set up: {error}")))?;
        let agent = agent(self.timeouts, tls, proxy);
        made.insert(kind, agent.clone());
        Ok(agent)
    }

    /// What is the registry's own is not for a proxy; and neither is it that anybody is taken for it.
    fn tls(&self, kind: Kind) -> Result<Tls, rustls::Error> {
        let server = || {
            let client = self.certificates.client.clone().filter(|_| kind.own);
            let trusted = match kind.verified {
                true => trusted(&self.certificates.authorities),
                false => Trusted::Anybody,
            };
            Settings::new(trusted, client)
        };
        let proxy = || Settings::new(trusted(&[]), None);
        Ok(Tls {
            server: (kind.scheme == Scheme::Https).then(server).transpose()?,
            proxy: kind.proxied.then(proxy).transpose()?,
        })
    }
}

fn agent(timeouts: Timeouts, tls: Tls, proxy: Option<Proxy>) -> Agent {
    let config = Agent::config_builder()
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
        .build();
    // As ureq's own, with another TLS in the end.
    let connector =
        ().chain(SocksConnector::default())
            .chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(tls);
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// The certificates that the system trusts, so that a company's CA counts as it
/// does for every other program; those of Mozilla, built in, where the system
/// has none at all (a recovery shell). And `more`.
fn trusted(more: &[CertificateDer<'static>]) -> Trusted {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    certificates.extend_from_slice(more);
    Trusted::Authorities {
        and_built_in: certificates.is_empty(),
        certificates,
    }
}
