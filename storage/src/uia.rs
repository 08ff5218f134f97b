//! User-interactive authentication that is under way: which request it is for, and which stages are done.
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
};

statements! {
    INSERT_SESSION = "
        INSERT INTO uia_sessions (session_id, operation, user_nid, expires)
        VALUES ($1, $2, $3, $4)
    ",
    FIND_SESSION = "
        SELECT session_id, operation, request_hash, user_nid, completed
        FROM   uia_sessions
        WHERE  session_id = $1 AND expires > $2
    ",
    COMPLETE_STAGE = "
        UPDATE uia_sessions
        SET    completed = ARRAY_APPEND(ARRAY_REMOVE(completed, $2), $2),
               request_hash = COALESCE(request_hash, $3)
        WHERE  session_id = $1
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
                            WHERE  session_id = $1 AND registration_token IS NULL
                        )
                 RETURNING token
             )
        UPDATE uia_sessions
        SET    registration_token = used.token
        FROM   used
        WHERE  session_id = $1
    ",
    FINISH_SESSION = "
        WITH gone AS (
                 DELETE FROM uia_sessions
                 WHERE  session_id = $1
                 RETURNING registration_token
             )
        UPDATE registration_tokens
        SET    pending = GREATEST(pending - 1, 0), completed = completed + 1
        FROM   gone
        WHERE  token = gone.registration_token
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

/// An authentication that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UiaSession {
    /// What the client sends back.
    pub session_id: String,
    /// Method and path of the request that it is for.
    pub operation: String,
    /// SHA-256 of that request's body without `auth`. `None`: no stage is done, so it may still change.
    pub request_hash: Option<Vec<u8>>,
    /// Who makes the request. `None`: someone without an account.
    pub user: Option<UserNid>,
    /// The stages done so far.
    pub completed: Vec<String>,
}

impl TryFrom<&Row> for UiaSession {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("uia_sessions", row);
        Ok(Self {
            session_id: columns.get("session_id")?,
            operation: columns.get("operation")?,
            request_hash: columns.get("request_hash")?,
            user: columns.opt_nid("user_nid")?,
            completed: columns.get("completed")?,
        })
    }
}

/// Begins an authentication for a request, to be finished before `expires`.
pub async fn create(
    db: &impl GenericClient,
    session_id: &str,
    operation: &str,
    user: Option<UserNid>,
    expires: i64,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(INSERT_SESSION).await?;
    let user = user.map(UserNid::get);
    db.execute(&statement, &[&session_id, &text(operation).as_ref(), &user, &expires]).await?;
    Ok(())
}

/// The session with this id, while it has not expired.
pub async fn find(
    db: &impl GenericClient,
    session_id: &str,
    now: i64,
) -> Result<Option<UiaSession>, StorageError> {
    let statement = db.prepare_cached(FIND_SESSION).await?;
    let row = db.query_opt(&statement, &[&text(session_id).as_ref(), &now]).await?;
    row.as_ref().map(UiaSession::try_from).transpose()
}

/// Notes that a stage is done. The first one binds the session to the request with this hash, unless the stage was
/// passed outside a request (`None`), on a fallback page.
pub async fn complete_stage(
    db: &impl GenericClient,
    session_id: &str,
    stage: &str,
    request_hash: Option<&[u8]>,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(COMPLETE_STAGE).await?;
    db.execute(&statement, &[&session_id, &stage, &request_hash]).await?;
    Ok(())
}

/// Counts a pending use of the registration token for this session. `false`: the token is not valid, or the
/// session holds one already.
pub async fn hold_registration_token(
    db: &impl GenericClient,
    session_id: &str,
    token: &str,
    now: i64,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(HOLD_REGISTRATION_TOKEN).await?;
    Ok(db.execute(&statement, &[&session_id, &text(token).as_ref(), &now]).await? == 1)
}

/// Ends a session whose request has been done: it is good for no other. A registration token that it held is
/// used.
pub async fn finish(db: &impl GenericClient, session_id: &str) -> Result<(), StorageError> {
    let statement = db.prepare_cached(FINISH_SESSION).await?;
    db.execute(&statement, &[&session_id]).await?;
    Ok(())
}

/// Removes sessions that have expired, and gives back the registration tokens that they held.
pub async fn delete_expired(db: &impl GenericClient, now: i64) -> Result<(), StorageError> {
    let statement = db.prepare_cached(DELETE_EXPIRED).await?;
    db.execute(&statement, &[&now]).await?;
    Ok(())
}
