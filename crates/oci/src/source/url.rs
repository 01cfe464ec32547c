//! Addresses that requests go to: absolute, http or https, without a user.

use std::fmt;

use ureq::http::Uri;

use super::secret::Secret;

/// How to talk to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// An absolute address.
///
/// Shown without its query: storage services put secrets there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    scheme: Scheme,
    authority: String,
    path_and_query: String,
}

/// A text that is no such address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it is no absolute http or https address without user and password")]
pub(super) struct InvalidUrl;

impl Url {
    pub(super) fn new(scheme: Scheme, authority: &str, path: &str) -> Result<Self, InvalidUrl> {
        Self::parse(&format!("{}://{authority}{path}", scheme.name()))
    }

    pub(super) fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl)?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(InvalidUrl),
        };
        let authority = uri.authority().ok_or(InvalidUrl)?.as_str();
        if authority.contains('@') || authority.is_empty() {
            return Err(InvalidUrl);
        }
        Ok(Self {
            scheme,
            authority: authority.to_ascii_lowercase(),
            path_and_query: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .into(),
        })
    }

    /// The address that a `Location` header means: absolute, without scheme, or
    /// a path from the root. (Relative paths occur nowhere and are refused.)
    pub(super) fn join(&self, location: &str) -> Result<Self, InvalidUrl> {
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme.name()));
        }
        if location.starts_with('/') {
            return Self::new(self.scheme, &self.authority, location);
        }
        Self::parse(location)
    }

    /// The same with these pairs added to the query.
    pub(super) fn with_query(&self, pairs: &[(&str, &str)]) -> Self {
        let mut path_and_query = self.path_and_query.clone();
        for (name, value) in pairs {
            path_and_query.push(if path_and_query.contains('?') {
                '&'
            } else {
                '?'
            });
            path_and_query.push_str(name);
            path_and_query.push('=');
            push_encoded(&mut path_and_query, value);
        }
        Self {
            path_and_query,
            ..self.clone()
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether what belongs to `self` may go to `other`: scheme, host and port agree.
    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host_and_port() == other.host_and_port()
    }

    fn host_and_port(&self) -> &str {
        let default = match self.scheme {
            Scheme::Http => ":80",
            Scheme::Https => ":443",
        };
        self.authority
            .strip_suffix(default)
            .unwrap_or(&self.authority)
    }

    /// The whole address with its query, for the request itself.
    pub(super) fn to_request_target(&self) -> String {
        format!(
            "{}://{}{}",
            self.scheme.name(),
            self.authority,
            self.path_and_query
        )
    }
}

/// The body of a form (`application/x-www-form-urlencoded`), which may hold secrets.
pub(super) fn form(fields: &[(&str, &str)]) -> Secret {
    let mut body = String::new();
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        push_encoded(&mut body, value);
    }
    Secret::new(body)
}

fn push_encoded(out: &mut String, value: &str) {
    for byte in value.bytes() {
        // ":" "/" and "," are allowed in a query, and some token services read scopes verbatim.
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", self.scheme.name(), self.authority)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_against_the_request() {
        let url = Url::parse("https://r.example:5000/v2/x").unwrap();
        let show = |location: &str| url.join(location).map(|url| url.to_request_target());
        assert_eq!(show("/y?a=b").unwrap(), "https://r.example:5000/y?a=b");
        assert_eq!(show("//cdn.example/y").unwrap(), "https://cdn.example/y");
        assert_eq!(show("http://cdn.example").unwrap(), "http://cdn.example/");
        for bad in [
            "file:///etc/passwd",
            "https://user:word@cdn.example/",
            "y",
            "",
            "ftp://x/",
        ] {
            assert!(show(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_query_is_sent_but_never_shown() {
        let url = Url::parse("https://cdn.example/b?X-Signature=secret").unwrap();
        assert!(url.to_request_target().contains("secret"));
        assert!(!format!("{url} {url:?}").contains("secret"));
    }

    #[test]
    fn another_port_or_scheme_is_another_origin() {
        let url = Url::parse("https://R.example/x").unwrap();
        let same = |text: &str| url.is_same_origin(&Url::parse(text).unwrap());
        assert!(same("https://r.example:443/y"));
        assert!(!same("https://r.example:444/y"));
        assert!(!same("http://r.example/y"));
        assert!(!same("https://r.example.evil/y"));
    }

    #[test]
    fn query_values_cannot_add_parameters() {
        let url = Url::parse("https://t.example/token?a=1").unwrap();
        let url = url.with_query(&[("scope", "repository:a/b:pull"), ("service", "x&y=z #")]);
        assert_eq!(
            url.to_request_target(),
            "https://t.example/token?a=1&scope=repository:a/b:pull&service=x%26y%3Dz%20%23"
        );
    }
}
