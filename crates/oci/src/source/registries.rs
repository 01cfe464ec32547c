//! containers-registries.conf(5), version 2: where an image really is, and how
//! its registry may be spoken to.
//!
//! Read are `prefix`, `location`, `insecure` and `blocked` of each
//! `[[registry]]`. Mirrors, short-name aliases and credential helpers are not
//! used; what they are set to changes nothing here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::reference::{ReferenceError, RegistryReference};

const MAX_FILE: u64 = 1 << 20;

/// The `[[registry]]` tables of `registries.conf` and its drop-ins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesConf {
    /// By prefix; a later file replaces what an earlier one has.
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registry {
    location: String,
    insecure: bool,
    blocked: bool,
    file: PathBuf,
}

/// Where to pull an image from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The image under the name that its registry knows.
    pub reference: RegistryReference,
    /// Whether plain HTTP and unverified TLS are allowed.
    pub insecure: bool,
}

/// A registries.conf that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML of the expected form.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The administrator forbids it.
    #[error("{reference}: the registry is blocked by {}", path.display())]
    Blocked {
        /// The image.
        reference: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// What `location` makes of the name is none.
    #[error("{}: the location set for {reference} gives no valid name: {source}", path.display())]
    Location {
        /// The image.
        reference: String,
        /// The file that says so.
        path: PathBuf,
        /// What is wrong with the name.
        source: Box<ReferenceError>,
    },
}

impl RegistriesConf {
    /// Reads `registries.conf`, then `registries.conf.d/*.conf` by name, in
    /// `dir` (`/etc/containers` on a running machine). None of them has to exist.
    pub fn load(dir: &Path) -> Result<Self, RegistriesError> {
        let mut conf = Self::default();
        let mut files = vec![dir.join("registries.conf")];
        files.extend(list_drop_ins(&dir.join("registries.conf.d"))?);
        for path in files {
            if let Some(text) = read_optional(&path)? {
                conf.add(&text, &path)?;
            }
        }
        Ok(conf)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), RegistriesError> {
        let malformed = |reason: String| RegistriesError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let file: RawFile = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if file.registries.is_some() {
            return Err(malformed(
                "the table [registries] belongs to version 1 of the format; write [[registry]] tables".to_owned(),
            ));
        }
        for raw in file.registry {
            let (prefix, registry) = raw.check(path).map_err(malformed)?;
            self.registries.insert(prefix, registry);
        }
        Ok(())
    }

    /// Where the image is: the table with the longest matching prefix decides.
    pub fn resolve(&self, reference: &RegistryReference) -> Result<Endpoint, RegistriesError> {
        let name = reference.name();
        let best = self
            .registries
            .iter()
            .filter_map(|(prefix, registry)| Some((match_prefix(&name, prefix)?, registry)))
            .max_by_key(|(length, _)| *length);
        let Some((length, registry)) = best else {
            return Ok(Endpoint {
                reference: reference.clone(),
                insecure: false,
            });
        };
        if registry.blocked {
            return Err(RegistriesError::Blocked {
                reference: reference.to_string(),
                path: registry.file.clone(),
            });
        }
        let location = match registry.location.as_str() {
            "" => reference.clone(),
            location => reference
                .at(&format!("{location}{}", &name[length..]))
                .map_err(|source| RegistriesError::Location {
                    reference: reference.to_string(),
                    path: registry.file.clone(),
                    source: Box::new(source),
                })?,
        };
        Ok(Endpoint {
            reference: location,
            insecure: registry.insecure,
        })
    }
}

/// How many bytes of `name` (host and repository) `prefix` covers, if it matches.
fn match_prefix(name: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        // `*.example.com` matches hosts below it, at any depth.
        let host_end = name.find('/').unwrap_or(name.len());
        let host = &name[..host_end];
        let is_below = host.len() > domain.len() && host.ends_with(domain);
        return is_below.then_some(host_end);
    }
    let rest = name.strip_prefix(prefix)?;
    // A prefix ends where a component of the name, or its port, does.
    (rest.is_empty() || rest.starts_with(['/', ':'])).then_some(prefix.len())
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRegistry>,
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
}

impl RawRegistry {
    fn check(self, path: &Path) -> Result<(String, Registry), String> {
        let location = trim(&self.location)?;
        let prefix = match trim(&self.prefix)? {
            prefix if !prefix.is_empty() => prefix,
            _ if location.is_empty() => {
                return Err("a [[registry]] table needs a prefix or a location".to_owned());
            }
            _ => location.clone(),
        };
        if prefix.contains('*') && (!prefix.starts_with("*.") || prefix[1..].contains(['*', '/'])) {
            return Err(format!(
                "the prefix {prefix:?} is not of the form *.example.com"
            ));
        }
        if location.is_empty() && !prefix.starts_with("*.") {
            return Err(format!(
                "the table of the prefix {prefix:?} needs a location"
            ));
        }
        let registry = Registry {
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            file: path.to_owned(),
        };
        Ok((prefix, registry))
    }
}

