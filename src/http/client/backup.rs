//! Backups of room keys. The server keeps them and cannot read them.

use std::collections::BTreeMap;

use myelin_core::nid::UserNid;
use myelin_storage::backup::{self, Backup, BackupKey, NewBackupKey, Which};
use ruma::{
    UInt,
    api::{
        client::backup::{
            BackupAlgorithm, KeyBackupData, RoomKeyBackup, add_backup_keys, add_backup_keys_for_room,
            add_backup_keys_for_session, create_backup_version, delete_backup_keys,
            delete_backup_keys_for_room, delete_backup_keys_for_session, delete_backup_version,
            get_backup_info, get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
            get_latest_backup_info, update_backup_version,
        },
        error::{ErrorKind, WrongRoomKeysVersionErrorData},
    },
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    app::App,
    error::MatrixError,
    http::{endpoint::Ruma, response::JsonText},
};

/// How long the names of rooms and sessions may be.
const MAX_NAME: usize = 255;

/// What the server looks at of a version.
#[derive(Deserialize)]
struct Version {
    algorithm: String,
    auth_data: Box<RawValue>,
}

/// `POST /_matrix/client/v3/room_keys/version`
pub async fn create_backup_version(
    app: App,
    req: Ruma<create_backup_version::v3::Request>,
) -> Result<create_backup_version::v3::Response, MatrixError> {
    let new = parse_version(&req.algorithm)?;
    let db = app.storage.get().await?;
    let version = backup::create(&db, req.user().nid, &new.algorithm, &new.auth_data).await?;
    Ok(create_backup_version::v3::Response::new(version.to_string()))
}

/// `GET /_matrix/client/v3/room_keys/version`
pub async fn get_latest_backup_info(
    app: App,
    req: Ruma<get_latest_backup_info::v3::Request>,
) -> Result<JsonText, MatrixError> {
    let found = backup::find(&app.storage.get().await?, req.user().nid, None).await?;
    shown(&found.ok_or_else(unknown)?)
}

/// `GET /_matrix/client/v3/room_keys/version/{version}`
pub async fn get_backup_info(
    app: App,
    req: Ruma<get_backup_info::v3::Request>,
) -> Result<JsonText, MatrixError> {
    shown(&existing(&app, req.user().nid, &req.version).await?)
}

