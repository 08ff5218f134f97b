//! Logging in and out, and refreshing tokens.

use std::{ops::Deref, time::Duration};

use http::Method;
use myelin_storage::{
    accounts::Account,
    tokens::{self, TokenHash},
};
use ruma::api::{
    IncomingRequest, Metadata,
    client::{
        session::{
            get_login_token, get_login_types,
            login::v3::{DiscoveryInfo, HomeserverInfo, LoginInfo, Password, Request, Response},
            login_fallback, logout, logout_all, refresh_token,
        },
        uiaa::UserIdentifier,
    },
    error::{DeserializationError, ErrorKind},
};
use serde::Deserialize;

use crate::{
    accounts::{self, WantedSession, after, names, now, secrets},
    app::App,
    error::MatrixError,
    http::{
        endpoint::Ruma,
        legacy_user::LegacyUser,
        uia::{self, Operation},
    },
    workflows::devices,
};

/// How long a login token is good: for as long as it takes to point a camera at it.
const LOGIN_TOKEN_LIFETIME: Duration = Duration::from_secs(2 * 60);

/// ruma's login request, after a look at whether it has a type: its parser panics where there is none.
#[derive(Debug)]
pub struct Login(Request);

impl Deref for Login {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.0
    }
}

impl Metadata for Login {
    const METHOD: Method = Request::METHOD;
    const RATE_LIMITED: bool = Request::RATE_LIMITED;
    type Authentication = <Request as Metadata>::Authentication;
    type PathBuilder = <Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = Request::PATH_BUILDER;
}

impl IncomingRequest for Login {
    type EndpointError = <Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = Response;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path_args: &[&str],
    ) -> Result<Self, DeserializationError> {
        #[derive(Deserialize)]
        struct Typed {
            #[serde(rename = "type")]
            _login_type: String,
        }
        serde_json::from_slice::<Typed>(request.body())?;
        Request::try_from_http_request_inner(request, path_args).map(Self)
    }
}

/// `GET /_matrix/client/v3/login`
pub async fn get_login_types(
    _: App,
    _: Ruma<get_login_types::v3::Request>,
) -> Result<get_login_types::v3::Response, MatrixError> {
    use get_login_types::v3::{LoginType, PasswordLoginType, Response, TokenLoginType};
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    Ok(Response::new(vec![LoginType::Password(PasswordLoginType::new()), LoginType::Token(token)]))
}

/// `POST /_matrix/client/v3/login`
///
/// On a device that is known, earlier tokens of the device are revoked.
pub async fn login(app: App, req: Ruma<Login>) -> Result<Response, MatrixError> {
    let account = match &req.login_info {
        LoginInfo::Password(given) => by_password(&app, given).await?,
        LoginInfo::Token(given) => by_token(&app, &given.token).await?,
        LoginInfo::ApplicationService(_) => {
            return Err(MatrixError::bad_request(
                ErrorKind::AppserviceLoginUnsupported,
                "application services do not log in here",
            ));
        }
        _ => return Err(MatrixError::unknown("this server does not know this login type")),
    };
    if account.marks.is_locked {
        return Err(accounts::locked());
    }
    let wanted = WantedSession {
        device_id: req.device_id.clone(),
        display_name: req.initial_device_display_name.clone(),
        refreshes: req.refresh_token,
    };
    let opened = accounts::log_in(&app, account.nid, wanted).await?;
    let mut response = Response::new(account.user_id, opened.access_token, opened.device_id);
    response.refresh_token = opened.refresh_token;
    response.expires_in = opened.expires_in;
    response.well_known = app.config.public_baseurl.clone().map(HomeserverInfo::new).map(DiscoveryInfo::new);
    Ok(response)
}

/// The account with this name and password. That one of them is wrong takes as long to find out as that both are
/// right.
async fn by_password(app: &App, given: &Password) -> Result<Account, MatrixError> {
    #[expect(deprecated, reason = "clients of before 2018 still send it")]
    let name = match (&given.identifier, &given.user) {
        (Some(UserIdentifier::Matrix(identifier)), _) => Some(&identifier.user),
        (None, user) => user.as_ref(),
        _ => None,
    };
    let user_id = name.and_then(|name| names::meant(name, &app.config.server_name));
    let account = match &user_id {
        Some(user_id) => myelin_storage::accounts::find(&app.storage.get().await?, user_id).await?,
        None => None,
    };
    let hash = account.as_ref().and_then(|account| account.password_hash.as_deref());
    let is_right = app.passwords.is_right(&given.password, hash).await?;
    match account {
        Some(account) if account.marks.is_deactivated => {
            Err(MatrixError::refused(ErrorKind::UserDeactivated, "this account has been deactivated"))
        }
        Some(account) if is_right => Ok(account),
        _ => Err(MatrixError::forbidden("the name or the password is wrong")),
    }
}

async fn by_token(app: &App, token: &str) -> Result<Account, MatrixError> {
    let client = app.storage.get().await?;
    let invalid = || MatrixError::forbidden("the login token is not valid");
    let user = tokens::take_login_token(&client, &TokenHash::of(token), now(app)).await?;
    let account = myelin_storage::accounts::list(&client, &[user.ok_or_else(invalid)?]).await?.pop();
    account.filter(|account| !account.marks.is_deactivated).ok_or_else(invalid)
}

/// `POST /_matrix/client/v1/login/get_token`
pub async fn get_login_token(
    app: App,
    req: Ruma<LegacyUser<get_login_token::v1::Request>>,
) -> Result<get_login_token::v1::Response, MatrixError> {
    let operation = Operation::new("get a login token", &());
    let passed = uia::user(&app, req.user(), req.auth.as_ref(), &operation).await?;
    let token = secrets::token();
    let expires = after(&app, LOGIN_TOKEN_LIFETIME);
    let client = app.storage.get().await?;
    tokens::insert_login_token(&client, &TokenHash::of(&token), req.user().nid, expires).await?;
    passed.finish(&app).await?;
    Ok(get_login_token::v1::Response::new(LOGIN_TOKEN_LIFETIME, token))
}

/// `POST /_matrix/client/v3/refresh`
pub async fn refresh_token(
    app: App,
    req: Ruma<refresh_token::v3::Request>,
) -> Result<refresh_token::v3::Response, MatrixError> {
    let refreshed = accounts::refresh(&app, &req.refresh_token).await?;
    let mut response = refresh_token::v3::Response::new(refreshed.access_token);
    response.refresh_token = Some(refreshed.refresh_token);
    response.expires_in_ms = refreshed.expires_in;
    Ok(response)
}

/// `POST /_matrix/client/v3/logout`
///
/// The device goes with its session.
pub async fn logout(app: App, req: Ruma<logout::v3::Request>) -> Result<logout::v3::Response, MatrixError> {
    devices::remove(&app, req.user(), std::slice::from_ref(&req.user().device_id)).await?;
    Ok(logout::v3::Response::new())
}

/// `POST /_matrix/client/v3/logout/all`
pub async fn logout_all(
    app: App,
    req: Ruma<logout_all::v3::Request>,
) -> Result<logout_all::v3::Response, MatrixError> {
    devices::remove_all_but(&app, req.user(), None).await?;
    Ok(logout_all::v3::Response::new())
}

/// `GET /_matrix/static/client/login/`
///
/// A page that logs in for clients that do not know how.
pub async fn login_fallback(
    _: App,
    _: Ruma<login_fallback::Request>,
) -> Result<login_fallback::Response, MatrixError> {
    Ok(login_fallback::Response::new(include_bytes!("session/login.html").to_vec()))
}
