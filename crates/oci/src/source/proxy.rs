//! Which proxy leads to a host: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.

use std::fmt;
use std::net::IpAddr;

use super::secret::Secret;
use super::url::{Scheme, Url};

/// The proxies that the environment names.
///
/// What is set to an empty text is not set. Shown without passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Secret>,
    https: Option<Secret>,
    exceptions: Vec<Exception>,
}

/// Hosts that are reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// An address, and how many of its first bits count.
    Network(IpAddr, u8),
    /// A domain and, unless it was written with a dot before it, its own name too.
    Domain {
        suffix: String,
        itself: bool,
    },
}

impl Proxies {
    /// From the values of the variables, which have their usual meaning: each
    /// proxy an address, with user and password where it needs them; `no_proxy`
    /// a list, separated by commas, of hosts, domains, addresses and networks
    /// (`10.0.0.0/8`), each with `:port` where only that is meant, or `*`.
    ///
    /// `all` is for the schemes that have no proxy of their own.
    pub fn new(
        http: Option<String>,
        https: Option<String>,
        all: Option<String>,
        no_proxy: Option<&str>,
    ) -> Self {
        let given = |value: Option<String>| {
            value
                .filter(|text| !text.trim().is_empty())
                .map(|text| Secret::new(text.trim().to_owned()))
        };
        let all = given(all);
        Self {
            http: given(http).or_else(|| all.clone()),
            https: given(https).or(all),
            exceptions: no_proxy
                .unwrap_or_default()
                .split(',')
                .filter_map(|entry| Exception::parse(entry.trim()))
                .collect(),
        }
    }

    /// The address of the proxy for requests to `url`, if it has one.
    ///
    /// This machine itself is never reached through a proxy.
    pub(super) fn choose(&self, url: &Url) -> Option<&Secret> {
        let (proxy, default_port) = match url.scheme() {
            Scheme::Http => (&self.http, 80),
            Scheme::Https => (&self.https, 443),
        };
        let proxy = proxy.as_ref()?;
        let (host, port) = split_port(url.authority());
        let port = port.unwrap_or(default_port);
        let direct = is_this_machine(host)
            || self
                .exceptions
                .iter()
                .any(|exception| exception.covers(host, port));
        (!direct).then_some(proxy)
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            let hosts = Hosts::All;
            return Some(Self { hosts, port: None });
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            let hosts = (bits <= width(address)).then_some(Hosts::Network(address, bits))?;
            return Some(Self { hosts, port: None });
        }
        let (host, port) = split_port(&text);
        if let Ok(address) = host.parse::<IpAddr>() {
            let hosts = Hosts::Network(address, width(address));
            return Some(Self { hosts, port });
        }
        let itself = !host.starts_with(['.', '*']);
        let suffix = host.trim_start_matches('*').trim_start_matches('.');
        if suffix.is_empty() {
            return None;
        }
        let hosts = Hosts::Domain {
            suffix: format!(".{suffix}"),
            itself,
        };
        Some(Self { hosts, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Network(network, bits) => host
                .parse()
                .is_ok_and(|address| is_within(address, *network, *bits)),
            Hosts::Domain { suffix, itself } => {
                host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..])
            }
        }
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network) = (address.to_canonical(), network.to_canonical());
    let number = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let ignored = u32::from(width(network).saturating_sub(bits));
    let differing = number(address) ^ number(network);
    width(address) == width(network) && differing.checked_shr(ignored).unwrap_or(0) == 0
}

/// A host, without brackets, and its port.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, after.strip_prefix(':').and_then(|p| p.parse().ok()));
    }
    match authority.split_once(':') {
        // More than one colon: an address of IPv6 without brackets.
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// Whether a host (without port) is this machine.
fn is_this_machine(host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_some_and(|address| address.to_canonical().is_loopback())
}

/// Whether a registry, `host[:port]`, is on this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let (host, _) = split_port(authority);
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        Proxies::new(
            Some("http://user:hush@plain.example:3128".to_owned()),
            Some("http://user:hush@secure.example:3128".to_owned()),
            None,
            Some(no_proxy),
        )
    }

    fn is_direct(no_proxy: &str, url: &str) -> bool {
        let url = Url::parse(url).unwrap();
        proxies(no_proxy).choose(&url).is_none()
    }

    #[test]
    fn each_scheme_has_its_proxy_and_all_stands_in() {
        let choose = |proxies: &Proxies, url: &str| {
            let url = Url::parse(url).unwrap();
            proxies.choose(&url).map(|proxy| proxy.expose().to_owned())
        };
        let both = proxies("");
        assert!(
            choose(&both, "http://r.example/")
                .unwrap()
                .contains("plain")
        );
        assert!(
            choose(&both, "https://r.example/")
                .unwrap()
                .contains("secure")
        );
        let all = Proxies::new(
            Some(String::new()),
            None,
            Some("socks5://p:1".to_owned()),
            None,
        );
        assert_eq!(choose(&all, "http://r.example/").unwrap(), "socks5://p:1");
        assert_eq!(choose(&all, "https://r.example/").unwrap(), "socks5://p:1");
        assert_eq!(choose(&Proxies::default(), "https://r.example/"), None);
    }

    #[test]
    fn hosts_domains_networks_and_ports_are_excepted() {
        let list = "corp.example, .sub.example,*.wild.example,10.0.0.0/8,192.0.2.7,fd00::/8,one.example:5000";
        for url in [
            "https://corp.example/",
            "https://a.corp.example:5000/",
            "https://a.sub.example/",
            "https://a.wild.example/",
            "https://10.1.2.3:5000/",
            "http://192.0.2.7/",
            "https://[fd12::1]:5000/",
            "https://one.example:5000/",
        ] {
            assert!(is_direct(list, url), "{url}");
        }
        for url in [
            "https://acorp.example/",
            "https://sub.example/",
            "https://wild.example/",
            "https://11.1.2.3/",
            "https://192.0.2.8/",
            "https://[fe80::1]/",
            "https://one.example/",
        ] {
            assert!(!is_direct(list, url), "{url}");
        }
        assert!(is_direct("*", "https://anything.example/"));
    }

    #[test]
    fn this_machine_is_never_reached_through_a_proxy() {
        for url in [
            "http://localhost:5000/",
            "https://127.8.0.1/",
            "http://[::1]:5000/",
            "http://[::ffff:127.0.0.1]/",
            "http://a.localhost/",
        ] {
            assert!(is_direct("", url), "{url}");
        }
        assert!(!is_direct("", "http://localhost.example/"));
    }

    #[test]
    fn the_passwords_of_proxies_are_never_shown() {
        assert!(!format!("{:?}", proxies("")).contains("hush"));
    }

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

    proptest! {
        #[test]
        fn any_list_of_exceptions_is_read_without_panic(list in "[a-z0-9.:/*,\\[\\] ]{0,60}") {
            is_direct(&list, "https://r.example/");
            is_direct(&list, "https://10.0.0.1:5000/");
        }
    }
}
