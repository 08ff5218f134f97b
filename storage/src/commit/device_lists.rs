//! Changes of users' devices and cross-signing keys of a batch: what changes, and who has to be told.
//!
//! Devices are deleted here and nowhere else, so that nothing is added to one meanwhile.

use std::{borrow::Cow, collections::HashMap};

use futures::future::{BoxFuture, join_all};
use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use ruma::OwnedDeviceId;
use serde_json::value::RawValue;

use super::remote_devices::{RemoteDeviceRows, RemoteWrite};
use crate::{
    encryption::cross_signing::Usage, error::StorageError, pool::Transaction, row::text,
    statements::statements,
};

statements! {
    DELETE_DEVICES = "
        WITH gone AS (
                 SELECT user_nid, device_id
                 FROM   UNNEST($1::INTEGER[], $2::TEXT[]) AS gone (user_nid, device_id)
             ),
             gone_signatures AS (
                 DELETE FROM key_signatures AS signature
                 USING  gone
                 WHERE  signature.target_nid = gone.user_nid
                   AND  signature.target_key = gone.device_id
             )
        DELETE FROM devices
        USING  gone
        WHERE  devices.user_nid = gone.user_nid
          AND  devices.device_id = gone.device_id
    ",
    // Signatures are of what was there before.
    WRITE_DEVICE_KEYS = "
        WITH new AS (
                 SELECT new.user_nid, new.device_id, new.keys
                 FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::TEXT[]) AS new (user_nid, device_id, keys)
                 JOIN   devices USING (user_nid, device_id)
             ),
             gone_signatures AS (
                 DELETE FROM key_signatures AS signature
                 USING  new
                 WHERE  signature.target_nid = new.user_nid
                   AND  signature.target_key = new.device_id
             )
        INSERT INTO device_keys (user_nid, device_id, keys)
        SELECT user_nid, device_id, keys
        FROM   new
        ON CONFLICT (user_nid, device_id) DO UPDATE
        SET    keys = EXCLUDED.keys
    ",
    WRITE_CROSS_SIGNING_KEYS = "
        WITH new AS (
                 SELECT user_nid, usage, public_key, key
                 FROM   UNNEST($1::INTEGER[], $2::SMALLINT[], $3::TEXT[], $4::TEXT[])
                        AS new (user_nid, usage, public_key, key)
             ),
             replaced AS (
                 SELECT old.user_nid, old.public_key
                 FROM   cross_signing_keys AS old
                 JOIN   new USING (user_nid, usage)
                 WHERE  old.public_key <> new.public_key
             ),
             gone_signatures AS (
                 DELETE FROM key_signatures AS signature
                 USING  replaced
                 WHERE  signature.target_nid = replaced.user_nid
                   AND  signature.target_key = replaced.public_key
             )
        INSERT INTO cross_signing_keys (user_nid, usage, public_key, key)
        SELECT user_nid, usage, public_key, key
        FROM   new
        ON CONFLICT (user_nid, usage) DO UPDATE
        SET    public_key = EXCLUDED.public_key, key = EXCLUDED.key
    ",
    WRITE_SIGNATURES = "
        INSERT INTO key_signatures (target_nid, target_key, signer_nid, key_id, signature)
        SELECT target_nid, target_key, signer_nid, key_id, signature
        FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::INTEGER[], $4::TEXT[], $5::TEXT[])
               AS new (target_nid, target_key, signer_nid, key_id, signature)
        ON CONFLICT (target_nid, target_key, signer_nid, key_id) DO UPDATE
        SET    signature = EXCLUDED.signature
    ",
    WRITE_CHANGES = "
        INSERT INTO device_list_changes (user_nid, viewer_nid, position)
        SELECT user_nid, viewer_nid, position
        FROM   UNNEST($1::INTEGER[], $2::INTEGER[], $3::BIGINT[]) AS new (user_nid, viewer_nid, position)
        ON CONFLICT (user_nid, viewer_nid) DO UPDATE
        SET    position = EXCLUDED.position
    ",
    // The first update of a user in a batch follows the one that is stored.
    ADD_TO_OUTBOX = "
        INSERT INTO device_list_outbox (position, user_nid, device_id, prev_id)
        SELECT new.position, new.user_nid, new.device_id, COALESCE(new.prev_id, stream.stream_id)
        FROM   UNNEST($1::BIGINT[], $2::INTEGER[], $3::TEXT[], $4::BIGINT[])
               AS new (position, user_nid, device_id, prev_id)
        LEFT   JOIN device_list_streams AS stream USING (user_nid)
    ",
    ADVANCE_STREAMS = "
        INSERT INTO device_list_streams (user_nid, stream_id)
        SELECT user_nid, stream_id
        FROM   UNNEST($1::INTEGER[], $2::BIGINT[]) AS new (user_nid, stream_id)
        ON CONFLICT (user_nid) DO UPDATE
        SET    stream_id = EXCLUDED.stream_id
    ",
}

