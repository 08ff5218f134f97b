//! What a server says about its keys: believed when it is signed with them.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#publishing-keys>

use std::{collections::BTreeMap, time::Duration};

use myelin_storage::server_keys::ServerKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    SigningKeyAlgorithm, UInt,
    serde::{Base64, base64::Standard},
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};
use serde::Deserialize;

/// No key is believed for longer without asking again.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Servers with more keys are up to something.
const MAX_KEYS: usize = 500;

#[derive(Deserialize)]
struct Answer {
    server_name: OwnedServerName,
    verify_keys: BTreeMap<String, VerifyKey>,
    #[serde(default)]
    old_verify_keys: BTreeMap<String, OldVerifyKey>,
    valid_until_ts: UInt,
}

#[derive(Deserialize)]
struct VerifyKey {
    key: Base64,
}

#[derive(Deserialize)]
struct OldVerifyKey {
    key: Base64,
    expired_ts: UInt,
}

/// An answer that proves itself, with the keys that it names.
pub struct KeyAnswer {
    /// Whose keys they are.
    pub server: OwnedServerName,
    /// All of them.
    pub keys: Vec<ServerKey>,
    object: CanonicalJsonObject,
}

impl KeyAnswer {
    /// Reads an answer. `None`: it is none, or is not signed with one of the keys that it calls current.
    pub fn read(text: &str, now_ms: u64) -> Option<Self> {
        let answer: Answer = serde_json::from_str(text).ok()?;
        let object: CanonicalJsonObject = serde_json::from_str(text).ok()?;
        if answer.verify_keys.len() + answer.old_verify_keys.len() > MAX_KEYS {
            return None;
        }
        let server = answer.server_name;
        let is_self_signed =
            answer.verify_keys.iter().any(|(id, key)| is_signed(&object, &server, id, key.key.as_bytes()));
        if !is_self_signed {
            return None;
        }
        let answer_valid_until_ms = u64::from(answer.valid_until_ts);
        let longest = now_ms.saturating_add(u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX));
        let key = |key_id: String, key: Base64, valid_until_ms: u64, is_current| ServerKey {
            server: server.clone(),
            key_id,
            key: key.into_inner(),
            valid_until_ms,
            is_current,
            answer_valid_until_ms,
            answer: text.to_owned(),
        };
        let is_current = |id: &String| answer.verify_keys.contains_key(id);
        let old = answer.old_verify_keys.into_iter().filter(|(id, _)| !is_current(id));
        let mut keys: Vec<_> =
            old.map(|(id, old)| key(id, old.key, u64::from(old.expired_ts), false)).collect();
        let until = answer_valid_until_ms.min(longest);
        keys.extend(answer.verify_keys.into_iter().map(|(id, current)| key(id, current.key, until, true)));
        keys.retain(|key| OwnedServerSigningKeyId::try_from(key.key_id.as_str()).is_ok());
        Some(Self { server, keys, object })
    }

    /// Whether this server also signed it, with one of these keys.
    pub fn is_signed_by<'a>(
        &self,
        server: &ServerName,
        keys: impl IntoIterator<Item = &'a ServerKey>,
    ) -> bool {
        keys.into_iter().any(|key| is_signed(&self.object, server, &key.key_id, &key.key))
    }
}

fn is_signed(object: &CanonicalJsonObject, server: &ServerName, key_id: &str, key: &[u8]) -> bool {
    let signature = || {
        let signatures = object.get("signatures")?.as_object()?.get(server.as_str())?.as_object()?;
        Base64::<Standard>::parse(signatures.get(key_id).and_then(CanonicalJsonValue::as_str)?).ok()
    };
    let Some(signature) = signature() else { return false };
    let Ok(signed) = to_canonical_json_string_for_signing(object) else { return false };
    let ed25519 = SigningKeyAlgorithm::Ed25519;
    key_id.starts_with("ed25519:")
        && verify_canonical_json_bytes(&ed25519, key, signature.as_bytes(), signed.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, signatures::Ed25519KeyPair};

    use super::*;
    use crate::{config::federation::OldKey, remote::publish::OurKeys};

    fn keys(name: &ServerName) -> OurKeys {
        let key = |version: &str| {
            Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap()
        };
        let old = OldKey {
            id: "ed25519:old".try_into().unwrap(),
            key: Base64::new(key("old").public_key().to_vec()),
            expired_ms: 5,
        };
        OurKeys::new(name.to_owned(), vec![key("a"), key("b")], &[old]).unwrap()
    }

    #[test]
    fn published_keys_are_believed_as_long_as_they_say() {
        let ours = keys(server_name!("a.org"));
        let text = serde_json::to_string(&ours.answer(1000)).unwrap();
        let read = KeyAnswer::read(&text, 1000).unwrap();
        let named: Vec<_> =
            read.keys.iter().map(|key| (key.key_id.as_str(), key.valid_until_ms, key.is_current)).collect();
        let day = 1000 + 24 * 60 * 60 * 1000;
        assert_eq!(named, [("ed25519:old", 5, false), ("ed25519:a", day, true), ("ed25519:b", day, true)]);
        assert_eq!(read.server, "a.org");
        let early = KeyAnswer::read(&text.replace(&day.to_string(), "99999999999999"), 0);
        assert!(early.is_none(), "what is signed cannot be changed");
    }

    #[test]
    fn no_key_is_believed_for_longer_than_a_week() {
        let ours = keys(server_name!("a.org"));
        let mut answer = ours.answer(0);
        answer.remove("signatures");
        answer.insert("valid_until_ts".to_owned(), ruma::Int::MAX.into());
        ours.sign(&mut answer);
        let read = KeyAnswer::read(&serde_json::to_string(&answer).unwrap(), 1).unwrap();
        assert!(read.keys.iter().all(|key| key.valid_until_ms <= 1 + 7 * 24 * 60 * 60 * 1000));
    }

    #[test]
    fn notary_is_believed_when_it_signed() {
        let (ours, notary) = (keys(server_name!("a.org")), keys(server_name!("b.org")));
        let mut answer = ours.answer(0);
        let read = |answer: &CanonicalJsonObject| {
            KeyAnswer::read(&serde_json::to_string(answer).unwrap(), 0).unwrap()
        };
        assert!(!read(&answer).is_signed_by(server_name!("b.org"), &notary.known()));
        notary.sign(&mut answer);
        assert!(read(&answer).is_signed_by(server_name!("b.org"), &notary.known()));
        assert!(!read(&answer).is_signed_by(server_name!("b.org"), &keys(server_name!("b.org")).known()));
    }
}
