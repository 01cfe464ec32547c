//! Which name a signature must have been made for (`signedIdentity`).

use serde::Deserialize;

use crate::reference::{DEFAULT_TAG, ReferenceError, RegistryReference};

/// What the name in a signature must be, for an image that was asked for by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// The same, with its tag or digest.
    Exact,
    /// The same; of an image asked for by digest, the same repository.
    RepoDigestOrExact,
    /// The same repository.
    Repository,
    /// This, whatever was asked for.
    ExactReference(RegistryReference),
    /// This repository, whatever was asked for.
    ExactRepository(String),
    /// As [`Identity::RepoDigestOrExact`], with one prefix read as another.
    Remap { prefix: String, signed: String },
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum RawIdentity {
    #[serde(rename = "matchExact")]
    Exact {},
    #[serde(rename = "matchRepoDigestOrExact")]
    RepoDigestOrExact {},
    #[serde(rename = "matchRepository")]
    Repository {},
    #[serde(rename = "exactReference", rename_all = "camelCase")]
    ExactReference { docker_reference: String },
    #[serde(rename = "exactRepository", rename_all = "camelCase")]
    ExactRepository { docker_repository: String },
    #[serde(rename = "remapIdentity", rename_all = "camelCase")]
    Remap {
        prefix: String,
        signed_prefix: String,
    },
}

impl Identity {
    /// The default is matchRepoDigestOrExact.
    pub(super) fn check_raw(raw: Option<RawIdentity>) -> Result<Self, String> {
        Ok(match raw {
            None | Some(RawIdentity::RepoDigestOrExact {}) => Self::RepoDigestOrExact,
            Some(RawIdentity::Exact {}) => Self::Exact,
            Some(RawIdentity::Repository {}) => Self::Repository,
            Some(RawIdentity::ExactReference { docker_reference }) => {
                let reference = parse(&docker_reference).map_err(|error| error.to_string())?;
                if is_name_only(&reference) {
                    return Err(format!(
                        "dockerReference {docker_reference:?} has neither tag nor digest"
                    ));
                }
                Self::ExactReference(reference)
            }
            Some(RawIdentity::ExactRepository { docker_repository }) => {
                let reference = parse(&docker_repository).map_err(|error| error.to_string())?;
                if !is_name_only(&reference) {
                    return Err(format!(
                        "dockerRepository {docker_repository:?} has a tag or a digest"
                    ));
                }
                Self::ExactRepository(reference.name())
            }
            Some(RawIdentity::Remap {
                prefix,
                signed_prefix,
            }) => Self::Remap {
                prefix: check_prefix(prefix)?,
                signed: check_prefix(signed_prefix)?,
            },
        })
    }

    /// Whether a signature for `signed` is one for what was `named`.
    pub(super) fn check(&self, named: &RegistryReference, signed: &str) -> Result<(), String> {
        let reference = parse(signed).map_err(|_| "it is for a name that is none".to_owned())?;
        let fits = match self {
            Self::Exact => is_same(&reference, named),
            Self::RepoDigestOrExact => is_same_or_pinned(&reference, named),
            Self::Repository => reference.name() == named.name(),
            Self::ExactReference(wanted) => is_same(&reference, wanted),
            Self::ExactRepository(wanted) => reference.name() == *wanted,
            Self::Remap { prefix, signed } => match remap(named, prefix, signed) {
                Some(Ok(remapped)) => is_same_or_pinned(&reference, &remapped),
                Some(Err(_)) => false,
                None => is_same_or_pinned(&reference, named),
            },
        };
        fits.then_some(())
            .ok_or_else(|| format!("it is for {reference}"))
    }
}

/// A name as signers write it: Docker's short ones are the hub's.
fn parse(text: &str) -> Result<RegistryReference, ReferenceError> {
    match RegistryReference::parse(text) {
        Err(ReferenceError::ShortName(_)) => RegistryReference::parse(&format!("docker.io/{text}")),
        parsed => parsed,
    }
}

fn is_name_only(reference: &RegistryReference) -> bool {
    reference.tag().is_none() && reference.digest().is_none()
}

/// Whether a signature's name is that of an image, tag and digest included. A
/// signature that gives neither is for no image in particular.
fn is_same(signed: &RegistryReference, named: &RegistryReference) -> bool {
    if is_name_only(signed) || signed.name() != named.name() {
        return false;
    }
    match (named.digest(), named.tag()) {
        (Some(digest), _) => signed.digest() == Some(digest),
        (None, tag) => {
            signed.digest().is_none() && signed.tag() == Some(tag.unwrap_or(DEFAULT_TAG))
        }
    }
}

fn is_same_or_pinned(signed: &RegistryReference, named: &RegistryReference) -> bool {
    // The digest that was asked for is that of the content, so the tag says nothing more.
    match named.digest() {
        Some(_) => signed.name() == named.name(),
        None => is_same(signed, named),
    }
}

