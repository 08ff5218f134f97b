//! Claiming keys: each one-time key goes to one asker, whichever server they are of.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, join, stream};
use myelin_core::nid::UserNid;
use myelin_storage::encryption::one_time_keys::{self, Claim, ClaimedKey};
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedServerName, OwnedUserId, api::federation::keys::claim_keys,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::remote::{Failures, failure, too_late};
use crate::{accounts::now, app::App, error::MatrixError};

/// How many servers are asked at the same time for one request.
const AT_ONCE: usize = 16;

/// Which keys are wanted: of which devices, and of which algorithm.
pub type Wanted = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;

/// The keys of each device, by their names.
pub type Claimed = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>;

/// What a client is told of its claims.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    one_time_keys: Claimed,
    failures: Failures,
}

/// Claims keys of any devices, as far as their servers answer in time.
pub async fn claim(app: &App, wanted: &Wanted, wait: Duration) -> Result<Answered, MatrixError> {
    let (ours, theirs): (Wanted, Wanted) =
        wanted.clone().into_iter().partition(|(user, _)| app.is_ours(user.server_name()));
    let (local, (remote, failures)) = join!(local(app, &ours), ask(app, theirs, wait));
    let mut one_time_keys = local?;
    one_time_keys.extend(remote);
    Ok(Answered { one_time_keys, failures })
}

/// Asks the users' servers, one question each.
async fn ask(app: &App, wanted: Wanted, wait: Duration) -> (Claimed, Failures) {
    let mut by_server: BTreeMap<OwnedServerName, Wanted> = BTreeMap::new();
    for (user, devices) in wanted {
        by_server.entry(user.server_name().to_owned()).or_default().insert(user, devices);
    }
    let ask_one = async |(server, wanted): (OwnedServerName, Wanted)| {
        let request = claim_keys::v1::Request::new(wanted.clone());
        let answer = timeout(wait, app.remote.request(&server, request)).await;
        (server, wanted, answer)
    };
    let answers: Vec<_> = stream::iter(by_server).map(ask_one).buffer_unordered(AT_ONCE).collect().await;
    let (mut claimed, mut failures) = (Claimed::new(), Failures::new());
    for (server, wanted, answer) in answers {
        match answer {
            Ok(Ok(answer)) => claimed.extend(answered(answer, &wanted)),
            Ok(Err(error)) => drop(failures.insert(server, failure(&error))),
            Err(_) => drop(failures.insert(server, too_late())),
        }
    }
    (claimed, failures)
}

/// What a server answered about those that it was asked about.
fn answered(answer: claim_keys::v1::Response, wanted: &Wanted) -> Claimed {
    let mut claimed = Claimed::new();
    for (user, devices) in answer.one_time_keys {
        let Some(wanted) = wanted.get(&user) else { continue };
        let devices = devices.into_iter().filter(|(device_id, _)| wanted.contains_key(device_id));
        let devices = devices.map(|(device_id, keys)| {
            (device_id, keys.into_iter().map(|(name, key)| (name.to_string(), key.into_json())).collect())
        });
        claimed.insert(user, devices.collect());
    }
    claimed
}

/// Gives away a key of each of these devices of local users: a one-time key, or else the fallback key. Devices that
/// have neither are left out.
pub async fn local(app: &App, wanted: &Wanted) -> Result<Claimed, MatrixError> {
    if wanted.is_empty() {
        return Ok(Claimed::new());
    }
    let users: Vec<&OwnedUserId> = wanted.keys().collect();
    let nids = app.actors.nids.find_users(&users).await?;
    let nids: HashMap<UserNid, &OwnedUserId> =
        nids.into_iter().zip(users).filter_map(|(nid, user)| Some((nid?, user))).collect();
    let claims: Vec<Claim> = nids.iter().flat_map(|(nid, user)| claims_of(*nid, &wanted[*user])).collect();
    let db = app.storage.get().await?;
    let mut claimed = one_time_keys::claim(&db, &claims, now(app)).await?;
    let answered: HashSet<&Claim> = claimed.iter().map(|key| &key.claim).collect();
    let missing: Vec<Claim> = claims.into_iter().filter(|claim| !answered.contains(claim)).collect();
    if !missing.is_empty() {
        claimed.extend(one_time_keys::claim_fallback(&db, &missing).await?);
    }
    let mut keys = Claimed::new();
    for ClaimedKey { claim, key_id, key } in claimed {
        app.memory.sync.key_counts.forget(claim.user, &claim.device_id);
        app.actors.syncers.keys_given(claim.user, claim.device_id.clone());
        let Some(user) = nids.get(&claim.user) else { continue };
        let devices = keys.entry((*user).clone()).or_default();
        let name = format!("{}:{key_id}", claim.algorithm);
        devices.entry(claim.device_id).or_default().insert(name, key);
    }
    Ok(keys)
}

fn claims_of(
    user: UserNid,
    devices: &BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>,
) -> impl Iterator<Item = Claim> {
    devices.iter().map(move |(device_id, algorithm)| Claim {
        user,
        device_id: device_id.clone(),
        algorithm: algorithm.to_string(),
    })
}
