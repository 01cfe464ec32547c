//! What a signature of the containers tools or of cosign says
//! (containers-signature(5), cosign's SIGNATURE_SPEC).

use serde::Deserialize;

use crate::digest::Digest;

/// The `type` of what cosign signs.
pub(super) const COSIGN: &str = "cosign container image signature";
/// The `type` of what skopeo and podman sign with OpenPGP.
pub(super) const ATOMIC: &str = "atomic container signature";

/// The signer's claim: this content, under this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) reference: String,
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPayload {
    critical: RawCritical,
    /// Whoever checks a signature may pass over what is in it.
    #[serde(rename = "optional")]
    _optional: Option<serde_json::Value>,
}

/// What a reader must understand, all of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCritical {
    identity: RawIdentity,
    image: RawImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIdentity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawImage {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

impl Claim {
    /// Reads what was signed, which must be of this `kind`.
    pub(super) fn parse(bytes: &[u8], kind: &str) -> Result<Self, String> {
        let RawPayload { critical, .. } = serde_json::from_slice(bytes)
            .map_err(|error| format!("what it signs is not understood: {error}"))?;
        if critical.kind != kind {
            return Err(format!("it signs a {:?}", critical.kind));
        }
        Ok(Self {
            reference: critical.identity.docker_reference,
            digest: critical.image.docker_manifest_digest,
        })
    }

    pub(super) fn check_digest(&self, digests: &[Digest]) -> Result<(), String> {
        if digests.contains(&self.digest) {
            return Ok(());
        }
        Err(format!("it is for the manifest {}", self.digest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn payload() -> Value {
        json!({
            "critical": {
                "identity": {"docker-reference": "a.example/x:1"},
                "image": {"docker-manifest-digest": Digest::sha256(b"x")},
                "type": COSIGN,
            },
            "optional": {"creator": "me", "timestamp": 5, "more": [1]},
        })
    }

    fn parse(value: &Value) -> Result<Claim, String> {
        Claim::parse(&serde_json::to_vec(value).unwrap(), COSIGN)
    }

    #[test]
    fn a_claim_is_for_its_digest_alone() {
        let claim = parse(&payload()).unwrap();
        assert_eq!(claim.reference, "a.example/x:1");
        let (x, y) = (Digest::sha256(b"x"), Digest::sha256(b"y"));
        claim.check_digest(&[y, x]).unwrap();
        assert!(claim.check_digest(&[y]).is_err());
        assert!(claim.check_digest(&[]).is_err());
    }

    #[test]
    fn what_is_critical_and_not_understood_is_refused() {
        for (place, value) in [
            ("/critical/more", json!(1)),
            ("/critical/identity/more", json!(1)),
            ("/critical/image/more", json!(1)),
            ("/more", json!(1)),
            ("/critical/type", json!("atomic container signature")),
            ("/critical/image/docker-manifest-digest", json!("md5:x")),
            ("/critical/identity/docker-reference", json!(7)),
        ] {
            let mut changed = payload();
            let (parent, key) = place.rsplit_once('/').unwrap();
            changed.pointer_mut(parent).unwrap()[key] = value;
            assert!(parse(&changed).is_err(), "{place}");
        }
        let twice = br#"{"critical":{},"critical":{}}"#;
        assert!(Claim::parse(twice, COSIGN).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            drop(Claim::parse(&bytes, COSIGN));
        }
    }
}
