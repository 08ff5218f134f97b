//! The keys of other servers.

use std::collections::HashMap;

use ruma::{OwnedServerName, ServerName};

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    STORE_SERVER_KEYS = "
        INSERT INTO server_keys (
            server_name, key_id, public_key, valid_until_ms, is_current, answer_valid_until_ms, answer
        )
        SELECT *
        FROM   UNNEST($1::TEXT[], $2::TEXT[], $3::BYTEA[], $4::BIGINT[], $5::BOOLEAN[], $6::BIGINT[], $7::TEXT[])
        ON CONFLICT (server_name, key_id) DO UPDATE
        SET    public_key = EXCLUDED.public_key, valid_until_ms = EXCLUDED.valid_until_ms,
               is_current = EXCLUDED.is_current, answer_valid_until_ms = EXCLUDED.answer_valid_until_ms,
               answer = EXCLUDED.answer
        WHERE  $8 OR EXCLUDED.answer_valid_until_ms >= server_keys.answer_valid_until_ms
    ",
    LIST_SERVER_KEYS = "
        SELECT server_name, key_id, public_key, valid_until_ms, is_current, answer_valid_until_ms, answer
        FROM   server_keys
        WHERE  server_name = ANY($1)
    ",
}

/// A key of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// Whose it is.
    pub server: OwnedServerName,
    /// Algorithm and version.
    pub key_id: String,
    /// The public key.
    pub key: Vec<u8>,
    /// What was signed later is not proved by it.
    pub valid_until_ms: u64,
    /// Whether the server still signs requests with it.
    pub is_current: bool,
    /// Until when the answer that named it says that it is valid.
    pub answer_valid_until_ms: u64,
    /// The signed JSON object that named it.
    pub answer: String,
}

/// Stores keys. What is stored of a key gives way to a later answer, and in any case to one from the server itself.
pub async fn store(
    db: &impl GenericClient,
    keys: &[ServerKey],
    is_from_themselves: bool,
) -> Result<(), StorageError> {
    // A statement cannot touch a row twice.
    let mut latest: HashMap<(&ServerName, &str), &ServerKey> = HashMap::new();
    for key in keys {
        let known = latest.entry((&key.server, &key.key_id)).or_insert(key);
        if key.answer_valid_until_ms > known.answer_valid_until_ms {
            *known = key;
        }
    }
    let keys: Vec<&ServerKey> = latest.into_values().collect();
    let servers: Vec<&str> = keys.iter().map(|key| key.server.as_str()).collect();
    let ids: Vec<&str> = keys.iter().map(|key| key.key_id.as_str()).collect();
    let public: Vec<&[u8]> = keys.iter().map(|key| key.key.as_slice()).collect();
    let valid: Vec<i64> = keys.iter().map(|key| stored(key.valid_until_ms)).collect();
    let current: Vec<bool> = keys.iter().map(|key| key.is_current).collect();
    let answers_valid: Vec<i64> = keys.iter().map(|key| stored(key.answer_valid_until_ms)).collect();
    let answers: Vec<&str> = keys.iter().map(|key| key.answer.as_str()).collect();
    let statement = db.prepare_cached(STORE_SERVER_KEYS).await?;
    db.execute(
        &statement,
        &[&servers, &ids, &public, &valid, &current, &answers_valid, &answers, &is_from_themselves],
    )
    .await?;
    Ok(())
}

/// All keys of these servers that are known.
pub async fn list(
    db: &impl GenericClient,
    servers: &[OwnedServerName],
) -> Result<Vec<ServerKey>, StorageError> {
    let statement = db.prepare_cached(LIST_SERVER_KEYS).await?;
    let names: Vec<&str> = servers.iter().map(|server| server.as_str()).collect();
    let rows = db.query(&statement, &[&names]).await?;
    let key = |columns: Columns<'_>| {
        Ok(ServerKey {
            server: columns.parse("server_name")?,
            key_id: columns.get("key_id")?,
            key: columns.get("public_key")?,
            valid_until_ms: columns.get::<i64>("valid_until_ms")?.unsigned_abs(),
            is_current: columns.get("is_current")?,
            answer_valid_until_ms: columns.get::<i64>("answer_valid_until_ms")?.unsigned_abs(),
            answer: columns.get("answer")?,
        })
    };
    rows.iter().map(|row| key(Columns::of("server_keys", row))).collect()
}

fn stored(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}
