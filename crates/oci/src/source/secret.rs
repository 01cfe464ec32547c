//! Text that must not reach a log or an error.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A password, a token, or a header made of one; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the request only.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the secret, which a server may have quoted from the request. Of a
    /// header, what comes after the scheme is secret.
    pub(super) fn hide_in(&self, text: &str) -> String {
        match self.0.rsplit(' ').next() {
            Some(secret) if !secret.is_empty() => text.replace(secret, "…"),
            _ => text.to_owned(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A user name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: Secret,
}

/// What proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    Login(Login),
    /// A refresh token, which a token service exchanges for a short-lived one.
    IdentityToken(Secret),
}

impl Login {
    /// Parses the `auth` field of an auth.json: Base64 of `user:password`.
    pub(super) fn from_base64(text: &str) -> Option<Self> {
        let text = STANDARD.decode(text.trim()).ok()?;
        let text = String::from_utf8(text).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            // Docker pads with NUL.
            password: Secret::new(password.trim_end_matches('\0').to_owned()),
        })
    }

    /// The `Authorization` header for it (RFC 7617).
    pub(super) fn to_header(&self) -> Secret {
        let text = format!("{}:{}", self.user, self.password.expose());
        Secret::new(format!("Basic {}", STANDARD.encode(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_and_written_but_its_password_never_shown() {
        let login = Login::from_base64(&STANDARD.encode("me:hush:hush")).unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.expose()),
            ("me", "hush:hush")
        );
        let header = login.to_header();
        assert_eq!(
            header.expose(),
            format!("Basic {}", STANDARD.encode("me:hush:hush"))
        );
        assert!(!format!("{login:?} {header:?}").contains("hush"));
        let quoted = format!("you sent {}!", header.expose());
        assert_eq!(header.hide_in(&quoted), "you sent Basic …!");
        assert_eq!(Secret::new(String::new()).hide_in("text"), "text");
        assert_eq!(Login::from_base64("%%%"), None);
        assert_eq!(Login::from_base64(&STANDARD.encode("nocolon")), None);
    }
}
