//! containers-registries.d(5): whether a repository's signatures are looked for in its registry.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::PolicyError;
use crate::reference::{Reference, RegistryReference};
use crate::source::SourceOptions;

const MAX_FILE: u64 = 1 << 20;

/// Where an image's signatures are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachments {
    /// Those that cosign and skopeo attach in the registry are looked at. Unlike the
    /// containers tools hull does so unless a file says no: whether they count is the
    /// policy's matter, and one that nobody looks at only refuses everything.
    pub(super) are_used: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    default_docker: Option<RawPlace>,
    docker: Option<BTreeMap<String, RawPlace>>,
}

#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
struct RawPlace {
    use_sigstore_attachments: Option<bool>,
}

#[derive(Debug, Default)]
struct Places {
    default: Option<(RawPlace, PathBuf)>,
    scopes: BTreeMap<String, (RawPlace, PathBuf)>,
}

impl Attachments {
    /// What the files of the first `registries.d` that is there say of an image.
    pub(super) fn find(
        named: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Self, PolicyError> {
        let dir = options
            .config
            .best_first()
            .map(|dir| dir.join("registries.d"))
            .find(|dir| dir.is_dir());
        let places = match dir {
            Some(dir) => Places::read(&dir)?,
            None => Places::default(),
        };
        let scopes = super::scope::of(&Reference::Registry(named.clone()));
        let place = scopes
            .iter()
            .filter(|scope| !scope.starts_with('*'))
            .find_map(|scope| places.scopes.get(scope))
            .or(places.default.as_ref());
        Ok(Self {
            are_used: place
                .and_then(|(place, _)| place.use_sigstore_attachments)
                .unwrap_or(true),
        })
    }
}

impl Places {
    fn read(dir: &Path) -> Result<Self, PolicyError> {
        let fail = |source: io::Error| PolicyError::Read {
            path: dir.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                paths.push(path);
            }
        }
        paths.sort();
        let mut places = Self::default();
        for path in paths {
            let bytes = File::open(&path)
                .and_then(|file| hull_sys::dir::read_at_most(file, MAX_FILE))
                .map_err(|source| PolicyError::Read {
                    path: path.clone(),
                    source,
                })?;
            places
                .add(&bytes, &path)
                .map_err(|reason| PolicyError::Malformed { path, reason })?;
        }
        Ok(places)
    }

    fn add(&mut self, bytes: &[u8], path: &Path) -> Result<(), String> {
        // An empty file, or one of comments alone, says nothing.
        let file: Option<RawFile> =
            serde_norway::from_slice(bytes).map_err(|error| error.to_string())?;
        let RawFile {
            default_docker,
            docker,
        } = file.unwrap_or_default();
        let twice = |what: &str, other: &Path| format!("{what} is set in {} too", other.display());
        if let Some(place) = default_docker {
            if let Some((_, other)) = &self.default {
                return Err(twice("default-docker", other));
            }
            self.default = Some((place, path.to_owned()));
        }
        for (scope, place) in docker.unwrap_or_default() {
            if let Some((_, other)) = self.scopes.get(&scope) {
                return Err(twice(&format!("{scope:?}"), other));
            }
            self.scopes.insert(scope, (place, path.to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_used(texts: &[&str], image: &str) -> Result<bool, PolicyError> {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("registries.d");
        std::fs::create_dir(&dir).unwrap();
        for (number, text) in texts.iter().enumerate() {
            let mut file = File::create(dir.join(format!("{number}.yaml"))).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        let mut options = SourceOptions::default();
        options.config.system = Some(temp.path().to_owned());
        let named = RegistryReference::parse(image).unwrap();
        Attachments::find(&named, &options).map(|found| found.are_used)
    }

    #[test]
    fn the_most_specific_entry_decides_and_silence_is_yes() {
        let texts = [
            "default-docker:\n  use-sigstore-attachments: false\n  lookaside: https://x.example\n",
            "docker:\n  a.example:\n    use-sigstore-attachments: true\n  a.example/no/x:\n    use-sigstore-attachments: false\n",
            "# nothing\n",
        ];
        assert!(are_used(&texts, "a.example/y:1").unwrap());
        assert!(!are_used(&texts, "a.example/no/x:1").unwrap());
        assert!(!are_used(&texts, "b.example/y:1").unwrap());
        assert!(are_used(&[], "b.example/y:1").unwrap());
        let silent = "docker:\n  a.example:\n    lookaside: file:///x\n";
        assert!(are_used(&[silent], "a.example/y").unwrap());
    }

    #[test]
    fn what_contradicts_itself_or_is_malformed_is_refused() {
        let one = "docker:\n  a.example:\n    use-sigstore-attachments: true\n";
        assert!(are_used(&[one, one], "a.example/y").is_err());
        assert!(are_used(&["docker: 7\n"], "a.example/y").is_err());
    }
}
