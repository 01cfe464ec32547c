//! The keys of a policy's `signedBy`, and which of them may sign.
//!
//! The file is the administrator's own, so whoever is in it is trusted; what the
//! keys' owners say of them (until when they hold, what they are for, that
//! they are revoked) counts.

use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, PublicParams, Tag, Timestamp, VerifyingKey};

use super::{has_expired, is_understood};

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// OpenPGP certificates.
#[derive(Default)]
pub(in crate::policy) struct Keyring(Vec<SignedPublicKey>);

impl Keyring {
    /// Adds those in a file: armoured, also several one after the other, or binary.
    pub(in crate::policy) fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        let before = self.0.len();
        let describe = |error: pgp::errors::Error| format!("no OpenPGP keys: {error}");
        if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
            for key in SignedPublicKey::from_bytes_many(bytes).map_err(describe)? {
                self.0.push(key.map_err(describe)?);
            }
        } else {
            let text = str::from_utf8(bytes).map_err(|_| "no OpenPGP keys: not ASCII")?;
            for block in text.split(BEGIN).skip(1) {
                let block = format!("{BEGIN}{block}");
                let (keys, _) = SignedPublicKey::from_string_many(&block).map_err(describe)?;
                for key in keys {
                    self.0.push(key.map_err(describe)?);
                }
            }
        }
        if self.0.len() == before {
            return Err("there is no OpenPGP public key in it".to_owned());
        }
        Ok(())
    }

    /// Whether one of the keys that hold at `now` made the signature.
    pub(super) fn verify(
        &self,
        signature: &Signature,
        text: &[u8],
        now: Timestamp,
    ) -> Result<(), String> {
        let mut reason = "it is not by a key of the policy";
        for certificate in &self.0 {
            let primary = &certificate.primary_key;
            if signature.verify(primary, text).is_ok() {
                reason = match standing(certificate, now) {
                    Ok(standing) if !standing.signs => "its key is not for signing",
                    Ok(_) if is_weak(primary) => "its key is too weak",
                    Ok(_) => return Ok(()),
                    Err(reason) => reason,
                };
            }
            for subkey in &certificate.public_subkeys {
                if signature.verify(&subkey.key, text).is_ok() {
                    let standing = standing(certificate, now).map(|_| ());
                    reason = match standing.and_then(|()| check_subkey(certificate, subkey, now)) {
                        Ok(()) if is_weak(&subkey.key) => "its key is too weak",
                        Ok(()) => return Ok(()),
                        Err(reason) => reason,
                    };
                }
            }
        }
        Err(reason.to_owned())
    }
}

/// What the owner of a certificate says of its primary key.
struct Standing {
    signs: bool,
}

/// The primary key as its newest signature over itself describes it.
fn standing(certificate: &SignedPublicKey, now: Timestamp) -> Result<Standing, &'static str> {
    let key = &certificate.primary_key;
    // Whoever revoked it: nobody writes that into the administrator's file without reason.
    if !certificate.details.revocation_signatures.is_empty() {
        return Err("its key is revoked");
    }
    let by_name = certificate.details.users.iter().filter_map(|user| {
        let own = user.signatures.iter().filter(|signature| {
            let verified = signature.verify_certification(key, Tag::UserId, &user.id);
            is_understood(signature) && verified.is_ok()
        });
        let newest = own.max_by_key(|signature| signature.created())?;
        (newest.typ() != Some(SignatureType::CertRevocation)).then_some(newest)
    });
    let direct = certificate.details.direct_signatures.iter();
    let direct =
        direct.filter(|signature| is_understood(signature) && signature.verify_key(key).is_ok());
    let newest = by_name
        .chain(direct)
        .filter(|signature| !is_over(signature, now))
        .max_by_key(|signature| signature.created())
        .ok_or("its key is not signed by itself, or revoked")?;
    if has_expired(key.created_at(), newest.key_expiration_time(), now) {
        return Err("its key has expired");
    }
    // A key that says nothing may do all.
    let signs = !says_what_for(newest) || newest.key_flags().sign();
    Ok(Standing { signs })
}

/// Whether a subkey belongs to its certificate, is for signing, and holds.
fn check_subkey(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: Timestamp,
) -> Result<(), &'static str> {
    let primary = &certificate.primary_key;
    let revocation = Some(SignatureType::SubkeyRevocation);
    if subkey.signatures.iter().any(|one| one.typ() == revocation) {
        return Err("its key is revoked");
    }
    let binding = subkey
        .signatures
        .iter()
        .filter(|one| is_understood(one) && one.verify_subkey_binding(primary, &subkey.key).is_ok())
        .filter(|one| !is_over(one, now))
        .max_by_key(|one| one.created())
        .ok_or("its key is not bound to its certificate")?;
    if has_expired(subkey.key.created_at(), binding.key_expiration_time(), now) {
        return Err("its key has expired");
    }
    if !binding.key_flags().sign() {
        return Err("its key is not for signing");
    }
    // Without its own word a subkey could be claimed by anybody's certificate.
    let agreed = binding
        .embedded_signature()
        .is_some_and(|own| own.verify_primary_key_binding(&subkey.key, primary).is_ok());
    agreed
        .then_some(())
        .ok_or("its key does not belong to its certificate")
}

fn is_over(signature: &Signature, now: Timestamp) -> bool {
    let lifetime = signature.signature_expiration_time();
    signature
        .created()
        .is_none_or(|created| has_expired(created, lifetime, now))
}

fn says_what_for(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        config
            .hashed_subpackets()
            .any(|packet| matches!(packet.data, SubpacketData::KeyFlags(_)))
    })
}

/// Whether a key's algorithm is none of RSA from 2048 bits, ECDSA and EdDSA.
fn is_weak(key: &impl VerifyingKey) -> bool {
    match key.public_params() {
        // Two numbers with two bytes of length each; the exponent has 5 bytes at most.
        PublicParams::RSA(numbers) => numbers.write_len() < 2 + 256 + 2 + 1,
        PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => false,
        _ => true,
    }
}
