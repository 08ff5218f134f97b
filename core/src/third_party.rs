//! Invitations of people known by an address only: which of the invitation's keys prove whose the address is.
//!
//! Whether a key has been revoked, only the identity server can say.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroomthird_party_invite>

use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::verify_canonical_json_bytes;
use ruma::third_party_invite::IdentityServerBase64PublicKey;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, SigningKeyAlgorithm};

/// What is not covered by a signature.
const NOT_SIGNED: [&str; 2] = ["signatures", "unsigned"];

/// A key that an invitation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationKey {
    /// The key in base64, as the invitation has it.
    pub public_key: String,
    /// Where to ask whether it has been revoked. `None`: it never is.
    pub validity_url: Option<String>,
}

/// The keys of an invitation, which is the content of an `m.room.third_party_invite`, that have signed this object.
/// None: it proves nothing.
pub fn signing_keys(invitation: &CanonicalJsonObject, signed: &CanonicalJsonObject) -> Vec<InvitationKey> {
    let mut covered = signed.clone();
    for field in NOT_SIGNED {
        covered.remove(field);
    }
    let Ok(covered) = serde_json::to_vec(&covered) else { return Vec::new() };
    let signatures = signatures(signed);
    let mut keys = keys(invitation);
    keys.retain(|key| {
        let public_key = IdentityServerBase64PublicKey(key.public_key.clone()).decode();
        public_key.is_ok_and(|key| signatures.iter().any(|signature| is_by(&key, signature, &covered)))
    });
    keys
}

fn is_by(key: &[u8], signature: &Base64, covered: &[u8]) -> bool {
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key, signature.as_bytes(), covered).is_ok()
}

/// Whoever made them, and with whichever key: the keys that count are those of the invitation.
fn signatures(signed: &CanonicalJsonObject) -> Vec<Base64> {
    let by_entity = signed.get("signatures").and_then(CanonicalJsonValue::as_object);
    let by_key = by_entity.into_iter().flat_map(|all| all.values()).filter_map(CanonicalJsonValue::as_object);
    by_key
        .flatten()
        .filter(|(key_id, _)| key_id.starts_with("ed25519:"))
        .filter_map(|(_, signature)| Base64::<Standard>::parse(signature.as_str()?).ok())
        .collect()
}

/// Each once, though servers list the first key in two places.
fn keys(invitation: &CanonicalJsonObject) -> Vec<InvitationKey> {
    let listed = invitation.get("public_keys").and_then(CanonicalJsonValue::as_array);
    let listed = listed.into_iter().flatten().filter_map(CanonicalJsonValue::as_object);
    let mut keys: Vec<InvitationKey> = Vec::new();
    for key in std::iter::once(invitation).chain(listed).filter_map(key) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn key(listed: &CanonicalJsonObject) -> Option<InvitationKey> {
    let text = |field| listed.get(field).and_then(CanonicalJsonValue::as_str).map(ToOwned::to_owned);
    Some(InvitationKey { public_key: text("public_key")?, validity_url: text("key_validity_url") })
}

#[cfg(test)]
mod tests {
    use ruma::{serde::base64::UrlSafe, signatures::Ed25519KeyPair};
    use serde_json::{Value, json};

    use super::*;

    fn object(json: &Value) -> CanonicalJsonObject {
        serde_json::from_value(json.clone()).expect("canonical")
    }

    fn key_pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "0".to_owned()).expect("a new key")
    }

    fn check(invitation: &Value, signed: &CanonicalJsonObject, expected: &[Option<&str>]) {
        let found = signing_keys(&object(invitation), signed);
        let urls: Vec<Option<&str>> = found.iter().map(|key| key.validity_url.as_deref()).collect();
        assert_eq!(urls, expected, "{invitation}");
    }

    #[test]
    fn keys_are_found_that_have_signed() {
        let (ours, other) = (key_pair(), key_pair());
        let public = Base64::<Standard, _>::new(ours.public_key().to_vec()).encode();
        let url_safe = Base64::<UrlSafe, _>::new(ours.public_key().to_vec()).encode();
        let foreign = Base64::<Standard, _>::new(other.public_key().to_vec()).encode();
        let mut signed = object(&json!({"mxid": "@a:b", "token": "t", "sender": "@c:d"}));
        ruma::signatures::sign_json("id.example", &ours, &mut signed).expect("it can be signed");

        check(
            &json!({"public_key": public, "key_validity_url": "https://x/"}),
            &signed,
            &[Some("https://x/")],
        );
        check(&json!({"public_keys": [{"public_key": url_safe}]}), &signed, &[None]);
        let both = json!({"public_key": public, "key_validity_url": "u", "public_keys": [
            {"public_key": foreign}, {"public_key": public, "key_validity_url": "u"}, {"public_key": 1}, "x",
        ]});
        check(&both, &signed, &[Some("u")]);
        check(&json!({"public_key": foreign, "key_validity_url": "u"}), &signed, &[]);
        // What was revoked has no content left.
        check(&json!({}), &signed, &[]);

        let mut forged = signed.clone();
        forged.insert("mxid".to_owned(), "@mallory:b".into());
        check(&json!({"public_key": public}), &forged, &[]);
        forged = signed;
        forged.remove("signatures");
        check(&json!({"public_key": public}), &forged, &[]);
    }
}
