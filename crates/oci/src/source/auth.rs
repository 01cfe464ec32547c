//! Where credentials are kept (containers-auth.json(5)), and which fit.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::helper::{self, Helpers};
use super::secret::{Held, Login, Secret};
use crate::reference::RegistryReference;

const MAX_FILE: u64 = 1 << 20;
/// What stands for the files in `credential-helpers` of registries.conf.
const FILES: &str = "containers-auth.json";
/// The key that Docker keeps its hub's credentials under.
const HUB: &str = "https://index.docker.io/v1/";

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
    /// The user that hull works for, if that is not who it runs as.
    pub user: Option<u32>,
    /// Whether the programs that the files name may be asked.
    pub helpers: Helpers,
    /// Helpers to ask, in order, beside or in place of the files
    /// (`credential-helpers` of registries.conf); empty for the files alone.
    pub order: Vec<String>,
}

/// Which credentials a request was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsUsed {
    /// None were found.
    Anonymous,
    /// Those in this file.
    File(PathBuf),
    /// Those that a program gave, for this file or registries.conf names it.
    Helper(String),
    /// This file has an entry, which hull cannot use.
    Unusable(PathBuf, String),
}

impl fmt::Display for CredentialsUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("without credentials"),
            Self::File(path) => write!(f, "with the credentials of {}", path.display()),
            Self::Helper(name) => write!(f, "with the credentials that {name} gave"),
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
    pub(super) held: Option<Held>,
    pub(super) used: CredentialsUsed,
}

/// A file to look into.
struct Candidate {
    path: PathBuf,
    must_exist: bool,
    /// The oldest form: the entries without `auths` around them.
    bare: bool,
}

impl AuthFiles {
    /// Finds the credentials for an image.
    pub(super) fn find(&self, reference: &RegistryReference) -> Result<Credentials, AuthError> {
        let files = [FILES.to_owned()];
        let order = match (&self.explicit, self.order.as_slice()) {
            (Some(_), _) | (None, []) => &files,
            (None, order) => order,
        };
        let mut unusable = None;
        for place in order {
            let found = match place.as_str() {
                FILES => self.find_in_files(reference)?,
                name => self.ask(name, reference.host(), Path::new("registries.conf")),
            };
            match found {
                Some(found) if found.held.is_some() => return Ok(found),
                found => unusable = unusable.or(found),
            }
        }
        Ok(unusable.unwrap_or(Credentials {
            held: None,
            used: CredentialsUsed::Anonymous,
        }))
    }

    fn find_in_files(
        &self,
        reference: &RegistryReference,
    ) -> Result<Option<Credentials>, AuthError> {
        for candidate in self.candidates() {
            if let Some(file) = AuthFile::load(&candidate)?
                && let Some(credentials) = self.find_in(&file, reference, &candidate.path)
            {
                return Ok(Some(credentials));
            }
        }
        Ok(None)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |path: PathBuf, must_exist| Candidate {
            bare: path.ends_with(".dockercfg"),
            path,
            must_exist,
        };
        if let Some(path) = &self.explicit {
            return vec![candidate(path.clone(), true)];
        }
        let root = self.root.as_deref();
        let system = ["run/ostree", "etc/ostree", "usr/lib/ostree"]
            .into_iter()
            .filter_map(|dir| Some(root?.join(dir).join("auth.json")))
            .find(|path| path.exists());
        if let Some(path) = system {
            return vec![candidate(path, false)];
        }
        if let Some(path) = &self.environment {
            return vec![candidate(path.clone(), true)];
        }
        let below = |dir: &Option<PathBuf>, path: &str| dir.as_ref().map(|dir| dir.join(path));
        let user = self.user.unwrap_or(rustix::process::geteuid().as_raw());
        [
            below(&self.runtime_dir, "containers/auth.json"),
            below(&self.root, &format!("run/containers/{user}/auth.json")),
            below(&self.home, ".config/containers/auth.json"),
            below(&self.home, ".docker/config.json"),
            below(&self.home, ".dockercfg"),
        ]
        .into_iter()
        .flatten()
        .map(|path| candidate(path, false))
        .collect()
    }

    /// What a file has for an image: from the helper for its registry, else the
    /// entry of the longest key that is a prefix of its name, else from the store
    /// for all that is not in the file.
    fn find_in(
        &self,
        file: &AuthFile,
        reference: &RegistryReference,
        path: &Path,
    ) -> Option<Credentials> {
        let host = reference.host();
        if let Some(name) = file.helpers.get(host)
            && let Some(found) = self.ask(name, host, path)
        {
            return Some(found);
        }
        let entry = file.entry(reference);
        if let Some(entry) = entry
            && !entry.is_empty()
        {
            return Some(entry.credentials(path));
        }
        if let Some(store) = &file.store {
            let key = if host == "docker.io" { HUB } else { host };
            return self.ask(store, key, path);
        }
        // Docker leaves an empty entry where a credential store has the rest.
        entry.map(|_| unusable(path, "is empty, and no credsStore is named"))
    }

