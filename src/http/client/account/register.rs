//! Making an account, as people do: a name, a password, and the proof that they may.

use std::time::Duration;

use ruma::{
    OwnedDeviceId, OwnedUserId,
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
        uia::{self, OpenSession, Operation},
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
    if let (Some(user_id), None) = (&wanted, &outcome) {
        accounts::require_free(app, user_id).await?;
    }
    if let Some(password) = &request.password {
        wish.password_hash = Some(app.passwords.hash(password).await?);
    }
    let operation = operation(request, &wish)?;
    let passed = uia::registration(app, request.auth.as_ref(), session, &operation).await?;
    if let Some(user_id) = outcome {
        return repeat(app, &user_id, &wish).await;
    }
    if wish.password_hash.is_none() {
        return Err(MatrixError::missing_param("a password is needed"));
    }
    let user_id = wanted.unwrap_or_else(|| names::random(&app.config.server_name));
    let newcomer = Newcomer {
        user_id: user_id.clone(),
        display_name: None,
        password_hash: wish.password_hash.clone(),
        is_guest: false,
        is_admin: false,
        appservice_id: None,
    };
    let opened = accounts::register(app, newcomer, wish.session(), passed.session).await?;
    answer(&user_id, opened)
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
    ]);
    let remembered = serde_json::to_string(wish).map_err(MatrixError::internal)?;
    Ok(Operation::new("register", &parameters).remembering(remembered))
}

/// The answer to a request that was answered before: perhaps nobody got that answer.
async fn repeat(app: &App, user_id: &str, wish: &Wish) -> Result<JsonText, MatrixError> {
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
