//! Accounts: what registering, logging in and refreshing have in common.
//!
//! - [`names`]: which user ids this server gives out. [`passwords`]: hashed and compared, never on an async thread.
//! - [`secrets`]: tokens and ids that nobody can guess.
//!
//! Deliberately absent: HTTP, and the proof that someone may do this (`http::uia`).

pub mod names;
pub mod passwords;
pub mod secrets;

use std::time::Duration;

use myelin_core::nid::UserNid;
use myelin_storage::{
    StorageError,
    accounts::{self, Account, NewAccount, Registration},
    tokens::{self, NewSession, TokenHash},
    uia,
};
use ruma::{OwnedDeviceId, OwnedUserId, UserId, api::error::ErrorKind};
use serde_json::Value;

use crate::{app::App, error::MatrixError, workflows::keys};

/// How long a device id may be: as long as other ids.
const MAX_DEVICE_ID: usize = 255;

/// What a client says about the session that it wants.
#[derive(Clone, Debug, Default)]
pub struct WantedSession {
    /// Its device. `None`: a new one.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of the device, if it is new.
    pub display_name: Option<String>,
    /// It can refresh its access token.
    pub refreshes: bool,
}

/// A session that has begun: what the client is told.
#[derive(Clone, Debug)]
pub struct OpenedSession {
    /// Its device.
    pub device_id: OwnedDeviceId,
    /// Its access token.
    pub access_token: String,
    /// Its refresh token, if the client can use one.
    pub refresh_token: Option<String>,
    /// How long the access token is good. `None`: until it is revoked.
    pub expires_in: Option<Duration>,
}

/// A pair of tokens after a refresh.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The new access token.
    pub access_token: String,
    /// The new refresh token.
    pub refresh_token: String,
    /// How long the access token is good. `None`: until it is revoked.
    pub expires_in: Option<Duration>,
}

/// Someone who is about to have an account.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// Their id.
    pub user_id: OwnedUserId,
    /// Their first display name. `None`: their localpart.
    pub display_name: Option<String>,
    /// Their hashed password. `None`: they cannot log in with one.
    pub password_hash: Option<String>,
    /// They are a guest.
    pub is_guest: bool,
    /// They may use the administration API.
    pub is_admin: bool,
    /// The application service that registers them.
    pub appservice_id: Option<String>,
}

/// Milliseconds since 1970, as the database keeps them.
pub fn now(app: &App) -> i64 {
    i64::try_from(app.process.clock.now_ms()).unwrap_or(i64::MAX)
}

