//! TLS with a server: rustls on the connections that ureq makes.
//!
//! ureq can do that itself, but lets nobody else say which certificates are good.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};
use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

use super::verifier::{Anything, Verifier};

/// Whose certificates are good.
#[derive(Debug)]
pub(super) enum Trusted {
    /// These authorities', and with `and_built_in` those that Mozilla trusts.
    Authorities {
        certificates: Vec<CertificateDer<'static>>,
        and_built_in: bool,
    },
    /// Everybody's.
    Anybody,
}

/// How to speak with servers of a kind.
#[derive(Debug, Clone)]
pub(super) struct Settings(Arc<ClientConfig>);

impl Settings {
    /// Trusts `trusted`, and shows `client` to servers that ask for a certificate.
    pub(super) fn new(
        trusted: Trusted,
        client: Option<Arc<CertifiedKey>>,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous();
        let config = match trusted {
            Trusted::Anybody => {
                config.with_custom_certificate_verifier(Arc::new(Anything(provider)))
            }
            Trusted::Authorities {
                certificates,
                and_built_in,
            } => {
                let verifier = Verifier::new(certificates, and_built_in, provider);
                let verifier =
                    verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
                config.with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let config = match client {
            Some(client) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client)))
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }
}

/// Encrypts connections to what has an address that begins with `https:`: the server, or a proxy on the way
/// there, which is somebody else.
#[derive(Debug)]
pub(super) struct Tls {
    /// None where the server is spoken to in the clear.
    pub(super) server: Option<Settings>,
    /// None where there is no proxy.
    pub(super) proxy: Option<Settings>,
}

impl Tls {
    /// ureq goes to a proxy by way of all connectors, and leaves the proxy out of the configuration then.
    fn settings(&self, details: &ConnectionDetails<'_>) -> Result<&Settings, Error> {
        let settings = match details.config.proxy() {
            None if self.proxy.is_some() => &self.proxy,
            _ => &self.server,
        };
        settings.as_ref().ok_or(Error::TlsRequired)
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(plain) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || plain.is_tls() {
            return Ok(Some(Either::A(plain)));
        }
        let name = server_name(details.uri)?;
        let Settings(settings) = self.settings(details)?;
        let mut connection =
            ClientConnection::new(settings.clone(), name).map_err(io::Error::other)?;
        let mut socket = TransportAdapter::new(plain, details.current_time.clone());
        socket.set_timeout(left(details));
        // The handshake.
        connection.complete_io(&mut socket)?;
        let config = details.config;
        Ok(Some(Either::B(Encrypted {
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            stream: StreamOwned::new(connection, socket),
        })))
    }
}

/// The time for the whole connection without what it has taken so far.
fn left(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (Duration::Exact(after), Instant::Exact(begun), Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        let taken = now.saturating_duration_since(begun);
        timeout.after = Duration::Exact(after.saturating_sub(taken));
    }
    timeout
}

fn server_name(uri: &Uri) -> Result<ServerName<'static>, Error> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| Error::BadUri(format!("{host} is no name that a certificate can have")))
}

/// A connection whose handshake is done.
pub(super) struct Encrypted<In: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<In>>,
}

/// The buffers hold what may be secret.
impl<In: Transport> fmt::Debug for Encrypted<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encrypted")
            .field(self.stream.sock.get_ref())
            .finish()
    }
}

impl<In: Transport> Transport for Encrypted<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        // rustls keeps the error of a write for the next one, which may never come.
        self.stream.flush()?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
