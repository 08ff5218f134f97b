//! Making an account, as people do: a name, a password, and the proof that they may.

use std::time::Duration;

use ruma::{
    OwnedDeviceId, OwnedUserId, UserId,
    api::client::{
        account::register::{
            LoginType, RegistrationKind,
            v3::{self, Request},
        },
        uiaa::AuthData,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    accounts::{self, Newcomer, OpenedSession, WantedSession, names},
    app::App,
    error::MatrixError,
    http::{
        endpoint::Ruma,
        response::JsonText,
        uia::{self, OpenSession, Operation, Passed},
    },
};

/// What a client asks for, kept with the UIA session for clients that say it only once.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Wish {
    username: Option<String>,
    password_hash: Option<String>,
    device_id: Option<OwnedDeviceId>,
    device_name: Option<String>,
    inhibit_login: bool,
    refreshes: bool,
}

impl Wish {
    fn of(request: &Request) -> Self {
        Self {
            username: request.username.clone(),
            password_hash: None,
            device_id: request.device_id.clone(),
            device_name: request.initial_device_display_name.clone(),
            inhibit_login: request.inhibit_login,
            refreshes: request.refresh_token,
        }
    }

    /// The session that is wanted, if any.
    fn session(&self) -> Option<WantedSession> {
        (!self.inhibit_login).then(|| WantedSession {
            device_id: self.device_id.clone(),
            display_name: self.device_name.clone(),
            refreshes: self.refreshes,
        })
    }
}

/// `POST /_matrix/client/v3/register`
///
/// Repeated with the same UIA session, it answers with the account that it has made, and new tokens.
pub async fn register(app: App, req: Ruma<v3::Request>) -> Result<JsonText, MatrixError> {
    match (&req.login_type, &req.kind) {
        (Some(LoginType::ApplicationService), _) => Err(MatrixError::missing_token()),
        (_, RegistrationKind::Guest) => register_guest(&app, &req).await,
        (_, RegistrationKind::User) => register_user(&app, &req).await,
        _ => Err(MatrixError::invalid_param("accounts are of the kind guest or user")),
    }
}

async fn register_guest(app: &App, request: &Request) -> Result<JsonText, MatrixError> {
    if !app.config.registration.guests {
        return Err(MatrixError::forbidden("guests are not let in"));
    }
    let user_id = names::random_guest(&app.config.server_name);
    // A guest's device id is not for them to choose.
    let session = WantedSession {
        device_id: None,
        display_name: request.initial_device_display_name.clone(),
        refreshes: request.refresh_token,
    };
    let newcomer = Newcomer {
        user_id: user_id.clone(),
        display_name: None,
        password_hash: None,
        is_guest: true,
        is_admin: false,
        appservice_id: None,
    };
    let opened = accounts::register(app, newcomer, Some(session), None).await?;
    answer(&user_id, opened)
}

async fn register_user(app: &App, request: &Request) -> Result<JsonText, MatrixError> {
    if !app.config.registration.enabled {
        return Err(MatrixError::forbidden("nobody can register here"));
    }
    let session = uia::find_session(app, request.auth.as_ref().and_then(AuthData::session)).await?;
    let outcome = session.as_ref().and_then(|session| session.stored.outcome.clone());
    let mut wish = wish(request, session.as_ref());
    let wanted = match &wish.username {
        Some(username) => Some(names::wanted(username, &app.config.server_name)?),
        None => None,
    };
    match (&wanted, &request.guest_access_token) {
        (_, Some(token)) => require_guest(app, token, wanted.as_deref()).await?,
        (Some(user_id), None) if outcome.is_none() => accounts::require_free(app, user_id).await?,
        _ => {}
    }
    if let Some(password) = &request.password {
        wish.password_hash = Some(app.passwords.hash(password).await?);
    }
    let operation = operation(request, &wish)?;
    let passed = uia::registration(app, request.auth.as_ref(), session, &operation).await?;
    if let Some(user_id) = outcome {
        return log_in(app, &user_id, &wish).await;
    }
    let Some(password_hash) = wish.password_hash.clone() else {
        return Err(MatrixError::missing_param("a password is needed"));
    };
    let user_id = wanted.unwrap_or_else(|| names::random(&app.config.server_name));
    if request.guest_access_token.is_some() {
        return upgrade_guest(app, &user_id, &password_hash, &wish, passed).await;
    }
    let newcomer = Newcomer {
        user_id: user_id.clone(),
        display_name: None,
        password_hash: Some(password_hash),
        is_guest: false,
        is_admin: false,
        appservice_id: None,
    };
    let opened = accounts::register(app, newcomer, wish.session(), passed.session).await?;
    answer(&user_id, opened)
}

