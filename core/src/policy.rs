//! Policy servers: a server that a room has look at events before they are sent, and that signs those it recommends.
//!
//! Asking it is the caller's part.
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use ruma::{
    OwnedServerName, SigningKeyAlgorithm,
    events::room::policy::{POLICY_SERVER_ED25519_SIGNING_KEY_ID as KEY_ID, RoomPolicyEventContent},
    serde::Base64,
    signatures::PublicKeySet,
};

use crate::pdu::{Pdu, PduError, sign};

/// A room's policy server, and the key that it signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServer {
    /// Its name.
    pub name: OwnedServerName,
    key: Base64,
}

impl PolicyServer {
    /// The server that this `m.room.policy` event names. `None`: the event does not say all that it has to. Whether
    /// a user of that server has joined the room, without which it is not in use, is another question.
    pub fn of_event(event: &Pdu) -> Option<Self> {
        let mut content: RoomPolicyEventContent = event.content_as()?;
        let key = content.public_keys.remove(&SigningKeyAlgorithm::Ed25519)?;
        Some(Self { name: content.via, key })
    }

    /// Whether it is asked about such an event. Only the event that names a policy server is exempt, so that a room
    /// can part with one that does not answer.
    pub fn checks(event: &Pdu) -> bool {
        !event.is_state_of("m.room.policy", "")
    }

    /// It has signed the event.
    pub fn has_signed(&self, event: &Pdu) -> bool {
        let keys = PublicKeySet::from([(KEY_ID.to_owned(), self.key.clone())]);
        sign::is_signed_by(event, &self.name, &keys)
    }

    /// The event with this signature, which must be right, in addition to those that it has.
    pub fn add_signature(&self, event: &Pdu, signature: &str) -> Result<Pdu, PduError> {
        let signed = sign::with_signature(event, &self.name, KEY_ID, signature)?;
        if self.has_signed(&signed) {
            Ok(signed)
        } else {
            Err(PduError::Signature(format!("the signature of the policy server {} is not valid", self.name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{serde::base64::Standard, signatures::Ed25519KeyPair};
    use serde_json::json;

    use super::*;
    use crate::{pdu::format, version};

    fn event(event_type: &str, state_key: Option<&str>) -> Pdu {
        let mut event = json!({
            "type": event_type, "sender": "@a:a.test", "room_id": "!r:a.test", "content": {}, "depth": 1,
            "origin_server_ts": 1, "prev_events": [], "auth_events": [],
            "hashes": { "sha256": "" }, "signatures": { "a.test": { "ed25519:1": "x" } },
        });
        if let Some(key) = state_key {
            event["state_key"] = key.into();
        }
        let object = serde_json::from_value(event).unwrap();
        format::parse_remote_object(version::find_str("11").unwrap(), object).unwrap()
    }

    fn key() -> Ed25519KeyPair {
        Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "policy_server".to_owned()).unwrap()
    }

    fn server(key: &Ed25519KeyPair) -> PolicyServer {
        PolicyServer { name: "a.test".try_into().unwrap(), key: Base64::new(key.public_key().to_vec()) }
    }

    #[test]
    fn only_the_event_that_names_the_server_is_exempt() {
        for (event_type, state_key, checked) in [
            ("m.room.message", None, true),
            ("m.room.member", Some("@a:a.test"), true),
            ("m.room.policy", None, true),
            ("m.room.policy", Some("x"), true),
            ("m.room.policy", Some(""), false),
        ] {
            assert_eq!(PolicyServer::checks(&event(event_type, state_key)), checked, "{event_type}");
        }
    }

    #[test]
    fn events_that_do_not_say_all_name_no_server() {
        let named = |content: serde_json::Value| {
            PolicyServer::of_event(&with_content(&event("m.room.policy", Some("")), content))
        };
        let key = Base64::<Standard, _>::new([7; 32]).encode();
        let public_keys = json!({ "ed25519": key, "other": "aaaa" });
        assert!(named(json!({ "via": "a.test", "public_keys": public_keys })).is_some());
        assert_eq!(named(json!({ "via": "a.test", "public_keys": { "other": "aaaa" } })), None);
        assert_eq!(named(json!({ "via": 7, "public_keys": public_keys })), None);
        assert_eq!(named(json!({ "public_keys": public_keys })), None);
        assert_eq!(named(json!({})), None);
    }

    fn with_content(event: &Pdu, content: serde_json::Value) -> Pdu {
        let mut object: serde_json::Value = serde_json::from_str(event.json()).unwrap();
        object["content"] = content;
        let version = version::find_str("11").unwrap();
        Pdu::from_stored(version, event.event_id().to_owned(), object.to_string()).unwrap()
    }

    #[test]
    fn signatures_are_added_if_they_are_right_and_the_others_stay() {
        let (key, other) = (key(), key());
        let server = server(&key);
        let message = event("m.room.message", None);
        assert!(!server.has_signed(&message));
        let signature = sign::signature_of(&message, &key).unwrap();
        let signed = server.add_signature(&message, &signature).unwrap();
        assert!(server.has_signed(&signed));
        assert_eq!(signed.event_id(), message.event_id());
        let json: serde_json::Value = serde_json::from_str(signed.json()).unwrap();
        assert_eq!(json["signatures"]["a.test"]["ed25519:1"], "x");
        assert!(server.add_signature(&message, &sign::signature_of(&message, &other).unwrap()).is_err());
        assert!(server.add_signature(&message, "nonsense").is_err());
    }
}
