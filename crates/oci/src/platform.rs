//! Which of an index's images fits the machine.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// An operating system and a processor architecture, in Go's words as the
/// OCI image specification wants them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Platform {
    /// The operating system: `linux`.
    pub os: String,
    /// The architecture: `amd64`, `arm64`, …
    pub architecture: String,
    /// The variant of the architecture (`v7`, `v8`), if given.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on the architecture that this program was built for.
    pub fn host() -> Self {
        Self {
            os: "linux".to_owned(),
            architecture: host_architecture().to_owned(),
            variant: None,
        }
    }

    /// Whether an image of platform `offer` runs here: an `offer` that names
    /// no variant fits, as does any variant where none is asked for.
    pub fn accepts(&self, offer: &Platform) -> bool {
        self.os == offer.os
            && self.architecture == offer.architecture
            && match (&self.variant, &offer.variant) {
                (Some(wanted), Some(offered)) => wanted == offered,
                _ => true,
            }
    }

    /// Place of the best of `offers`: the wanted variant, then none, then the
    /// one that every machine of the architecture runs, then the first that fits.
    ///
    /// An offer without a platform is taken only if it is the only one.
    pub fn choose(&self, offers: &[Option<Platform>]) -> Option<usize> {
        if let [None] = offers {
            return Some(0);
        }
        offers
            .iter()
            .enumerate()
            .filter_map(|(place, offer)| Some((place, offer.as_ref()?)))
            .filter(|(_, offer)| self.accepts(offer))
            .min_by_key(|(place, offer)| (self.distance(offer), *place))
            .map(|(place, _)| place)
    }

    fn distance(&self, offer: &Platform) -> u8 {
        let Some(variant) = offer.variant.as_deref() else {
            return 1;
        };
        if self.variant.as_deref() == Some(variant) {
            return 0;
        }
        match (self.architecture.as_str(), variant) {
            ("arm64", "v8") | ("amd64", "v1") | ("arm", "v7") => 2,
            ("arm", "v6") => 3,
            ("arm", "v5") => 4,
            _ => 5,
        }
    }
}

fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

/// A text that names no platform.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a platform: write os/architecture[/variant], such as linux/arm64")]
pub struct InvalidPlatform(String);

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPlatform(text.chars().take(100).collect());
        let mut parts = text.split('/').map(str::to_owned);
        let os = parts.next().ok_or_else(invalid)?;
        let architecture = parts.next().ok_or_else(invalid)?;
        let variant = parts.next();
        let is_word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if parts.next().is_some()
            || !is_word(&os)
            || !is_word(&architecture)
            || !variant.as_deref().is_none_or(is_word)
        {
            return Err(invalid());
        }
        Ok(Self {
            os,
            architecture,
            variant,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(texts: &[&str]) -> Vec<Option<Platform>> {
        texts.iter().map(|text| text.parse().ok()).collect()
    }

    fn choose(wanted: &str, texts: &[&str]) -> Option<usize> {
        wanted.parse::<Platform>().unwrap().choose(&offers(texts))
    }

    #[test]
    fn the_architecture_is_chosen_and_attestations_are_not() {
        let index = ["unknown/unknown", "linux/arm64/v8", "linux/amd64"];
        assert_eq!(choose("linux/amd64", &index), Some(2));
        assert_eq!(choose("linux/arm64", &index), Some(1));
        assert_eq!(choose("linux/riscv64", &index), None);
        assert_eq!(choose("windows/amd64", &index), None);
    }

    #[test]
    fn the_most_common_variant_is_taken_where_none_is_asked_for() {
        assert_eq!(
            choose("linux/amd64", &["linux/amd64/v3", "linux/amd64"]),
            Some(1)
        );
        assert_eq!(
            choose("linux/arm", &["linux/arm/v5", "linux/arm/v7"]),
            Some(1)
        );
        assert_eq!(
            choose("linux/arm/v5", &["linux/arm/v5", "linux/arm/v7"]),
            Some(0)
        );
        assert_eq!(
            choose("linux/arm/v6", &["linux/arm/v5", "linux/arm/v7"]),
            None
        );
    }

    #[test]
    fn an_entry_without_platform_counts_only_when_it_is_alone() {
        assert_eq!(choose("linux/amd64", &["-"]), Some(0));
        assert_eq!(choose("linux/amd64", &["-", "-"]), None);
    }

    #[test]
    fn platforms_are_parsed_strictly() {
        for bad in [
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/v7/x",
            "linux/a b",
            "",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
        let text = "linux/arm/v7";
        assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
    }
}
