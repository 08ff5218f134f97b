//! Whose keys are what, as far as the one who asks may see it.
//!
//! A key is told with the signatures that its owner has made, and those that the asker has: nobody learns from us whom
//! else somebody trusts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use myelin_core::nid::UserNid;
use myelin_storage::{
    accounts,
    encryption::{
        cross_signing::{self, KeySignature, Usage},
        device_keys,
    },
};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::remote::{self, Failures};
use crate::{app::App, error::MatrixError, sessions::User};

/// Whose keys are wanted: of which devices; none named: of all.
pub type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// What is known of users' keys, as clients and servers are told.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Keys {
    /// Identity keys of devices. Users who have none are there, whether or not they exist:
    /// clients ask again and again for whom they are told nothing of.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Value>>,
    /// Master keys.
    pub master_keys: BTreeMap<OwnedUserId, Value>,
    /// Keys that sign devices.
    pub self_signing_keys: BTreeMap<OwnedUserId, Value>,
    /// The asker's own key that signs other users.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_signing_keys: BTreeMap<OwnedUserId, Value>,
}

/// The keys of one user, before it is decided what of them is seen.
#[derive(Debug)]
pub(super) struct KeysOfUser {
    pub user_id: OwnedUserId,
    pub nid: Option<UserNid>,
    pub devices: Vec<DeviceOfUser>,
    pub cross_signing: Vec<(Usage, Box<RawValue>)>,
}

/// A device with its keys.
#[derive(Debug)]
pub(super) struct DeviceOfUser {
    pub device_id: OwnedDeviceId,
    pub keys: Box<RawValue>,
    pub display_name: Option<String>,
}

/// What a client is told of its query.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    #[serde(flatten)]
    keys: Keys,
    failures: Failures,
}

impl KeysOfUser {
    pub(super) fn nothing_of(user_id: OwnedUserId, nid: Option<UserNid>) -> Self {
        Self { user_id, nid, devices: Vec::new(), cross_signing: Vec::new() }
    }
}

/// The keys of any users, as far as their servers answer in time.
pub async fn query(
    app: &App,
    viewer: &User,
    wanted: &Wanted,
    wait: Duration,
) -> Result<Answered, MatrixError> {
    let (ours, theirs): (Wanted, Wanted) =
        wanted.clone().into_iter().partition(|(user, _)| app.is_ours(user.server_name()));
    let mut found = find_local(app, &ours).await?;
    let (remote, failures) = remote::find(app, &theirs, wait).await?;
    found.extend(remote);
    Ok(Answered { keys: show(app, Some(viewer), wanted, found).await?, failures })
}

/// The keys of local users. `viewer` is who asks; `None`: another server.
pub async fn local(app: &App, viewer: Option<&User>, wanted: &Wanted) -> Result<Keys, MatrixError> {
    let found = find_local(app, wanted).await?;
    show(app, viewer, wanted, found).await
}

pub(super) async fn find_local(app: &App, wanted: &Wanted) -> Result<Vec<KeysOfUser>, MatrixError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let users: Vec<&OwnedUserId> = wanted.keys().collect();
    let nids: Vec<UserNid> = app.actors.nids.find_users(&users).await?.into_iter().flatten().collect();
    let db = app.storage.get().await?;
    let accounts = accounts::list(&db, &nids).await?;
    let active = accounts.into_iter().filter(|account| !account.marks.is_deactivated);
    let mut found: HashMap<UserNid, KeysOfUser> = active
        .map(|account| (account.nid, KeysOfUser::nothing_of(account.user_id, Some(account.nid))))
        .collect();
    for stored in device_keys::list(&db, &nids).await? {
        if let Some(of_user) = found.get_mut(&stored.user) {
            of_user.devices.push(DeviceOfUser {
                device_id: stored.device_id,
                keys: stored.keys,
                display_name: stored.display_name,
            });
        }
    }
    for stored in cross_signing::list(&db, &nids).await? {
        if let Some(of_user) = found.get_mut(&stored.user) {
            of_user.cross_signing.push((stored.usage, stored.key));
        }
    }
    let known: HashSet<OwnedUserId> = found.values().map(|keys| keys.user_id.clone()).collect();
    let unknown = wanted.keys().filter(|user| !known.contains(*user));
    let unknown: Vec<KeysOfUser> = unknown.map(|user| KeysOfUser::nothing_of(user.clone(), None)).collect();
    Ok(found.into_values().chain(unknown).collect())
}

