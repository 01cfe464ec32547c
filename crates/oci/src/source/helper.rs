//! Programs that keep credentials: `docker-credential-NAME get`.
//!
//! The one place where a pull starts a program: one of the machine's own, that
//! its administrator or user named, never one of an image (docs/adr).

use std::path::{Path, PathBuf};
use std::time::Duration;

use hull_sys::run::{Program, RunError};
use serde::Deserialize;

use super::secret::{Held, Login, Secret};

/// A helper may ask a service on the network, but nobody at a terminal.
const LIMIT: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 64 << 10;
/// What helpers print where they have nothing (docker-credential-helpers).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// In place of a user's name, for an identity token.
const TOKEN: &str = "<token>";

/// Whether, and where from, credential helpers are started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Helpers {
    /// They are not; an entry that names one is reported as unusable.
    #[default]
    Never,
    /// From the system's directories of programs.
    System,
    /// From this directory.
    In(PathBuf),
}

/// A helper that gave no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("names the credential helper {0:?}, which is no name of a program")]
    Name(String),
    #[error("is kept by {0}, which is not started here")]
    Never(String),
    #[error("is kept by a credential helper: {0}")]
    Run(#[from] RunError),
    #[error("is kept by {0}, which gave an answer that is none")]
    Answer(String),
}

/// The name of a helper's program.
pub(super) fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// What a helper has under `key`, a registry's name. It gets `environment`,
/// and nothing else of the process's own.
pub(super) fn get(
    helpers: &Helpers,
    name: &str,
    key: &str,
    environment: &[(&str, Option<&Path>)],
) -> Result<Option<Held>, HelperError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(HelperError::Name(name.chars().take(100).collect()));
    }
    let program = program(name);
    let path = match helpers {
        Helpers::Never => return Err(HelperError::Never(program)),
        Helpers::System => program.clone(),
        Helpers::In(dir) => dir.join(&program).display().to_string(),
    };
    // The output holds the secret, so it is taken, whatever the status, and never shown.
    let mut run = Program::new(path)
        .arg("get")
        .input(format!("{key}\n"))
        .limit(LIMIT);
    for (name, value) in environment {
        if let Some(value) = value {
            run = run.env(*name, value);
        }
    }
    let (printed, failure) = run.output_even_so()?;
    match failure {
        Some(_) if String::from_utf8_lossy(&printed).trim() == NOT_FOUND => Ok(None),
        Some(error) => Err(error.into()),
        None => parse(&printed).ok_or(HelperError::Answer(program)),
    }
}

/// Nothing where it is no answer; an answer without secret is that it has none.
fn parse(printed: &[u8]) -> Option<Option<Held>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        user: String,
        #[serde(rename = "Secret")]
        secret: Secret,
    }
    if printed.len() > MAX_ANSWER {
        return None;
    }
    // What serde_json says may quote the secret.
    let Answer { user, secret } = serde_json::from_slice(printed).ok()?;
    if secret.expose().is_empty() {
        return Some(None);
    }
    Some(Some(if user == TOKEN {
        Held::IdentityToken(secret)
    } else {
        Held::Login(Login {
            user,
            password: secret,
        })
    }))
}
