//! Where credentials are kept (containers-auth.json(5)), and which fit.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::secret::{Login, Secret};
use crate::reference::RegistryReference;

const MAX_FILE: u64 = 1 << 20;

/// Where to look for credentials.
///
/// In this order, the first that applies: [`explicit`](Self::explicit);
/// `auth.json` in `run/ostree`, `etc/ostree`, `usr/lib/ostree` below
/// [`root`](Self::root), the first that exists;
/// [`environment`](Self::environment); the places of the containers tools, the
/// first file with a fitting entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthFiles {
    /// A file named on the command line (`--authfile`); it must exist.
    pub explicit: Option<PathBuf>,
    /// The root directory that the system's places are below; none of them is
    /// looked at without it.
    pub root: Option<PathBuf>,
    /// The file that `$REGISTRY_AUTH_FILE` names.
    pub environment: Option<PathBuf>,
    /// What `$XDG_RUNTIME_DIR` names.
    pub runtime_dir: Option<PathBuf>,
    /// What `$HOME` names.
    pub home: Option<PathBuf>,
}

/// Which credentials a request was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsUsed {
    /// None were found.
    Anonymous,
    /// Those in this file.
    File(PathBuf),
    /// This file has an entry, which hull cannot use.
    Unusable(PathBuf, &'static str),
}

impl fmt::Display for CredentialsUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("without credentials"),
            Self::File(path) => write!(f, "with the credentials of {}", path.display()),
            Self::Unusable(path, why) => {
                write!(
                    f,
                    "without credentials, since the entry in {} {why}",
                    path.display()
                )
            }
        }
    }
}

/// A file of credentials that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It cannot be read.
    #[error("credentials file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON of the expected form. What is in it is not shown.
    #[error("credentials file {}: not a valid auth.json (line {line}, column {column})", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
}

/// Credentials for one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) login: Option<Login>,
    pub(super) used: CredentialsUsed,
}

impl AuthFiles {
    /// Finds the credentials for an image.
    pub(super) fn find(&self, reference: &RegistryReference) -> Result<Credentials, AuthError> {
        for (path, must_exist) in self.candidates() {
            let Some(file) = AuthFile::load(&path, must_exist)? else {
                continue;
            };
            if let Some(credentials) = file.find(reference, &path) {
                return Ok(credentials);
            }
        }
        Ok(Credentials {
            login: None,
            used: CredentialsUsed::Anonymous,
        })
    }

