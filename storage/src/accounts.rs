//! Accounts of this server.
//!
//! Not here: devices and tokens (`devices`, `tokens`), profiles, and what a password is hashed with. A
//! deactivated account keeps its row, so that nobody gets its name again.

use myelin_core::nid::UserNid;
use ruma::{OwnedUserId, UserId};
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::{Client, GenericClient},
    profiles,
    row::{Columns, plain},
    statements::statements,
    tokens::{self, NewSession, TokenHash},
    uia,
};

statements! {
    INSERT_USER = "
        INSERT INTO users (user_nid, user_id, password_hash, created, is_guest, is_admin, appservice_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT DO NOTHING
    ",
    FIND_USER = "
        SELECT user_nid, user_id, password_hash, created, is_guest, is_admin, is_deactivated, is_locked,
               is_suspended, is_erased, appservice_id
        FROM   users
        WHERE  user_id = $1
    ",
    LIST_USERS = "
        SELECT user_nid, user_id, password_hash, created, is_guest, is_admin, is_deactivated, is_locked,
               is_suspended, is_erased, appservice_id
        FROM   users
        WHERE  user_nid = ANY($1)
    ",
    PAGE_USERS = "
        SELECT user_nid, user_id, password_hash, created, is_guest, is_admin, is_deactivated, is_locked,
               is_suspended, is_erased, appservice_id
        FROM   users
        WHERE  user_nid > $1
        ORDER BY user_nid
        LIMIT  $2
    ",
    LIST_ERASED = "
        SELECT user_nid
        FROM   users
        WHERE  user_nid = ANY($1) AND is_erased
    ",
    COUNT_USERS = "
        SELECT COUNT(*) AS users
        FROM   users
        WHERE  NOT is_deactivated AND NOT is_guest AND appservice_id IS NULL
    ",
    SET_PASSWORD = "
        UPDATE users
        SET    password_hash = $2
        WHERE  user_nid = $1 AND NOT is_deactivated
    ",
    UPGRADE_GUEST = "
        UPDATE users
        SET    is_guest = FALSE, password_hash = $2
        WHERE  user_nid = $1 AND is_guest AND NOT is_deactivated
    ",
    SET_ADMIN = "
        UPDATE users
        SET    is_admin = $2
        WHERE  user_nid = $1
    ",
    SET_LOCKED = "
        UPDATE users
        SET    is_locked = $2
        WHERE  user_nid = $1
    ",
    SET_SUSPENDED = "
        UPDATE users
        SET    is_suspended = $2
        WHERE  user_nid = $1
    ",
    // Everything that belongs to the account and to nothing else goes with its devices or here.
    DEACTIVATE = "
        WITH gone_devices AS (DELETE FROM devices WHERE user_nid = $1),
             gone_logins AS (DELETE FROM login_tokens WHERE user_nid = $1),
             gone_openid AS (DELETE FROM openid_tokens WHERE user_nid = $1),
             gone_profile AS (DELETE FROM profile_fields WHERE user_nid = $1),
             gone_filters AS (DELETE FROM filters WHERE user_nid = $1),
             gone_keys AS (DELETE FROM cross_signing_keys WHERE user_nid = $1),
             gone_signatures AS (DELETE FROM key_signatures WHERE target_nid = $1 OR signer_nid = $1),
             gone_backups AS (DELETE FROM key_backups WHERE user_nid = $1),
             gone_data AS (DELETE FROM account_data WHERE user_nid = $1 AND $2)
        UPDATE users
        SET    is_deactivated = TRUE, is_erased = is_erased OR $2, is_admin = FALSE, password_hash = NULL
        WHERE  user_nid = $1
    ",
}

/// An account that does not exist yet.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The NID that the user id was interned as.
    pub nid: UserNid,
    /// The user id.
    pub user_id: OwnedUserId,
    /// The password, hashed in PHC form. `None`: nobody can log in with a password.
    pub password_hash: Option<String>,
    /// When, in milliseconds since 1970.
    pub created: i64,
    /// Registered as a guest.
    pub is_guest: bool,
    /// May use the administration API.
    pub is_admin: bool,
    /// The application service that registers it.
    pub appservice_id: Option<String>,
}

/// What an account may do and what has happened to it. The marks are independent of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of its own, set by a different hand")]
pub struct AccountMarks {
    /// Registered with `kind=guest`.
    pub is_guest: bool,
    /// May use the administration API.
    pub is_admin: bool,
    /// Gone for good, except for the name.
    pub is_deactivated: bool,
    /// Every request but logout is refused.
    pub is_locked: bool,
    /// May read and leave, not take part.
    pub is_suspended: bool,
    /// Later joiners get redacted copies of its events.
    pub is_erased: bool,
}

impl AccountMarks {
    /// From columns of these names.
    pub(crate) fn of(columns: &Columns<'_>) -> Result<Self, StorageError> {
        Ok(Self {
            is_guest: columns.get("is_guest")?,
            is_admin: columns.get("is_admin")?,
            is_deactivated: columns.get("is_deactivated")?,
            is_locked: columns.get("is_locked")?,
            is_suspended: columns.get("is_suspended")?,
            is_erased: columns.get("is_erased")?,
        })
    }
}

/// An account of this server, which may be deactivated.
#[derive(Clone, Debug)]
pub struct Account {
    /// NID of the user.
    pub nid: UserNid,
    /// The user id.
    pub user_id: OwnedUserId,
    /// The hashed password in PHC form. `None`: no password is right.
    pub password_hash: Option<String>,
    /// When it was registered, in milliseconds since 1970.
    pub created: i64,
    /// What it may do.
    pub marks: AccountMarks,
    /// The application service that registered it.
    pub appservice_id: Option<String>,
}