fn trim(location: &str) -> Result<String, String> {
    if location.contains("://") {
        return Err(format!("{location:?} must be given without a scheme"));
    }
    Ok(location.trim_end_matches('/').to_owned())
}

fn list_drop_ins(dir: &Path) -> Result<Vec<PathBuf>, RegistriesError> {
    let fail = |source| RegistriesError::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_optional(path: &Path) -> Result<Option<String>, RegistriesError> {
    let fail = |source| RegistriesError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let bytes = hull_sys::dir::read_at_most(file, MAX_FILE).map_err(fail)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(RegistriesError::Malformed {
            path: path.to_owned(),
            reason: "it is not UTF-8".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    fn image(text: &str) -> RegistryReference {
        match Reference::parse(text).unwrap() {
            Reference::Registry(reference) => reference,
            other => panic!("{other}"),
        }
    }

    fn conf(text: &str) -> RegistriesConf {
        let mut conf = RegistriesConf::default();
        conf.add(text, Path::new("registries.conf")).unwrap();
        conf
    }

    fn resolve(conf: &RegistriesConf, text: &str) -> (String, bool) {
        let endpoint = conf.resolve(&image(text)).unwrap();
        (endpoint.reference.to_string(), endpoint.insecure)
    }

    #[test]
    fn the_longest_prefix_decides() {
        let conf = conf(
            r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "a.example"
            insecure = true
            [[registry]]
            prefix = "a.example/team/x"
            location = "b.example:5000/y"
            [[registry.mirror]]
            location = "mirror.example"
        "#,
        );
        let check = |text: &str, to: &str, insecure| {
            assert_eq!(resolve(&conf, text), (to.to_owned(), insecure));
        };
        check("a.example/z:1", "a.example/z:1", true);
        check("a.example/team/x:1", "b.example:5000/y:1", false);
        check("a.example/team/x/q:1", "b.example:5000/y/q:1", false);
        check("a.example/team/xx", "a.example/team/xx", true);
        check("c.example/z", "c.example/z", false);
        check("a.example.evil/z", "a.example.evil/z", false);
    }

    #[test]
    fn a_wildcard_matches_hosts_below_the_domain() {
        let conf = conf(
            r#"
            [[registry]]
            prefix = "*.corp.example"
            insecure = true
        "#,
        );
        assert!(resolve(&conf, "a.corp.example/x").1);
        assert!(resolve(&conf, "a.b.corp.example/x").1);
        assert!(!resolve(&conf, "corp.example/x").1);
        assert!(!resolve(&conf, "acorp.example/x").1);
    }

    #[test]
    fn a_blocked_registry_is_refused_by_the_name_of_the_file() {
        let conf = conf("[[registry]]\nlocation = 'a.example'\nblocked = true\n");
        let error = conf.resolve(&image("a.example/x")).unwrap_err();
        assert!(error.to_string().contains("blocked by registries.conf"));
    }

    #[test]
    fn drop_ins_replace_tables_of_the_same_prefix_in_the_order_of_names() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        std::fs::create_dir(dir.join("registries.conf.d")).unwrap();
        let put = |name: &str, insecure: bool| {
            let text = format!("[[registry]]\nlocation = 'a.example'\ninsecure = {insecure}\n");
            hull_sys::durable::write_new(File::open(dir).unwrap(), name, 0o644, text.as_bytes())
                .unwrap();
        };
        put("registries.conf", false);
        put("registries.conf.d/20-b.conf", true);
        put("registries.conf.d/10-a.conf", false);
        put("registries.conf.d/99-no", false);
        let conf = RegistriesConf::load(dir).unwrap();
        assert!(resolve(&conf, "a.example/x").1);
        assert_eq!(
            RegistriesConf::load(&dir.join("nowhere")).unwrap(),
            RegistriesConf::default()
        );
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_the_name_of_the_file() {
        for text in [
            "[registries.search]\nregistries = ['docker.io']\n",
            "[[registry]]\ninsecure = true\n",
            "[[registry]]\nprefix = 'a.*.example'\n",
            "[[registry]]\nprefix = 'a.example'\n",
            "[[registry]]\nlocation = 'https://a.example'\n",
            "[[registry]]\nlocation = 5\n",
            "nonsense",
        ] {
            let mut conf = RegistriesConf::default();
            let error = conf.add(text, Path::new("some.conf")).unwrap_err();
            assert!(error.to_string().starts_with("some.conf: "), "{text}");
        }
        let conf = conf("[[registry]]\nprefix = 'a.example'\nlocation = 'B'\n");
        let error = conf.resolve(&image("a.example/x")).unwrap_err();
        assert!(matches!(error, RegistriesError::Location { .. }));
    }
}
