//! Keys of other servers' users, for our users: from the cache where that is followed, else from their servers.
//!
//! A user who shares a room with one of ours is fetched into the cache, and their server tells of changes from then on.
//! Others are only asked about.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use myelin_actors::remote::RemoteError;
use myelin_core::nid::UserNid;
use myelin_storage::encryption::{cross_signing, cross_signing::Usage, remote_devices};
use ruma::{
    OwnedServerName, OwnedUserId, api::federation::keys::get_keys, encryption::CrossSigningKey, serde::Raw,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::timeout;

use super::{
    lists::{self, RefreshError},
    query::{DeviceOfUser, KeysOfUser, Wanted},
};
use crate::{app::App, error::MatrixError};

/// How many servers or users are asked about at the same time for one request.
const AT_ONCE: usize = 16;
/// How many users of one server are fetched for one request. Of more than that, one question is asked about all.
const FETCHED: usize = 20;

/// Servers that could not be asked, and why.
pub type Failures = BTreeMap<OwnedServerName, Value>;

/// What is told of a server that did not answer.
pub(super) fn failure(error: &RemoteError) -> Value {
    let message = match error {
        RemoteError::Unreachable(_) => "the server cannot be reached",
        RemoteError::Refused { .. } => "the server refused to answer",
        RemoteError::Invalid(_) => "the server's answer cannot be used",
        RemoteError::NotAllowed(_) => "this server does not talk to that one",
    };
    json!({ "errcode": "M_UNAVAILABLE", "error": message })
}

/// A server that took too long.
pub(super) fn too_late() -> Value {
    json!({ "errcode": "M_UNAVAILABLE", "error": "the server did not answer in time" })
}

/// The keys of other servers' users, and the servers that could not be asked.
pub(super) async fn find(
    app: &App,
    wanted: &Wanted,
    wait: Duration,
) -> Result<(Vec<KeysOfUser>, Failures), MatrixError> {
    if wanted.is_empty() {
        return Ok((Vec::new(), Failures::new()));
    }
    let users: Vec<&OwnedUserId> = wanted.keys().collect();
    let nids = app.actors.nids.find_users(&users).await?;
    let nids: BTreeMap<&OwnedUserId, UserNid> =
        users.into_iter().zip(nids).filter_map(|(user, nid)| Some((user, nid?))).collect();
    let fetchable = fetchable(app, &nids).await?;
    let (mut failures, mut cached) = (Failures::new(), fetchable.current);
    for (user, fetched) in fetch(app, fetchable.missing, wait).await {
        match fetched {
            Ok(()) => cached.extend(nids.get(&user)),
            Err(failure) => drop(failures.insert(user.server_name().to_owned(), failure)),
        }
    }
    let mut found = read(app, &nids, &cached).await?;
    let is_open = |user: &OwnedUserId| {
        let is_cached = nids.get(user).is_some_and(|nid| cached.contains(nid));
        !is_cached && !failures.contains_key(user.server_name())
    };
    let open = wanted.iter().filter(|(user, _)| is_open(user));
    let (asked, failed) = ask(app, open, &nids, wait).await;
    found.extend(asked);
    failures.extend(failed);
    Ok((found, failures))
}

/// Who can be answered from the cache.
#[derive(Default)]
struct Fetchable {
    /// At once.
    current: HashSet<UserNid>,
    /// After it was filled.
    missing: Vec<OwnedUserId>,
}

async fn fetchable(app: &App, nids: &BTreeMap<&OwnedUserId, UserNid>) -> Result<Fetchable, MatrixError> {
    let db = app.storage.get().await?;
    let all: Vec<UserNid> = nids.values().copied().collect();
    let lists = remote_devices::lists(&db, &all).await?;
    let current: HashSet<UserNid> =
        lists.iter().filter(|list| list.is_current()).map(|list| list.user).collect();
    let others: Vec<UserNid> = all.into_iter().filter(|nid| !current.contains(nid)).collect();
    if others.is_empty() {
        return Ok(Fetchable { current, missing: Vec::new() });
    }
    let shared: HashSet<UserNid> = remote_devices::shared(&db, &others).await?.into_iter().collect();
    let mut by_server: HashMap<OwnedServerName, Vec<OwnedUserId>> = HashMap::new();
    for (user, nid) in nids {
        if shared.contains(nid) {
            by_server.entry(user.server_name().to_owned()).or_default().push((*user).clone());
        }
    }
    let missing = by_server.into_values().filter(|users| users.len() <= FETCHED).flatten().collect();
    Ok(Fetchable { current, missing })
}

async fn fetch(app: &App, users: Vec<OwnedUserId>, wait: Duration) -> Vec<(OwnedUserId, Result<(), Value>)> {
    let fetch_one = async |user: OwnedUserId| {
        let fetched = match timeout(wait, lists::refresh(app, &user)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(RefreshError::Remote(error))) => Err(failure(&error)),
            Ok(Err(RefreshError::Local(_))) => Err(json!({ "errcode": "M_UNKNOWN" })),
            Err(_) => Err(too_late()),
        };
        (user, fetched)
    };
    stream::iter(users).map(fetch_one).buffer_unordered(AT_ONCE).collect().await
}

