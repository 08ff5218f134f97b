//! Secrets that prove who someone is: access, refresh, login and OpenID tokens, all stored as hashes.
//!
//! # Refreshing
//!
//! A refresh makes a new pair of tokens and leaves the old ones alone, in case the answer gets lost. Each new token
//! remembers the refresh token it was got for, until one of the pair is first used ([`confirm`]): then that old
//! refresh token goes, with its access token and with other pairs that were got for it and never used.

use std::collections::HashMap;

use myelin_core::nid::UserNid;
use ruma::{OwnedDeviceId, OwnedUserId};
use sha2::{Digest, Sha256};

use crate::{
    accounts::AccountMarks,
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    START_SESSION = "
        WITH device AS (
                 INSERT INTO devices (user_nid, device_id, display_name, created)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (user_nid, device_id) DO UPDATE
                 SET    display_name = devices.display_name
                 RETURNING (xmax = 0) AS is_new
             ),
             gone_access AS (
                 DELETE FROM access_tokens
                 WHERE  user_nid = $1 AND device_id = $2
                 RETURNING token_hash
             ),
             gone_refresh AS (
                 DELETE FROM refresh_tokens
                 WHERE  user_nid = $1 AND device_id = $2
             ),
             new_access AS (
                 INSERT INTO access_tokens (token_hash, user_nid, device_id, expires, refresh_hash)
                 VALUES ($5, $1, $2, $6, $7)
             ),
             new_refresh AS (
                 INSERT INTO refresh_tokens (token_hash, user_nid, device_id)
                 SELECT $7, $1, $2
                 WHERE  $7::BYTEA IS NOT NULL
             )
        SELECT is_new, ARRAY(SELECT token_hash FROM gone_access) AS gone
        FROM   device
    ",
    FIND_IDENTITIES = "
        SELECT token.token_hash, token.user_nid, token.device_id, token.expires,
               (token.replaces IS NOT NULL) AS is_unconfirmed,
               users.user_id, users.is_guest, users.is_admin, users.is_deactivated, users.is_locked,
               users.is_suspended, users.is_erased, users.appservice_id
        FROM   access_tokens AS token
        JOIN   users USING (user_nid)
        WHERE  token.token_hash = ANY($1)
    ",
    FIND_REFRESH_TOKEN = "
        SELECT token.user_nid, token.device_id, NULL::BIGINT AS expires,
               (token.replaces IS NOT NULL) AS is_unconfirmed,
               users.user_id, users.is_guest, users.is_admin, users.is_deactivated, users.is_locked,
               users.is_suspended, users.is_erased, users.appservice_id
        FROM   refresh_tokens AS token
        JOIN   users USING (user_nid)
        WHERE  token.token_hash = $1
    ",
    REFRESH = "
        WITH session AS (
                 SELECT user_nid, device_id
                 FROM   refresh_tokens
                 WHERE  token_hash = $1
                 FOR UPDATE
             ),
             new_refresh AS (
                 INSERT INTO refresh_tokens (token_hash, user_nid, device_id, replaces)
                 SELECT $4, user_nid, device_id, $1
                 FROM   session
             )
        INSERT INTO access_tokens (token_hash, user_nid, device_id, expires, refresh_hash, replaces)
        SELECT $2, user_nid, device_id, $3, $4, $1
        FROM   session
    ",
    // $1 is an access token or a refresh token: both lead to the refresh token of the pair.
    CONFIRM = "
        WITH proven AS (
                 SELECT token_hash, user_nid, device_id, replaces
                 FROM   refresh_tokens
                 WHERE  token_hash = COALESCE((SELECT refresh_hash FROM access_tokens WHERE token_hash = $1), $1)
                   AND  replaces IS NOT NULL
             ),
             kept_access AS (
                 UPDATE access_tokens AS token
                 SET    replaces = NULL
                 FROM   proven
                 WHERE  token.user_nid = proven.user_nid
                   AND  token.device_id = proven.device_id
                   AND  token.refresh_hash = proven.token_hash
             ),
             kept_refresh AS (
                 UPDATE refresh_tokens AS token
                 SET    replaces = NULL
                 FROM   proven
                 WHERE  token.token_hash = proven.token_hash
             ),
             gone_refresh AS (
                 DELETE FROM refresh_tokens AS token
                 USING  proven
                 WHERE  token.user_nid = proven.user_nid
                   AND  token.device_id = proven.device_id
                   AND  token.token_hash <> proven.token_hash
                   AND  (token.token_hash = proven.replaces OR token.replaces = proven.replaces)
             )
        DELETE FROM access_tokens AS token
        USING  proven
        WHERE  token.user_nid = proven.user_nid
          AND  token.device_id = proven.device_id
          AND  token.refresh_hash <> proven.token_hash
          AND  (token.refresh_hash = proven.replaces OR token.replaces = proven.replaces)
        RETURNING token.token_hash
    ",
    INSERT_LOGIN_TOKEN = "
        INSERT INTO login_tokens (token_hash, user_nid, expires)
        VALUES ($1, $2, $3)
    ",
    TAKE_LOGIN_TOKEN = "
        DELETE FROM login_tokens
        WHERE  token_hash = $1
        RETURNING user_nid, expires
    ",
    INSERT_OPENID_TOKEN = "
        INSERT INTO openid_tokens (token_hash, user_nid, expires)
        VALUES ($1, $2, $3)
    ",
    FIND_OPENID_TOKEN = "
        SELECT users.user_id
        FROM   openid_tokens AS token
        JOIN   users USING (user_nid)
        WHERE  token.token_hash = $1 AND token.expires > $2 AND NOT users.is_deactivated
    ",
    DELETE_EXPIRED = "
        WITH gone_openid AS (DELETE FROM openid_tokens WHERE expires <= $1)
        DELETE FROM login_tokens
        WHERE  expires <= $1
    ",
}

