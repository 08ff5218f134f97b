//! Keys of devices and of users, as the JSON objects that are signed by other keys.
//!
//! The server keeps them for clients and believes them no more than clients do; it checks signatures only where the
//! specification has it refuse what no client would take.
//! <https://spec.matrix.org/v1.19/client-server-api/#key-and-signature-security>

use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::verify_canonical_json_bytes;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, SigningKeyAlgorithm, UserId};
use serde_json::value::RawValue;

/// What is not covered by a signature.
const NOT_SIGNED: [&str; 2] = ["signatures", "unsigned"];

/// Why something is not taken as a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has not the form of one.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has the form, and is not signed as it must be.
    #[error("{0}")]
    Signature(&'static str),
}

/// A key with its signatures.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedKey(CanonicalJsonObject);

impl SignedKey {
    /// A JSON object that can be signed.
    pub fn parse(json: &str) -> Result<Self, KeyError> {
        let object = serde_json::from_str(json);
        object.map(Self).map_err(|_| KeyError::Malformed("a key is no canonical JSON object"))
    }

    /// The key without what others have added to it.
    #[must_use]
    pub fn without_unsigned(mut self) -> Self {
        self.0.remove("unsigned");
        self
    }

    /// The key as JSON.
    pub fn to_json(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(&self.0).expect("canonical JSON can be written")
    }

    /// The same key, whoever signed it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.signed() == other.signed()
    }

    /// A text in the object.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// The public key with this id.
    pub fn public_key(&self, key_id: &str) -> Option<&str> {
        self.0.get("keys")?.as_object()?.get(key_id)?.as_str()
    }

    /// Ids and values of the signatures that this user has made.
    pub fn signatures_by(&self, user: &UserId) -> impl Iterator<Item = (&str, &str)> {
        let signatures = self.0.get("signatures").and_then(CanonicalJsonValue::as_object);
        let by_user = signatures.and_then(|all| all.get(user.as_str())?.as_object());
        let by_user = by_user.into_iter().flatten();
        by_user.filter_map(|(key_id, signature)| Some((key_id.as_str(), signature.as_str()?)))
    }

    /// Whether the user's key `key_id`, which is `public_key` in base64, has signed the object.
    pub fn is_signed_by(&self, user: &UserId, key_id: &str, public_key: &str) -> bool {
        let signature =
            self.signatures_by(user).find(|(id, _)| *id == key_id).map(|(_, signature)| signature);
        let parsed = signature.and_then(|signature| {
            let signature = Base64::<Standard>::parse(signature).ok()?;
            Some((signature, Base64::<Standard>::parse(public_key).ok()?))
        });
        let Some((signature, public_key)) = parsed else { return false };
        let Ok(signed) = serde_json::to_vec(&self.signed()) else { return false };
        key_id.starts_with("ed25519:")
            && verify_canonical_json_bytes(
                &SigningKeyAlgorithm::Ed25519,
                public_key.as_bytes(),
                signature.as_bytes(),
                &signed,
            )
            .is_ok()
    }

    fn signed(&self) -> CanonicalJsonObject {
        let mut signed = self.0.clone();
        for field in NOT_SIGNED {
            signed.remove(field);
        }
        signed
    }
}

/// A cross-signing key.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossSigningKey {
    /// The public key in base64, as the key's id has it.
    pub public_key: String,
    /// The key.
    pub key: SignedKey,
}

impl CrossSigningKey {
    /// A key of that user for that usage, with exactly one public key.
    pub fn parse(json: &str, user: &UserId, usage: &str) -> Result<Self, KeyError> {
        let key = SignedKey::parse(json)?;
        if key.text("user_id") != Some(user.as_str()) {
            return Err(KeyError::Malformed("the key is of another user"));
        }
        let usages = key.0.get("usage").and_then(CanonicalJsonValue::as_array);
        if !usages.is_some_and(|usages| usages.iter().any(|named| named.as_str() == Some(usage))) {
            return Err(KeyError::Malformed("the key is for another usage"));
        }
        let keys = key.0.get("keys").and_then(CanonicalJsonValue::as_object);
        let mut keys = keys.into_iter().flatten();
        let (Some((key_id, public_key)), None) = (keys.next(), keys.next()) else {
            return Err(KeyError::Malformed("a cross-signing key has exactly one public key"));
        };
        let public_key = public_key.as_str().filter(|public_key| {
            key_id.strip_prefix("ed25519:") == Some(*public_key) && public_key.len() <= 128
        });
        let public_key = public_key.ok_or(KeyError::Malformed("a cross-signing key is named by itself"))?;
        Ok(Self { public_key: public_key.to_owned(), key })
    }

