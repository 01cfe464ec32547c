//! OpenPGP signatures in the form of containers-signature(5): one signed message,
//! which holds what it signs.
//!
//! Only the form that signers write is read: at most one compression, then one
//! signature around one literal text, and nothing behind it. What other programs
//! make of the rest (texts side by side, signatures within signatures) is a
//! well of ambiguity, and is refused.

mod keyring;

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use pgp::packet::{
    CompressedData, LiteralData, Packet, PacketParser, Signature, SignatureType, SubpacketData,
};
use pgp::types::Timestamp;

pub(super) use self::keyring::Keyring;
use super::MAX_SIGNATURE;

/// Checks a signature against the keys at the time `now`; what it signs.
pub(super) fn open(message: &[u8], keyring: &Keyring, now: Timestamp) -> Result<Vec<u8>, String> {
    let (signature, text) = parse(message)?;
    check_form(&signature, now)?;
    keyring.verify(&signature, text.data(), now)?;
    Ok(text.into_bytes().to_vec())
}

/// The time, as far as OpenPGP counts it (until 2106).
#[expect(
    clippy::disallowed_methods,
    reason = "keys expire; nothing of it gets into what is written"
)]
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    Timestamp::from_secs(u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn parse(message: &[u8]) -> Result<(Signature, LiteralData), String> {
    let mut packets = read(message)?;
    if let [Packet::CompressedData(compressed)] = packets.as_slice() {
        packets = read(&inflate(compressed)?)?;
    }
    let mut packets = packets.into_iter();
    let mut next = || packets.next();
    match (next(), next(), next(), next()) {
        (
            Some(Packet::OnePassSignature(_)),
            Some(Packet::LiteralData(text)),
            Some(Packet::Signature(signature)),
            None,
        )
        | (Some(Packet::Signature(signature)), Some(Packet::LiteralData(text)), None, None) => {
            Ok((signature, text))
        }
        _ => Err("it is no OpenPGP message with one signature".to_owned()),
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Packet>, String> {
    // Four are one too many already.
    PacketParser::new(bytes)
        .take(4)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("it is no OpenPGP message: {error}"))
}

fn inflate(compressed: &CompressedData) -> Result<Vec<u8>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("it cannot be inflated: {error}");
    let mut bytes = Vec::new();
    let inflated = compressed.decompress().map_err(|error| failed(&error))?;
    let mut inflated = inflated.take(MAX_SIGNATURE + 1);
    let length = inflated
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_SIGNATURE) {
        return Err(format!("it inflates to more than {MAX_SIGNATURE} bytes"));
    }
    // gpg lets the compressed part reach to the end, whatever comes after it.
    if !inflated.get_ref().get_ref().is_empty() {
        return Err("it is no OpenPGP message: there is more behind it".to_owned());
    }
    Ok(bytes)
}

/// What can be told of a signature over a text without its key.
fn check_form(signature: &Signature, now: Timestamp) -> Result<(), String> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("it is no signature over a document".to_owned());
    }
    if !is_strong(signature) {
        return Err("it is made with a hash that can be forged".to_owned());
    }
    if !is_understood(signature) {
        return Err("it says something critical that hull does not understand".to_owned());
    }
    let Some(created) = signature.created() else {
        return Err("it does not say when it was made".to_owned());
    };
    let lifetime = signature.signature_expiration_time();
    if has_expired(created, lifetime, now) {
        return Err("it has expired".to_owned());
    }
    Ok(())
}

/// Whether its hash resists who can choose what is signed.
fn is_strong(signature: &Signature) -> bool {
    use pgp::crypto::hash::HashAlgorithm::{Sha3_256, Sha3_512, Sha256, Sha384, Sha512};
    matches!(
        signature.hash_alg(),
        Some(Sha256 | Sha384 | Sha512 | Sha3_256 | Sha3_512)
    )
}

/// Whether all that its maker calls critical is known here (RFC 9580, 5.2.3.7).
fn is_understood(signature: &Signature) -> bool {
    let Some(config) = signature.config() else {
        return false;
    };
    config
        .hashed_subpackets()
        .filter(|packet| packet.is_critical)
        .all(|packet| {
            !matches!(
                packet.data,
                SubpacketData::Notation(_)
                    | SubpacketData::RegularExpression(_)
                    | SubpacketData::TrustSignature(..)
                    | SubpacketData::Experimental(..)
                    | SubpacketData::Other(..)
            )
        })
}

/// Whether the time of something that was made at `created` is over. No time, or
/// one of 0, is for ever.
fn has_expired(created: Timestamp, lifetime: Option<pgp::types::Duration>, now: Timestamp) -> bool {
    let lifetime = lifetime.map_or(0, pgp::types::Duration::as_secs);
    lifetime > 0 && created.as_secs().saturating_add(lifetime) <= now.as_secs()
}
