//! Making an account, as scripts do: with a secret that the operator has configured.
//!
//! The protocol is one that administration tools know: a nonce is asked for, and the wanted account is sent back
//! with an HMAC over nonce and account.

use std::time::Duration;

use hmac::{Hmac, Mac};
use myelin_storage::registration_tokens;
use ruma::api::auth_scheme::NoAuthentication;
use serde::Deserialize;
use serde_json::json;
use sha1::Sha1;

use super::register::answer;
use crate::{
    accounts::{self, Newcomer, WantedSession, after, names, now, secrets},
    app::App,
    config::Secret,
    error::MatrixError,
    http::{endpoint::Plain, response::JsonText},
};

/// How long a nonce is good.
const NONCE_LIFETIME: Duration = Duration::from_secs(60);

/// The account that is wanted, and the proof that it may be made.
#[derive(Debug, Deserialize)]
struct Request {
    nonce: String,
    username: String,
    password: String,
    displayname: Option<String>,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
}

/// `GET /_synapse/admin/v1/register`
pub async fn get_nonce(app: App, _: Plain<NoAuthentication>) -> Result<JsonText, MatrixError> {
    secret(&app)?;
    let nonce = secrets::token();
    let expires = after(&app, NONCE_LIFETIME);
    registration_tokens::insert_nonce(&app.storage.get().await?, &nonce, expires, now(&app)).await?;
    JsonText::of(&json!({ "nonce": nonce }))
}

/// `POST /_synapse/admin/v1/register`
pub async fn register(app: App, req: Plain<NoAuthentication>) -> Result<JsonText, MatrixError> {
    let secret = secret(&app)?;
    let request: Request = req.json()?;
    if !registration_tokens::take_nonce(&app.storage.get().await?, &request.nonce, now(&app)).await? {
        return Err(MatrixError::unknown("the nonce is not known here"));
    }
    if !is_proven(&request, secret) {
        return Err(MatrixError::forbidden("the HMAC is wrong"));
    }
    let user_id = names::wanted(&request.username, &app.config.server_name)?;
    accounts::require_free(&app, &user_id).await?;
    let newcomer = Newcomer {
        user_id: user_id.clone(),
        display_name: request.displayname,
        password_hash: Some(app.passwords.hash(&request.password).await?),
        is_guest: false,
        is_admin: request.admin,
        appservice_id: None,
    };
    let opened = accounts::register(&app, newcomer, Some(WantedSession::default()), None).await?;
    answer(&user_id, opened)
}

fn secret(app: &App) -> Result<&Secret, MatrixError> {
    let secret = app.config.registration.shared_secret.as_ref().filter(|secret| !secret.expose().is_empty());
    secret.ok_or_else(|| MatrixError::unknown("registration with a shared secret is not configured"))
}

/// Whether whoever sent this knows the secret. Takes as long whatever the answer.
fn is_proven(request: &Request, secret: &Secret) -> bool {
    let admin = if request.admin { "admin" } else { "notadmin" };
    let mut parts = vec![request.nonce.as_str(), &request.username, &request.password, admin];
    parts.extend(request.user_type.as_deref());
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(parts.join("\0").as_bytes());
    from_hex(&request.mac).is_some_and(|given| mac.verify_slice(&given).is_ok())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high * 16 + low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(mac: &str) -> Request {
        let json = json!({ "nonce": "n", "username": "alice", "password": "p", "admin": true, "mac": mac });
        serde_json::from_value(json).expect("it is a request")
    }

    fn secret() -> Secret {
        serde_json::from_value(json!("reg_secret")).expect("a secret is a text")
    }

    #[test]
    fn only_who_knows_the_secret_can_prove_it() {
        // printf 'n\0alice\0p\0admin' | openssl dgst -sha1 -hmac reg_secret
        assert!(is_proven(&request("72e226c6c0af5edc7619c26d26137204fb8fa472"), &secret()));
        assert!(!is_proven(&request("00000000000000000000000000000000000000ff"), &secret()));
        assert!(!is_proven(&request("not hex"), &secret()));
        assert!(!is_proven(&request(""), &secret()));
    }
}