/// The devices or cross-signing keys of a user, local or remote, have changed.
#[derive(Clone, Debug)]
pub struct DeviceListChange {
    /// Whose.
    pub user: UserNid,
    /// Who is told.
    pub audience: Audience,
    /// What is written.
    pub writes: Vec<KeyWrite>,
    /// What other servers have to be told; nothing for remote users.
    pub announcements: Vec<Announcement>,
}

impl DeviceListChange {
    /// One for each announcement, at least one.
    pub(super) fn positions(&self) -> i64 {
        i64::try_from(self.announcements.len()).unwrap_or(i64::MAX).max(1)
    }
}

/// Which local users are told of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody who shares a room with the user, and the user. The rooms tell whom to wake.
    Rooms {
        /// Those that the user is in.
        rooms: Vec<RoomNid>,
        /// As of when at least: they may have entered others since, before this change.
        as_of: Position,
    },
    /// One user.
    Only(UserNid),
    /// Nobody: nothing that clients see has changed.
    Nobody,
}

/// What other servers have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// What is now known of a device.
    Device(OwnedDeviceId),
    /// The cross-signing keys.
    SigningKeys,
}

/// Something to be written of a user's keys.
#[derive(Clone, Debug)]
pub enum KeyWrite {
    /// The device has these identity keys; signatures that were added to others are removed.
    DeviceKeys(OwnedDeviceId, Box<RawValue>),
    /// The device and everything that belongs to it goes.
    DeleteDevice(OwnedDeviceId),
    /// The user has this cross-signing key.
    CrossSigningKey(Usage, String, Box<RawValue>),
    /// A signature is added to one of the user's keys.
    Signature(NewSignature),
    /// Of a remote user.
    Remote(RemoteWrite),
}

/// A signature to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignature {
    /// What is signed: a device id, or the public key of a cross-signing key.
    pub target_key: String,
    /// Who signed.
    pub signer: UserNid,
    /// With which key.
    pub key_id: String,
    /// The signature in base64.
    pub signature: String,
}

type SignatureKey<'a> = (UserNid, Cow<'a, str>, UserNid, Cow<'a, str>);

/// When, whose, which device, and the user's update before in this batch.
type OutboxRow<'a> = (Position, UserNid, Option<Cow<'a, str>>, Option<Position>);

