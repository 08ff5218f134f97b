//! Device lists of other servers' users: kept as their servers tell of changes, and fetched when something was missed.
//!
//! An update names the one before it. One that follows what is stored is applied; after a gap the list is fetched
//! again, in the background and until that succeeds. Whatever happens to one user's list happens in turn.
//! [`under_way`]: whose list is changed or fetched, and which servers are left alone for a while.

pub mod under_way;

use std::time::Duration;

use futures::{StreamExt, stream};
use myelin_actors::remote::RemoteError;
use myelin_core::{nid::UserNid, signed_key::CrossSigningKey};
use myelin_storage::{
    commit::{Audience, Change, DeviceListChange, KeyWrite, NewRemoteDevice, RemoteWrite},
    encryption::{cross_signing::Usage, device_lists, remote_devices},
};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::{
    app::App,
    error::{Chain, MatrixError},
};

/// How many devices of one user are kept.
const MAX_DEVICES: usize = 5_000;
/// How long the id of a device may be.
const MAX_DEVICE_ID: usize = 255;
/// How many lists are fetched at the same time in the background.
const AT_ONCE: usize = 8;
/// How many lists are looked at together.
const PAGE: usize = 200;
/// How often lists that could not be fetched are looked at.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Why a list could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Its server did not answer as it should.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It could not be stored.
    #[error(transparent)]
    Local(#[from] MatrixError),
}

/// An `m.device_list_update`.
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceUpdate {
    /// Whose device.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Its name.
    pub device_display_name: Option<String>,
    /// This update.
    pub stream_id: i64,
    /// The updates that it follows.
    #[serde(default)]
    pub prev_id: Vec<i64>,
    /// The device is gone.
    #[serde(default)]
    pub deleted: bool,
    /// Its keys.
    pub keys: Option<Box<RawValue>>,
}

/// An `m.signing_key_update`.
#[derive(Clone, Debug, Deserialize)]
pub struct SigningKeyUpdate {
    /// Whose keys.
    pub user_id: OwnedUserId,
    /// The master key.
    pub master_key: Option<Box<RawValue>>,
    /// The key that signs devices.
    pub self_signing_key: Option<Box<RawValue>>,
}