/// What is stored of a token: enough to recognise it, not enough to use it. Tokens are long and random, so a
/// plain hash cannot be turned back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a token as the client presents it.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// As it is stored.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_column(columns: &Columns<'_>, bytes: Vec<u8>) -> Result<Self, StorageError> {
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| columns.corrupt("token_hash: not 32 bytes"))
    }
}

/// A session that is about to begin: a device with new tokens.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose session.
    pub user: UserNid,
    /// Its device, new or known.
    pub device_id: OwnedDeviceId,
    /// Name of the device; ignored when the device is known.
    pub display_name: Option<String>,
    /// Now, in milliseconds since 1970.
    pub created: i64,
    /// Hash of the access token.
    pub access: TokenHash,
    /// When the access token expires, in milliseconds since 1970. `None`: never.
    pub expires: Option<i64>,
    /// Hash of the refresh token, if the session has one.
    pub refresh: Option<TokenHash>,
}

/// What beginning a session did to its device.
#[derive(Clone, Debug)]
pub struct SessionStarted {
    /// The device was not known before.
    pub device_is_new: bool,
    /// Access tokens of the device that are no longer good.
    pub revoked: Vec<TokenHash>,
}

/// Whom a token proves.
#[derive(Clone, Debug)]
pub struct TokenIdentity {
    /// NID of the user.
    pub user: UserNid,
    /// The user id.
    pub user_id: OwnedUserId,
    /// The device of the session.
    pub device_id: OwnedDeviceId,
    /// When the token expires, in milliseconds since 1970; it may have. `None`: never.
    pub expires: Option<i64>,
    /// The token was got by a refresh and not used yet: call [`confirm`] before it is accepted.
    pub is_unconfirmed: bool,
    /// What the user may do.
    pub marks: AccountMarks,
    /// The application service that registered the user.
    pub appservice_id: Option<String>,
}

impl TokenIdentity {
    fn of(columns: &Columns<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            user: columns.nid("user_nid")?,
            user_id: columns.parse("user_id")?,
            device_id: columns.get::<String>("device_id")?.into(),
            expires: columns.get("expires")?,
            is_unconfirmed: columns.get("is_unconfirmed")?,
            marks: AccountMarks::of(columns)?,
            appservice_id: columns.get("appservice_id")?,
        })
    }
}

/// Begins a session on a device, which is made if it is not known. Tokens that the device had are revoked.
pub async fn start_session(
    db: &impl GenericClient,
    session: &NewSession,
) -> Result<SessionStarted, StorageError> {
    let statement = db.prepare_cached(START_SESSION).await?;
    let row = db
        .query_one(
            &statement,
            &[
                &session.user.get(),
                &text(session.device_id.as_str()).as_ref(),
                &session.display_name.as_deref().map(text).as_deref(),
                &session.created,
                &session.access.bytes(),
                &session.expires,
                &session.refresh.as_ref().map(TokenHash::bytes),
            ],
        )
        .await?;
    let columns = Columns::of("access_tokens", &row);
    let revoked: Vec<Vec<u8>> = columns.get("gone")?;
    let revoked = revoked.into_iter().map(|bytes| TokenHash::from_column(&columns, bytes));
    Ok(SessionStarted { device_is_new: columns.get("is_new")?, revoked: revoked.collect::<Result<_, _>>()? })
}

