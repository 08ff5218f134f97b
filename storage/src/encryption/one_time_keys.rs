//! One-time and fallback keys of local devices.
//!
//! A one-time key is given away once, whoever asks at the same time: claiming marks it in the statement that finds it,
//! and skips those that another claim holds. A claimed key is remembered for some days, because a client that did not
//! hear that its upload arrived repeats it.

use myelin_core::nid::UserNid;
use ruma::{DeviceId, OwnedDeviceId};
use serde_json::value::RawValue;
use tokio_postgres::Row;

use super::json;
use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    FIND_ONE_TIME_KEYS = "
        SELECT key.algorithm, key.key_id, key.key, (key.claimed IS NOT NULL) AS is_claimed
        FROM   one_time_keys AS key
        JOIN   UNNEST($3::TEXT[], $4::TEXT[]) AS wanted (algorithm, key_id) USING (algorithm, key_id)
        WHERE  key.user_nid = $1
          AND  key.device_id = $2
    ",
    ADD_ONE_TIME_KEYS = "
        WITH upload AS (SELECT nextval('one_time_key_uploads') AS number)
        INSERT INTO one_time_keys (user_nid, device_id, algorithm, key_id, key, upload)
        SELECT device.user_nid, device.device_id, new.algorithm, new.key_id, new.key, upload.number
        FROM   devices AS device
        CROSS  JOIN upload
        CROSS  JOIN UNNEST($3::TEXT[], $4::TEXT[], $5::TEXT[]) AS new (algorithm, key_id, key)
        WHERE  device.user_nid = $1
          AND  device.device_id = $2
        ON CONFLICT (user_nid, device_id, algorithm, key_id) DO UPDATE
        SET    key = EXCLUDED.key, upload = EXCLUDED.upload, claimed = NULL
        WHERE  one_time_keys.claimed IS NOT NULL
          AND  one_time_keys.key <> EXCLUDED.key
    ",
    SET_FALLBACK_KEYS = "
        INSERT INTO fallback_keys (user_nid, device_id, algorithm, key_id, key)
        SELECT device.user_nid, device.device_id, new.algorithm, new.key_id, new.key
        FROM   devices AS device
        CROSS  JOIN UNNEST($3::TEXT[], $4::TEXT[], $5::TEXT[]) AS new (algorithm, key_id, key)
        WHERE  device.user_nid = $1
          AND  device.device_id = $2
        ON CONFLICT (user_nid, device_id, algorithm) DO UPDATE
        SET    key_id = EXCLUDED.key_id, key = EXCLUDED.key, is_used = FALSE
        WHERE  fallback_keys.key_id <> EXCLUDED.key_id
           OR  fallback_keys.key <> EXCLUDED.key
    ",
    COUNT_KEYS = "
        SELECT algorithm, COUNT(*) AS keys, FALSE AS is_fallback
        FROM   one_time_keys
        WHERE  user_nid = $1
          AND  device_id = $2
          AND  claimed IS NULL
        GROUP  BY algorithm
        UNION  ALL
        SELECT algorithm, 1, TRUE
        FROM   fallback_keys
        WHERE  user_nid = $1
          AND  device_id = $2
          AND  NOT is_used
    ",
    CLAIM_ONE_TIME_KEYS = "
        WITH taken AS (
                 SELECT next.user_nid, next.device_id, next.algorithm, next.key_id
                 FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::TEXT[]) AS wanted (user_nid, device_id, algorithm)
                 CROSS  JOIN LATERAL (
                            SELECT key.user_nid, key.device_id, key.algorithm, key.key_id
                            FROM   one_time_keys AS key
                            WHERE  key.user_nid = wanted.user_nid
                              AND  key.device_id = wanted.device_id
                              AND  key.algorithm = wanted.algorithm
                              AND  key.claimed IS NULL
                            ORDER  BY key.upload
                            LIMIT  1
                            FOR UPDATE SKIP LOCKED
                        ) AS next
             )
        UPDATE one_time_keys AS key
        SET    claimed = $4
        FROM   taken
        WHERE  key.user_nid = taken.user_nid
          AND  key.device_id = taken.device_id
          AND  key.algorithm = taken.algorithm
          AND  key.key_id = taken.key_id
        RETURNING key.user_nid, key.device_id, key.algorithm, key.key_id, key.key
    ",
    CLAIM_FALLBACK_KEYS = "
        UPDATE fallback_keys AS key
        SET    is_used = TRUE
        FROM   UNNEST($1::INTEGER[], $2::TEXT[], $3::TEXT[]) AS wanted (user_nid, device_id, algorithm)
        WHERE  key.user_nid = wanted.user_nid
          AND  key.device_id = wanted.device_id
          AND  key.algorithm = wanted.algorithm
        RETURNING key.user_nid, key.device_id, key.algorithm, key.key_id, key.key
    ",
    FORGET_CLAIMED = "
        DELETE FROM one_time_keys
        WHERE  claimed < $1
    ",
}

/// A one-time or fallback key, to be uploaded.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its algorithm.
    pub algorithm: String,
    /// Its id among the device's keys of that algorithm.
    pub key_id: String,
    /// The key: a string or a signed object.
    pub key: Box<RawValue>,
}

/// A one-time key that is stored.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// Its algorithm.
    pub algorithm: String,
    /// Its id.
    pub key_id: String,
    /// The key.
    pub key: Box<RawValue>,
    /// It was given away.
    pub is_claimed: bool,
}

/// What a device has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// For each algorithm, how many one-time keys nobody has claimed; those with none are left out. Kept for each
    /// device, hence no map.
    pub one_time: Vec<(String, u64)>,
    /// The algorithms whose fallback key nobody has been given.
    pub unused_fallback: Vec<String>,
}