/// The answer to `GET /user/devices/{userId}`.
#[derive(Debug, Deserialize)]
struct Answer {
    user_id: OwnedUserId,
    stream_id: i64,
    devices: Vec<AnsweredDevice>,
    master_key: Option<Box<RawValue>>,
    self_signing_key: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct AnsweredDevice {
    device_id: OwnedDeviceId,
    device_display_name: Option<String>,
    keys: Option<Box<RawValue>>,
}

/// Fetches the list of a user who shares a room with one of ours, unless it is current. Whoever asks for the same user
/// meanwhile waits for the one answer.
pub async fn refresh(app: &App, user_id: &UserId) -> Result<(), RefreshError> {
    let nid = app.actors.nids.intern_users(&[user_id]).await.map_err(MatrixError::from)?[0];
    let turn = app.memory.device_lists.turn(nid);
    let _turn = turn.lock().await;
    let db = app.storage.get().await.map_err(MatrixError::from)?;
    let lists = remote_devices::lists(&db, &[nid]).await.map_err(MatrixError::from)?;
    drop(db);
    if lists.iter().any(remote_devices::RemoteList::is_current) {
        return Ok(());
    }
    let fetching = app.memory.device_lists.fetch(nid);
    // What is shared now is what the other server will tell of.
    let fetched = app.actors.journal.position();
    let answer = app.actors.remote.user_devices(user_id.server_name(), user_id).await?;
    let answer: Answer =
        serde_json::from_str(answer.get()).map_err(|error| RemoteError::Invalid(error.to_string()))?;
    if answer.user_id != *user_id || answer.devices.len() > MAX_DEVICES {
        return Err(RemoteError::Invalid("this is not the list that was asked for".to_owned()).into());
    }
    let devices = answer.devices.into_iter().filter(|device| can_be_kept(&device.device_id));
    let devices = devices.map(|device| NewRemoteDevice {
        device_id: device.device_id,
        display_name: device.device_display_name,
        keys: device.keys.filter(|keys| is_object(keys)),
    });
    let devices = devices.collect();
    let replace = RemoteWrite::Replace { stream_id: answer.stream_id, fetched, devices };
    let mut writes = vec![KeyWrite::Remote(replace)];
    writes.extend(cross_signing(user_id, Usage::Master, answer.master_key.as_deref()));
    writes.extend(cross_signing(user_id, Usage::SelfSigning, answer.self_signing_key.as_deref()));
    tell(app, nid, writes).await?;
    app.memory.device_lists.end_pause(user_id);
    if fetching.missed() > answer.stream_id {
        mark_stale(app, nid).await?;
    }
    Ok(())
}

/// Whether a device has an id of a length that ids have.
fn can_be_kept(device_id: &DeviceId) -> bool {
    device_id.as_str().len() <= MAX_DEVICE_ID
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

fn cross_signing(user_id: &UserId, usage: Usage, key: Option<&RawValue>) -> Option<KeyWrite> {
    let name = match usage {
        Usage::Master => "master",
        Usage::SelfSigning => "self_signing",
        Usage::UserSigning => return None,
    };
    let parsed = CrossSigningKey::parse(key?.get(), user_id, name).ok()?;
    Some(KeyWrite::CrossSigningKey(usage, parsed.public_key, key?.to_owned()))
}

/// Writes what another server told, and tells our users who share a room with that one.
async fn tell(app: &App, user: UserNid, writes: Vec<KeyWrite>) -> Result<(), MatrixError> {
    super::change(app, user, writes, Vec::new()).await
}

async fn mark_stale(app: &App, user: UserNid) -> Result<(), MatrixError> {
    let writes = vec![KeyWrite::Remote(RemoteWrite::Stale)];
    let change = DeviceListChange { user, audience: Audience::Nobody, writes, announcements: Vec::new() };
    app.actors.journal.write(Change::DeviceList(change)).await?;
    app.memory.device_lists.stale.notify_one();
    Ok(())
}

/// Takes an update of a device, from the user's server.
pub async fn receive_update(app: &App, update: DeviceUpdate) -> Result<(), MatrixError> {
    let Some(nid) = followed(app, &update.user_id).await? else { return Ok(()) };
    app.memory.device_lists.end_pause(&update.user_id);
    // Who sends it is not kept waiting for an answer of their own.
    if app.memory.device_lists.note_missed(nid, update.stream_id) {
        return Ok(());
    }
    let turn = app.memory.device_lists.turn(nid);
    let _turn = turn.lock().await;
    let list = remote_devices::lists(&app.storage.get().await?, &[nid]).await?.pop();
    let Some(list) = list.filter(remote_devices::RemoteList::is_current) else {
        return if is_worth_fetching(app, nid).await? {
            mark_stale(app, nid).await
        } else {
            tell(app, nid, Vec::new()).await
        };
    };
    if update.stream_id == list.stream_id {
        return Ok(());
    }
    // An older one may be late. Or the server begins anew, and what is stored here is not true any more.
    if !follows(&update.prev_id, list.stream_id) || !can_be_kept(&update.device_id) {
        return mark_stale(app, nid).await;
    }
    let stream_id = update.stream_id;
    let write = if update.deleted {
        RemoteWrite::Delete { stream_id, device_id: update.device_id }
    } else {
        let device = NewRemoteDevice {
            device_id: update.device_id,
            display_name: update.device_display_name,
            keys: update.keys.filter(|keys| is_object(keys)),
        };
        RemoteWrite::Update { stream_id, device }
    };
    tell(app, nid, vec![KeyWrite::Remote(write)]).await
}

/// Whether an update that names these before it comes right after that one. The first of all names none.
fn follows(previous: &[i64], last: i64) -> bool {
    let is_first = previous.is_empty() && last == 0;
    is_first || previous.contains(&last) && previous.iter().all(|previous| *previous <= last)
}

/// Takes new cross-signing keys of a user, from their server.
pub async fn receive_signing_keys(app: &App, update: SigningKeyUpdate) -> Result<(), MatrixError> {
    let Some(nid) = followed(app, &update.user_id).await? else { return Ok(()) };
    if app.memory.device_lists.note_missed(nid, i64::MAX) {
        return Ok(());
    }
    let turn = app.memory.device_lists.turn(nid);
    let _turn = turn.lock().await;
    let mut writes = Vec::new();
    writes.extend(cross_signing(&update.user_id, Usage::Master, update.master_key.as_deref()));
    writes.extend(cross_signing(&update.user_id, Usage::SelfSigning, update.self_signing_key.as_deref()));
    tell(app, nid, writes).await
}

/// The user's number, if they share a room with one of ours.
async fn followed(app: &App, user: &OwnedUserId) -> Result<Option<UserNid>, MatrixError> {
    let Some(Some(nid)) = app.actors.nids.find_users(&[user]).await?.pop() else { return Ok(None) };
    let shared = remote_devices::shared(&app.storage.get().await?, &[nid]).await?;
    Ok(shared.first().copied())
}

/// Our users may need the list: they share a room with the user that is encrypted, or small enough to become so.
async fn is_worth_fetching(app: &App, user: UserNid) -> Result<bool, MatrixError> {
    let rooms = device_lists::rooms_of(&app.storage.get().await?, user).await?;
    let views = app.actors.rooms.views(&rooms).await?;
    Ok(views.values().any(|view| crate::sync::device_lists::is_told_whole(view)))
}

/// Fetches lists that are stale, as long as the server runs.
pub async fn keep_current(app: App) {
    loop {
        tokio::select! {
            () = app.memory.device_lists.stale.notified() => {}
            () = sleep(RETRY_EVERY) => {}
        }
        if let Err(error) = refresh_stale(&app).await {
            warn!(error = %Chain(&error), "stale device lists cannot be read");
        }
    }
}

async fn refresh_stale(app: &App) -> Result<(), MatrixError> {
    let mut after = None;
    loop {
        let page = remote_devices::stale(&app.storage.get().await?, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(*last);
        let users = app.actors.nids.user_ids(&page).await?;
        stream::iter(users).for_each_concurrent(AT_ONCE, |user| refresh_one(app, user)).await;
    }
}

async fn refresh_one(app: &App, user: OwnedUserId) {
    let now_ms = app.process.clock.now_ms();
    if app.memory.device_lists.is_paused(&user, now_ms) {
        return;
    }
    if let Err(error) = refresh(app, &user).await {
        debug!(user.id = %user, error = %Chain(&error), "a device list cannot be fetched");
        app.memory.device_lists.pause(&user, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_follows_the_one_before_it() {
        for (previous, last, expected) in [
            (&[5][..], 5, true),
            (&[3, 5], 5, true),
            (&[4], 5, false),
            (&[5, 6], 5, false),
            (&[], 5, false),
            (&[], 0, true),
        ] {
            assert_eq!(follows(previous, last), expected, "{previous:?} {last}");
        }
    }
}