/// `PUT /_matrix/client/v3/room_keys/version/{version}`
///
/// What the keys are encrypted with stays.
pub async fn update_backup_version(
    app: App,
    req: Ruma<update_backup_version::v3::Request>,
) -> Result<update_backup_version::v3::Response, MatrixError> {
    let new = parse_version(&req.algorithm)?;
    let named: Option<String> = req.algorithm.get_field("version").ok().flatten();
    if named.is_some_and(|named| named != req.version) {
        return Err(MatrixError::invalid_param("the body names another version"));
    }
    let user = req.user().nid;
    let stored = existing(&app, user, &req.version).await?;
    if stored.algorithm != new.algorithm {
        return Err(MatrixError::invalid_param("a backup keeps its algorithm"));
    }
    if !backup::update(&app.storage.get().await?, user, stored.version, &new.auth_data).await? {
        return Err(unknown());
    }
    Ok(update_backup_version::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/room_keys/version/{version}`
pub async fn delete_backup_version(
    app: App,
    req: Ruma<delete_backup_version::v3::Request>,
) -> Result<delete_backup_version::v3::Response, MatrixError> {
    let version = number(&req.version)?;
    if !backup::delete(&app.storage.get().await?, req.user().nid, version).await? {
        return Err(unknown());
    }
    Ok(delete_backup_version::v3::Response::new())
}

/// `PUT /_matrix/client/v3/room_keys/keys`
pub async fn add_backup_keys(
    app: App,
    req: Ruma<add_backup_keys::v3::Request>,
) -> Result<add_backup_keys::v3::Response, MatrixError> {
    let keys = req.rooms.iter().flat_map(|(room_id, room)| keys_of(room_id.as_str(), &room.sessions));
    let after = add(&app, req.user().nid, &req.version, keys.collect::<Result<_, _>>()?).await?;
    Ok(add_backup_keys::v3::Response::new(after.etag.to_string(), count(&after)))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn add_backup_keys_for_room(
    app: App,
    req: Ruma<add_backup_keys_for_room::v3::Request>,
) -> Result<add_backup_keys_for_room::v3::Response, MatrixError> {
    let keys = keys_of(req.room_id.as_str(), &req.sessions).collect::<Result<_, _>>()?;
    let after = add(&app, req.user().nid, &req.version, keys).await?;
    Ok(add_backup_keys_for_room::v3::Response::new(after.etag.to_string(), count(&after)))
}

/// `PUT /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn add_backup_keys_for_session(
    app: App,
    req: Ruma<add_backup_keys_for_session::v3::Request>,
) -> Result<add_backup_keys_for_session::v3::Response, MatrixError> {
    let key = parse_key(req.room_id.as_str(), &req.session_id, &req.session_data)?;
    let after = add(&app, req.user().nid, &req.version, vec![key]).await?;
    Ok(add_backup_keys_for_session::v3::Response::new(after.etag.to_string(), count(&after)))
}

/// `GET /_matrix/client/v3/room_keys/keys`
pub async fn get_backup_keys(
    app: App,
    req: Ruma<get_backup_keys::v3::Request>,
) -> Result<get_backup_keys::v3::Response, MatrixError> {
    let mut rooms = BTreeMap::new();
    for key in find(&app, req.user().nid, &req.version, Which::default()).await? {
        let Ok(room_id) = key.room_id.parse() else { continue };
        let room = rooms.entry(room_id).or_insert_with(|| RoomKeyBackup::new(BTreeMap::new()));
        room.sessions.insert(key.session_id, Raw::from_json(key.key_data));
    }
    Ok(get_backup_keys::v3::Response::new(rooms))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn get_backup_keys_for_room(
    app: App,
    req: Ruma<get_backup_keys_for_room::v3::Request>,
) -> Result<get_backup_keys_for_room::v3::Response, MatrixError> {
    let which = Which { room_id: Some(req.room_id.as_str()), session_id: None };
    let keys = find(&app, req.user().nid, &req.version, which).await?.into_iter();
    let sessions = keys.map(|key| (key.session_id, Raw::from_json(key.key_data))).collect();
    Ok(get_backup_keys_for_room::v3::Response::new(sessions))
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn get_backup_keys_for_session(
    app: App,
    req: Ruma<get_backup_keys_for_session::v3::Request>,
) -> Result<get_backup_keys_for_session::v3::Response, MatrixError> {
    let which = Which { room_id: Some(req.room_id.as_str()), session_id: Some(&req.session_id) };
    let key = find(&app, req.user().nid, &req.version, which).await?.pop();
    let key = key.ok_or_else(|| MatrixError::not_found("the backup has no such key"))?;
    Ok(get_backup_keys_for_session::v3::Response::new(Raw::from_json(key.key_data)))
}

/// `DELETE /_matrix/client/v3/room_keys/keys`
pub async fn delete_backup_keys(
    app: App,
    req: Ruma<delete_backup_keys::v3::Request>,
) -> Result<delete_backup_keys::v3::Response, MatrixError> {
    let after = remove(&app, req.user().nid, &req.version, Which::default()).await?;
    Ok(delete_backup_keys::v3::Response::new(after.etag.to_string(), count(&after)))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn delete_backup_keys_for_room(
    app: App,
    req: Ruma<delete_backup_keys_for_room::v3::Request>,
) -> Result<delete_backup_keys_for_room::v3::Response, MatrixError> {
    let which = Which { room_id: Some(req.room_id.as_str()), session_id: None };
    let after = remove(&app, req.user().nid, &req.version, which).await?;
    Ok(delete_backup_keys_for_room::v3::Response::new(after.etag.to_string(), count(&after)))
}

/// `DELETE /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn delete_backup_keys_for_session(
    app: App,
    req: Ruma<delete_backup_keys_for_session::v3::Request>,
) -> Result<delete_backup_keys_for_session::v3::Response, MatrixError> {
    let which = Which { room_id: Some(req.room_id.as_str()), session_id: Some(&req.session_id) };
    let after = remove(&app, req.user().nid, &req.version, which).await?;
    Ok(delete_backup_keys_for_session::v3::Response::new(after.etag.to_string(), count(&after)))
}

fn parse_version(raw: &Raw<BackupAlgorithm>) -> Result<Version, MatrixError> {
    serde_json::from_str(raw.json().get()).map_err(|error| MatrixError::bad_json(error.to_string()))
}

fn keys_of(
    room_id: &str,
    sessions: &BTreeMap<String, Raw<KeyBackupData>>,
) -> impl Iterator<Item = Result<NewBackupKey, MatrixError>> {
    sessions.iter().map(move |(session_id, data)| parse_key(room_id, session_id, data))
}

/// What decides between two keys of a session; the rest is the clients' own.
fn parse_key(
    room_id: &str,
    session_id: &str,
    data: &Raw<KeyBackupData>,
) -> Result<NewBackupKey, MatrixError> {
    #[derive(Deserialize)]
    struct Judged {
        first_message_index: UInt,
        forwarded_count: UInt,
        is_verified: bool,
        #[serde(rename = "session_data")]
        _session_data: serde::de::IgnoredAny,
    }
    if room_id.len() > MAX_NAME || session_id.len() > MAX_NAME {
        return Err(MatrixError::invalid_param("the name of a room or a session is too long"));
    }
    let parsed: Judged =
        serde_json::from_str(data.json().get()).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    Ok(NewBackupKey {
        room_id: room_id.to_owned(),
        session_id: session_id.to_owned(),
        first_message_index: parsed.first_message_index.into(),
        forwarded_count: parsed.forwarded_count.into(),
        is_verified: parsed.is_verified,
        key_data: data.json().to_owned(),
    })
}

/// Versions are numbers here, whatever a client asks for.
fn number(version: &str) -> Result<i64, MatrixError> {
    version.parse().map_err(|_| unknown())
}

async fn existing(app: &App, user: UserNid, version: &str) -> Result<Backup, MatrixError> {
    let found = backup::find(&app.storage.get().await?, user, Some(number(version)?)).await?;
    found.ok_or_else(unknown)
}

/// Adds keys to the last version; to an older one nothing is added.
async fn add(
    app: &App,
    user: UserNid,
    version: &str,
    keys: Vec<NewBackupKey>,
) -> Result<Backup, MatrixError> {
    let mut db = app.storage.get().await?;
    let last = backup::find(&db, user, None).await?.ok_or_else(unknown)?;
    if number(version)? != last.version {
        let current = WrongRoomKeysVersionErrorData::new(last.version.to_string());
        let kind = ErrorKind::WrongRoomKeysVersion(current);
        return Err(MatrixError::refused(kind, "this is not the last version of the backup"));
    }
    backup::put_keys(&mut db, user, last.version, &keys).await?.ok_or_else(unknown)
}

async fn find(
    app: &App,
    user: UserNid,
    version: &str,
    which: Which<'_>,
) -> Result<Vec<BackupKey>, MatrixError> {
    let version = existing(app, user, version).await?.version;
    Ok(backup::keys(&app.storage.get().await?, user, version, which).await?)
}

async fn remove(app: &App, user: UserNid, version: &str, which: Which<'_>) -> Result<Backup, MatrixError> {
    let mut db = app.storage.get().await?;
    backup::delete_keys(&mut db, user, number(version)?, which).await?.ok_or_else(unknown)
}

fn unknown() -> MatrixError {
    MatrixError::not_found("there is no such backup")
}

fn count(backup: &Backup) -> UInt {
    UInt::try_from(backup.keys).unwrap_or_default()
}

fn shown(backup: &Backup) -> Result<JsonText, MatrixError> {
    JsonText::of(&json!({
        "algorithm": backup.algorithm,
        "auth_data": backup.auth_data,
        "count": backup.keys,
        "etag": backup.etag.to_string(),
        "version": backup.version.to_string(),
    }))
}
