//! What a user publishes: the keys that sign their devices and other users.

use std::collections::HashMap;

use myelin_core::signed_key::{CrossSigningKey, KeyError};
use myelin_storage::{
    commit::{Announcement, Audience, Change, DeviceListChange, KeyWrite},
    devices,
    encryption::cross_signing::{self, StoredCrossSigningKey, Usage},
};
use ruma::api::client::keys::upload_signing_keys::v3::Request;

use super::{change, refused};
use crate::{app::App, error::MatrixError, sessions::User};

/// Cross-signing keys that a user wants to publish, found to be what they must be.
#[derive(Debug)]
pub struct Upload {
    /// Those that the user does not have yet.
    new: Vec<(Usage, CrossSigningKey)>,
    /// The user has a master key already.
    replaces: bool,
}

impl Upload {
    /// The user must prove who they are: keys would be replaced or added to those that there are. One who has none yet
    /// publishes freely, and who repeats themselves changes nothing.
    pub fn needs_proof(&self) -> bool {
        self.replaces && !self.new.is_empty()
    }
}

/// Checks the keys of a request.
pub async fn check(app: &App, user: &User, request: &Request) -> Result<Upload, MatrixError> {
    let parse = |usage, name, json: Option<&str>| {
        let key = json.map(|json| CrossSigningKey::parse(json, &user.id, name));
        Ok::<_, MatrixError>(key.transpose().map_err(|error| refused(&error))?.map(|key| (usage, key)))
    };
    let json = |raw: &Option<ruma::serde::Raw<_>>| raw.as_ref().map(|raw| raw.json().get().to_owned());
    let master = parse(Usage::Master, "master", json(&request.master_key).as_deref())?;
    let self_signing = parse(Usage::SelfSigning, "self_signing", json(&request.self_signing_key).as_deref())?;
    let user_signing = parse(Usage::UserSigning, "user_signing", json(&request.user_signing_key).as_deref())?;
    let db = app.storage.get().await?;
    let stored: HashMap<Usage, StoredCrossSigningKey> =
        cross_signing::list(&db, &[user.nid]).await?.into_iter().map(|key| (key.usage, key)).collect();
    let stored_master = stored.get(&Usage::Master);
    let stored_master = stored_master.map(|key| CrossSigningKey::parse(key.key.get(), &user.id, "master"));
    let stored_master = stored_master.transpose().map_err(|error| refused(&error))?;
    let others: Vec<_> = self_signing.into_iter().chain(user_signing).collect();
    let of_master = master.as_ref().map(|(_, key)| key).or(stored_master.as_ref());
    let Some(of_master) = of_master else {
        return Err(MatrixError::missing_param("there is no master key"));
    };
    if others.iter().any(|(_, key)| !of_master.signs(&user.id, &key.key)) {
        return Err(refused(&KeyError::Signature("a key is not signed by the master key")));
    }
    let keys: Vec<(Usage, CrossSigningKey)> = master.into_iter().chain(others).collect();
    let own_devices = devices::list(&db, &[user.nid]).await?;
    let names_device = |key: &CrossSigningKey| own_devices.iter().any(|own| own.device_id == *key.public_key);
    if keys.iter().any(|(_, key)| names_device(key)) {
        return Err(MatrixError::forbidden("a key has the name of a device"));
    }
    let is_new = |(usage, key): &(Usage, CrossSigningKey)| {
        stored.get(usage).is_none_or(|stored| stored.public_key != key.public_key)
    };
    Ok(Upload { new: keys.into_iter().filter(is_new).collect(), replaces: stored_master.is_some() })
}

/// Publishes what is new. A key that signs other users concerns nobody but its owner.
pub async fn publish(app: &App, user: &User, upload: Upload) -> Result<(), MatrixError> {
    if upload.new.is_empty() {
        return Ok(());
    }
    let is_seen = upload.new.iter().any(|(usage, _)| *usage != Usage::UserSigning);
    let write = |(usage, key): (Usage, CrossSigningKey)| {
        KeyWrite::CrossSigningKey(usage, key.public_key, key.key.to_json())
    };
    let writes = upload.new.into_iter().map(write).collect();
    if is_seen {
        return change(app, user.nid, writes, vec![Announcement::SigningKeys]).await;
    }
    let audience = Audience::Only(user.nid);
    let change = DeviceListChange { user: user.nid, audience, writes, announcements: Vec::new() };
    app.actors.journal.write(Change::DeviceList(change)).await?;
    Ok(())
}
