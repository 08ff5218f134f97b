//! Filters that clients have uploaded, to name them by a number afterwards.

use myelin_core::nid::UserNid;
use sha2::{Digest, Sha256};

use crate::{error::StorageError, pool::GenericClient, row::Columns, statements::statements};

statements! {
    INSERT_FILTER = "
        INSERT INTO filters (user_nid, hash, filter)
        VALUES ($1, $2, $3)
        ON CONFLICT (user_nid, hash) DO UPDATE
        SET    hash = EXCLUDED.hash
        RETURNING filter_id
    ",
    FIND_FILTER = "
        SELECT filter
        FROM   filters
        WHERE  user_nid = $1 AND filter_id = $2
    ",
}

/// Stores a filter and answers with its number; an equal filter of the same user has the number it had.
pub async fn intern(db: &impl GenericClient, user: UserNid, filter: &str) -> Result<i64, StorageError> {
    let statement = db.prepare_cached(INSERT_FILTER).await?;
    let hash = Sha256::digest(filter.as_bytes());
    let row = db.query_one(&statement, &[&user.get(), &hash.as_slice(), &filter]).await?;
    Columns::of("filters", &row).get("filter_id")
}

/// The user's filter with this number, as JSON.
pub async fn find(
    db: &impl GenericClient,
    user: UserNid,
    filter_id: i64,
) -> Result<Option<String>, StorageError> {
    let statement = db.prepare_cached(FIND_FILTER).await?;
    let row = db.query_opt(&statement, &[&user.get(), &filter_id]).await?;
    row.map(|row| Columns::of("filters", &row).get("filter")).transpose()
}
