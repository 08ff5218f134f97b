//! Whose the database is, and whether it can be used: what is asked of it before anything else, and by those who watch
//! over the server.

use ruma::ServerName;

use crate::{
    error::StorageError,
    pool::{GenericClient, Transaction},
    row::Columns,
    statements::statements,
};

statements! {
    LOAD_NAME = "
        SELECT name
        FROM   server_name
    ",
    /// Databases that are older than the table of names have users.
    FIND_OTHER_NAME = "
        SELECT SUBSTRING(user_id FROM POSITION(':' IN user_id) + 1) AS name
        FROM   users
        WHERE  SUBSTRING(user_id FROM POSITION(':' IN user_id) + 1) <> $1
        LIMIT  1
    ",
    SAVE_NAME = "
        INSERT INTO server_name (name)
        VALUES ($1)
    ",
    LOAD_ENCODING = "
        SELECT CURRENT_SETTING('server_encoding') AS encoding
    ",
    IS_READ_ONLY = "
        SELECT PG_IS_IN_RECOVERY() OR CURRENT_SETTING('default_transaction_read_only')::BOOLEAN AS is_read_only
    ",
}

/// The name of the server to which the database belongs: this one, if it has belonged to nobody before.
pub async fn claim_name(transaction: &Transaction<'_>, ours: &ServerName) -> Result<String, StorageError> {
    if let Some(row) = transaction.query_opt(LOAD_NAME, &[]).await? {
        return Columns::of("server_name", &row).get("name");
    }
    if let Some(row) = transaction.query_opt(FIND_OTHER_NAME, &[&ours.as_str()]).await? {
        return Columns::of("users", &row).get("name");
    }
    transaction.execute(SAVE_NAME, &[&ours.as_str()]).await?;
    Ok(ours.to_string())
}

/// How the database encodes text. What users write fits into `UTF8` alone.
pub async fn load_encoding(db: &impl GenericClient) -> Result<String, StorageError> {
    let row = db.query_one(LOAD_ENCODING, &[]).await?;
    Columns::of("the settings", &row).get("encoding")
}

/// Whether the database takes no writes, for the time being or because it is another's copy.
pub async fn is_read_only(db: &impl GenericClient) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(IS_READ_ONLY).await?;
    let row = db.query_one(&statement, &[]).await?;
    Columns::of("the settings", &row).get("is_read_only")
}
