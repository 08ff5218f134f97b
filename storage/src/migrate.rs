//! Brings the database to the schema that this program expects.
//!
//! Migrations are the SQL files of `migrations/`, embedded, numbered, forward only. They run in one transaction
//! under an advisory lock, so that two starting servers do not meet and a failed upgrade leaves the database as
//! it was. A database that is ahead is accepted: the previous release must run on the new schema.
//!
//! How to add one: write `migrations/00NN_subject.sql` with a comment on each column, and name it in
//! `MIGRATIONS`. A file that was released is never edited.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::{Storage, error::StorageError, pool::Transaction};

/// Any fixed number; what else uses advisory locks in this database must use another.
const LOCK: i64 = 0x006d_7965_6c69_6e01;

struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            number: $number,
            name: $name,
            sql: include_str!(concat!("../../migrations/", $name, ".sql")),
        }),*]
    };
}

/// In the order in which they run.
const MIGRATIONS: &[Migration] = migrations![
    1 "0001_nids",
    2 "0002_rooms_and_events",
    3 "0003_state_blocks",
    4 "0004_accounts_and_devices",
    6 "0006_account_data_receipts",
    10 "0010_directory",
    12 "0012_pushers",
    13 "0013_server_keys",
    14 "0014_encryption_keys",
    15 "0015_inbound_queue",
    16 "0016_destinations",
    17 "0017_auth_chains",
    18 "0018_outside_memberships",
    19 "0019_key_backup",
    21 "0021_waiting_redactions",
    22 "0022_media",
    23 "0023_failing_since",
    24 "0024_user_agents",
    25 "0025_followed_rooms",
    26 "0026_waiting_by_room",
    29 "0029_remote_users",
    30 "0030_claimed_keys",
    31 "0031_fence",
    32 "0032_expiring_events",
    33 "0033_server_name",
    34 "0034_resolved_states",
];

const LOCK_DATABASE: &str = "SELECT pg_advisory_xact_lock($1)";

const CREATE_LIST: &str = "
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number INTEGER PRIMARY KEY,
        name   TEXT NOT NULL,
        hash   BYTEA NOT NULL
    );
    COMMENT ON TABLE schema_migrations IS 'the migrations that this database has seen';
    COMMENT ON COLUMN schema_migrations.number IS 'number of the migration';
    COMMENT ON COLUMN schema_migrations.name IS 'name of its file, without .sql';
    COMMENT ON COLUMN schema_migrations.hash IS 'SHA-256 of the file as it was run';
";

const LIST_DONE: &str = "SELECT number, hash FROM schema_migrations";

const MARK_DONE: &str = "INSERT INTO schema_migrations (number, name, hash) VALUES ($1, $2, $3)";

/// Why the database could not be brought to the expected schema.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database has run a migration of this number with other contents.
    #[error("migration {0} was run on this database in another form: this program is not its successor")]
    Changed(&'static str),
    /// A migration failed; nothing was changed.
    #[error("migration {name} failed")]
    Failed {
        /// The migration.
        name: &'static str,
        /// What the database said.
        #[source]
        source: StorageError,
    },
    /// The list of migrations could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Storage {
    /// Runs the migrations that this database has not seen. Returns how many those were.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        let mut client = self.get().await?;
        let transaction = client.transaction().await.map_err(StorageError::from)?;
        let missing = list_missing(&transaction).await?;
        for migration in &missing {
            run(&transaction, migration).await?;
        }
        transaction.commit().await.map_err(StorageError::from)?;
        Ok(missing.len())
    }
}

/// Takes the lock, which lasts until the transaction ends, and compares what was run with what is known.
async fn list_missing(transaction: &Transaction<'_>) -> Result<Vec<&'static Migration>, MigrateError> {
    let done = list_done(transaction).await?;
    let mut missing = Vec::new();
    for migration in MIGRATIONS {
        match done.get(&migration.number) {
            None => missing.push(migration),
            Some(hash) if *hash == migration.hash() => {}
            Some(_) => return Err(MigrateError::Changed(migration.name)),
        }
    }
    Ok(missing)
}

async fn list_done(transaction: &Transaction<'_>) -> Result<HashMap<i32, Vec<u8>>, StorageError> {
    transaction.execute(LOCK_DATABASE, &[&LOCK]).await?;
    transaction.batch_execute(CREATE_LIST).await?;
    let rows = transaction.query(LIST_DONE, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get("number")?, row.try_get("hash")?))).collect()
}

async fn run(transaction: &Transaction<'_>, migration: &Migration) -> Result<(), MigrateError> {
    let failed = |error| MigrateError::Failed { name: migration.name, source: StorageError::from(error) };
    transaction.batch_execute(migration.sql).await.map_err(failed)?;
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&migration.number, &migration.name, &migration.hash()];
    transaction.execute(MARK_DONE, parameters).await.map_err(failed)?;
    tracing::info!(migration.name = migration.name, "migrated the database");
    Ok(())
}

impl Migration {
    fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.sql).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_upwards_and_named_by_their_number() {
        assert!(MIGRATIONS.is_sorted_by_key(|migration| migration.number));
        for migration in MIGRATIONS {
            assert!(migration.name.starts_with(&format!("{:04}_", migration.number)), "{}", migration.name);
        }
    }
}
