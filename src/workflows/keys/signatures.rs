//! Signatures that a user adds to keys: to their own devices, by the key that signs devices; to their own master key,
//! by a device; to the master keys of others, by the key that signs users.

use std::collections::{BTreeMap, HashMap};

use myelin_core::{
    nid::UserNid,
    signed_key::{CrossSigningKey, SignedKey, key_id},
};
use myelin_storage::{
    commit::{Announcement, Audience, Change, DeviceListChange, KeyWrite, NewSignature},
    encryption::{
        cross_signing::{self, Usage},
        device_keys,
    },
};
use ruma::{OwnedUserId, api::client::keys::upload_signatures::v3::SignedKeys};
use serde::Serialize;

use super::change;
use crate::{app::App, error::MatrixError, sessions::User};

/// Signatures that were not taken: for each user and key.
pub type Failures = BTreeMap<OwnedUserId, BTreeMap<String, Failure>>;

/// Why a signature was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    errcode: &'static str,
    error: &'static str,
}

const INVALID: Failure =
    Failure { errcode: "M_INVALID_SIGNATURE", error: "no signature on the key is a valid one of yours" };
const OTHER_KEY: Failure =
    Failure { errcode: "M_INVALID_SIGNATURE", error: "the signed key is not the one that is known here" };
const MALFORMED: Failure = Failure { errcode: "M_INVALID_PARAM", error: "this is no key" };
const UNKNOWN: Failure = Failure { errcode: "M_NOT_FOUND", error: "there is no such key" };

/// Takes those of the signatures that are good, tells everybody concerned, and answers with the others.
pub async fn add(
    app: &App,
    user: &User,
    signed: &BTreeMap<OwnedUserId, SignedKeys>,
) -> Result<Failures, MatrixError> {
    let known = load(app, user, signed).await?;
    let mut failures = Failures::new();
    for (target, keys) in signed {
        let mut taken = Vec::new();
        for (name, json) in keys {
            match known.check(user, target, name, json.get()) {
                Ok(signatures) => {
                    let announcement = if known.devices.contains_key(name) {
                        Announcement::Device(name.into())
                    } else {
                        Announcement::SigningKeys
                    };
                    taken.push(Taken { target_key: name.to_owned(), signatures, announcement });
                }
                Err(failure) => {
                    failures.entry(target.clone()).or_default().insert(name.to_owned(), failure);
                }
            }
        }
        if let Some(nid) = known.nids.get(target).copied().filter(|_| !taken.is_empty()) {
            store(app, user, nid, taken).await?;
        }
    }
    Ok(failures)
}

/// Good signatures of one key.
struct Taken {
    target_key: String,
    signatures: Signatures,
    /// What other servers are told when the key is the signer's own.
    announcement: Announcement,
}

/// What signatures are checked against.
struct KnownKeys {
    nids: HashMap<OwnedUserId, UserNid>,
    /// The user's own device keys.
    devices: HashMap<String, SignedKey>,
    masters: HashMap<OwnedUserId, CrossSigningKey>,
    self_signing: Option<CrossSigningKey>,
    user_signing: Option<CrossSigningKey>,
}

