//! Names without a registry: `fedora`, `centos/tools`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RegistriesConf;
use crate::reference::{ReferenceError, RegistryReference};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShortNames {
    aliases: BTreeMap<String, Alias>,
    search: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Alias {
    name: String,
    file: PathBuf,
}

/// A name without a registry that the configuration does not settle.
#[derive(Debug, thiserror::Error)]
pub enum ShortNameError {
    /// No alias, and no registry to look in.
    #[error(
        "{name:?} names no registry, and registries.conf has no alias for it: write it in full, such as docker.io/library/debian or quay.io/team/image"
    )]
    Unknown {
        /// What was written.
        name: String,
    },
    /// Several registries could be meant.
    #[error(
        "{name:?} names no registry, and registries.conf lists several to look in; what boots must not depend on which of them answers. Write one of: {}", candidates.join(", ")
    )]
    Ambiguous {
        /// What was written.
        name: String,
        /// What it could mean.
        candidates: Vec<String>,
    },
    /// It is no name of an image, or what the configuration makes of it is none.
    #[error("{name:?}, which is {full:?} by registries.conf: {source}")]
    Invalid {
        /// What was written.
        name: String,
        /// What the configuration makes of it.
        full: String,
        /// What is wrong.
        source: Box<ReferenceError>,
    },
}

impl ShortNames {
    pub(super) fn add(
        &mut self,
        aliases: BTreeMap<String, String>,
        search: Option<Vec<String>>,
        mode: Option<String>,
        path: &Path,
    ) -> Result<(), String> {
        // Whatever the mode, nothing is asked and nothing is guessed here.
        if let Some(mode) = mode
            && !matches!(mode.as_str(), "" | "enforcing" | "permissive" | "disabled")
        {
            return Err(format!(
                "short-name-mode is {mode:?}; enforcing, permissive or disabled is expected"
            ));
        }
        for (short, name) in aliases {
            // An empty value takes an earlier file's alias away.
            if name.is_empty() {
                self.aliases.remove(&short);
                continue;
            }
            RegistryReference::parse(&name)
                .map_err(|error| format!("the alias {short:?}: {error}"))?;
            let file = path.to_owned();
            self.aliases.insert(short, Alias { name, file });
        }
        if let Some(search) = search {
            self.search = search;
        }
        Ok(())
    }
}

impl RegistriesConf {
    /// The image that a short name means: that of an alias, else that of the
    /// only registry in `unqualified-search-registries`.
    ///
    /// Where several registries are listed it is an error: the containers tools
    /// ask the user, or take the registry that answers first.
    pub fn resolve_short_name(&self, text: &str) -> Result<RegistryReference, ShortNameError> {
        let (name, selectors) = split(text);
        let parse = |full: String| {
            RegistryReference::parse(&full).map_err(|source| ShortNameError::Invalid {
                name: text.to_owned(),
                full,
                source: Box::new(source),
            })
        };
        if let Some(alias) = self.short_names.aliases.get(name) {
            return parse(format!("{}{selectors}", alias.name));
        }
        let full = |registry: &String| format!("{registry}/{text}");
        match self.short_names.search.as_slice() {
            [] => Err(ShortNameError::Unknown {
                name: text.to_owned(),
            }),
            [only] => parse(full(only)),
            several => Err(ShortNameError::Ambiguous {
                name: text.to_owned(),
                candidates: several.iter().map(full).collect(),
            }),
        }
    }
}

/// The name, and its `:tag` and `@digest`.
fn split(text: &str) -> (&str, &str) {
    let end = text.find([':', '@']).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(texts: &[&str]) -> RegistriesConf {
        let mut conf = RegistriesConf::default();
        for text in texts {
            conf.add(text, Path::new("some.conf")).unwrap();
        }
        conf
    }

    fn resolve(conf: &RegistriesConf, text: &str) -> Result<String, ShortNameError> {
        conf.resolve_short_name(text).map(|found| found.to_string())
    }

    #[test]
    fn an_alias_decides_and_keeps_tag_and_digest() {
        let conf = conf(&[
            "[aliases]\nfedora = 'registry.example/fedora'\n'team/x' = 'b.example:5000/y'\n",
            "[aliases]\n'team/x' = 'c.example/y'\n",
        ]);
        let digest = format!("sha256:{}", "0".repeat(64));
        for (short, full) in [
            ("fedora", "registry.example/fedora".to_owned()),
            ("fedora:41", "registry.example/fedora:41".to_owned()),
            ("team/x:1", "c.example/y:1".to_owned()),
            (
                &format!("team/x:1@{digest}"),
                format!("c.example/y:1@{digest}"),
            ),
        ] {
            assert_eq!(resolve(&conf, short).unwrap(), full);
        }
        assert!(matches!(
            resolve(&conf, "debian"),
            Err(ShortNameError::Unknown { .. })
        ));
    }

    #[test]
    fn the_only_search_registry_is_taken_and_several_are_named() {
        let one = conf(&["unqualified-search-registries = ['docker.io']\n"]);
        assert_eq!(
            resolve(&one, "debian:13").unwrap(),
            "docker.io/library/debian:13"
        );
        assert_eq!(resolve(&one, "team/x").unwrap(), "docker.io/team/x");
        let two = conf(&["unqualified-search-registries = ['docker.io', 'quay.io']\n"]);
        let error = resolve(&two, "debian").unwrap_err().to_string();
        assert!(
            error.contains("docker.io/debian, quay.io/debian"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_alias_takes_one_away() {
        let conf = conf(&[
            "[aliases]\nfedora = 'registry.example/fedora'\n",
            "[aliases]\nfedora = ''\n",
        ]);
        assert!(resolve(&conf, "fedora").is_err());
    }

    #[test]
    fn an_alias_that_leads_nowhere_and_an_unknown_mode_are_refused() {
        for text in [
            "[aliases]\nx = 'y'\n",
            "[aliases]\nx = 'https://a.example/y'\n",
            "short-name-mode = 'guess'\n",
        ] {
            let mut conf = RegistriesConf::default();
            assert!(conf.add(text, Path::new("some.conf")).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_at_all_is_refused() {
        let conf = conf(&["unqualified-search-registries = ['docker.io']\n"]);
        for text in ["", "Debian", "a:b:c", "x@y", "../x"] {
            assert!(resolve(&conf, text).is_err(), "{text:?}");
        }
    }
}
