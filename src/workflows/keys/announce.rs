//! Tells other servers of changes to our users' devices and keys.
//!
//! A change leaves a note in the transaction that makes it. Here notes become messages to the servers of those who share
//! a room with the user, in order; a message is queued for them before its note is removed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{
    commit::{Announcement, Audience, Change, DeviceListChange, OutgoingEdu},
    devices,
    encryption::{
        device_keys,
        device_lists::{self, OutboxEntry},
    },
};
use ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, UserId};
use serde_json::{Value, json, value::to_raw_value};
use tokio::time::sleep;
use tracing::warn;

use super::query::{self, Keys};
use crate::{
    app::App,
    error::{Chain, MatrixError},
};

/// How many notes are worked on together.
const PAGE: usize = 100;
/// How often it is tried again when something failed.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Works on notes as long as the server runs, those that were left when it last stopped first.
pub async fn keep_announcing(app: App) {
    loop {
        if let Err(error) = announce_all(&app).await {
            warn!(error = %Chain(&error), "changes of devices cannot be announced");
        }
        tokio::select! {
            () = app.memory.device_lists.announcements.notified() => {}
            () = sleep(RETRY_EVERY) => {}
        }
    }
}

/// All devices of a local user with keys, as another server is told that asks; `None`: there is no such user.
pub async fn device_list(app: &App, user_id: &UserId) -> Result<Option<Value>, MatrixError> {
    let Some(Some(nid)) = app.actors.nids.find_users(&[user_id]).await?.pop() else { return Ok(None) };
    // What changes after the stream was read is told again by an update.
    let stream_id = device_lists::stream_of(&app.storage.get().await?, nid).await?;
    let mut keys = query::local(app, None, &[(user_id.to_owned(), Vec::new())].into()).await?;
    let Some(devices) = keys.device_keys.remove(user_id) else { return Ok(None) };
    let devices =
        devices.into_iter().map(|(device_id, keys)| json!({ "device_id": device_id, "keys": keys }));
    let devices: Vec<Value> = devices.collect();
    let mut list = json!({ "user_id": user_id, "stream_id": stream_id.0, "devices": devices });
    if let Some(key) = keys.master_keys.remove(user_id) {
        list["master_key"] = key;
    }
    if let Some(key) = keys.self_signing_keys.remove(user_id) {
        list["self_signing_key"] = key;
    }
    Ok(Some(list))
}

/// A local user has come into a room: servers that hear of their devices for the first time are told which there are.
pub async fn entered(app: &App, user: UserNid, room: &RoomView) -> Result<(), MatrixError> {
    if room.servers.keys().all(|server| app.is_ours(server)) {
        return Ok(());
    }
    let db = app.storage.get().await?;
    let mut others = device_lists::rooms_of(&db, user).await?;
    others.retain(|other| *other != room.nid);
    let devices = device_keys::list(&db, &[user]).await?;
    drop(db);
    let views = app.actors.rooms.views(&others).await?;
    let is_told = |server: &OwnedServerName| {
        app.is_ours(server) || views.values().any(|view| view.servers.contains_key(server))
    };
    if devices.is_empty() || room.servers.keys().all(is_told) {
        return Ok(());
    }
    let announcements = devices.into_iter().map(|device| Announcement::Device(device.device_id)).collect();
    let audience = Audience::Nobody;
    let change = DeviceListChange { user, audience, writes: Vec::new(), announcements };
    app.actors.journal.write(Change::DeviceList(change)).await?;
    app.memory.device_lists.announcements.notify_one();
    Ok(())
}

async fn announce_all(app: &App) -> Result<(), MatrixError> {
    loop {
        let entries = device_lists::outbox(&app.storage.get().await?, Position::START, PAGE).await?;
        if entries.is_empty() {
            return Ok(());
        }
        announce(app, &entries).await?;
        let positions: Vec<Position> = entries.iter().map(|entry| entry.position).collect();
        device_lists::remove_from_outbox(&app.storage.get().await?, &positions).await?;
    }
}

