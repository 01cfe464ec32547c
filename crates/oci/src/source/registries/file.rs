//! The files themselves: which there are, and what is in one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Mirror, MirrorPulls, RegistriesConf, RegistriesError, Registry};

const MAX_FILE: u64 = 1 << 20;

/// Keys that are not listed change nothing, as for the containers tools, which
/// share the file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRegistry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    credential_helpers: Option<Vec<String>>,
    /// Version 1 of the format.
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
    #[serde(default)]
    mirror_by_digest_only: bool,
    pull_from_mirror: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<String>,
}

/// Lays one file over what the earlier ones said.
pub(super) fn add(conf: &mut RegistriesConf, text: &str, path: &Path) -> Result<(), String> {
    let file: RawFile = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.registries.is_some() {
        return Err(
            "the table [registries] belongs to version 1 of the format; write [[registry]] tables"
                .to_owned(),
        );
    }
    for raw in file.registry {
        let (prefix, registry) = raw.check(path)?;
        conf.registries.insert(prefix, registry);
    }
    conf.short_names.add(
        file.aliases,
        file.unqualified_search_registries,
        file.short_name_mode,
        path,
    )?;
    if let Some(helpers) = file.credential_helpers {
        conf.credential_helpers = helpers;
    }
    Ok(())
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
        if self.pull_from_mirror.is_some() {
            return Err(format!(
                "pull-from-mirror is for a [[registry.mirror]], not for the [[registry]] {prefix:?}"
            ));
        }
        let mirrors = self
            .mirror
            .into_iter()
            .map(|mirror| mirror.check(self.mirror_by_digest_only))
            .collect::<Result<_, _>>()?;
        let registry = Registry {
            location,
            insecure: self.insecure,
            blocked: self.blocked,
            mirrors,
            file: path.to_owned(),
        };
        Ok((prefix, registry))
    }
}

impl RawMirror {
    fn check(self, digests_only: bool) -> Result<Mirror, String> {
        let location = trim(&self.location)?;
        if location.is_empty() {
            return Err("a [[registry.mirror]] table needs a location".to_owned());
        }
        let pulls = match (self.pull_from_mirror.as_deref(), digests_only) {
            (Some(_), true) => {
                return Err(format!(
                    "the mirror {location:?}: set pull-from-mirror or mirror-by-digest-only, not both"
                ));
            }
            (None, true) | (Some("digest-only"), _) => MirrorPulls::Digests,
            (None | Some("" | "all"), false) => MirrorPulls::All,
            (Some("tag-only"), _) => MirrorPulls::Tags,
            (Some(other), _) => {
                return Err(format!(
                    "the mirror {location:?}: pull-from-mirror is {other:?}; all, digest-only or tag-only is expected"
                ));
            }
        };
        Ok(Mirror {
            location,
            insecure: self.insecure,
            pulls,
        })
    }
}

fn trim(location: &str) -> Result<String, String> {
    if location.contains("://") {
        return Err(format!("{location:?} must be given without a scheme"));
    }
    Ok(location.trim_end_matches('/').to_owned())
}

/// The files of a drop-in directory, by name; none where it does not exist.
pub(super) fn list_drop_ins(dir: &Path) -> Result<Vec<PathBuf>, RegistriesError> {
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

pub(super) fn read(path: &Path) -> Result<String, RegistriesError> {
    let fail = |source| RegistriesError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let bytes = hull_sys::dir::read_at_most(file, MAX_FILE).map_err(fail)?;
    String::from_utf8(bytes).map_err(|_| RegistriesError::Malformed {
        path: path.to_owned(),
        reason: "it is not UTF-8".to_owned(),
    })
}