fn remap(
    named: &RegistryReference,
    prefix: &str,
    signed: &str,
) -> Option<Result<RegistryReference, ReferenceError>> {
    let name = named.name();
    let rest = name.strip_prefix(prefix)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let whole = named.to_string();
    Some(parse(&format!("{signed}{}", &whole[prefix.len()..])))
}

/// A prefix of remapIdentity: a host, or a repository or part of one.
fn check_prefix(prefix: String) -> Result<String, String> {
    let host = prefix.split('/').next().unwrap_or_default();
    let probe = if prefix.contains('/') {
        prefix.clone()
    } else {
        format!("{host}/x")
    };
    match RegistryReference::parse(&probe) {
        Ok(reference) if is_name_only(&reference) && reference.name() == probe => Ok(prefix),
        _ => Err(format!("{prefix:?} is no prefix of a repository's name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn image(text: &str) -> RegistryReference {
        RegistryReference::parse(&text.replace("DIGEST", DIGEST)).unwrap()
    }

    fn fits(identity: &str, named: &str, signed: &str) -> bool {
        let raw = serde_json::from_str(identity).unwrap();
        let identity = Identity::check_raw(Some(raw)).unwrap();
        identity
            .check(&image(named), &signed.replace("DIGEST", DIGEST))
            .is_ok()
    }

    #[test]
    fn each_kind_of_identity_accepts_what_its_name_says() {
        // Identity, asked for, signed for, whether that fits.
        let exact = r#"{"type":"matchExact"}"#;
        let default = r#"{"type":"matchRepoDigestOrExact"}"#;
        let repository = r#"{"type":"matchRepository"}"#;
        let reference = r#"{"type":"exactReference","dockerReference":"b.example/y:2"}"#;
        let repo = r#"{"type":"exactRepository","dockerRepository":"b.example/y"}"#;
        let remap =
            r#"{"type":"remapIdentity","prefix":"m.example","signedPrefix":"a.example/mirrored"}"#;
        for (identity, named, signed, expected) in [
            (exact, "a.example/x:1", "a.example/x:1", true),
            (exact, "a.example/x", "a.example/x:latest", true),
            (exact, "a.example/x:1", "a.example/x:2", false),
            (exact, "a.example/x:1", "a.example/x", false),
            (exact, "a.example/x:1", "b.example/x:1", false),
            (exact, "a.example/x@DIGEST", "a.example/x:1", false),
            (exact, "a.example/x@DIGEST", "a.example/x@DIGEST", true),
            (exact, "a.example/x:1", "a.example/x@DIGEST", false),
            (default, "a.example/x:1", "a.example/x:1", true),
            (default, "a.example/x:1", "a.example/x:2", false),
            (default, "a.example/x@DIGEST", "a.example/x:2", true),
            (default, "a.example/x@DIGEST", "a.example/z:2", false),
            (default, "docker.io/library/debian:1", "debian:1", true),
            (default, "docker.io/team/x:1", "team/x:1", true),
            (repository, "a.example/x:1", "a.example/x", true),
            (repository, "a.example/x:1", "a.example/x:2", true),
            (repository, "a.example/x:1", "a.example/x/y:1", false),
            (reference, "a.example/x:1", "b.example/y:2", true),
            (reference, "a.example/x:1", "a.example/x:1", false),
            (repo, "a.example/x:1", "b.example/y:9", true),
            (repo, "a.example/x:1", "b.example/yy:9", false),
            (remap, "m.example/x:1", "a.example/mirrored/x:1", true),
            (remap, "m.example/x:1", "m.example/x:1", false),
            (
                remap,
                "m.example.evil/x:1",
                "a.example/mirrored.evil/x:1",
                false,
            ),
            (remap, "c.example/x:1", "c.example/x:1", true),
        ] {
            assert_eq!(
                fits(identity, named, signed),
                expected,
                "{identity} {named} {signed}"
            );
        }
    }

    #[test]
    fn a_signature_for_no_valid_name_fits_nothing() {
        for signed in ["", "a.example/X:1", "a b", "a.example/x:1:2"] {
            assert!(!fits(
                r#"{"type":"matchRepository"}"#,
                "a.example/x:1",
                signed
            ));
        }
    }

    #[test]
    fn identities_that_mean_nothing_are_refused() {
        for identity in [
            r#"{"type":"exactReference","dockerReference":"b.example/y"}"#,
            r#"{"type":"exactRepository","dockerRepository":"b.example/y:1"}"#,
            r#"{"type":"remapIdentity","prefix":"M.example/","signedPrefix":"a.example"}"#,
            r#"{"type":"remapIdentity","prefix":"m.example/x:1","signedPrefix":"a.example"}"#,
        ] {
            let raw = serde_json::from_str(identity).unwrap();
            assert!(Identity::check_raw(Some(raw)).is_err(), "{identity}");
        }
        for identity in [
            r#"{"type":"matchAnything"}"#,
            r#"{"type":"matchExact","more":1}"#,
            r#"{"type":"exactReference"}"#,
        ] {
            assert!(
                serde_json::from_str::<RawIdentity>(identity).is_err(),
                "{identity}"
            );
        }
    }
}