/// What the viewer may see of what was found.
pub(super) async fn show(
    app: &App,
    viewer: Option<&User>,
    wanted: &Wanted,
    found: Vec<KeysOfUser>,
) -> Result<Keys, MatrixError> {
    let nids: Vec<UserNid> = found.iter().filter_map(|keys| keys.nid).collect();
    let viewer_nid = viewer.map(|viewer| viewer.nid);
    let stored = cross_signing::signatures(&app.storage.get().await?, &nids, viewer_nid).await?;
    let mut signatures: HashMap<UserNid, Vec<KeySignature>> = HashMap::new();
    for signature in stored {
        signatures.entry(signature.target).or_default().push(signature);
    }
    let mut keys = Keys::default();
    for of_user in found {
        let added = of_user.nid.and_then(|nid| signatures.remove(&nid)).unwrap_or_default();
        let view = View { owner: &of_user.user_id, viewer, added };
        let devices = wanted.get(&of_user.user_id).filter(|devices| !devices.is_empty());
        let is_wanted =
            |device: &&DeviceOfUser| devices.is_none_or(|wanted| wanted.contains(&device.device_id));
        let shown = of_user.devices.iter().filter(is_wanted);
        let shown = shown.filter_map(|device| Some((device.device_id.clone(), view.device(device)?)));
        keys.device_keys.insert(of_user.user_id.clone(), shown.collect());
        for (usage, key) in &of_user.cross_signing {
            let section = match usage {
                Usage::Master => &mut keys.master_keys,
                Usage::SelfSigning => &mut keys.self_signing_keys,
                Usage::UserSigning if view.is_own() => &mut keys.user_signing_keys,
                Usage::UserSigning => continue,
            };
            section.extend(view.cross_signing(key).map(|key| (of_user.user_id.clone(), key)));
        }
    }
    Ok(keys)
}

/// One user's keys, as someone sees them.
struct View<'a> {
    owner: &'a UserId,
    viewer: Option<&'a User>,
    /// Signatures that were added after the upload, by the owner or the viewer.
    added: Vec<KeySignature>,
}

impl View<'_> {
    fn is_own(&self) -> bool {
        self.viewer.is_some_and(|viewer| viewer.id == self.owner)
    }

    fn device(&self, device: &DeviceOfUser) -> Option<Value> {
        let mut key: Map<String, Value> = serde_json::from_str(device.keys.get()).ok()?;
        self.sign(&mut key, device.device_id.as_str());
        // Other servers' users need not know what somebody calls their devices.
        let name = device.display_name.as_ref().filter(|_| self.viewer.is_some());
        let unsigned = name.map_or_else(|| json!({}), |name| json!({ "device_display_name": name }));
        key.insert("unsigned".to_owned(), unsigned);
        Some(key.into())
    }

    fn cross_signing(&self, key: &RawValue) -> Option<Value> {
        let mut key: Map<String, Value> = serde_json::from_str(key.get()).ok()?;
        let public_key = key.get("keys")?.as_object()?.values().next()?.as_str()?.to_owned();
        self.sign(&mut key, &public_key);
        Some(key.into())
    }

    /// Leaves the signatures that are seen, and adds those that were made later.
    fn sign(&self, key: &mut Map<String, Value>, target: &str) {
        let had_signatures = key.contains_key("signatures");
        let mut signatures = match key.remove("signatures") {
            Some(Value::Object(signatures)) => signatures,
            _ => Map::new(),
        };
        let viewer = self.viewer.map(|viewer| viewer.id.as_str());
        signatures.retain(|signer, _| signer == self.owner.as_str() || Some(signer.as_str()) == viewer);
        for added in self.added.iter().filter(|added| added.target_key == target) {
            let signer = if added.signer == added.target { Some(self.owner.as_str()) } else { viewer };
            let Some(signer) = signer else { continue };
            let by_signer = signatures.entry(signer).or_insert_with(|| json!({}));
            if let Some(by_signer) = by_signer.as_object_mut() {
                by_signer.insert(added.key_id.clone(), added.signature.clone().into());
            }
        }
        if had_signatures || !signatures.is_empty() {
            key.insert("signatures".to_owned(), signatures.into());
        }
    }
}
