//! Who we are to a registry: nobody, a password, or a token fetched for one
//! repository (distribution's token authentication).

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::auth::Credentials;
use super::challenge::{self, Challenge};
use super::error::Fault;
use super::http::{Http, Response};
use super::secret::{Held, Secret};
use super::trust::Trust;
use super::url::{self, Scheme, Url};

const MAX_TOKEN: u64 = 1 << 20;

/// Answers a registry's question who is asking, for one repository.
///
/// One token is kept: a source reads one repository, so there is one scope.
#[derive(Debug)]
pub(super) struct Authenticator {
    credentials: Credentials,
    scope: String,
    trust: Trust,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    header: Option<Secret>,
}

/// What a request was sent with.
#[derive(Debug, Clone)]
pub(super) struct Authorization {
    generation: u64,
    pub(super) header: Option<Secret>,
}

impl Authenticator {
    pub(super) fn new(credentials: Credentials, repository: &str, trust: Trust) -> Self {
        Self {
            credentials,
            scope: format!("repository:{repository}:pull"),
            trust,
            state: Mutex::default(),
        }
    }

    /// Asks for tokens that allow writing, where the registry does not say itself what
    /// a token must allow.
    pub(super) fn for_writing(mut self) -> Self {
        self.scope.push_str(",push");
        self
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What to send with the next request.
    pub(super) fn current(&self) -> Authorization {
        let state = self.lock();
        Authorization {
            generation: state.generation,
            header: state.header.clone(),
        }
    }

    /// Takes the challenge of a response with status 401 to a request that was
    /// sent with `used`, and gets what it asks for.
    ///
    /// Requests that wait here at the same time share one new token.
    pub(super) fn answer(
        &self,
        http: &Http,
        response: Response,
        used: &Authorization,
    ) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.generation != used.generation {
            return Ok(());
        }
        let challenges: Vec<_> = response
            .headers
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let header = match (pick(&challenges), &self.credentials.held) {
            (Some(Challenge::Bearer { .. }), _) => {
                Some(self.fetch_token(http, &challenges, &response.url)?)
            }
            (Some(Challenge::Basic), Some(Held::Login(login))) if state.header.is_none() => {
                Some(login.to_header())
            }
            _ => None,
        };
        let Some(header) = header else {
            return Err(Fault::Denied {
                status: response.status,
                message: response.into_message(),
            });
        };
        state.header = Some(header);
        state.generation += 1;
        Ok(())
    }

    fn fetch_token(
        &self,
        http: &Http,
        challenges: &[Challenge],
        registry: &Url,
    ) -> Result<Secret, Fault> {
        let Some(Challenge::Bearer {
            realm,
            service,
            scope,
        }) = pick(challenges)
        else {
            unreachable!("called for a bearer challenge only");
        };
        let bad = |reason: String| Fault::Token {
            realm: realm.chars().take(200).collect(),
            reason,
        };
        let url = Url::parse(realm).map_err(|error| bad(error.to_string()))?;
        let shown = url.to_string();
        let bad = |reason: String| Fault::Token {
            realm: shown.clone(),
            reason,
        };
        // CVE-2019-10214: a password must not be sent in the clear because a registry says so,
        // also not where nobody proves who they are, but all is encrypted.
        let is_step_down = registry.scheme() == Scheme::Https && url.scheme() == Scheme::Http;
        if self.trust.forbids(&url) || is_step_down {
            return Err(bad("it is not encrypted".to_owned()));
        }
        let scope = scope.as_deref().unwrap_or(&self.scope);
        // A query has each scope by itself, a form (OAuth 2) all in one field.
        let mut fields: Vec<_> = match self.credentials.held {
            Some(Held::IdentityToken(_)) => vec![("scope", scope)],
            _ => scope.split(' ').map(|scope| ("scope", scope)).collect(),
        };
        if let Some(service) = service {
            fields.push(("service", service));
        }
        let body = self
            .ask_token_service(http, &url, fields)
            .map_err(|fault| Fault::AtTokenService {
                realm: shown.clone(),
                fault: Box::new(fault),
            })?;
        parse_token(&body).map_err(bad)
    }

    /// What the token service answers.
    fn ask_token_service<'a>(
        &'a self,
        http: &Http,
        url: &Url,
        mut fields: Vec<(&'a str, &'a str)>,
    ) -> Result<Vec<u8>, Fault> {
        let mut sent = Vec::new();
        let (response, header);
        match &self.credentials.held {
            Some(Held::IdentityToken(token)) => {
                fields.push(("grant_type", "refresh_token"));
                fields.push(("client_id", "hull"));
                fields.push(("refresh_token", token.expose()));
                sent.push(token);
                response = http.post_form(url, self.trust, &url::form(&fields))?;
            }
            Some(Held::Login(login)) => {
                fields.push(("account", &login.user));
                header = login.to_header();
                sent.extend([&header, &login.password]);
                let url = url.with_query(&fields);
                response = http.get(&url, self.trust, "application/json", Some(&header))?;
            }
            None => {
                let url = url.with_query(&fields);
                response = http.get(&url, self.trust, "application/json", None)?;
            }
        }
        match response.status {
            200 => response.read_body(MAX_TOKEN),
            status @ (401 | 403) => Err(Fault::Denied {
                status,
                message: response.into_message_without(&sent),
            }),
            status => Err(Fault::Status {
                host: url.authority().to_owned(),
                status,
                retry_after: response.retry_after(),
                message: response.into_message_without(&sent),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole at any time, so a panic elsewhere does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokens before passwords, as the registry's own tools do.
fn pick(challenges: &[Challenge]) -> Option<&Challenge> {
    challenges
        .iter()
        .find(|challenge| matches!(challenge, Challenge::Bearer { .. }))
        .or(challenges.first())
}

/// The header for the token in a token service's answer.
fn parse_token(body: &[u8]) -> Result<Secret, String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<Secret>,
        access_token: Option<Secret>,
    }
    // What serde_json says may quote the token.
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| "its answer is not valid JSON".to_owned())?;
    let token = answer
        .token
        .filter(|token| !token.expose().is_empty())
        .or(answer.access_token)
        .ok_or("its answer holds no token")?;
    // What gets into a header must be one line of visible ASCII.
    if token.expose().is_empty() || !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
        return Err("its answer holds no usable token".to_owned());
    }
    Ok(Secret::new(format!("Bearer {}", token.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_the_token_are_read() {
        for body in [
            r#"{"token":"abc"}"#,
            r#"{"access_token":"abc","expires_in":5}"#,
            r#"{"token":"","access_token":"abc"}"#,
        ] {
            assert_eq!(parse_token(body.as_bytes()).unwrap().expose(), "Bearer abc");
        }
        for body in [
            "{}",
            "[]",
            r#"{"token":"a\r\nHost: x"}"#,
            r#"{"token":""}"#,
            "hush",
        ] {
            let error = parse_token(body.as_bytes()).unwrap_err();
            assert!(!error.contains("hush"));
        }
    }
}
