//! User-interactive authentication: the stages by which someone proves that a request is really theirs.
//!
//! A handler names its [`Operation`] and asks [`user`] or [`registration`]. Either all stages are [`Passed`], or the
//! error is the 401 that tells the client what is still to be done. A session is good for one operation with one set
//! of parameters; when the operation is done, [`Passed::finish`] ends it.
//!
//! # How to add a stage
//!
//! Name it in the flows of `flows_for`, and say in `check` what passes it. Its page for clients that do not know it
//! is in `client::uiaa`.

use std::time::Duration;

use hmac::{Hmac, Mac};
use myelin_core::nid::UserNid;
use myelin_storage::{
    accounts, registration_tokens,
    tokens::TokenHash,
    uia::{self, NewUiaSession, UiaSession},
};
use ruma::api::{
    client::uiaa::{AuthData, AuthFlow, AuthType, Password, UiaaInfo, UserIdentifier},
    error::{ErrorKind, StandardErrorBody},
};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{
    auth::{Caller, User},
    rate_limit::RateClass,
};
use crate::{
    accounts::{after, names, now, secrets},
    app::App,
    error::MatrixError,
    registration_token,
};

/// How long a client may take.
const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What is to be done once the client has proved itself.
#[derive(Clone, Debug)]
pub struct Operation {
    name: String,
    parameters: Vec<u8>,
    remembered: Option<String>,
}

impl Operation {
    /// An operation, named with what it is done to (`delete device ABC`), and its parameters. The proof of one is none
    /// of another.
    pub fn new(name: impl Into<String>, parameters: &impl Serialize) -> Self {
        let parameters = serde_json::to_vec(parameters).expect("parameters of requests are JSON");
        Self { name: name.into(), parameters, remembered: None }
    }

    /// Parameters to be kept with a new session, for clients that do not repeat them. No secrets.
    #[must_use]
    pub fn remembering(mut self, remembered: String) -> Self {
        self.remembered = Some(remembered);
        self
    }

    /// What stands for the parameters, to whoever has the session's id.
    fn mac(&self, session_id: &str) -> Vec<u8> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(session_id.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(&self.parameters);
        mac.finalize().into_bytes().to_vec()
    }
}

/// That all stages are passed.
#[derive(Debug)]
#[must_use = "finish it when the operation is done"]
pub struct Passed {
    /// The session in which that happened. `None`: it took one request.
    pub session: Option<TokenHash>,
}

impl Passed {
    /// The operation is done: the session is good for no other.
    pub async fn finish(self, app: &App) -> Result<(), MatrixError> {
        if let Some(session) = self.session {
            uia::finish(&app.storage.get().await?, &session).await?;
        }
        Ok(())
    }
}

/// A session that a client came back to.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Its id, which only the client has.
    id: String,
    /// What is stored of it.
    pub stored: UiaSession,
}

impl OpenSession {
    fn hash(&self) -> TokenHash {
        TokenHash::of(&self.id)
    }
}

/// The session that the client names. `None`: it names none, or one that we do not know or that has expired.
pub async fn find_session(app: &App, id: Option<&str>) -> Result<Option<OpenSession>, MatrixError> {
    let Some(id) = id else { return Ok(None) };
    let stored = uia::find(&app.storage.get().await?, &TokenHash::of(id), now(app)).await?;
    Ok(stored.map(|stored| OpenSession { id: id.to_owned(), stored }))
}

/// Has the user prove who they are, by their password.
pub async fn user(
    app: &App,
    user: &User,
    auth: Option<&AuthData>,
    operation: &Operation,
) -> Result<Passed, MatrixError> {
    let session = find_session(app, auth.and_then(AuthData::session)).await?;
    let attempt = Attempt { app, asker: Some(user), operation, flows: vec![vec![AuthType::Password]] };
    attempt.advance(auth, session).await
}

/// Has someone without an account prove that they may make one, as the configuration demands.
pub async fn registration(
    app: &App,
    auth: Option<&AuthData>,
    session: Option<OpenSession>,
    operation: &Operation,
) -> Result<Passed, MatrixError> {
    let stage = if app.config.registration.open { AuthType::Dummy } else { AuthType::RegistrationToken };
    let attempt = Attempt { app, asker: None, operation, flows: vec![vec![stage]] };
    attempt.advance(auth, session).await
}

