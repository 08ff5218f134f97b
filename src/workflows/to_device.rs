//! Messages from device to device: to those of our users through the journal, to those of others through their servers.

use std::{collections::BTreeMap, time::Duration};

use myelin_storage::{
    commit::{Change, OutgoingEdu, ToDeviceChange, ToDeviceMessage, ToDeviceTransaction},
    encryption::one_time_keys,
    error::StorageError,
    to_device,
};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    serde::{Base64, base64::UrlSafe},
    to_device::DeviceIdOrAllDevices,
};
use serde::Deserialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::{accounts::now, app::App, error::MatrixError, sessions::User};

/// How long an event type or a transaction id may be.
const MAX_TEXT: usize = 255;

/// How long requests that were fulfilled, and keys that were claimed, are remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// So many messages wait for a device, and then the oldest are dropped: a device that is used gets some hundred a day in
/// a busy account, one that nobody uses any more would be sent messages for ever.
const MAX_WAITING: i64 = 10_000;

/// The messages for each user, by device.
pub type Contents = BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Box<RawValue>>>;

/// Sends a message of one type to each of these devices. A repetition of the request by the same device does nothing.
pub async fn send(
    app: &App,
    user: &User,
    event_type: &str,
    txn_id: &str,
    messages: Contents,
) -> Result<(), MatrixError> {
    if event_type.len() > MAX_TEXT || txn_id.len() > MAX_TEXT {
        return Err(MatrixError::invalid_param("the event type or the transaction id is too long"));
    }
    let transaction = ToDeviceTransaction {
        sender: user.nid,
        scope: format!("{} {event_type}", user.device_id),
        txn_id: txn_id.to_owned(),
        created: now(app),
    };
    let (ours, theirs): (Contents, Contents) =
        messages.into_iter().partition(|(recipient, _)| app.is_ours(recipient.server_name()));
    // Other servers come first: once the transaction is known, nothing is left to be done.
    if !theirs.is_empty() && !is_done(app, &transaction).await? {
        send_to_servers(app, &user.id, event_type, &transaction, theirs).await?;
    }
    let messages = for_local(app, ours).await?;
    let change =
        ToDeviceChange { sender: user.id.clone(), event_type: event_type.to_owned(), transaction, messages };
    app.actors.journal.write(Change::ToDevice(change)).await?;
    Ok(())
}

async fn is_done(app: &App, transaction: &ToDeviceTransaction) -> Result<bool, MatrixError> {
    let ToDeviceTransaction { sender, scope, txn_id, .. } = transaction;
    Ok(to_device::is_done(&app.storage.get().await?, *sender, scope, txn_id).await?)
}

/// Queues a message for each of the servers. The same request makes the same message ids, so that a server that has
/// one already knows it again.
async fn send_to_servers(
    app: &App,
    sender: &UserId,
    event_type: &str,
    transaction: &ToDeviceTransaction,
    messages: Contents,
) -> Result<(), MatrixError> {
    let mut by_server: BTreeMap<OwnedServerName, Contents> = BTreeMap::new();
    for (recipient, devices) in messages {
        by_server.entry(recipient.server_name().to_owned()).or_default().insert(recipient, devices);
    }
    for (server, messages) in by_server {
        let content = json!({
            "sender": sender,
            "type": event_type,
            "message_id": message_id(sender, transaction, &server),
            "messages": messages,
        });
        let content = to_raw_value(&content).map_err(MatrixError::internal)?;
        let edu = OutgoingEdu { servers: vec![server], edu_type: "m.direct_to_device".to_owned(), content };
        app.actors.journal.write(Change::Outgoing(edu)).await?;
    }
    Ok(())
}

/// 32 characters, as the specification bounds it.
fn message_id(sender: &UserId, transaction: &ToDeviceTransaction, server: &ServerName) -> String {
    let mut hash = Sha256::new();
    for part in [sender.as_str(), &transaction.scope, &transaction.txn_id, server.as_str()] {
        hash.update(part);
        hash.update([0]);
    }
    let mut id = Base64::<UrlSafe, _>::new(hash.finalize().to_vec()).encode();
    id.truncate(32);
    id
}

/// An `m.direct_to_device`.
#[derive(Debug, Deserialize)]
pub struct DirectToDevice {
    /// Who sent it.
    pub sender: OwnedUserId,
    /// The type of the messages.
    #[serde(rename = "type")]
    pub event_type: String,
    /// By which a repetition is recognised.
    pub message_id: String,
    /// The messages.
    pub messages: Contents,
}

/// Takes messages from the sender's server for our users' devices, unless they came before. Those whose names are too
/// long are dropped.
pub async fn receive(app: &App, edu: DirectToDevice) -> Result<(), MatrixError> {
    if edu.event_type.len() > MAX_TEXT || edu.message_id.len() > MAX_TEXT {
        return Ok(());
    }
    let mut ours = edu.messages;
    ours.retain(|recipient, _| app.is_ours(recipient.server_name()));
    let messages = for_local(app, ours).await?;
    if messages.is_empty() {
        return Ok(());
    }
    let sender = app.actors.nids.intern_users(&[&edu.sender]).await?;
    let sender = *sender.first().expect("one user id has one NID");
    let transaction =
        ToDeviceTransaction { sender, scope: String::new(), txn_id: edu.message_id, created: now(app) };
    let change = ToDeviceChange { sender: edu.sender, event_type: edu.event_type, transaction, messages };
    app.actors.journal.write(Change::ToDevice(change)).await?;
    Ok(())
}

/// Forgets which requests were fulfilled and which keys were claimed long ago.
pub async fn forget_old(app: &App) -> Result<(), StorageError> {
    let before = now(app).saturating_sub(i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX));
    let db = app.storage.get().await?;
    to_device::forget_transactions(&db, before).await?;
    one_time_keys::forget_claimed(&db, before).await
}

/// Drops the oldest messages of devices for which more wait than anybody will fetch.
pub async fn drop_unread(app: &App) -> Result<(), StorageError> {
    for dropped in to_device::drop_oldest(&app.storage.get().await?, MAX_WAITING).await? {
        warn!(
            user.id = %dropped.user_id, device.id = %dropped.device_id, dropped.messages,
            "a device does not fetch its messages: the oldest were dropped"
        );
    }
    Ok(())
}

/// The messages for those of the users who exist here.
async fn for_local(app: &App, messages: Contents) -> Result<Vec<ToDeviceMessage>, MatrixError> {
    let (users, messages): (Vec<OwnedUserId>, Vec<_>) = messages.into_iter().unzip();
    let nids = app.actors.nids.find_users(&users).await?;
    let known = nids.into_iter().zip(messages).filter_map(|(nid, messages)| Some((nid?, messages)));
    let messages = known.flat_map(|(user, messages)| {
        messages.into_iter().filter(|(_, content)| content.get().starts_with('{')).map(
            move |(device, content)| {
                let device_id = match device {
                    DeviceIdOrAllDevices::DeviceId(device_id) => Some(device_id),
                    DeviceIdOrAllDevices::AllDevices => None,
                };
                ToDeviceMessage { user, device_id, content }
            },
        )
    });
    Ok(messages.collect())
}