/// Refuses a token that is not of the guest who wants to keep their name.
async fn require_guest(app: &App, token: &str, user_id: Option<&UserId>) -> Result<(), MatrixError> {
    let user_id =
        user_id.ok_or_else(|| MatrixError::missing_param("a guest keeps their name: username is needed"))?;
    if accounts::is_token_of_guest(app, token, user_id).await? {
        return Ok(());
    }
    Err(MatrixError::forbidden("this is not the access token of that guest"))
}

async fn upgrade_guest(
    app: &App,
    user_id: &OwnedUserId,
    password_hash: &str,
    wish: &Wish,
    passed: Passed,
) -> Result<JsonText, MatrixError> {
    if let Some(account) = accounts::find_active(app, user_id).await? {
        let client = app.storage.get().await?;
        myelin_storage::accounts::upgrade_guest(&client, account.nid, password_hash).await?;
        app.memory.sessions.forget_user(account.nid);
    }
    passed.finish(app).await?;
    log_in(app, user_id.as_str(), wish).await
}

/// What the client asks for now, or did at first.
fn wish(request: &Request, session: Option<&OpenSession>) -> Wish {
    let says_it = request.username.is_some() || request.password.is_some();
    let remembered = session.and_then(|session| session.stored.remembered.as_deref());
    let remembered = remembered.filter(|_| !says_it).and_then(|json| serde_json::from_str(json).ok());
    remembered.unwrap_or_else(|| Wish::of(request))
}

fn operation(request: &Request, wish: &Wish) -> Result<Operation, MatrixError> {
    let parameters = json!([
        request.username,
        request.password,
        request.device_id,
        request.initial_device_display_name,
        request.inhibit_login,
        request.refresh_token,
        request.guest_access_token,
    ]);
    let remembered = serde_json::to_string(wish).map_err(MatrixError::internal)?;
    Ok(Operation::new("register", &parameters).remembering(remembered))
}

/// The answer for an account that exists already: the request was answered before, and perhaps nobody got that
/// answer, or a guest keeps theirs.
async fn log_in(app: &App, user_id: &str, wish: &Wish) -> Result<JsonText, MatrixError> {
    let user_id = OwnedUserId::try_from(user_id).map_err(MatrixError::internal)?;
    let Some(account) = accounts::find_active(app, &user_id).await? else {
        return Err(MatrixError::forbidden("this account is gone"));
    };
    let opened = match wish.session() {
        Some(session) => Some(accounts::log_in(app, account.nid, session).await?),
        None => None,
    };
    answer(&user_id, opened)
}

/// Written by hand: where the client wants no session, ruma's type answers with a device of `null`.
pub(super) fn answer(user_id: &OwnedUserId, opened: Option<OpenedSession>) -> Result<JsonText, MatrixError> {
    let mut answer = json!({ "user_id": user_id, "home_server": user_id.server_name() });
    if let Some(opened) = opened {
        answer["access_token"] = json!(opened.access_token);
        answer["device_id"] = json!(opened.device_id);
        if let Some(refresh_token) = opened.refresh_token {
            answer["refresh_token"] = json!(refresh_token);
        }
        if let Some(expires_in) = opened.expires_in.as_ref().map(Duration::as_millis) {
            answer["expires_in_ms"] = json!(u64::try_from(expires_in).unwrap_or(u64::MAX));
        }
    }
    JsonText::of(&answer)
}