async fn load(
    app: &App,
    user: &User,
    signed: &BTreeMap<OwnedUserId, SignedKeys>,
) -> Result<KnownKeys, MatrixError> {
    let users: Vec<&OwnedUserId> = signed.keys().filter(|target| **target != user.id).collect();
    let nids = app.actors.nids.find_users(&users).await?;
    let found = users.into_iter().cloned().zip(nids).filter_map(|(user_id, nid)| Some((user_id, nid?)));
    let mut nids: HashMap<OwnedUserId, UserNid> = found.collect();
    nids.insert(user.id.clone(), user.nid);
    let names: HashMap<UserNid, &OwnedUserId> = nids.iter().map(|(name, nid)| (*nid, name)).collect();
    let all: Vec<UserNid> = names.keys().copied().collect();
    let db = app.storage.get().await?;
    let (mut masters, mut self_signing, mut user_signing) = (HashMap::new(), None, None);
    for stored in cross_signing::list(&db, &all).await? {
        let Some(owner) = names.get(&stored.user) else { continue };
        let (usage, is_own) = (stored.usage, stored.user == user.nid);
        let parsed = |name| CrossSigningKey::parse(stored.key.get(), owner, name).ok();
        match usage {
            Usage::Master => masters.extend(parsed("master").map(|key| ((*owner).clone(), key))),
            Usage::SelfSigning if is_own => self_signing = parsed("self_signing"),
            Usage::UserSigning if is_own => user_signing = parsed("user_signing"),
            Usage::SelfSigning | Usage::UserSigning => {}
        }
    }
    let devices = device_keys::list(&db, &[user.nid])
        .await?
        .into_iter()
        .filter_map(|device| Some((device.device_id.to_string(), SignedKey::parse(device.keys.get()).ok()?)));
    let devices = devices.collect();
    Ok(KnownKeys { nids, devices, masters, self_signing, user_signing })
}

/// Ids of the keys that signed, each with its signature.
type Signatures = Vec<(String, String)>;

impl KnownKeys {
    fn check(
        &self,
        user: &User,
        target: &OwnedUserId,
        name: &str,
        json: &str,
    ) -> Result<Signatures, Failure> {
        let given = SignedKey::parse(json).map_err(|_| MALFORMED)?;
        let is_own = *target == user.id;
        if let Some(device) = self.devices.get(name).filter(|_| is_own) {
            require_same(device, &given)?;
            return signed_by(user, &given, self.self_signing.iter().map(CrossSigningKey::pair));
        }
        let master = self.masters.get(target).filter(|master| master.public_key == name).ok_or(UNKNOWN)?;
        require_same(&master.key, &given)?;
        if !is_own {
            return signed_by(user, &given, self.user_signing.iter().map(CrossSigningKey::pair));
        }
        let devices = self.devices.iter().filter_map(|(device_id, key)| {
            let key_id = key_id(device_id);
            let public_key = key.public_key(&key_id)?.to_owned();
            Some((key_id, public_key))
        });
        signed_by(user, &given, devices)
    }
}

fn require_same(known: &SignedKey, given: &SignedKey) -> Result<(), Failure> {
    if known.is_same(given) { Ok(()) } else { Err(OTHER_KEY) }
}

/// The signatures that some of the keys have made; there must be one.
fn signed_by(
    user: &User,
    given: &SignedKey,
    keys: impl Iterator<Item = (String, String)>,
) -> Result<Signatures, Failure> {
    let good = keys.filter(|(key_id, public_key)| given.is_signed_by(&user.id, key_id, public_key));
    let good = good.filter_map(|(key_id, _)| {
        let signature = given.signatures_by(&user.id).find(|(id, _)| *id == key_id)?.1.to_owned();
        Some((key_id, signature))
    });
    let good: Signatures = good.collect();
    if good.is_empty() { Err(INVALID) } else { Ok(good) }
}

/// Signatures of one's own keys concern everybody, those of others' keys only the signer.
async fn store(app: &App, user: &User, target: UserNid, taken: Vec<Taken>) -> Result<(), MatrixError> {
    let announcements = taken.iter().map(|taken| taken.announcement.clone()).collect();
    let writes = taken.into_iter().flat_map(|taken| {
        taken.signatures.into_iter().map(move |(key_id, signature)| {
            let target_key = taken.target_key.clone();
            KeyWrite::Signature(NewSignature { target_key, signer: user.nid, key_id, signature })
        })
    });
    let writes = writes.collect();
    if target == user.nid {
        return change(app, target, writes, announcements).await;
    }
    let audience = Audience::Only(user.nid);
    let change = DeviceListChange { user: target, audience, writes, announcements: Vec::new() };
    app.actors.journal.write(Change::DeviceList(change)).await?;
    Ok(())
}