impl TryFrom<&Row> for Account {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("users", row);
        Ok(Self {
            nid: columns.nid("user_nid")?,
            user_id: columns.parse("user_id")?,
            password_hash: columns.get("password_hash")?,
            created: columns.get("created")?,
            marks: AccountMarks::of(&columns)?,
            appservice_id: columns.get("appservice_id")?,
        })
    }
}

/// Makes the account. `false`: the name is or was taken, and nothing has changed.
pub async fn create(db: &impl GenericClient, account: &NewAccount) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(INSERT_USER).await?;
    let inserted = db
        .execute(
            &statement,
            &[
                &account.nid.get(),
                &account.user_id.as_str(),
                &account.password_hash,
                &account.created,
                &account.is_guest,
                &account.is_admin,
                &account.appservice_id,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Everything that a registration makes.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The account.
    pub account: NewAccount,
    /// Its first display name, as JSON.
    pub display_name: Option<String>,
    /// The session that begins at once. `None`: the client logs in later.
    pub session: Option<NewSession>,
    /// The UIA session that allowed it.
    pub uia_session: Option<TokenHash>,
}

/// Registers an account: all of it or nothing. `false`: the name is or was taken.
pub async fn register(client: &mut Client, registration: &Registration) -> Result<bool, StorageError> {
    let transaction = client.transaction().await?;
    if !create(&transaction, &registration.account).await? {
        return Ok(false);
    }
    if let Some(name) = &registration.display_name {
        let user = registration.account.nid;
        profiles::set_unlocked(&transaction, user, "displayname", name, i64::MAX).await?;
    }
    if let Some(session) = &registration.session {
        tokens::start_session(&transaction, session).await?;
    }
    if let Some(session) = &registration.uia_session {
        uia::finish_registration(&transaction, session, registration.account.user_id.as_str()).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// The account with this user id, deactivated ones included.
pub async fn find(db: &impl GenericClient, user_id: &UserId) -> Result<Option<Account>, StorageError> {
    let statement = db.prepare_cached(FIND_USER).await?;
    let row = db.query_opt(&statement, &[&user_id.as_str()]).await?;
    row.as_ref().map(Account::try_from).transpose()
}

/// The accounts with these NIDs, in no order; remote users and unknown numbers are left out.
pub async fn list(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<Account>, StorageError> {
    let statement = db.prepare_cached(LIST_USERS).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    rows.iter().map(Account::try_from).collect()
}

/// At most `limit` accounts after the one with the NID `after`, in the order of their NIDs.
pub async fn page(
    db: &impl GenericClient,
    after: Option<UserNid>,
    limit: i64,
) -> Result<Vec<Account>, StorageError> {
    let statement = db.prepare_cached(PAGE_USERS).await?;
    let rows = db.query(&statement, &[&after.map_or(0, UserNid::get), &limit]).await?;
    rows.iter().map(Account::try_from).collect()
}

/// Those of these users who asked to be forgotten.
pub async fn list_erased(db: &impl GenericClient, users: &[UserNid]) -> Result<Vec<UserNid>, StorageError> {
    let statement = db.prepare_cached(LIST_ERASED).await?;
    let rows = db.query(&statement, &[&plain(users)]).await?;
    rows.iter().map(|row| Columns::of("users", row).nid("user_nid")).collect()
}

/// How many people have an account: guests, application services' users and deactivated accounts not counted.
pub async fn count(db: &impl GenericClient) -> Result<i64, StorageError> {
    let statement = db.prepare_cached(COUNT_USERS).await?;
    let row = db.query_one(&statement, &[]).await?;
    Columns::of("users", &row).get("users")
}

/// Replaces the password. Sessions go on. Changes nothing when the account is deactivated.
pub async fn set_password(
    db: &impl GenericClient,
    user: UserNid,
    password_hash: &str,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(SET_PASSWORD).await?;
    db.execute(&statement, &[&user.get(), &password_hash]).await?;
    Ok(())
}

/// Makes a guest a user like others, with this password. `false`: the account is no guest's, and has not changed.
pub async fn upgrade_guest(
    db: &impl GenericClient,
    user: UserNid,
    password_hash: &str,
) -> Result<bool, StorageError> {
    let statement = db.prepare_cached(UPGRADE_GUEST).await?;
    Ok(db.execute(&statement, &[&user.get(), &password_hash]).await? == 1)
}

/// Makes the user an administrator, or no longer one.
pub async fn set_admin(db: &impl GenericClient, user: UserNid, is_admin: bool) -> Result<(), StorageError> {
    set_mark(db, SET_ADMIN, user, is_admin).await
}

/// Locks the account, or unlocks it. Tokens are kept.
pub async fn set_locked(db: &impl GenericClient, user: UserNid, is_locked: bool) -> Result<(), StorageError> {
    set_mark(db, SET_LOCKED, user, is_locked).await
}

/// Suspends the account, or ends that.
pub async fn set_suspended(
    db: &impl GenericClient,
    user: UserNid,
    is_suspended: bool,
) -> Result<(), StorageError> {
    set_mark(db, SET_SUSPENDED, user, is_suspended).await
}

async fn set_mark(
    db: &impl GenericClient,
    statement: &str,
    user: UserNid,
    value: bool,
) -> Result<(), StorageError> {
    let statement = db.prepare_cached(statement).await?;
    db.execute(&statement, &[&user.get(), &value]).await?;
    Ok(())
}

/// Ends the account: no password, device, token, profile or filter is left. Leaving rooms and dropping what
/// other tables keep for the user is the caller's. With `erase` the account is marked as erased too, and its account data goes.
pub async fn deactivate(db: &impl GenericClient, user: UserNid, erase: bool) -> Result<(), StorageError> {
    set_mark(db, DEACTIVATE, user, erase).await
}
