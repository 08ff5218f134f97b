//! What a batch writes of remote users' devices.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use futures::future::{BoxFuture, join_all};
use myelin_core::{nid::UserNid, position::Position};
use ruma::OwnedDeviceId;
use serde_json::value::RawValue;

use crate::{
    error::StorageError,
    pool::Transaction,
    row::{is_indexable, text},
    statements::statements,
};

statements! {
    FORGET_LISTS = "
        DELETE FROM remote_devices
        WHERE  user_nid = ANY($1)
    ",
    FORGET_REMOTE_DEVICES = "
        DELETE FROM remote_devices AS device
        USING  UNNEST($1::INTEGER[], $2::TEXT[]) AS gone (user_nid, device_id)
        WHERE  device.user_nid = gone.user_nid
          AND  device.device_id = gone.device_id
    ",
    WRITE_REMOTE_DEVICES = "
        INSERT INTO remote_devices (user_nid, device_id, display_name, keys)
        SELECT user_nid, device_id, display_name, keys
        FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::TEXT[], $4::TEXT[])
               AS new (user_nid, device_id, display_name, keys)
        ON CONFLICT (user_nid, device_id) DO UPDATE
        SET    display_name = EXCLUDED.display_name, keys = EXCLUDED.keys
    ",
    REPLACE_LISTS = "
        INSERT INTO remote_device_lists (user_nid, stream_id, fetched, is_stale)
        SELECT user_nid, stream_id, fetched, FALSE
        FROM   UNNEST($1::INTEGER[], $2::BIGINT[], $3::BIGINT[]) AS new (user_nid, stream_id, fetched)
        ON CONFLICT (user_nid) DO UPDATE
        SET    stream_id = EXCLUDED.stream_id, fetched = EXCLUDED.fetched, is_stale = FALSE
    ",
    ADVANCE_LISTS = "
        UPDATE remote_device_lists AS list
        SET    stream_id = new.stream_id
        FROM   UNNEST($1::INTEGER[], $2::BIGINT[]) AS new (user_nid, stream_id)
        WHERE  list.user_nid = new.user_nid
    ",
    MARK_STALE = "
        INSERT INTO remote_device_lists (user_nid, stream_id, fetched, is_stale)
        SELECT user_nid, 0, 0, TRUE
        FROM   UNNEST($1::INTEGER[]) AS new (user_nid)
        ON CONFLICT (user_nid) DO UPDATE
        SET    is_stale = TRUE
    ",
}

/// Something that another server told of one of its users' devices.
#[derive(Clone, Debug)]
pub enum RemoteWrite {
    /// All devices, fetched when everything up to that position was known.
    Replace {
        /// The last update that is in it.
        stream_id: i64,
        /// Our position before it was asked for: from then on, updates are told as long as a room is shared.
        fetched: Position,
        /// The devices.
        devices: Vec<NewRemoteDevice>,
    },
    /// One device, in an update that follows what is stored.
    Update {
        /// The update.
        stream_id: i64,
        /// The device.
        device: NewRemoteDevice,
    },
    /// A device is gone, in an update that follows what is stored.
    Delete {
        /// The update.
        stream_id: i64,
        /// The device.
        device_id: OwnedDeviceId,
    },
    /// An update was missed.
    Stale,
}

/// A device as its server tells it.
#[derive(Clone, Debug)]
pub struct NewRemoteDevice {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// Its public name.
    pub display_name: Option<String>,
    /// Its identity keys, a JSON object.
    pub keys: Option<Box<RawValue>>,
}

/// A device's row after the batch; `None`: there is none.
type DeviceRow<'a> = Option<(Option<Cow<'a, str>>, Option<&'a str>)>;

/// What becomes of remote users' lists in the batch.
#[derive(Default)]
pub(super) struct RemoteDeviceRows<'a> {
    /// Everything that was known goes first.
    forgotten: HashSet<UserNid>,
    devices: HashMap<(UserNid, Cow<'a, str>), DeviceRow<'a>>,
    replaced: HashMap<UserNid, (i64, Position)>,
    advanced: HashMap<UserNid, i64>,
    stale: HashSet<UserNid>,
}

