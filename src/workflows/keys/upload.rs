//! What a device publishes: its identity keys, and keys that conversations with it begin with.

use std::collections::HashSet;

use myelin_core::signed_key::SignedKey;
use myelin_storage::{
    commit::{Announcement, KeyWrite},
    encryption::{
        device_keys,
        one_time_keys::{self, KeyCounts, NewKey, StoredKey},
    },
};
use ruma::{encryption::DeviceKeys, serde::Raw};
use serde_json::{Value, value::RawValue};

use super::{change, refused};
use crate::{app::App, error::MatrixError, sessions::User, sync::devices::key_counts};

/// How many keys a client may upload at once.
const MAX_KEYS: usize = 1_000;
/// How many unclaimed one-time keys a device may have.
const MAX_STORED: u64 = 10_000;
/// How long the parts of a key's name may be.
const MAX_NAME: usize = 255;

/// Publishes the identity keys of the device that asks. The same keys again tell nobody.
pub async fn set_device_keys(app: &App, user: &User, keys: &Raw<DeviceKeys>) -> Result<(), MatrixError> {
    let parsed = keys.deserialize().map_err(|error| MatrixError::bad_json(error.to_string()))?;
    if parsed.user_id != user.id || parsed.device_id != user.device_id {
        return Err(MatrixError::invalid_param("the keys are those of another device"));
    }
    let new = SignedKey::parse(keys.json().get()).map_err(|error| refused(&error))?.without_unsigned();
    let stored = device_keys::find(&app.storage.get().await?, user.nid, &user.device_id).await?;
    if stored.is_some_and(|stored| SignedKey::parse(stored.get()).is_ok_and(|stored| stored == new)) {
        return Ok(());
    }
    let write = KeyWrite::DeviceKeys(user.device_id.clone(), new.to_json());
    change(app, user.nid, vec![write], vec![Announcement::Device(user.device_id.clone())]).await
}

/// A key as the client names it: `algorithm:id`.
pub fn named_key(name: &str, key: Box<RawValue>) -> Result<NewKey, MatrixError> {
    let parts = name.split_once(':').filter(|(algorithm, key_id)| {
        let is_name = |part: &str| !part.is_empty() && part.len() <= MAX_NAME && !part.contains('\0');
        is_name(algorithm) && is_name(key_id)
    });
    let Some((algorithm, key_id)) = parts else {
        return Err(MatrixError::invalid_param("a key is named by its algorithm and an id"));
    };
    if !key.get().starts_with(['"', '{']) {
        return Err(MatrixError::invalid_param("a key is a text or an object"));
    }
    Ok(NewKey { algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), key })
}

/// Adds one-time keys and replaces fallback keys of the device that asks. A key that it has already is no news; another
/// key under the same name is refused.
pub async fn add_keys(
    app: &App,
    user: &User,
    one_time: Vec<NewKey>,
    fallback: &[NewKey],
) -> Result<(), MatrixError> {
    if one_time.len() > MAX_KEYS || fallback.len() > MAX_KEYS {
        return Err(MatrixError::invalid_param("these are too many keys at once"));
    }
    let algorithms: HashSet<&str> = fallback.iter().map(|key| key.algorithm.as_str()).collect();
    if algorithms.len() < fallback.len() {
        return Err(MatrixError::invalid_param("there is one fallback key for an algorithm"));
    }
    let (nid, device_id) = (user.nid, &user.device_id);
    if !one_time.is_empty() {
        require_room(&*key_counts(app, nid, device_id).await?)?;
        let db = app.storage.get().await?;
        let stored = one_time_keys::find(&db, nid, device_id, &one_time).await?;
        let new = new_keys(one_time, &stored)?;
        one_time_keys::add(&db, nid, device_id, &new).await?;
    }
    if !fallback.is_empty() {
        one_time_keys::set_fallback(&app.storage.get().await?, nid, device_id, fallback).await?;
    }
    app.memory.sync.key_counts.forget(nid, device_id);
    Ok(())
}

fn require_room(counts: &KeyCounts) -> Result<(), MatrixError> {
    if counts.one_time.iter().map(|(_, keys)| keys).sum::<u64>() < MAX_STORED {
        return Ok(());
    }
    Err(MatrixError::invalid_param("the device has more one-time keys than it can need"))
}

/// Those that are to be stored.
fn new_keys(keys: Vec<NewKey>, stored: &[StoredKey]) -> Result<Vec<NewKey>, MatrixError> {
    let mut new = Vec::with_capacity(keys.len());
    for key in keys {
        let known =
            stored.iter().find(|known| known.algorithm == key.algorithm && known.key_id == key.key_id);
        match known {
            Some(known) if is_same(&known.key, &key.key) => {}
            Some(known) if !known.is_claimed => {
                // Clients know the mistake by these words.
                let name = format!("{}:{}", key.algorithm, key.key_id);
                return Err(MatrixError::unknown(format!("One time key {name} already exists")));
            }
            _ => new.push(key),
        }
    }
    Ok(new)
}

/// Whether it is the same key. A client may have signed it again.
fn is_same(stored: &RawValue, new: &RawValue) -> bool {
    let bare = |json: &RawValue| {
        let mut key: Value = serde_json::from_str(json.get()).ok()?;
        if let Some(object) = key.as_object_mut() {
            object.remove("signatures");
        }
        Some(key)
    };
    let (stored, new) = (bare(stored), bare(new));
    stored.is_some() && stored == new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).expect("JSON")
    }

    #[test]
    fn keys_have_names() {
        assert!(named_key("signed_curve25519:AAAAHg", raw("{}")).is_ok());
        for name in ["", "curve", ":", "a:", ":b"] {
            assert!(named_key(name, raw("{}")).is_err(), "{name}");
        }
        assert!(named_key("a:b", raw("7")).is_err());
    }

    #[test]
    fn key_is_the_same_however_it_is_signed() {
        assert!(is_same(&raw(r#"{"key":"x","signatures":{"a":1}}"#), &raw(r#"{"signatures":{},"key":"x"}"#)));
        assert!(!is_same(&raw(r#"{"key":"x"}"#), &raw(r#"{"key":"y"}"#)));
        assert!(!is_same(&raw(r#""x""#), &raw(r#""y""#)));
    }
}