/// The time that is this long after now.
pub fn after(app: &App, duration: Duration) -> i64 {
    now(app).saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// The account with this id, if there is one that is in use.
pub async fn find_active(app: &App, user_id: &UserId) -> Result<Option<Account>, MatrixError> {
    let account = accounts::find(&app.storage.get().await?, user_id).await?;
    Ok(account.filter(|account| !account.marks.is_deactivated))
}

/// Refuses a name that is taken, or was.
pub async fn require_free(app: &App, user_id: &UserId) -> Result<(), MatrixError> {
    match accounts::find(&app.storage.get().await?, user_id).await? {
        Some(_) => Err(name_taken()),
        None => Ok(()),
    }
}

/// Makes an account, and with `session` logs it in. `uia_session` is what allowed it.
pub async fn register(
    app: &App,
    newcomer: Newcomer,
    session: Option<WantedSession>,
    uia_session: Option<TokenHash>,
) -> Result<Option<OpenedSession>, MatrixError> {
    let nid = app.actors.nids.intern_users(&[&newcomer.user_id]).await?;
    let nid = *nid.first().expect("one user id has one NID");
    let opened = session.map(|wanted| open(app, nid, wanted)).transpose()?;
    let (stored, opened) = opened.unzip();
    let localpart = || newcomer.user_id.localpart().to_owned();
    let display_name = newcomer.display_name.unwrap_or_else(localpart);
    let registration = Registration {
        account: NewAccount {
            nid,
            user_id: newcomer.user_id,
            password_hash: newcomer.password_hash,
            created: now(app),
            is_guest: newcomer.is_guest,
            is_admin: newcomer.is_admin,
            appservice_id: newcomer.appservice_id,
        },
        display_name: Some(Value::String(display_name).to_string()),
        session: stored,
        uia_session,
    };
    if accounts::register(&mut app.storage.get().await?, &registration).await? {
        Ok(opened)
    } else {
        Err(name_taken())
    }
}

/// Whether the token is that of the guest with this id, who may then become a user like others.
pub async fn is_token_of_guest(app: &App, token: &str, user_id: &UserId) -> Result<bool, MatrixError> {
    let identity = tokens::find_identity(&app.storage.get().await?, &TokenHash::of(token)).await?;
    Ok(identity.is_some_and(|identity| {
        let marks = identity.marks;
        identity.user_id == user_id && marks.is_guest && !marks.is_deactivated && !marks.is_locked
    }))
}

/// Begins a session. Tokens that its device had are no longer good.
pub async fn log_in(app: &App, user: UserNid, wanted: WantedSession) -> Result<OpenedSession, MatrixError> {
    let (session, opened) = open(app, user, wanted)?;
    let started = tokens::start_session(&app.storage.get().await?, &session).await?;
    app.memory.sessions.forget(&started.revoked);
    if started.device_is_new {
        keys::announce_device(app, user, opened.device_id.clone()).await?;
    }
    Ok(opened)
}

/// Gives a new pair of tokens for a refresh token, which stays good until one of the pair is used.
pub async fn refresh(app: &App, refresh_token: &str) -> Result<Refreshed, MatrixError> {
    let old = TokenHash::of(refresh_token);
    let client = app.storage.get().await?;
    let identity = tokens::find_refresh_token(&client, &old).await?;
    let identity = identity.filter(|identity| !identity.marks.is_deactivated);
    let identity = identity.ok_or_else(|| MatrixError::unknown_token(true))?;
    if identity.marks.is_locked {
        return Err(locked());
    }
    if identity.is_unconfirmed {
        app.memory.sessions.forget(&tokens::confirm(&client, &old).await?);
    }
    let (access_token, refresh_token) = (secrets::token(), secrets::token());
    let lifetime = app.config.registration.access_token_lifetime();
    let expires = lifetime.map(|lifetime| after(app, lifetime));
    let (access, refresh) = (TokenHash::of(&access_token), TokenHash::of(&refresh_token));
    if !tokens::refresh(&client, &old, &access, expires, &refresh).await? {
        return Err(MatrixError::unknown_token(true));
    }
    Ok(Refreshed { access_token, refresh_token, expires_in: lifetime })
}

/// Forgets tokens and authentication sessions that have expired, and gives back the registration tokens that they
/// held.
pub async fn forget_expired(app: &App) -> Result<(), StorageError> {
    let client = app.storage.get().await?;
    uia::delete_expired(&client, now(app)).await?;
    tokens::delete_expired(&client, now(app)).await
}

/// The account is locked: nothing but logging out is possible.
pub fn locked() -> MatrixError {
    MatrixError::new(http::StatusCode::UNAUTHORIZED, ErrorKind::UserLocked, "your account is locked")
}

fn name_taken() -> MatrixError {
    MatrixError::bad_request(ErrorKind::UserInUse, "this name is taken")
}

/// A session as it will be stored, and as the client will be told of it.
fn open(app: &App, user: UserNid, wanted: WantedSession) -> Result<(NewSession, OpenedSession), MatrixError> {
    let device_id = match wanted.device_id {
        Some(device_id) => checked_device_id(device_id)?,
        None => secrets::device_id(),
    };
    let access_token = secrets::token();
    let refresh_token = wanted.refreshes.then(secrets::token);
    // A client that cannot refresh would be logged out when its token expires.
    let expires_in = app.config.registration.access_token_lifetime().filter(|_| wanted.refreshes);
    let session = NewSession {
        user,
        device_id: device_id.clone(),
        display_name: wanted.display_name,
        created: now(app),
        access: TokenHash::of(&access_token),
        expires: expires_in.map(|lifetime| after(app, lifetime)),
        refresh: refresh_token.as_deref().map(TokenHash::of),
    };
    Ok((session, OpenedSession { device_id, access_token, refresh_token, expires_in }))
}

fn checked_device_id(device_id: OwnedDeviceId) -> Result<OwnedDeviceId, MatrixError> {
    let id = device_id.as_str();
    if id.is_empty() || id.len() > MAX_DEVICE_ID || id.contains('\0') {
        return Err(MatrixError::invalid_param("this cannot be a device id"));
    }
    Ok(device_id)
}