    /// The id under which its signatures stand.
    pub fn key_id(&self) -> String {
        key_id(&self.public_key)
    }

    /// The id under which its signatures stand, and the public key.
    pub fn pair(&self) -> (String, String) {
        (self.key_id(), self.public_key.clone())
    }

    /// Whether this key has signed another one.
    pub fn signs(&self, user: &UserId, other: &SignedKey) -> bool {
        other.is_signed_by(user, &self.key_id(), &self.public_key)
    }
}

/// The id under which signatures of this public key, or of a device, stand.
pub fn key_id(public_key: &str) -> String {
    format!("ed25519:{public_key}")
}

#[cfg(test)]
mod tests {
    use ruma::signatures::{Ed25519KeyPair, sign_json};
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    fn pair() -> Ed25519KeyPair {
        let document = Ed25519KeyPair::generate();
        Ed25519KeyPair::from_der(document.as_ref(), String::new()).expect("it was just made")
    }

    fn public_key(pair: &Ed25519KeyPair) -> String {
        Base64::<Standard, _>::new(pair.public_key()).encode()
    }

    fn cross_signing(public_key: &str, usage: &str) -> String {
        json!({
            "user_id": "@a:b",
            "usage": [usage],
            "keys": { format!("ed25519:{public_key}"): public_key },
        })
        .to_string()
    }

    #[test]
    fn master_key_signs_the_others() {
        let document = Ed25519KeyPair::generate();
        let first = Ed25519KeyPair::from_der(document.as_ref(), "x".to_owned()).expect("it was just made");
        let public = public_key(&first);
        let signer = Ed25519KeyPair::from_der(document.as_ref(), public.clone()).expect("the same");
        let master = CrossSigningKey::parse(&cross_signing(&public, "master"), user_id!("@a:b"), "master")
            .expect("a key");
        let other = cross_signing(&public_key(&pair()), "self_signing");
        let mut object: CanonicalJsonObject = serde_json::from_str(&other).expect("JSON");
        sign_json("@a:b", &signer, &mut object).expect("it can be signed");
        let signed = SignedKey::parse(&serde_json::to_string(&object).expect("JSON")).expect("a key");
        assert!(master.signs(user_id!("@a:b"), &signed));
        assert!(!master.signs(user_id!("@c:b"), &signed));
        let unsigned = SignedKey::parse(&other).expect("a key");
        assert!(!master.signs(user_id!("@a:b"), &unsigned));
        assert!(unsigned.is_same(&signed));
        object.insert("extra".to_owned(), CanonicalJsonValue::from("x"));
        let changed = SignedKey::parse(&serde_json::to_string(&object).expect("JSON")).expect("a key");
        assert!(!master.signs(user_id!("@a:b"), &changed) && !changed.is_same(&signed));
    }

    #[test]
    fn cross_signing_keys_have_their_form() {
        let good = cross_signing("abc", "master");
        assert_eq!(
            CrossSigningKey::parse(&good, user_id!("@a:b"), "master").map(|key| key.key_id()),
            Ok("ed25519:abc".to_owned())
        );
        for (json, user, usage) in [
            (good.as_str(), user_id!("@c:b"), "master"),
            (good.as_str(), user_id!("@a:b"), "self_signing"),
            ("[]", user_id!("@a:b"), "master"),
            (r#"{"user_id":"@a:b","usage":["master"],"keys":{}}"#, user_id!("@a:b"), "master"),
            (r#"{"user_id":"@a:b","usage":["master"],"keys":{"ed25519:x":"y"}}"#, user_id!("@a:b"), "master"),
            (
                r#"{"user_id":"@a:b","usage":["master"],"keys":{"ed25519:x":"x","ed25519:y":"y"}}"#,
                user_id!("@a:b"),
                "master",
            ),
        ] {
            assert!(CrossSigningKey::parse(json, user, usage).is_err(), "{json}");
        }
    }
}
