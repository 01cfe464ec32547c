//! containers-registries.d(5): where a repository's signatures are looked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::PolicyError;
use super::lookaside::Lookaside;
use crate::reference::{Reference, RegistryReference};
use crate::source::SourceOptions;

const MAX_FILE: u64 = 1 << 20;

/// Where an image's signatures are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignaturePlaces {
    /// Those that cosign and skopeo attach in the registry are looked at. Unlike the
    /// containers tools hull does so unless a file says no: whether they count is the
    /// policy's matter, and one that nobody looks at only refuses everything.
    pub(super) attached: bool,
    /// Where files of signatures are.
    pub(super) lookaside: Option<Lookaside>,
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
    #[serde(default)]
    lookaside: String,
    /// Its former name.
    #[serde(default)]
    sigstore: String,
}

impl RawPlace {
    fn lookaside(&self) -> Option<&str> {
        let given = [&self.lookaside, &self.sigstore];
        given
            .into_iter()
            .find(|text| !text.is_empty())
            .map(String::as_str)
    }
}

#[derive(Debug, Default)]
struct Places {
    default: Option<(RawPlace, PathBuf)>,
    scopes: BTreeMap<String, (RawPlace, PathBuf)>,
}

impl SignaturePlaces {
    /// What the files of the first `registries.d` that is there say of an image.
    pub(super) fn find(
        named: &RegistryReference,
        options: &SourceOptions,
    ) -> Result<Self, PolicyError> {
        let dir = options
            .config
            .best_first()
            .map(|dir| dir.join("registries.d"))
            .find(|dir| !super::is_missing(dir));
        let places = match dir {
            Some(dir) => Places::read(&dir)?,
            None => Places::default(),
        };
        // Each setting is that of the most specific entry that has it.
        let scopes = super::scope::of(&Reference::Registry(named.clone()));
        let entries: Vec<_> = scopes
            .iter()
            .filter(|scope| !scope.starts_with('*'))
            .filter_map(|scope| places.scopes.get(scope))
            .chain(&places.default)
            .collect();
        let attached = entries
            .iter()
            .find_map(|(place, _)| place.use_sigstore_attachments);
        let lookaside = entries
            .iter()
            .find_map(|(place, path)| Some((place.lookaside()?, path)))
            .map(|(text, path)| {
                Lookaside::parse(text).map_err(|reason| PolicyError::Malformed {
                    path: path.clone(),
                    reason,
                })
            })
            .transpose()?;
        Ok(Self {
            attached: attached.unwrap_or(true),
            lookaside: lookaside.or_else(|| options.lookaside.clone().map(Lookaside::Dir)),
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

    fn find(texts: &[&str], image: &str) -> Result<SignaturePlaces, PolicyError> {
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
        SignaturePlaces::find(&named, &options)
    }

    #[test]
    fn the_most_specific_entry_decides_and_silence_is_yes() {
        let texts = [
            "default-docker:\n  use-sigstore-attachments: false\n  lookaside: https://x.example/\n",
            "docker:\n  a.example:\n    use-sigstore-attachments: true\n  a.example/no/x:\n    use-sigstore-attachments: false\n",
            "# nothing\n",
        ];
        for (texts, image, expected) in [
            (&texts[..], "a.example/y:1", true),
            (&texts, "a.example/no/x:1", false),
            (&texts, "b.example/y:1", false),
            (&[], "b.example/y:1", true),
            (
                &["docker:\n  a.example:\n    lookaside: file:///x\n"],
                "a.example/y",
                true,
            ),
        ] {
            assert_eq!(find(texts, image).unwrap().attached, expected, "{image}");
        }
    }

    #[test]
    fn a_setting_that_an_entry_lacks_is_that_of_a_wider_one() {
        let texts = [
            "default-docker:\n  lookaside: https://x.example/sig/\n",
            "docker:\n  a.example:\n    sigstore: file:///srv/old\n  a.example/x:\n    use-sigstore-attachments: false\n",
        ];
        let lookaside = |image| find(&texts, image).unwrap().lookaside;
        let web = Lookaside::Web("https://x.example/sig".to_owned());
        assert_eq!(lookaside("b.example/y"), Some(web));
        let dir = Lookaside::Dir("/srv/old".into());
        assert_eq!(lookaside("a.example/x:1"), Some(dir.clone()));
        assert_eq!(lookaside("a.example/y"), Some(dir));
        assert!(!find(&texts, "a.example/x:1").unwrap().attached);
    }

    #[test]
    fn what_contradicts_itself_or_is_malformed_is_refused() {
        let one = "docker:\n  a.example:\n    use-sigstore-attachments: true\n";
        assert!(find(&[one, one], "a.example/y").is_err());
        assert!(find(&["docker: 7\n"], "a.example/y").is_err());
        for place in [
            "ftp://x.example/",
            "/srv/x",
            "file://x",
            "https://x.example/?a",
        ] {
            let text = format!("default-docker:\n  lookaside: {place}\n");
            assert!(find(&[&text], "a.example/y").is_err(), "{place}");
        }
    }
}