/// Passes a stage outside a request, on its fallback page. `Ok(None)`: it is passed; else why not.
pub async fn pass_on_page(
    app: &App,
    session: &OpenSession,
    stage: &AuthType,
    answer: &str,
) -> Result<Option<String>, MatrixError> {
    let refusal = match stage {
        AuthType::Dummy => Ok(()),
        AuthType::RegistrationToken => check_registration_token(app, &session.hash(), answer).await?,
        AuthType::Password => match session.stored.user {
            Some(user) => check_password_of(app, user, answer).await?,
            None => Err(StandardErrorBody::new(ErrorKind::Unrecognized, "this needs no password".into())),
        },
        _ => Err(StandardErrorBody::new(ErrorKind::Unrecognized, "this server does not ask for that".into())),
    };
    match refusal {
        Ok(()) => {
            uia::complete_stage(&app.storage.get().await?, &session.hash(), stage.as_str(), None).await?;
            Ok(None)
        }
        Err(why) => Ok(Some(why.message)),
    }
}

/// Whether someone could register with this token now.
pub async fn is_registration_token_valid(app: &App, token: &str) -> Result<bool, MatrixError> {
    if is_configured_token(app, token) {
        return Ok(true);
    }
    let stored = registration_tokens::find(&app.storage.get().await?, token).await?;
    Ok(stored.is_some_and(|stored| stored.is_valid(now(app))))
}

type Flow = Vec<AuthType>;
type Checked = Result<(), StandardErrorBody>;

struct Attempt<'a> {
    app: &'a App,
    /// `None`: someone without an account.
    asker: Option<&'a User>,
    operation: &'a Operation,
    flows: Vec<Flow>,
}

impl Attempt<'_> {
    /// One step: takes what the client has sent, and says whether that was the last of it.
    async fn advance(
        self,
        auth: Option<&AuthData>,
        session: Option<OpenSession>,
    ) -> Result<Passed, MatrixError> {
        if let Some(session) = &session {
            self.require_same(session)?;
        }
        let Some(auth) = auth else { return Err(self.challenge(session, None).await?) };
        let mut completed: Flow = session
            .iter()
            .flat_map(|open| &open.stored.completed)
            .map(|stage| stage.as_str().into())
            .collect();
        let Some(stage) = auth.auth_type().filter(|stage| !completed.contains(stage)) else {
            return self.conclude(completed, session).await;
        };
        completed.push(stage.clone());
        if !self.flows.iter().any(|flow| flow.starts_with(&completed)) {
            let why = "this stage is not one of those to be done next";
            let why = StandardErrorBody::new(ErrorKind::Unrecognized, why.into());
            return Err(self.challenge(session, Some(why)).await?);
        }
        // A stage that leads no further without a session needs one now, to be remembered in.
        let needs_session = stage == AuthType::RegistrationToken || !self.flows.contains(&completed);
        let session = match session {
            None if needs_session => Some(self.open().await?),
            session => session,
        };
        if let Err(why) = self.check(auth, session.as_ref()).await? {
            return Err(self.challenge(session, Some(why)).await?);
        }
        let session = match session {
            Some(session) => Some(self.complete(session, &stage).await?),
            None => None,
        };
        self.conclude(completed, session).await
    }

    /// A session that began for one request is good for no other.
    fn require_same(&self, session: &OpenSession) -> Result<(), MatrixError> {
        let stored = &session.stored;
        let is_same_mac = |mac: &Vec<u8>| bool::from(self.operation.mac(&session.id).ct_eq(mac));
        let is_same = stored.operation == self.operation.name
            && stored.user == self.asker.map(|user| user.nid)
            && stored.request_mac.as_ref().is_none_or(is_same_mac);
        if is_same {
            return Ok(());
        }
        Err(MatrixError::forbidden("this authentication session was begun for another request"))
    }

    async fn open(&self) -> Result<OpenSession, MatrixError> {
        let id = secrets::token();
        let user = self.asker.map(|user| user.nid);
        let new = NewUiaSession {
            session: TokenHash::of(&id),
            operation: &self.operation.name,
            user,
            remembered: self.operation.remembered.as_deref(),
            expires: after(self.app, SESSION_LIFETIME),
        };
        uia::create(&self.app.storage.get().await?, &new).await?;
        let stored = UiaSession {
            operation: self.operation.name.clone(),
            request_mac: None,
            user,
            completed: Vec::new(),
            remembered: self.operation.remembered.clone(),
            outcome: None,
        };
        Ok(OpenSession { id, stored })
    }

    async fn complete(&self, mut session: OpenSession, stage: &AuthType) -> Result<OpenSession, MatrixError> {
        let mac = self.operation.mac(&session.id);
        let client = self.app.storage.get().await?;
        uia::complete_stage(&client, &session.hash(), stage.as_str(), Some(&mac)).await?;
        session.stored.completed.push(stage.to_string());
        Ok(session)
    }

    async fn conclude(&self, completed: Flow, session: Option<OpenSession>) -> Result<Passed, MatrixError> {
        if self.flows.contains(&completed) {
            return Ok(Passed { session: session.map(|session| session.hash()) });
        }
        Err(self.challenge(session, None).await?)
    }

    /// The answer that says what is still to be done.
    async fn challenge(
        &self,
        session: Option<OpenSession>,
        why: Option<StandardErrorBody>,
    ) -> Result<MatrixError, MatrixError> {
        let session = match session {
            Some(session) => session,
            None => self.open().await?,
        };
        let mut info = UiaaInfo::new(self.flows.iter().cloned().map(AuthFlow::new).collect());
        info.completed = session.stored.completed.iter().map(|stage| stage.as_str().into()).collect();
        info.params = Some(RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"));
        info.session = Some(session.id);
        info.auth_error = why.map(Box::new);
        Ok(info.into())
    }

    async fn check(&self, auth: &AuthData, session: Option<&OpenSession>) -> Result<Checked, MatrixError> {
        match (auth, self.asker, session) {
            (AuthData::Dummy(_), ..) => Ok(Ok(())),
            (AuthData::Password(password), Some(user), _) => check_password(self.app, user, password).await,
            (AuthData::RegistrationToken(given), _, Some(session)) => {
                check_registration_token(self.app, &session.hash(), &given.token).await
            }
            _ => Ok(Err(StandardErrorBody::new(
                ErrorKind::Unrecognized,
                "this server does not know this stage".into(),
            ))),
        }
    }
}

