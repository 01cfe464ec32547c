//! containers-registries.conf(5), version 2: where an image really is, which
//! mirrors may be asked first, how its registry may be spoken to, and what a
//! short name means.

mod file;
mod short_name;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use self::short_name::ShortNameError;
use crate::reference::{ReferenceError, RegistryReference};

/// What `registries.conf` and its drop-ins say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesConf {
    /// By prefix; a later file replaces what an earlier one has.
    registries: BTreeMap<String, Registry>,
    short_names: short_name::ShortNames,
    /// Where credentials are, in this order; empty where no file says.
    credential_helpers: Vec<String>,
}

/// One `[[registry]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registry {
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    file: PathBuf,
}

/// One `[[registry.mirror]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    location: String,
    insecure: bool,
    pulls: MirrorPulls,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MirrorPulls {
    All,
    /// Only those with a digest, which the mirror cannot lie about.
    Digests,
    Tags,
}

impl MirrorPulls {
    fn include(self, has_digest: bool) -> bool {
        match self {
            Self::All => true,
            Self::Digests => has_digest,
            Self::Tags => !has_digest,
        }
    }
}

/// A place to pull an image from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The image under the name that its registry knows.
    pub reference: RegistryReference,
    /// Whether plain HTTP and unverified TLS are allowed.
    pub insecure: bool,
    /// Whether it is a mirror, which need not have the image.
    pub mirror: bool,
}

/// The directories and files that hold the configuration of the containers tools.
///
/// Later ones of `registries.conf.d` go over earlier ones, in the order vendor,
/// system, user; of `registries.conf`, `policy.json` and a host's directory in
/// `certs.d` only one is used: the user's, else the system's, else the vendor's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigDirs {
    /// `/usr/share/containers`.
    pub vendor: Option<PathBuf>,
    /// `/etc/containers`.
    pub system: Option<PathBuf>,
    /// `$HOME/.config/containers`.
    pub user: Option<PathBuf>,
    /// The file that `$CONTAINERS_REGISTRIES_CONF` names, in place of each `registries.conf`.
    pub registries_conf: Option<PathBuf>,
}

impl ConfigDirs {
    /// The directories, the one that counts most first.
    pub(crate) fn best_first(&self) -> impl Iterator<Item = &Path> {
        [&self.user, &self.system, &self.vendor]
            .into_iter()
            .filter_map(|dir| dir.as_deref())
    }
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
    /// Reads the one `registries.conf` that counts, then the drop-ins
    /// `registries.conf.d/*.conf`, each directory's by name. None of them has
    /// to exist, but for one that the environment names.
    pub fn load(dirs: &ConfigDirs) -> Result<Self, RegistriesError> {
        let mut conf = Self::default();
        let main = match &dirs.registries_conf {
            Some(path) => Some(path.clone()),
            None => dirs
                .best_first()
                .map(|dir| dir.join("registries.conf"))
                .find(|path| path.exists()),
        };
        let mut files: Vec<_> = main.into_iter().collect();
        let mut dirs: Vec<_> = dirs.best_first().collect();
        dirs.reverse();
        for dir in dirs {
            files.extend(file::list_drop_ins(&dir.join("registries.conf.d"))?);
        }
        for path in files {
            conf.add(&file::read(&path)?, &path)?;
        }
        Ok(conf)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), RegistriesError> {
        file::add(self, text, path).map_err(|reason| RegistriesError::Malformed {
            path: path.to_owned(),
            reason,
        })
    }

    /// Where credentials are to be looked for, in order: names of helper
    /// programs, and `containers-auth.json` for the files. Empty: the files.
    pub(super) fn credential_helpers(&self) -> &[String] {
        &self.credential_helpers
    }

    /// Where to ask for the image, in this order: the mirrors that may serve
    /// it, then the registry itself, which is always the last.
    ///
    /// The table with the longest matching prefix decides. A mirror that fails,
    /// in whatever way, is passed over; what the last one says is the answer.
    pub fn endpoints(
        &self,
        reference: &RegistryReference,
    ) -> Result<Vec<Endpoint>, RegistriesError> {
        let name = reference.to_string();
        let best = self
            .registries
            .iter()
            .filter_map(|(prefix, registry)| Some((match_prefix(&name, prefix)?, registry)))
            .max_by_key(|(length, _)| *length);
        let Some((length, registry)) = best else {
            return Ok(vec![Endpoint {
                reference: reference.clone(),
                insecure: false,
                mirror: false,
            }]);
        };
        if registry.blocked {
            return Err(RegistriesError::Blocked {
                reference: name,
                path: registry.file.clone(),
            });
        }
        let at = |location: &str| relocate(reference, location, &name[length..], registry);
        let mut endpoints = Vec::new();
        for mirror in &registry.mirrors {
            if mirror.pulls.include(reference.digest().is_some()) {
                endpoints.push(Endpoint {
                    reference: at(&mirror.location)?,
                    insecure: mirror.insecure,
                    mirror: true,
                });
            }
        }
        endpoints.push(Endpoint {
            reference: at(&registry.location)?,
            insecure: registry.insecure,
            mirror: false,
        });
        Ok(endpoints)
    }
}

/// `reference` with what the prefix covers of its text replaced by `location`;
/// unchanged without one (a table for `*.example.com` may have none).
fn relocate(
    reference: &RegistryReference,
    location: &str,
    rest: &str,
    registry: &Registry,
) -> Result<RegistryReference, RegistriesError> {
    if location.is_empty() {
        return Ok(reference.clone());
    }
    RegistryReference::parse(&format!("{location}{rest}")).map_err(|source| {
        RegistriesError::Location {
            reference: reference.to_string(),
            path: registry.file.clone(),
            source: Box::new(source),
        }
    })
}

/// How many bytes of `name` (a whole reference) `prefix` covers, if it matches.
fn match_prefix(name: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        // `*.example.com` matches hosts below it, at any depth.
        let host_end = name.find('/').unwrap_or(name.len());
        let host = &name[..host_end];
        let is_below = host.len() > domain.len() && host.ends_with(domain);
        return is_below.then_some(host_end);
    }
    let rest = name.strip_prefix(prefix)?;
    // A prefix ends where a component of the name, its port, tag or digest does.
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str, reference: &RegistryReference) {
    let mut conf = RegistriesConf::default();
    if conf.add(text, Path::new("registries.conf")).is_ok() {
        if let Ok(endpoints) = conf.endpoints(reference) {
            let last = endpoints.last().expect("the registry itself is asked last");
            assert!(!last.mirror);
        }
        drop(conf.resolve_short_name(reference.repository()));
    }
}

#[cfg(test)]
mod tests;
