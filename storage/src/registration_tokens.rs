//! What lets someone register: registration tokens, and the nonces of shared-secret registration.
//!
//! A token's pending use is held by a UIA session: see `uia`.

use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    INSERT_TOKEN = "
        INSERT INTO registration_tokens (token, uses_allowed, expires)
        VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING
    ",
    UPDATE_TOKEN = "
        UPDATE registration_tokens
        SET    uses_allowed = $2, expires = $3
        WHERE  token = $1
    ",
    DELETE_TOKEN = "
        DELETE FROM registration_tokens
        WHERE  token = $1
    ",
    FIND_TOKEN = "
        SELECT token, uses_allowed, pending, completed, expires
        FROM   registration_tokens
        WHERE  token = $1
    ",
    LIST_TOKENS = "
        SELECT token, uses_allowed, pending, completed, expires
        FROM   registration_tokens
        ORDER BY token
    ",
    INSERT_NONCE = "
        WITH expired AS (DELETE FROM registration_nonces WHERE expires <= $3)
        INSERT INTO registration_nonces (nonce, expires)
        VALUES ($1, $2)
    ",
    TAKE_NONCE = "
        DELETE FROM registration_nonces
        WHERE  nonce = $1
        RETURNING expires
    ",
}

/// A token that lets its holder register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// How many accounts it is good for. `None`: any number.
    pub uses_allowed: Option<i32>,
    /// Registrations under way that have shown it.
    pub pending: i32,
    /// Accounts made with it.
    pub completed: i32,
    /// In milliseconds since 1970. `None`: never.
    pub expires: Option<i64>,
}

impl RegistrationToken {
    /// Whether one more registration could use it at this time.
    pub fn is_valid(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
            && self.uses_allowed.is_none_or(|allowed| self.pending + self.completed < allowed)
    }
}

impl TryFrom<&Row> for RegistrationToken {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("registration_tokens", row);
        Ok(Self {
            token: columns.get("token")?,
            uses_allowed: columns.get("uses_allowed")?,
            pending: columns.get("pending")?,
            completed: columns.get("completed")?,
            expires: columns.get("expires")?,
        })
    }
}

/// Makes a token. `false`: it exists already, and has not changed.
pub async fn create(
    db: &impl GenericClient,
    token: &str,
    uses_allowed: Option<i32>,
    expires: Option<i64>,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(INSERT_TOKEN).await?;
    Ok(db.execute(&statement, &[&text(token).as_ref(), &uses_allowed, &expires]).await? == 1)
}

/// Changes what a token is good for. `false`: there is none such.
pub async fn update(
    db: &impl GenericClient,
    token: &str,
    uses_allowed: Option<i32>,
    expires: Option<i64>,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(UPDATE_TOKEN).await?;
    Ok(db.execute(&statement, &[&text(token).as_ref(), &uses_allowed, &expires]).await? == 1)
}

/// Removes a token; registrations that have shown it already go on. `false`: there is none such.
pub async fn delete(db: &impl GenericClient, token: &str) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(DELETE_TOKEN).await?;
    Ok(db.execute(&statement, &[&text(token).as_ref()]).await? == 1)
}

/// The token, valid or not.
pub async fn find(db: &impl GenericClient, token: &str) -> Result<Option<RegistrationToken>, StorageError> {
    let statement = db.prepare_cached(FIND_TOKEN).await?;
    let row = db.query_opt(&statement, &[&text(token).as_ref()]).await?;
    row.as_ref().map(RegistrationToken::try_from).transpose()
}

/// All tokens, valid or not.
pub async fn list(db: &impl GenericClient) -> Result<Vec<RegistrationToken>, StorageError> {
    let statement = db.prepare_cached(LIST_TOKENS).await?;
    let rows = db.query(&statement, &[]).await?;
    rows.iter().map(RegistrationToken::try_from).collect()
}

/// Stores a nonce that is good until `expires`, and forgets those that have expired.
pub async fn insert_nonce(
    db: &impl GenericClient,
    nonce: &str,
    expires: i64,
    now: i64,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(INSERT_NONCE).await?;
    db.execute(&statement, &[&nonce, &expires, &now]).await?;
    Ok(())
}

/// Uses a nonce up. `false`: we gave out none such, or it was used, or it has expired.
pub async fn take_nonce(db: &impl GenericClient, nonce: &str, now: i64) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(TAKE_NONCE).await?;
    let Some(row) = db.query_opt(&statement, &[&text(nonce).as_ref()]).await? else { return Ok(false) };
    Ok(Columns::of("registration_nonces", &row).get::<i64>("expires")? > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(
        uses_allowed: Option<i32>,
        pending: i32,
        completed: i32,
        expires: Option<i64>,
    ) -> RegistrationToken {
        RegistrationToken { token: "t".to_owned(), uses_allowed, pending, completed, expires }
    }

    #[test]
    fn pending_uses_count_as_uses() {
        assert!(token(None, 9, 9, None).is_valid(0));
        assert!(token(Some(2), 0, 1, None).is_valid(0));
        assert!(!token(Some(2), 1, 1, None).is_valid(0));
    }

    #[test]
    fn token_is_not_valid_at_the_moment_it_expires() {
        assert!(token(None, 0, 0, Some(10)).is_valid(9));
        assert!(!token(None, 0, 0, Some(10)).is_valid(10));
    }
}
