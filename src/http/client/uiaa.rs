//! The pages on which someone passes a stage that their client does not know.

use bytes::Bytes;
use ruma::api::{
    auth_scheme::NoAccessToken,
    client::uiaa::{AuthType, get_uiaa_fallback_page::v3},
};

use crate::{
    app::App,
    error::MatrixError,
    http::{
        endpoint::{Plain, Ruma},
        incoming::decode,
        response::Raw,
        uia::{self, OpenSession},
    },
};

const DONE: &str = include_str!("uiaa/done.html");
const STAGE: &str = include_str!("uiaa/stage.html");

/// `GET /_matrix/client/v3/auth/{type}/fallback/web`
pub async fn get_uiaa_fallback_page(app: App, req: Ruma<v3::Request>) -> Result<v3::Response, MatrixError> {
    let session = load(&app, Some(&req.session)).await?;
    let page = if is_passed(&session, &req.auth_type) { DONE.to_owned() } else { page(&req.auth_type, "")? };
    Ok(v3::Response::html(page.into_bytes()))
}

/// `POST /_matrix/client/v3/auth/{type}/fallback/web`
///
/// What the page itself sends. No client does.
pub async fn post_uiaa_fallback_page(app: App, req: Plain<NoAccessToken>) -> Result<Raw, MatrixError> {
    let session = load(&app, req.query("session").as_deref()).await?;
    let stage = AuthType::from(req.args.first().map_or("", String::as_str));
    if is_passed(&session, &stage) {
        return Ok(Raw::html(DONE));
    }
    let answer = field(&req.body, "answer").unwrap_or_default();
    match uia::pass_on_page(&app, &session, &stage, &answer).await? {
        None => Ok(Raw::html(DONE)),
        Some(why) => Ok(Raw::html(page(&stage, &why)?)),
    }
}

async fn load(app: &App, id: Option<&str>) -> Result<OpenSession, MatrixError> {
    let session = uia::find_session(app, id).await?;
    session.ok_or_else(|| MatrixError::not_found("this authentication session is not known here"))
}

fn is_passed(session: &OpenSession, stage: &AuthType) -> bool {
    session.stored.completed.iter().any(|done| done == stage.as_str())
}

fn page(stage: &AuthType, why: &str) -> Result<String, MatrixError> {
    let (title, kind) = match stage {
        AuthType::Password => ("Your password", "password"),
        AuthType::RegistrationToken => ("Your registration token", "text"),
        AuthType::Dummy => ("Go on", "hidden"),
        _ => return Err(MatrixError::not_found("this server does not ask for that")),
    };
    Ok(STAGE.replace("{title}", title).replace("{kind}", kind).replace("{why}", why))
}

/// A field of a form as browsers send it.
fn field(body: &Bytes, name: &str) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let value = body.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    decode(&value.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_fields_are_decoded() {
        let body = Bytes::from_static(b"x=1&answer=a+b%26c&answer=2");
        assert_eq!(field(&body, "answer").as_deref(), Some("a b&c"));
        assert_eq!(field(&body, "absent"), None);
    }

    #[test]
    fn pages_have_no_gaps() {
        for stage in [AuthType::Password, AuthType::RegistrationToken, AuthType::Dummy] {
            let page = page(&stage, "the password is wrong").expect("there is a page");
            assert!(!page.contains("{title}") && !page.contains("{kind}") && !page.contains("{why}"));
        }
        assert!(page(&AuthType::Msisdn, "").is_err());
    }
}
