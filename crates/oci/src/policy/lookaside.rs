//! Signatures in files of their own, beside no registry: in a directory or on a web
//! server (containers/image, signature-protocols.md).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::attached::{SIGNATURE, SIMPLE_SIGNING};
use super::{Candidate, MAX_SIGNATURE, MAX_SIGNATURES, PolicyError};
use crate::digest::Digest;
use crate::reference::RegistryReference;
use crate::source::{self, SourceOptions};

/// How a file begins that holds no OpenPGP message: a name of its form follows.
const OTHER_FORM: u8 = 0;
const SIGSTORE: &[u8] = b"\0sigstore-json\n";

/// Where such files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookaside {
    Dir(PathBuf),
    /// Without a `/` at its end.
    Web(String),
}

impl Lookaside {
    /// What `lookaside:` of registries.d says.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no file, http or https address");
        if let Some(path) = text.strip_prefix("file://") {
            let is_plain = path.starts_with('/') && !path.contains(['%', '?', '#']);
            return is_plain
                .then(|| Self::Dir(PathBuf::from(path)))
                .ok_or_else(wrong);
        }
        let is_web = text.starts_with("https://") || text.starts_with("http://");
        if !is_web || text.contains(['?', '#']) {
            return Err(wrong());
        }
        Ok(Self::Web(text.trim_end_matches('/').to_owned()))
    }

    /// The signatures of the documents with these digests, with `found` before them;
    /// at most [`MAX_SIGNATURES`].
    pub(super) fn fetch(
        &self,
        named: &RegistryReference,
        digests: &[Digest],
        options: &SourceOptions,
    ) -> Result<Vec<Candidate>, PolicyError> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for digest in digests {
            if seen.contains(&digest) {
                continue;
            }
            seen.push(digest);
            // They are numbered without a gap; the first that is missing is the end.
            for number in 1.. {
                let Some(bytes) = self.file(named, digest, number, options)? else {
                    break;
                };
                if found.len() == MAX_SIGNATURES {
                    return Err(PolicyError::TooMany {
                        reference: named.to_string(),
                    });
                }
                found.push(candidate(bytes));
            }
        }
        Ok(found)
    }

    fn file(
        &self,
        named: &RegistryReference,
        digest: &Digest,
        number: usize,
        options: &SourceOptions,
    ) -> Result<Option<Vec<u8>>, PolicyError> {
        let name = format!(
            "{}@{}={}/signature-{number}",
            named.repository(),
            digest.algorithm().name(),
            digest.to_hex()
        );
        match self {
            Self::Dir(dir) => {
                let path = dir.join(name);
                match File::open(&path)
                    .and_then(|file| hull_sys::dir::read_at_most(file, MAX_SIGNATURE))
                {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(PolicyError::Read { path, source }),
                }
            }
            Self::Web(base) => {
                let url = format!("{base}/{name}");
                source::file(&url, options, MAX_SIGNATURE).map_err(|error| PolicyError::Lookaside {
                    reference: named.to_string(),
                    url,
                    reason: error.to_string(),
                })
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSigstore {
    mime_type: String,
    payload: String,
    annotations: BTreeMap<String, String>,
}

/// What a file holds; of a form that is not known, a signature that no key made.
pub(super) fn candidate(bytes: Vec<u8>) -> Candidate {
    if bytes.first() != Some(&OTHER_FORM) {
        return Candidate::OpenPgp(bytes);
    }
    let read = || {
        let raw: RawSigstore = serde_json::from_slice(bytes.strip_prefix(SIGSTORE)?).ok()?;
        (raw.mime_type == SIMPLE_SIGNING).then_some(())?;
        Some(Candidate::Simple {
            payload: STANDARD.decode(raw.payload).ok()?,
            signature: STANDARD.decode(raw.annotations.get(SIGNATURE)?).ok()?,
        })
    };
    read().unwrap_or(Candidate::Unknown)
}
