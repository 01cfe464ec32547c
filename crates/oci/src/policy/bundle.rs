//! sigstore's bundles: a signature by key over an in-toto statement in an envelope
//! (DSSE), as newer versions of cosign attach it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::digest::Digest;

/// How the media types of bundles begin; the version follows.
pub(super) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What the statement of `cosign sign` says of its subject.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// A bundle with one signature, yet to be checked.
#[derive(Debug)]
pub(super) struct Bundle {
    /// What the signature is over (DSSE's pre-authentication encoding).
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    statement: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle {
    media_type: String,
    dsse_envelope: Option<RawEnvelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStatement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<RawSubject>,
}

#[derive(Deserialize)]
struct RawSubject {
    digest: std::collections::BTreeMap<String, String>,
}

impl Bundle {
    /// Reads a bundle of one of the versions 0.1 to 0.3.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let bundle: RawBundle =
            serde_json::from_slice(bytes).map_err(|error| format!("no bundle: {error}"))?;
        let version = bundle
            .media_type
            .strip_prefix(MEDIA_TYPE)
            .unwrap_or_default();
        if !matches!(
            version,
            ".v0.3+json" | "+json;version=0.3" | "+json;version=0.2" | "+json;version=0.1"
        ) {
            return Err(format!("a bundle of the type {:?}", bundle.media_type));
        }
        let envelope = bundle.dsse_envelope.ok_or("a bundle without a statement")?;
        let [signature] = envelope.signatures.as_slice() else {
            return Err("a bundle without exactly one signature".to_owned());
        };
        if envelope.payload_type != STATEMENT {
            return Err(format!("a bundle around a {:?}", envelope.payload_type));
        }
        let decode = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| "a bundle that is not Base64".to_owned())
        };
        let statement = decode(&envelope.payload)?;
        let mut signed = format!(
            "DSSEv1 {} {STATEMENT} {} ",
            STATEMENT.len(),
            statement.len()
        )
        .into_bytes();
        signed.extend_from_slice(&statement);
        Ok(Self {
            signed,
            signature: decode(&signature.sig)?,
            statement,
        })
    }

    /// Whether the statement says that one of these was signed; call it only once
    /// the signature proved right.
    pub(super) fn check_digest(&self, digests: &[Digest]) -> Result<(), String> {
        let statement: RawStatement = serde_json::from_slice(&self.statement)
            .map_err(|error| format!("its statement is not understood: {error}"))?;
        if !matches!(
            statement.kind.as_str(),
            "https://in-toto.io/Statement/v1" | "https://in-toto.io/Statement/v0.1"
        ) || statement.predicate_type != SIGNED
        {
            return Err(format!(
                "its statement is no signature, but a {:?}",
                statement.predicate_type
            ));
        }
        // Several subjects would be several things signed at once, of which any may be meant.
        let [subject] = statement.subject.as_slice() else {
            return Err("its statement is not about one subject".to_owned());
        };
        let names = |digest: &Digest| {
            let algorithm = digest.algorithm().name();
            subject.digest.get(algorithm) == Some(&digest.to_hex())
        };
        if digests.iter().any(names) {
            return Ok(());
        }
        Err("it is for another manifest".to_owned())
    }
}