/// What messages are made of, for all users of some notes.
struct Known {
    user_ids: HashMap<UserNid, OwnedUserId>,
    servers: HashMap<UserNid, HashSet<OwnedServerName>>,
    /// The names of all devices that there are.
    devices: HashMap<(UserNid, OwnedDeviceId), Option<String>>,
    keys: Keys,
}

async fn announce(app: &App, entries: &[OutboxEntry]) -> Result<(), MatrixError> {
    let known = load(app, entries).await?;
    for entry in entries {
        let servers = known.servers.get(&entry.user);
        let servers: Vec<OwnedServerName> = servers.into_iter().flatten().cloned().collect();
        let Some(user_id) = known.user_ids.get(&entry.user).filter(|_| !servers.is_empty()) else { continue };
        let (edu_type, content) = match &entry.device_id {
            Some(device_id) => ("m.device_list_update", known.device_update(entry, user_id, device_id)),
            None => ("m.signing_key_update", known.signing_key_update(user_id)),
        };
        let content = to_raw_value(&content).map_err(MatrixError::internal)?;
        let edu = OutgoingEdu { servers, edu_type: edu_type.to_owned(), content };
        app.actors.journal.write(Change::Outgoing(edu)).await?;
    }
    Ok(())
}

async fn load(app: &App, entries: &[OutboxEntry]) -> Result<Known, MatrixError> {
    let users: HashSet<UserNid> = entries.iter().map(|entry| entry.user).collect();
    let users: Vec<UserNid> = users.into_iter().collect();
    let user_ids: HashMap<UserNid, OwnedUserId> =
        users.iter().copied().zip(app.actors.nids.user_ids(&users).await?).collect();
    let servers = servers_of(app, &users).await?;
    let stored = devices::list(&app.storage.get().await?, &users).await?;
    let devices = stored.into_iter().map(|device| ((device.user, device.device_id), device.display_name));
    let wanted = user_ids.values().map(|user_id| (user_id.clone(), Vec::new())).collect();
    let keys = query::local(app, None, &wanted).await?;
    Ok(Known { user_ids, servers, devices: devices.collect(), keys })
}

/// The other servers of those who share a room with each of the users.
async fn servers_of(
    app: &App,
    users: &[UserNid],
) -> Result<HashMap<UserNid, HashSet<OwnedServerName>>, MatrixError> {
    let entered = device_lists::rooms_of_users(&app.storage.get().await?, users).await?;
    let rooms: HashSet<RoomNid> = entered.iter().map(|(_, room)| *room).collect();
    let rooms: Vec<RoomNid> = rooms.into_iter().collect();
    let views = app.actors.rooms.views(&rooms).await?;
    let mut servers: HashMap<UserNid, HashSet<OwnedServerName>> = HashMap::new();
    for (user, room) in entered {
        let there = views.get(&room).into_iter().flat_map(|view| view.servers.keys());
        servers.entry(user).or_default().extend(there.filter(|server| !app.is_ours(server)).cloned());
    }
    Ok(servers)
}

impl Known {
    fn device_update(&self, entry: &OutboxEntry, user_id: &OwnedUserId, device_id: &OwnedDeviceId) -> Value {
        let previous: Vec<i64> = entry.previous.iter().map(|position| position.0).collect();
        let mut content = json!({
            "user_id": user_id,
            "device_id": device_id,
            "stream_id": entry.position.0,
            "prev_id": previous,
        });
        if !self.devices.contains_key(&(entry.user, device_id.clone())) {
            content["deleted"] = true.into();
            return content;
        }
        let of_user: Option<&BTreeMap<OwnedDeviceId, Value>> = self.keys.device_keys.get(user_id);
        if let Some(keys) = of_user.and_then(|devices| devices.get(device_id)) {
            content["keys"] = keys.clone();
        }
        content
    }

    fn signing_key_update(&self, user_id: &OwnedUserId) -> Value {
        let mut content = json!({ "user_id": user_id });
        if let Some(key) = self.keys.master_keys.get(user_id) {
            content["master_key"] = key.clone();
        }
        if let Some(key) = self.keys.self_signing_keys.get(user_id) {
            content["self_signing_key"] = key.clone();
        }
        content
    }
}