    fn candidates(&self) -> Vec<(PathBuf, bool)> {
        if let Some(path) = &self.explicit {
            return vec![(path.clone(), true)];
        }
        let root = self.root.as_deref();
        let system = ["run/ostree", "etc/ostree", "usr/lib/ostree"]
            .into_iter()
            .filter_map(|dir| Some(root?.join(dir).join("auth.json")))
            .find(|path| path.exists());
        if let Some(path) = system {
            return vec![(path, false)];
        }
        if let Some(path) = &self.environment {
            return vec![(path.clone(), true)];
        }
        let below = |dir: &Option<PathBuf>, path: &str| dir.as_ref().map(|dir| dir.join(path));
        [
            below(&self.runtime_dir, "containers/auth.json"),
            root.map(|root| root.join("run/containers/0/auth.json")),
            below(&self.home, ".config/containers/auth.json"),
            below(&self.home, ".docker/config.json"),
        ]
        .into_iter()
        .flatten()
        .map(|path| (path, false))
        .collect()
    }
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Entry {
    auth: Option<Secret>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<Secret>,
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl AuthFile {
    fn load(path: &Path, must_exist: bool) -> Result<Option<Self>, AuthError> {
        let fail = |source| AuthError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = match File::open(path) {
            Ok(file) => hull_sys::dir::read_at_most(file, MAX_FILE).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {
                return Ok(None);
            }
            Err(error) => return Err(fail(error)),
        };
        // serde_json's message would quote what is in the file.
        let file = serde_json::from_slice(&bytes).map_err(|error| AuthError::Malformed {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Some(file))
    }

    /// The entry of the longest key that is a prefix of the image's name.
    fn find(&self, reference: &RegistryReference, path: &Path) -> Option<Credentials> {
        let host = reference.host();
        if self.helpers.contains_key(host) {
            return Some(unusable(path, "is kept by a credential helper"));
        }
        let entry = keys(reference)
            .find_map(|key| self.auths.get(&key))
            .or_else(|| {
                let (_, entry) = self
                    .auths
                    .iter()
                    .find(|(key, _)| host_of_old_key(key).is_some_and(|key| key == host))?;
                Some(entry)
            })?;
        match (&entry.auth, &entry.identity_token) {
            (_, Some(token)) if !token.expose().is_empty() => {
                Some(unusable(path, "is an identity token"))
            }
            // Docker leaves an empty entry where a credential store has the rest.
            (None, _) => Some(unusable(path, "is kept by a credential store")),
            (Some(auth), _) => match Login::from_base64(auth.expose()) {
                Some(login) => Some(Credentials {
                    login: Some(login),
                    used: CredentialsUsed::File(path.to_owned()),
                }),
                None => Some(unusable(path, "is not Base64 of user:password")),
            },
        }
    }
}

fn unusable(path: &Path, why: &'static str) -> Credentials {
    Credentials {
        login: None,
        used: CredentialsUsed::Unusable(path.to_owned(), why),
    }
}

/// `host/ns/repo`, `host/ns`, `host`.
fn keys(reference: &RegistryReference) -> impl Iterator<Item = String> {
    let mut next = Some(reference.name());
    std::iter::from_fn(move || {
        let key = next.take()?;
        next = key.rsplit_once('/').map(|(shorter, _)| shorter.to_owned());
        Some(key)
    })
}

/// The host of a key as older tools wrote it: an address with a scheme.
fn host_of_old_key(key: &str) -> Option<&str> {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))?;
    match rest.split('/').next()? {
        "index.docker.io" | "registry-1.docker.io" => Some("docker.io"),
        host => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::reference::Reference;

    fn auth(user: &str) -> Value {
        json!({"auth": STANDARD.encode(format!("{user}:hush"))})
    }

    fn put(root: &Path, path: &str, value: &Value) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        serde_json::to_writer(File::create(&path).unwrap(), value).unwrap();
        path
    }

    fn find(files: &AuthFiles, text: &str) -> Credentials {
        let Reference::Registry(reference) = Reference::parse(text).unwrap() else {
            panic!("{text}");
        };
        files.find(&reference).unwrap()
    }

    fn user(files: &AuthFiles, text: &str) -> Option<String> {
        find(files, text).login.map(|login| login.user)
    }

    fn explicit(path: PathBuf) -> AuthFiles {
        AuthFiles {
            explicit: Some(path),
            ..AuthFiles::default()
        }
    }

    #[test]
    fn the_longest_key_that_is_a_path_prefix_decides() {
        let temp = tempfile::tempdir().unwrap();
        let value = json!({"auths": {
            "r.example": auth("host"),
            "r.example/team": auth("team"),
            "r.example/team/image": auth("image"),
            "localhost:5000": auth("port"),
            "https://index.docker.io/v1/": auth("hub"),
            "https://old.example/v2/x": auth("old"),
        }});
        let files = explicit(put(temp.path(), "auth.json", &value));
        for (text, expected) in [
            ("r.example/other:1", Some("host")),
            ("r.example/team/other", Some("team")),
            ("r.example/teamster/other", Some("host")),
            ("r.example/team/image/sub", Some("image")),
            ("r.example/team/image", Some("image")),
            ("localhost:5000/x", Some("port")),
            ("localhost:5001/x", None),
            ("docker.io/debian", Some("hub")),
            ("old.example/a/b", Some("old")),
            ("r.example.evil/x", None),
        ] {
            assert_eq!(user(&files, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_places_are_tried_in_their_order() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let put =
            |path: &str, name: &str| put(root, path, &json!({"auths": {"a.example": auth(name)}}));
        let mut files = AuthFiles {
            root: Some(root.to_owned()),
            runtime_dir: Some(root.join("xdg")),
            home: Some(root.join("home")),
            ..AuthFiles::default()
        };
        assert_eq!(user(&files, "a.example/x"), None);
        // From the last place to the first, each hides those before.
        for (path, name) in [
            ("home/.docker/config.json", "docker"),
            ("home/.config/containers/auth.json", "home"),
            ("run/containers/0/auth.json", "root"),
            ("xdg/containers/auth.json", "xdg"),
        ] {
            put(path, name);
            assert_eq!(user(&files, "a.example/x").as_deref(), Some(name));
        }
        files.environment = Some(put("env.json", "env"));
        assert_eq!(user(&files, "a.example/x").as_deref(), Some("env"));
        for (path, name) in [
            ("usr/lib/ostree/auth.json", "usr"),
            ("etc/ostree/auth.json", "etc"),
            ("run/ostree/auth.json", "run"),
        ] {
            put(path, name);
            assert_eq!(user(&files, "a.example/x").as_deref(), Some(name));
        }
        files.explicit = Some(put("option.json", "option"));
        assert_eq!(user(&files, "a.example/x").as_deref(), Some("option"));
    }

    #[test]
    fn an_entry_that_cannot_be_used_says_why() {
        let temp = tempfile::tempdir().unwrap();
        let value = json!({
            "auths": {
                "token.example": {"identitytoken": "hush"},
                "store.example": {},
                "bad.example": {"auth": "hush!"},
            },
            "credHelpers": {"helper.example": "secretservice"},
        });
        let path = put(temp.path(), "auth.json", &value);
        let files = explicit(path.clone());
        for host in ["token", "store", "bad", "helper"] {
            let credentials = find(&files, &format!("{host}.example/x"));
            let CredentialsUsed::Unusable(file, _) = &credentials.used else {
                panic!("{host}: {credentials:?}");
            };
            assert_eq!(*file, path);
            assert!(!format!("{credentials:?} {}", credentials.used).contains("hush"));
        }
    }

    #[test]
    fn a_broken_file_is_an_error_that_does_not_quote_it() {
        let temp = tempfile::tempdir().unwrap();
        let value = json!({"auths": {"a.example": "hush"}});
        let files = explicit(put(temp.path(), "auth.json", &value));
        let Reference::Registry(reference) = Reference::parse("a.example/x").unwrap() else {
            panic!("a registry is expected");
        };
        let error = files.find(&reference).unwrap_err();
        assert!(error.to_string().contains("auth.json"));
        assert!(!format!("{error} {error:?}").contains("hush"));
        let missing = explicit(temp.path().join("missing.json"));
        assert!(missing.find(&reference).is_err());
    }
}