/// A key of this algorithm is wanted of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Whose device.
    pub user: UserNid,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The algorithm.
    pub algorithm: String,
}

/// A key that was given away.
#[derive(Clone, Debug)]
pub struct ClaimedKey {
    /// What it was claimed by.
    pub claim: Claim,
    /// Its id.
    pub key_id: String,
    /// The key.
    pub key: Box<RawValue>,
}

/// The device's keys with these names, claimed ones included.
pub async fn find(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    names: &[NewKey],
) -> Result<Vec<StoredKey>, StorageError> {
    let (algorithms, key_ids, _) = columns_of(names);
    let statement = db.prepare_cached(FIND_ONE_TIME_KEYS).await?;
    let device_id = text(device_id.as_str());
    let rows = db.query(&statement, &[&user.get(), &device_id, &algorithms, &key_ids]).await?;
    let key = |row| {
        let columns = Columns::of("one_time_keys", row);
        Ok(StoredKey {
            algorithm: columns.get("algorithm")?,
            key_id: columns.get("key_id")?,
            key: json(&columns, "key")?,
            is_claimed: columns.get("is_claimed")?,
        })
    };
    rows.iter().map(key).collect()
}

/// Adds one-time keys of a device. Those whose name is stored already are left alone, unless that key was claimed and
/// is another one.
pub async fn add(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    keys: &[NewKey],
) -> Result<(), StorageError> {
    write(db, ADD_ONE_TIME_KEYS, user, device_id, keys).await
}

/// Replaces the device's fallback keys of these algorithms, at most one key each. The same key again changes nothing.
pub async fn set_fallback(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
    keys: &[NewKey],
) -> Result<(), StorageError> {
    write(db, SET_FALLBACK_KEYS, user, device_id, keys).await
}

async fn write(
    db: &impl GenericClient,
    statement: &str,
    user: UserNid,
    device_id: &DeviceId,
    keys: &[NewKey],
) -> Result<(), StorageError> {
    let (algorithms, key_ids, keys) = columns_of(keys);
    let statement = db.prepare_cached(statement).await?;
    let device_id = text(device_id.as_str());
    db.execute(&statement, &[&user.get(), &device_id, &algorithms, &key_ids, &keys]).await?;
    Ok(())
}

fn columns_of(keys: &[NewKey]) -> (Vec<&str>, Vec<&str>, Vec<&str>) {
    (
        keys.iter().map(|key| key.algorithm.as_str()).collect(),
        keys.iter().map(|key| key.key_id.as_str()).collect(),
        keys.iter().map(|key| key.key.get()).collect(),
    )
}

/// What the device has left.
pub async fn counts(
    db: &impl GenericClient,
    user: UserNid,
    device_id: &DeviceId,
) -> Result<KeyCounts, StorageError> {
    let statement = db.prepare_cached(COUNT_KEYS).await?;
    let rows = db.query(&statement, &[&user.get(), &text(device_id.as_str())]).await?;
    let mut counts = KeyCounts::default();
    for row in &rows {
        let columns = Columns::of("one_time_keys", row);
        let algorithm: String = columns.get("algorithm")?;
        if columns.get("is_fallback")? {
            counts.unused_fallback.push(algorithm);
        } else {
            let keys: i64 = columns.get("keys")?;
            counts.one_time.push((algorithm, u64::try_from(keys).unwrap_or(0)));
        }
    }
    counts.one_time.sort_unstable();
    counts.unused_fallback.sort_unstable();
    Ok(counts)
}

/// Gives away one one-time key for each claim, the oldest there is; claims of devices that have none are not answered.
/// `now` is in milliseconds since 1970.
pub async fn claim(
    db: &impl GenericClient,
    claims: &[Claim],
    now: i64,
) -> Result<Vec<ClaimedKey>, StorageError> {
    let (users, device_ids, algorithms) = claim_columns(claims);
    let statement = db.prepare_cached(CLAIM_ONE_TIME_KEYS).await?;
    let rows = db.query(&statement, &[&users, &device_ids, &algorithms, &now]).await?;
    rows.iter().map(ClaimedKey::try_from).collect()
}

/// Gives away the fallback key for each claim, as far as there is one.
pub async fn claim_fallback(
    db: &impl GenericClient,
    claims: &[Claim],
) -> Result<Vec<ClaimedKey>, StorageError> {
    let (users, device_ids, algorithms) = claim_columns(claims);
    let statement = db.prepare_cached(CLAIM_FALLBACK_KEYS).await?;
    let rows = db.query(&statement, &[&users, &device_ids, &algorithms]).await?;
    rows.iter().map(ClaimedKey::try_from).collect()
}

fn claim_columns(claims: &[Claim]) -> (Vec<i32>, Vec<String>, Vec<String>) {
    (
        claims.iter().map(|claim| claim.user.get()).collect(),
        claims.iter().map(|claim| text(claim.device_id.as_str()).into_owned()).collect(),
        claims.iter().map(|claim| text(&claim.algorithm).into_owned()).collect(),
    )
}

/// Forgets keys that were given away before a time, in milliseconds since 1970.
pub async fn forget_claimed(db: &impl GenericClient, before: i64) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FORGET_CLAIMED).await?;
    db.execute(&statement, &[&before]).await?;
    Ok(())
}

impl TryFrom<&Row> for ClaimedKey {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("one_time_keys", row);
        let claim = Claim {
            user: columns.nid("user_nid")?,
            device_id: columns.get::<String>("device_id")?.into(),
            algorithm: columns.get("algorithm")?,
        };
        Ok(Self { claim, key_id: columns.get("key_id")?, key: json(&columns, "key")? })
    }
}