/// The password must be the asker's own: another user's proves nothing here, and is refused outright.
async fn check_password(app: &App, user: &User, given: &Password) -> Result<Checked, MatrixError> {
    let meant = match &given.identifier {
        UserIdentifier::Matrix(identifier) => names::meant(&identifier.user, &app.config.server_name),
        _ => None,
    };
    if meant.as_ref() != Some(&user.id) {
        return Err(MatrixError::forbidden("this is not the user who makes the request"));
    }
    check_password_of(app, user.nid, &given.password).await
}

/// Counts as a login, whatever it is asked for: who has got hold of an access token must not find out the password.
async fn check_password_of(app: &App, user: UserNid, password: &str) -> Result<Checked, MatrixError> {
    app.memory.limits.check(RateClass::Login, || Caller::User(user))?;
    let account = accounts::list(&app.storage.get().await?, &[user]).await?.pop();
    let hash = account.and_then(|account| account.password_hash);
    if app.passwords.is_right(password, hash.as_deref()).await? {
        return Ok(Ok(()));
    }
    Ok(Err(StandardErrorBody::new(ErrorKind::Forbidden, "the password is wrong".into())))
}

/// Whether the token lets someone register. A token with a number of uses is held for the session.
async fn check_registration_token(
    app: &App,
    session: &TokenHash,
    token: &str,
) -> Result<Checked, MatrixError> {
    if is_configured_token(app, token) {
        return Ok(Ok(()));
    }
    let client = app.storage.get().await?;
    if uia::hold_registration_token(&client, session, token, now(app)).await? {
        return Ok(Ok(()));
    }
    Ok(Err(StandardErrorBody::new(ErrorKind::Unauthorized, "the registration token is not valid".into())))
}

/// The token that the operator has chosen, or that was made for them: it is good any number of times.
fn is_configured_token(app: &App, token: &str) -> bool {
    let configured = registration_token::load(&app.config);
    configured.is_some_and(|configured| bool::from(configured.as_bytes().ct_eq(token.as_bytes())))
}
