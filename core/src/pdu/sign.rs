//! Signatures of events: making ours, and checking those of other servers.
//!
//! Fetching keys, and judging until when they are valid, is the caller's part.
//! <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>

use std::collections::BTreeSet;

use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::{Ed25519KeyPair, KeyPair, PublicKeyMap, PublicKeySet, verify_canonical_json_bytes};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedUserId, ServerName, SigningKeyAlgorithm,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Pdu, PduError, format, hash, json};
use crate::version::RoomVersion;

/// Our server's name and the key it signs with.
#[derive(Debug)]
pub struct Signer {
    /// The name that the signature is filed under.
    pub server_name: OwnedServerName,
    /// The key.
    pub key: Ed25519KeyPair,
}

/// Adds our signature to an event whose `hashes` are in place.
pub(super) fn sign_object(
    version: &RoomVersion,
    event: &mut CanonicalJsonObject,
    signer: &Signer,
) -> Result<(), PduError> {
    let signature = signer.key.sign(hash::signed_json(version, event)?.as_bytes());
    let signatures = object_in(event, "signatures")?;
    object_in(signatures, signer.server_name.as_str())?.insert(signature.id(), signature.base64().into());
    Ok(())
}

/// The event with our signature beside those that it has: for invites that our users get and joins that we
/// authorise.
pub fn add_signature(event: &Pdu, signer: &Signer) -> Result<Pdu, PduError> {
    let mut object = json::parse(event.version(), event.json())?;
    sign_object(event.version(), &mut object, signer)?;
    let json = json::write(event.version(), &object);
    Pdu::from_stored(event.version(), event.event_id().to_owned(), json)
}

/// The event with this signature of another server beside those that it has. Whether it is right is not looked at.
pub fn with_signature(
    event: &Pdu,
    server: &ServerName,
    key_id: &str,
    signature: &str,
) -> Result<Pdu, PduError> {
    let mut object = json::parse(event.version(), event.json())?;
    let signatures = object_in(&mut object, "signatures")?;
    object_in(signatures, server.as_str())?.insert(key_id.to_owned(), signature.to_owned().into());
    let json = json::write(event.version(), &object);
    format::check_size("the event", json.len(), format::MAX_EVENT_BYTES)?;
    Pdu::from_stored(event.version(), event.event_id().to_owned(), json)
}

/// Whether the server has signed the event with one of these keys.
pub fn is_signed_by(event: &Pdu, server: &ServerName, keys: &PublicKeySet) -> bool {
    let Ok(object) = json::parse(event.version(), event.json()) else { return false };
    let Ok(signed) = hash::signed_json(event.version(), &object) else { return false };
    let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let signatures = signatures.and_then(|all| all.get(server.as_str())?.as_object());
    signatures.is_some_and(|signatures| is_signed(signed.as_bytes(), signatures, keys))
}

/// The signature that this key gives the event.
pub fn signature_of(event: &Pdu, key: &Ed25519KeyPair) -> Result<String, PduError> {
    let object = json::parse(event.version(), event.json())?;
    Ok(key.sign(hash::signed_json(event.version(), &object)?.as_bytes()).base64())
}

/// The servers that must have signed the event, and whose keys [`verify`] therefore needs.
pub fn required_servers(event: &Pdu) -> BTreeSet<OwnedServerName> {
    #[derive(Default, Deserialize)]
    struct Content {
        membership: Option<String>,
        third_party_invite: Option<IgnoredAny>,
        join_authorised_via_users_server: Option<OwnedUserId>,
    }

    let rules = &event.version().rules.signatures;
    let content = match event.event_type() {
        "m.room.member" => event.content_as::<Content>().unwrap_or_default(),
        _ => Content::default(),
    };
    let membership = content.membership.as_deref();
    let mut servers = BTreeSet::new();
    // A third-party invite is signed by the server that exchanged it, not by the one that issued it.
    if membership != Some("invite") || content.third_party_invite.is_none() {
        servers.insert(event.sender().server_name().to_owned());
    }
    if rules.check_event_id_server {
        servers.extend(event.event_id().server_name().map(ToOwned::to_owned));
    }
    if rules.check_join_authorised_via_users_server && membership == Some("join") {
        servers.extend(content.join_authorised_via_users_server.map(|user| user.server_name().to_owned()));
    }
    servers
}

/// Whether every server that must have signed the event did, judged by these keys.
pub fn verify(event: &Pdu, keys: &PublicKeyMap) -> Result<(), PduError> {
    let object = json::parse(event.version(), event.json())?;
    let signed = hash::signed_json(event.version(), &object)?;
    let signatures = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    for server in required_servers(event) {
        let by_server = signatures.and_then(|all| all.get(server.as_str())?.as_object());
        let by_server =
            by_server.ok_or_else(|| PduError::Signature(format!("the event is not signed by {server}")))?;
        let known = keys.get(server.as_str()).ok_or_else(|| PduError::NoKey(server.to_string()))?;
        if !is_signed(signed.as_bytes(), by_server, known) {
            return Err(PduError::Signature(format!("no signature of {server} is valid")));
        }
    }
    Ok(())
}

fn is_signed(signed: &[u8], signatures: &CanonicalJsonObject, known: &PublicKeySet) -> bool {
    signatures.iter().any(|(key_id, signature)| {
        let signature = signature.as_str().and_then(|text| Base64::<Standard>::parse(text).ok());
        let (Some(key), Some(signature)) = (known.get(key_id), signature) else {
            return false;
        };
        key_id.starts_with("ed25519:")
            && verify_canonical_json_bytes(
                &SigningKeyAlgorithm::Ed25519,
                key.as_bytes(),
                signature.as_bytes(),
                signed,
            )
            .is_ok()
    })
}

fn object_in<'a>(
    object: &'a mut CanonicalJsonObject,
    key: &str,
) -> Result<&'a mut CanonicalJsonObject, PduError> {
    let value = object.entry(key.to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
    value.as_object_mut().ok_or_else(|| PduError::format(format!("`{key}` in the event is not an object")))
}