    /// Asks the helper that `path` names; nothing where it knows nothing.
    fn ask(&self, name: &str, key: &str, path: &Path) -> Option<Credentials> {
        let environment = [
            ("HOME", self.home.as_deref()),
            ("XDG_RUNTIME_DIR", self.runtime_dir.as_deref()),
        ];
        match helper::get(&self.helpers, name, key, &environment) {
            Ok(None) => None,
            Ok(Some(held)) => Some(Credentials {
                held: Some(held),
                used: CredentialsUsed::Helper(helper::program(name)),
            }),
            Err(error) => Some(unusable(path, &error.to_string())),
        }
    }
}

#[derive(Deserialize, Default)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
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
    fn load(candidate: &Candidate) -> Result<Option<Self>, AuthError> {
        let path = &candidate.path;
        let fail = |source| AuthError::Read {
            path: path.clone(),
            source,
        };
        let bytes = match File::open(path) {
            Ok(file) => hull_sys::dir::read_at_most(file, MAX_FILE).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !candidate.must_exist => {
                return Ok(None);
            }
            Err(error) => return Err(fail(error)),
        };
        // serde_json's message would quote what is in the file.
        let file = Self::parse(&bytes, candidate.bare).map_err(|error| AuthError::Malformed {
            path: path.clone(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Some(file))
    }

    fn parse(bytes: &[u8], bare: bool) -> serde_json::Result<Self> {
        if !bare {
            return serde_json::from_slice(bytes);
        }
        serde_json::from_slice(bytes).map(|auths| Self {
            auths,
            ..Self::default()
        })
    }

    fn entry(&self, reference: &RegistryReference) -> Option<&Entry> {
        keys(reference)
            .find_map(|key| self.auths.get(&key))
            .or_else(|| {
                let (_, entry) = self.auths.iter().find(|(key, _)| {
                    host_of_old_key(key).is_some_and(|key| key == reference.host())
                })?;
                Some(entry)
            })
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        let is_empty = |text: &Option<Secret>| text.as_ref().is_none_or(|t| t.expose().is_empty());
        is_empty(&self.auth) && is_empty(&self.identity_token)
    }

    fn credentials(&self, path: &Path) -> Credentials {
        let token = self.identity_token.as_ref();
        let held = match token.filter(|token| !token.expose().is_empty()) {
            Some(token) => Some(Held::IdentityToken(token.clone())),
            None => self
                .auth
                .as_ref()
                .and_then(|auth| Login::from_base64(auth.expose()))
                .map(Held::Login),
        };
        match held {
            Some(held) => Credentials {
                held: Some(held),
                used: CredentialsUsed::File(path.to_owned()),
            },
            None => unusable(path, "is not Base64 of user:password"),
        }
    }
}

fn unusable(path: &Path, why: &str) -> Credentials {
    Credentials {
        held: None,
        used: CredentialsUsed::Unusable(path.to_owned(), why.to_owned()),
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8], bare: bool, reference: &RegistryReference) {
    if let Ok(file) = AuthFile::parse(bytes, bare)
        && let Some(entry) = file.entry(reference)
        && !entry.is_empty()
    {
        let credentials = entry.credentials(Path::new("auth.json"));
        if let Some(Held::Login(login)) = &credentials.held {
            drop(login.to_header());
        }
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

/// The host of a key as older tools wrote it: an address with a scheme, or
/// one of the hub's other names.
fn host_of_old_key(key: &str) -> Option<&str> {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    match rest.split('/').next()? {
        "index.docker.io" | "registry-1.docker.io" => Some("docker.io"),
        host if rest.len() < key.len() => Some(host),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
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
        match find(files, text).held {
            Some(Held::Login(login)) => Some(login.user),
            Some(Held::IdentityToken(_)) => panic!("a password is expected"),
            None => None,
        }
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
            "auths": {"store.example": {}, "bad.example": {"auth": "hush!"}},
            "credHelpers": {"helper.example": "secretservice", "evil.example": "../../hush"},
        });
        let path = put(temp.path(), "auth.json", &value);
        let files = explicit(path.clone());
        for host in ["store", "bad", "helper", "evil"] {
            let credentials = find(&files, &format!("{host}.example/x"));
            let CredentialsUsed::Unusable(file, _) = &credentials.used else {
                panic!("{host}: {credentials:?}");
            };
            assert_eq!(*file, path);
            assert_eq!(credentials.held, None);
            assert!(!format!("{credentials:?} {}", credentials.used).contains("hush!"));
        }
    }

    #[test]
    fn an_identity_token_goes_before_a_password() {
        let temp = tempfile::tempdir().unwrap();
        let mut entry = auth("me");
        entry["identitytoken"] = json!("hush-token");
        let value = json!({"auths": {"a.example": entry}});
        let found = find(
            &explicit(put(temp.path(), "auth.json", &value)),
            "a.example/x",
        );
        let token = Secret::new("hush-token".to_owned());
        assert_eq!(found.held, Some(Held::IdentityToken(token)));
        assert!(!format!("{found:?}").contains("hush"));
    }

    #[test]
    fn the_oldest_file_of_docker_is_read() {
        let temp = tempfile::tempdir().unwrap();
        put(
            temp.path(),
            ".dockercfg",
            &json!({"a.example": auth("old")}),
        );
        let files = AuthFiles {
            home: Some(temp.path().to_owned()),
            ..AuthFiles::default()
        };
        assert_eq!(user(&files, "a.example/x").as_deref(), Some("old"));
    }

    /// A helper that knows `known.example`, and gives a token for `token.example`.
    fn with_helper(dir: &Path) -> Helpers {
        let script = "#!/bin/sh\n[ \"$1\" = get ] || exit 2\nread key\ncase $key in\n\
            known.example|https://index.docker.io/v1/) echo '{\"Username\":\"helped\",\"Secret\":\"hush\"}';;\n\
            token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"hush\"}';;\n\
            broken.example) echo hush; exit 0;;\n\
            failing.example) echo locked >&2; exit 1;;\n\
            *) echo 'credentials not found in native keychain'; exit 1;;\nesac\n";
        let path = dir.join("docker-credential-test");
        std::fs::create_dir_all(dir).unwrap();
        // Another process writes it: one that is forked from this one meanwhile, by another
        // test, would hold it open for writing, and it could not be run.
        hull_sys::run::Program::new("sh")
            .args(["-ec", "cat >\"$1\"; chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .input(script)
            .run()
            .unwrap();
        Helpers::In(dir.to_owned())
    }

    #[test]
    fn helpers_and_stores_are_asked_and_what_they_do_not_know_is_looked_up() {
        let temp = tempfile::tempdir().unwrap();
        let helpers = with_helper(&temp.path().join("bin"));
        let value = json!({
            "auths": {"other.example": auth("file"), "unknown.example": auth("file")},
            "credHelpers": {"unknown.example": "test", "token.example": "test"},
            "credsStore": "test",
        });
        let mut files = explicit(put(temp.path(), "auth.json", &value));
        files.helpers = helpers;
        assert_eq!(user(&files, "known.example/x").as_deref(), Some("helped"));
        assert_eq!(user(&files, "docker.io/x").as_deref(), Some("helped"));
        assert_eq!(user(&files, "other.example/x").as_deref(), Some("file"));
        assert_eq!(user(&files, "unknown.example/x").as_deref(), Some("file"));
        let token = find(&files, "token.example/x");
        assert!(matches!(token.held, Some(Held::IdentityToken(_))));
        assert!(token.used.to_string().contains("docker-credential-test"));
        assert_eq!(
            find(&files, "nobody.example/x").used,
            CredentialsUsed::Anonymous
        );
        let failing = find(&files, "failing.example/x").used.to_string();
        assert!(failing.contains("locked"), "{failing}");
        let broken = find(&files, "broken.example/x").used.to_string();
        assert!(broken.contains("docker-credential-test") && !broken.contains("hush"));
    }

    #[test]
    fn helpers_of_registries_conf_are_asked_in_their_order() {
        let temp = tempfile::tempdir().unwrap();
        let helpers = with_helper(&temp.path().join("bin"));
        put(
            temp.path(),
            ".config/containers/auth.json",
            &json!({"auths": {"known.example": auth("file")}}),
        );
        let mut files = AuthFiles {
            home: Some(temp.path().to_owned()),
            helpers,
            ..AuthFiles::default()
        };
        for (order, expected) in [
            (vec![], "file"),
            (vec!["test", FILES], "helped"),
            (vec![FILES, "test"], "file"),
        ] {
            files.order = order.into_iter().map(str::to_owned).collect();
            assert_eq!(user(&files, "known.example/x").as_deref(), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused_without_showing_it(text in "[{}\\[\\]\":,a-z ]{0,60}") {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("auth.json");
            std::io::Write::write_all(&mut File::create(&path).unwrap(), text.as_bytes()).unwrap();
            let Reference::Registry(reference) = Reference::parse("a.example/x").unwrap() else {
                panic!("a registry is expected");
            };
            drop(explicit(path).find(&reference));
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