/// What the cache has of these users.
async fn read(
    app: &App,
    nids: &BTreeMap<&OwnedUserId, UserNid>,
    cached: &HashSet<UserNid>,
) -> Result<Vec<KeysOfUser>, MatrixError> {
    let all: Vec<UserNid> = cached.iter().copied().collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let of_users = nids.iter().filter(|(_, nid)| cached.contains(nid));
    let mut found: HashMap<UserNid, KeysOfUser> =
        of_users.map(|(user, nid)| (*nid, KeysOfUser::nothing_of((*user).clone(), Some(*nid)))).collect();
    let db = app.storage.get().await?;
    for device in remote_devices::devices(&db, &all).await? {
        if let (Some(of_user), Some(keys)) = (found.get_mut(&device.user), device.keys) {
            let (device_id, display_name) = (device.device_id, device.display_name);
            of_user.devices.push(DeviceOfUser { device_id, keys, display_name });
        }
    }
    for stored in cross_signing::list(&db, &all).await? {
        if let Some(of_user) = found.get_mut(&stored.user) {
            of_user.cross_signing.push((stored.usage, stored.key));
        }
    }
    Ok(found.into_values().collect())
}

/// Asks the users' servers, one question each.
async fn ask<'w>(
    app: &App,
    wanted: impl Iterator<Item = (&'w OwnedUserId, &'w Vec<ruma::OwnedDeviceId>)>,
    nids: &BTreeMap<&OwnedUserId, UserNid>,
    wait: Duration,
) -> (Vec<KeysOfUser>, Failures) {
    let mut by_server: BTreeMap<OwnedServerName, Wanted> = BTreeMap::new();
    for (user, devices) in wanted {
        let of_server = by_server.entry(user.server_name().to_owned()).or_default();
        of_server.insert(user.clone(), devices.clone());
    }
    let ask_one = async |(server, wanted): (OwnedServerName, Wanted)| {
        let request = get_keys::v1::Request::new(wanted.clone());
        let answer = timeout(wait, app.remote.request(&server, request)).await;
        (server, wanted, answer)
    };
    let answers: Vec<_> = stream::iter(by_server).map(ask_one).buffer_unordered(AT_ONCE).collect().await;
    let (mut found, mut failures) = (Vec::new(), Failures::new());
    for (server, wanted, answer) in answers {
        match answer {
            Ok(Ok(answer)) => found.extend(answered(answer, &wanted, nids)),
            Ok(Err(error)) => drop(failures.insert(server, failure(&error))),
            Err(_) => drop(failures.insert(server, too_late())),
        }
    }
    (found, failures)
}

/// What a server answered about those that it was asked about.
fn answered(
    mut answer: get_keys::v1::Response,
    wanted: &Wanted,
    nids: &BTreeMap<&OwnedUserId, UserNid>,
) -> Vec<KeysOfUser> {
    let key = |key: Option<Raw<CrossSigningKey>>| key.map(Raw::into_json);
    let users = wanted.keys().filter_map(|user| {
        let devices = answer.device_keys.remove(user);
        let master = key(answer.master_keys.remove(user));
        let self_signing = key(answer.self_signing_keys.remove(user));
        if devices.is_none() && master.is_none() && self_signing.is_none() {
            return None;
        }
        let devices = devices.into_iter().flatten().map(|(device_id, keys)| {
            let keys = keys.into_json();
            DeviceOfUser { device_id, display_name: display_name(&keys), keys }
        });
        let mut of_user = KeysOfUser::nothing_of(user.clone(), nids.get(user).copied());
        of_user.devices.extend(devices);
        of_user.cross_signing.extend(master.map(|key| (Usage::Master, key)));
        of_user.cross_signing.extend(self_signing.map(|key| (Usage::SelfSigning, key)));
        Some(of_user)
    });
    users.collect()
}

fn display_name(keys: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Keys {
        unsigned: Unsigned,
    }
    #[derive(Deserialize)]
    struct Unsigned {
        device_display_name: Option<String>,
    }
    serde_json::from_str::<Keys>(keys.get()).ok()?.unsigned.device_display_name
}
