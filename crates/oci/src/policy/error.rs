//! Why an image is not trusted.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::source::SourceError;

/// A policy that cannot be followed, or an image that it does not let through.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file of the policy cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The policy, a key, or a file of registries.d.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not of the expected form.
    #[error("{}: {reason}; nothing is pulled with a policy that is not understood", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The policy does not let the image through.
    #[error("{reference}: not trusted by {} ({scope}): {why}", path.display())]
    Refused {
        /// The image.
        reference: String,
        /// The policy.
        path: PathBuf,
        /// The transport and scope whose requirements count.
        scope: String,
        /// Which requirement is not fulfilled.
        why: Box<Mistrust>,
    },
    /// The signatures cannot be fetched.
    #[error("the signatures of {reference} cannot be fetched: {source}")]
    Fetch {
        /// The image.
        reference: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A signature that is kept in a file of its own cannot be fetched.
    #[error("a signature of {reference} cannot be fetched from {url}: {reason}")]
    Lookaside {
        /// The image.
        reference: String,
        /// The address, from `lookaside` in registries.d.
        url: String,
        /// Why.
        reason: String,
    },
    /// What lists the signatures is not of the expected form.
    #[error("the list of the signatures of {reference} is damaged: {reason}")]
    Signatures {
        /// The image.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// More signatures than any image has.
    #[error(
        "{reference}: there are more than {} signatures; ask whoever publishes it",
        super::MAX_SIGNATURES
    )]
    TooMany {
        /// The image.
        reference: String,
    },
    /// A policy that would let anything through, where one is demanded.
    #[error(
        "{}: a policy is to be enforced, but its default accepts anything (insecureAcceptAnything); make it reject, and name what is trusted", path.display()
    )]
    Open {
        /// The policy.
        path: PathBuf,
    },
    /// No policy, where one is demanded.
    #[error("a policy is to be enforced, but there is none: write /etc/containers/policy.json")]
    Missing,
}

/// Which requirement an image does not fulfil.
#[derive(Debug)]
pub enum Mistrust {
    /// It is rejected whatever its signatures.
    Rejected,
    /// hull cannot check this requirement.
    Uncheckable(String),
    /// A signature is required of an image in a place that holds none.
    NoPlace,
    /// None of its signatures is accepted.
    Signatures {
        /// Whether those that the policy wants may be attached in the registry, but
        /// registries.d says not to look there.
        unattached: bool,
        /// Why not, of each.
        reasons: Vec<String>,
    },
}

impl fmt::Display for Mistrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected => f.write_str("the policy rejects it"),
            Self::Uncheckable(what) => write!(
                f,
                "hull cannot check {what}, and passes over no requirement"
            ),
            Self::NoPlace => {
                f.write_str("a signature is required, which only an image in a registry can have")
            }
            Self::Signatures {
                unattached: true,
                reasons,
            } if reasons.is_empty() => f.write_str(
                "a signature is required, but use-sigstore-attachments is false in registries.d",
            ),
            Self::Signatures { reasons, .. } if reasons.is_empty() => {
                f.write_str("a signature is required, and there is none")
            }
            Self::Signatures { reasons, .. } => {
                write!(f, "none of {} signatures is accepted", reasons.len())?;
                let mut reasons = reasons.clone();
                reasons.dedup();
                for reason in reasons.iter().take(5) {
                    write!(f, "; {reason}")?;
                }
                Ok(())
            }
        }
    }
}