impl<'a> RemoteDeviceRows<'a> {
    pub(super) fn add(&mut self, user: UserNid, write: &'a RemoteWrite) {
        match write {
            RemoteWrite::Replace { stream_id, fetched, devices } => {
                self.forgotten.insert(user);
                self.devices.retain(|(other, _), _| *other != user);
                for device in devices {
                    self.add_device(user, device);
                }
                self.replaced.insert(user, (*stream_id, *fetched));
                self.advanced.remove(&user);
                self.stale.remove(&user);
            }
            RemoteWrite::Update { stream_id, device } => {
                self.add_device(user, device);
                self.advanced.insert(user, *stream_id);
            }
            RemoteWrite::Delete { stream_id, device_id } => {
                self.devices.insert((user, text(device_id.as_str())), None);
                self.advanced.insert(user, *stream_id);
            }
            RemoteWrite::Stale => drop(self.stale.insert(user)),
        }
    }

    /// A device whose id no device can have is left out.
    fn add_device(&mut self, user: UserNid, device: &'a NewRemoteDevice) {
        if !is_indexable(device.device_id.as_str()) {
            return;
        }
        let row = (device.display_name.as_deref().map(text), device.keys.as_deref().map(RawValue::get));
        self.devices.insert((user, text(device.device_id.as_str())), Some(row));
    }

    /// Sends everything in this order.
    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let statements: [BoxFuture<'_, Result<(), StorageError>>; 6] = [
            Box::pin(self.forget_lists(transaction)),
            Box::pin(self.forget_devices(transaction)),
            Box::pin(self.write_devices(transaction)),
            Box::pin(self.replace_lists(transaction)),
            Box::pin(self.advance_lists(transaction)),
            Box::pin(self.mark_stale(transaction)),
        ];
        join_all(statements).await.into_iter().collect()
    }

    async fn forget_lists(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.forgotten.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.forgotten.iter().map(|user| user.get()).collect();
        let statement = transaction.prepare_cached(FORGET_LISTS).await?;
        transaction.execute(&statement, &[&users]).await?;
        Ok(())
    }

    async fn forget_devices(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let gone = || self.devices.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key);
        if gone().next().is_none() {
            return Ok(());
        }
        let users: Vec<i32> = gone().map(|(user, _)| user.get()).collect();
        let device_ids: Vec<&str> = gone().map(|(_, device_id)| &**device_id).collect();
        let statement = transaction.prepare_cached(FORGET_REMOTE_DEVICES).await?;
        transaction.execute(&statement, &[&users, &device_ids]).await?;
        Ok(())
    }

    async fn write_devices(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        let rows = || self.devices.iter().filter_map(|(key, row)| Some((key, row.as_ref()?)));
        if rows().next().is_none() {
            return Ok(());
        }
        let users: Vec<i32> = rows().map(|((user, _), _)| user.get()).collect();
        let device_ids: Vec<&str> = rows().map(|((_, device_id), _)| &**device_id).collect();
        let names: Vec<Option<&str>> = rows().map(|(_, (name, _))| name.as_deref()).collect();
        let keys: Vec<Option<&str>> = rows().map(|(_, (_, keys))| *keys).collect();
        let statement = transaction.prepare_cached(WRITE_REMOTE_DEVICES).await?;
        transaction.execute(&statement, &[&users, &device_ids, &names, &keys]).await?;
        Ok(())
    }

    async fn replace_lists(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.replaced.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.replaced.keys().map(|user| user.get()).collect();
        let streams: Vec<i64> = self.replaced.values().map(|(stream_id, _)| *stream_id).collect();
        let fetched: Vec<i64> = self.replaced.values().map(|(_, fetched)| fetched.0).collect();
        let statement = transaction.prepare_cached(REPLACE_LISTS).await?;
        transaction.execute(&statement, &[&users, &streams, &fetched]).await?;
        Ok(())
    }

    async fn advance_lists(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.advanced.is_empty() {
            return Ok(());
        }
        let (users, streams): (Vec<i32>, Vec<i64>) =
            self.advanced.iter().map(|(user, stream_id)| (user.get(), *stream_id)).unzip();
        let statement = transaction.prepare_cached(ADVANCE_LISTS).await?;
        transaction.execute(&statement, &[&users, &streams]).await?;
        Ok(())
    }

    async fn mark_stale(&self, transaction: &Transaction<'_>) -> Result<(), StorageError> {
        if self.stale.is_empty() {
            return Ok(());
        }
        let users: Vec<i32> = self.stale.iter().map(|user| user.get()).collect();
        let statement = transaction.prepare_cached(MARK_STALE).await?;
        transaction.execute(&statement, &[&users]).await?;
        Ok(())
    }
}