/// Whom an access token proves, expired or not: one statement.
pub async fn find_identity(
    db: &impl GenericClient,
    token: &TokenHash,
) -> Result<Option<TokenIdentity>, StorageError> {
    Ok(find_identities(db, std::slice::from_ref(token)).await?.remove(token))
}

/// Whom these access tokens prove, expired or not: one statement. Those that prove nobody are left out.
pub async fn find_identities(
    db: &impl GenericClient,
    tokens: &[TokenHash],
) -> Result<HashMap<TokenHash, TokenIdentity>, StorageError> {
    let tokens: Vec<&[u8]> = tokens.iter().map(TokenHash::bytes).collect();
    let statement = db.prepare_cached(FIND_IDENTITIES).await?;
    let rows = db.query(&statement, &[&tokens]).await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("access_tokens", row);
            Ok((TokenHash::from_column(&columns, columns.get("token_hash")?)?, TokenIdentity::of(&columns)?))
        })
        .collect()
}

/// Whom a refresh token proves.
pub async fn find_refresh_token(
    db: &impl GenericClient,
    token: &TokenHash,
) -> Result<Option<TokenIdentity>, StorageError> {
    let statement = db.prepare_cached(FIND_REFRESH_TOKEN).await?;
    let row = db.query_opt(&statement, &[&token.bytes()]).await?;
    row.map(|row| TokenIdentity::of(&Columns::of("refresh_tokens", &row))).transpose()
}

/// Adds a pair of tokens to the session of the refresh token `old`, which stays good until one of them is used.
/// `false`: there is no such token.
pub async fn refresh(
    db: &impl GenericClient,
    old: &TokenHash,
    access: &TokenHash,
    expires: Option<i64>,
    refresh: &TokenHash,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(REFRESH).await?;
    let added = db.execute(&statement, &[&old.bytes(), &access.bytes(), &expires, &refresh.bytes()]).await?;
    Ok(added == 1)
}

/// Notes the first use of a token that a refresh gave: what it replaces is revoked. Answers with the access
/// tokens that are no longer good. Harmless for any other token.
pub async fn confirm(db: &impl GenericClient, token: &TokenHash) -> Result<Vec<TokenHash>, StorageError> {
    let statement = db.prepare_cached(CONFIRM).await?;
    let rows = db.query(&statement, &[&token.bytes()]).await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("access_tokens", row);
            TokenHash::from_column(&columns, columns.get("token_hash")?)
        })
        .collect()
}

/// Stores a token for `m.login.token`.
pub async fn insert_login_token(
    db: &impl GenericClient,
    token: &TokenHash,
    user: UserNid,
    expires: i64,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(INSERT_LOGIN_TOKEN).await?;
    db.execute(&statement, &[&token.bytes(), &user.get(), &expires]).await?;
    Ok(())
}

/// Uses a login token up. `None`: there is none such, or it has expired.
pub async fn take_login_token(
    db: &impl GenericClient,
    token: &TokenHash,
    now: i64,
) -> Result<Option<UserNid>, StorageError> {
    let statement = db.prepare_cached(TAKE_LOGIN_TOKEN).await?;
    let Some(row) = db.query_opt(&statement, &[&token.bytes()]).await? else { return Ok(None) };
    let columns = Columns::of("login_tokens", &row);
    let is_good = columns.get::<i64>("expires")? > now;
    Ok(if is_good { Some(columns.nid("user_nid")?) } else { None })
}

/// Stores an OpenID token.
pub async fn insert_openid_token(
    db: &impl GenericClient,
    token: &TokenHash,
    user: UserNid,
    expires: i64,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(INSERT_OPENID_TOKEN).await?;
    db.execute(&statement, &[&token.bytes(), &user.get(), &expires]).await?;
    Ok(())
}

/// The user whom an OpenID token names, while it is good.
pub async fn find_openid_user(
    db: &impl GenericClient,
    token: &TokenHash,
    now: i64,
) -> Result<Option<OwnedUserId>, StorageError> {
    let statement = db.prepare_cached(FIND_OPENID_TOKEN).await?;
    let row = db.query_opt(&statement, &[&token.bytes(), &now]).await?;
    row.map(|row| Columns::of("openid_tokens", &row).parse("user_id")).transpose()
}

/// Removes login and OpenID tokens that have expired. Expired access tokens stay with their session, which may
/// be refreshed; they are answered as logged out softly.
pub async fn delete_expired(db: &impl GenericClient, now: i64) -> Result<(), StorageError> {
    let statement = db.prepare_cached(DELETE_EXPIRED).await?;
    db.execute(&statement, &[&now]).await?;
    Ok(())
}