/// The rows of the batch, the last of each kind.
#[derive(Default)]
pub(super) struct DeviceListRows<'a> {
    deleted: Vec<(UserNid, Cow<'a, str>)>,
    device_keys: HashMap<(UserNid, Cow<'a, str>), &'a str>,
    cross_signing: HashMap<(UserNid, Usage), (Cow<'a, str>, &'a str)>,
    signatures: HashMap<SignatureKey<'a>, &'a str>,
    changes: HashMap<(UserNid, i32), Position>,
    outbox: Vec<OutboxRow<'a>>,
    streams: HashMap<UserNid, Position>,
    remote: RemoteDeviceRows<'a>,
}

impl<'a> DeviceListRows<'a> {
    pub(super) fn add(&mut self, change: &'a DeviceListChange, positions: &[Position]) {
        let (user, last) = (change.user, positions.last().copied().unwrap_or_default());
        match change.audience {
            Audience::Rooms { .. } => drop(self.changes.insert((user, 0), last)),
            Audience::Only(viewer) => drop(self.changes.insert((user, viewer.get()), last)),
            Audience::Nobody => {}
        }
        for write in &change.writes {
            self.add_write(user, write);
        }
        for (announcement, position) in change.announcements.iter().zip(positions) {
            match announcement {
                Announcement::Device(device_id) => {
                    let previous = self.streams.insert(user, *position);
                    self.outbox.push((*position, user, Some(text(device_id.as_str())), previous));
                }
                Announcement::SigningKeys => self.outbox.push((*position, user, None, None)),
            }
        }
    }

    fn add_write(&mut self, user: UserNid, write: &'a KeyWrite) {
        match write {
            KeyWrite::DeviceKeys(device_id, keys) => {
                self.device_keys.insert((user, text(device_id.as_str())), keys.get());
            }
            KeyWrite::DeleteDevice(device_id) => self.deleted.push((user, text(device_id.as_str()))),
            KeyWrite::CrossSigningKey(usage, public_key, key) => {
                self.cross_signing.insert((user, *usage), (text(public_key), key.get()));
            }
            KeyWrite::Signature(new) => {
                let key = (user, text(&new.target_key), new.signer, text(&new.key_id));
                self.signatures.insert(key, &new.signature);
            }
            KeyWrite::Remote(write) => self.remote.add(user, write),
        }
    }

    /// Sends everything in this order. Deletions come first: what is written for a device that goes is for none.
    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let statements: [BoxFuture<'_, Result<(), StorageError>>; 8] = [
            Box::pin(self.delete_devices(transaction)),
            Box::pin(self.write_device_keys(transaction)),
            Box::pin(self.write_cross_signing(transaction)),
            Box::pin(self.write_signatures(transaction)),
            Box::pin(self.write_changes(transaction)),
            Box::pin(self.add_to_outbox(transaction)),
            Box::pin(self.advance_streams(transaction)),
            Box::pin(self.remote.write(transaction)),
        ];
        join_all(statements).await.into_iter().collect()
    }

    async fn delete_devices(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.deleted.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.deleted.iter().map(|(user, _)| user.get()).collect();
        let device_ids: Vec<&str> = self.deleted.iter().map(|(_, device_id)| &**device_id).collect();
        let statement = transaction.prepare_cached(DELETE_DEVICES).await?;
        transaction.execute(&statement, &[&users, &device_ids]).await?;
        Ok(())
    }

    async fn write_device_keys(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.device_keys.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.device_keys.keys().map(|(user, _)| user.get()).collect();
        let device_ids: Vec<&str> = self.device_keys.keys().map(|(_, device_id)| &**device_id).collect();
        let keys: Vec<&str> = self.device_keys.values().copied().collect();
        let statement = transaction.prepare_cached(WRITE_DEVICE_KEYS).await?;
        transaction.execute(&statement, &[&users, &device_ids, &keys]).await?;
        Ok(())
    }

    async fn write_cross_signing(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.cross_signing.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.cross_signing.keys().map(|(user, _)| user.get()).collect();
        let usages: Vec<i16> = self.cross_signing.keys().map(|(_, usage)| usage.code()).collect();
        let public_keys: Vec<&str> =
            self.cross_signing.values().map(|(public_key, _)| &**public_key).collect();
        let keys: Vec<&str> = self.cross_signing.values().map(|(_, key)| *key).collect();
        let statement = transaction.prepare_cached(WRITE_CROSS_SIGNING_KEYS).await?;
        transaction.execute(&statement, &[&users, &usages, &public_keys, &keys]).await?;
        Ok(())
    }

    async fn write_signatures(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.signatures.is_empty() {
            return Ok(());
        }
        let targets: Vec<i32> = self.signatures.keys().map(|(target, ..)| target.get()).collect();
        let target_keys: Vec<&str> = self.signatures.keys().map(|(_, key, ..)| &**key).collect();
        let signers: Vec<i32> = self.signatures.keys().map(|(_, _, signer, _)| signer.get()).collect();
        let key_ids: Vec<&str> = self.signatures.keys().map(|(.., key_id)| &**key_id).collect();
        let signatures: Vec<Cow<'_, str>> =
            self.signatures.values().map(|signature| text(signature)).collect();
        let statement = transaction.prepare_cached(WRITE_SIGNATURES).await?;
        transaction.execute(&statement, &[&targets, &target_keys, &signers, &key_ids, &signatures]).await?;
        Ok(())
    }

    async fn write_changes(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.changes.keys().map(|(user, _)| user.get()).collect();
        let viewers: Vec<i32> = self.changes.keys().map(|(_, viewer)| *viewer).collect();
        let positions: Vec<i64> = self.changes.values().map(|position| position.0).collect();
        let statement = transaction.prepare_cached(WRITE_CHANGES).await?;
        transaction.execute(&statement, &[&users, &viewers, &positions]).await?;
        Ok(())
    }

    async fn add_to_outbox(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let positions: Vec<i64> = self.outbox.iter().map(|(position, ..)| position.0).collect();
        let users: Vec<i32> = self.outbox.iter().map(|(_, user, ..)| user.get()).collect();
        let device_ids: Vec<Option<&str>> =
            self.outbox.iter().map(|(_, _, device_id, _)| device_id.as_deref()).collect();
        let previous: Vec<Option<i64>> =
            self.outbox.iter().map(|(.., previous)| previous.map(|position| position.0)).collect();
        let statement = transaction.prepare_cached(ADD_TO_OUTBOX).await?;
        transaction.execute(&statement, &[&positions, &users, &device_ids, &previous]).await?;
        Ok(())
    }

    async fn advance_streams(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.streams.is_empty() {
            return Ok(());
        }
        let (users, streams): (Vec<i32>, Vec<i64>) =
            self.streams.iter().map(|(user, stream)| (user.get(), stream.0)).unzip();
        let statement = transaction.prepare_cached(ADVANCE_STREAMS).await?;
        transaction.execute(&statement, &[&users, &streams]).await?;
        Ok(())
    }
}
