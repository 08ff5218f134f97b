//! User-interactive authentication that is under way: what it is for, and which stages are done.
//!
//! What the stages are and whether one is passed is decided above; here it is only remembered, together with
//! the registration token whose pending use a session holds.

use myelin_core::nid::UserNid;
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
    tokens::TokenHash,
};

statements! {
    INSERT_SESSION = "
        INSERT INTO uia_sessions (session_hash, operation, user_nid, remembered, expires)
        VALUES ($1, $2, $3, $4, $5)
    ",
    FIND_SESSION = "
        SELECT operation, request_mac, user_nid, completed, remembered, outcome
        FROM   uia_sessions
        WHERE  session_hash = $1 AND expires > $2
    ",
    COMPLETE_STAGE = "
        UPDATE uia_sessions
        SET    completed = ARRAY_APPEND(ARRAY_REMOVE(completed, $2), $2),
               request_mac = COALESCE(request_mac, $3)
        WHERE  session_hash = $1
    ",
    // The pending use is counted only when this session holds none yet.
    HOLD_REGISTRATION_TOKEN = "
        WITH used AS (
                 UPDATE registration_tokens
                 SET    pending = pending + 1
                 WHERE  token = $2
                   AND  (expires IS NULL OR expires > $3)
                   AND  (uses_allowed IS NULL OR pending + completed < uses_allowed)
                   AND  EXISTS (
                            SELECT 1
                            FROM   uia_sessions
                            WHERE  session_hash = $1 AND registration_token IS NULL
                        )
                 RETURNING token
             )
        UPDATE uia_sessions
        SET    registration_token = used.token
        FROM   used
        WHERE  session_hash = $1
    ",
    FINISH_SESSION = "
        DELETE FROM uia_sessions
        WHERE  session_hash = $1
    ",
    FINISH_REGISTRATION = "
        WITH held AS (
                 SELECT registration_token
                 FROM   uia_sessions
                 WHERE  session_hash = $1
                 FOR UPDATE
             ),
             done AS (
                 UPDATE uia_sessions
                 SET    outcome = $2, registration_token = NULL
                 WHERE  session_hash = $1
             )
        UPDATE registration_tokens
        SET    pending = GREATEST(pending - 1, 0), completed = completed + 1
        FROM   held
        WHERE  token = held.registration_token
    ",
    DELETE_EXPIRED = "
        WITH gone AS (
                 DELETE FROM uia_sessions
                 WHERE  expires <= $1
                 RETURNING registration_token
             ),
             held AS (
                 SELECT registration_token, COUNT(*)::INTEGER AS uses
                 FROM   gone
                 WHERE  registration_token IS NOT NULL
                 GROUP BY registration_token
             )
        UPDATE registration_tokens
        SET    pending = GREATEST(pending - held.uses, 0)
        FROM   held
        WHERE  token = held.registration_token
    ",
}

/// An authentication that begins.
#[derive(Clone, Debug)]
pub struct NewUiaSession<'a> {
    /// Hash of what the client sends back.
    pub session: TokenHash,
    /// What it is for.
    pub operation: &'a str,
    /// Who asks. `None`: someone without an account.
    pub user: Option<UserNid>,
    /// Parameters of the request, for clients that do not repeat them.
    pub remembered: Option<&'a str>,
    /// In milliseconds since 1970.
    pub expires: i64,
}

/// An authentication that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UiaSession {
    /// What it is for.
    pub operation: String,
    /// Stands for the request's parameters. `None`: no stage is done, so they may still change.
    pub request_mac: Option<Vec<u8>>,
    /// Who asks. `None`: someone without an account.
    pub user: Option<UserNid>,
    /// The stages done so far, in their order.
    pub completed: Vec<String>,
    /// Parameters of the first request.
    pub remembered: Option<String>,
    /// The user id that was registered.
    pub outcome: Option<String>,
}

impl TryFrom<&Row> for UiaSession {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("uia_sessions", row);
        Ok(Self {
            operation: columns.get("operation")?,
            request_mac: columns.get("request_mac")?,
            user: columns.opt_nid("user_nid")?,
            completed: columns.get("completed")?,
            remembered: columns.get("remembered")?,
            outcome: columns.get("outcome")?,
        })
    }
}

/// Begins an authentication.
pub async fn create(db: &impl GenericClient, session: &NewUiaSession<'_>) -> Result<(), StorageError> {
    let statement = db.prepare_cached(INSERT_SESSION).await?;
    let operation = text(session.operation);
    db.execute(
        &statement,
        &[
            &session.session.bytes(),
            &operation.as_ref(),
            &session.user.map(UserNid::get),
            &session.remembered,
            &session.expires,
        ],
    )
    .await?;
    Ok(())
}

/// The session, while it has not expired.
pub async fn find(
    db: &impl GenericClient,
    session: &TokenHash,
    now: i64,
) -> Result<Option<UiaSession>, StorageError> {
    let statement = db.prepare_cached(FIND_SESSION).await?;
    let row = db.query_opt(&statement, &[&session.bytes(), &now]).await?;
    row.as_ref().map(UiaSession::try_from).transpose()
}

/// Notes that a stage is done. The first one binds the session to the request that `request_mac` stands for, unless
/// the stage was passed outside a request (`None`), on a fallback page.
pub async fn complete_stage(
    db: &impl GenericClient,
    session: &TokenHash,
    stage: &str,
    request_mac: Option<&[u8]>,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(COMPLETE_STAGE).await?;
    db.execute(&statement, &[&session.bytes(), &stage, &request_mac]).await?;
    Ok(())
}

/// Counts a pending use of the registration token for this session. `false`: the token is not valid, or the
/// session holds one already.
pub async fn hold_registration_token(
    db: &impl GenericClient,
    session: &TokenHash,
    token: &str,
    now: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(HOLD_REGISTRATION_TOKEN).await?;
    Ok(db.execute(&statement, &[&session.bytes(), &text(token).as_ref(), &now]).await? == 1)
}

/// Ends a session whose request has been done: it is good for no other.
pub async fn finish(db: &impl GenericClient, session: &TokenHash) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FINISH_SESSION).await?;
    db.execute(&statement, &[&session.bytes()]).await?;
    Ok(())
}

/// Notes that the session has registered a user: the registration token that it held is used, and whoever repeats
/// the request learns of this user.
pub(crate) async fn finish_registration(
    db: &impl GenericClient,
    session: &TokenHash,
    user_id: &str,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FINISH_REGISTRATION).await?;
    db.execute(&statement, &[&session.bytes(), &user_id]).await?;
    Ok(())
}

/// Removes sessions that have expired, and gives back the registration tokens that they held.
pub async fn delete_expired(db: &impl GenericClient, now: i64) -> Result<(), StorageError> {
    let statement = db.prepare_cached(DELETE_EXPIRED).await?;
    db.execute(&statement, &[&now]).await?;
    Ok(())
}
