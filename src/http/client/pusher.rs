//! Pushers: where a user's devices want to be told of what notifies the user.

use http::Uri;
use myelin_storage::pushers::{self, PusherKey};
use ruma::api::client::push::{
    Pusher, PusherIds, PusherKind, get_pushers,
    set_pusher::{self, v3::PusherAction},
};

use crate::{app::App, error::MatrixError, http::endpoint::Ruma};

/// The one path that push gateways answer at.
const GATEWAY_PATH: &str = "/_matrix/push/v1/notify";
/// How many bytes an application's id may have.
const MAX_APP_ID: usize = 64;
/// How many bytes a key may have.
const MAX_PUSHKEY: usize = 512;
/// How many bytes all of a pusher may have.
const MAX_PUSHER: usize = 16 * 1024;

/// `GET /_matrix/client/v3/pushers`
pub async fn get_pushers(
    app: App,
    req: Ruma<get_pushers::v3::Request>,
) -> Result<get_pushers::v3::Response, MatrixError> {
    let stored = pushers::list(&app.storage.get().await?, req.user().nid).await?;
    let read = |json: &String| serde_json::from_str(json).map_err(MatrixError::internal);
    let pushers: Result<Vec<Pusher>, MatrixError> = stored.iter().map(read).collect();
    Ok(get_pushers::v3::Response::new(pushers?))
}

/// `POST /_matrix/client/v3/pushers/set`
///
/// Sets a pusher for the device that asks, or removes one of the user's.
pub async fn set_pusher(
    app: App,
    req: Ruma<set_pusher::v3::Request>,
) -> Result<set_pusher::v3::Response, MatrixError> {
    let user = req.user();
    match &req.action {
        PusherAction::Post(post) => {
            check(&post.pusher)?;
            let json = serde_json::to_string(&post.pusher).map_err(MatrixError::internal)?;
            if json.len() > MAX_PUSHER {
                return Err(MatrixError::invalid_param("the pusher is too large"));
            }
            let client = app.storage.get().await?;
            let key = key_of(&post.pusher.ids);
            pushers::set(&client, user.nid, &user.device_id, key, &json, post.append).await?;
        }
        PusherAction::Delete(ids) => {
            pushers::delete(&app.storage.get().await?, user.nid, key_of(ids)).await?;
        }
        _ => return Err(MatrixError::invalid_param("this cannot be done to a pusher")),
    }
    Ok(set_pusher::v3::Response::new())
}

fn key_of(ids: &PusherIds) -> PusherKey<'_> {
    PusherKey { app_id: &ids.app_id, pushkey: &ids.pushkey }
}

fn check(pusher: &Pusher) -> Result<(), MatrixError> {
    if pusher.ids.app_id.len() > MAX_APP_ID {
        return Err(MatrixError::invalid_param("the app_id is too long"));
    }
    if pusher.ids.pushkey.len() > MAX_PUSHKEY {
        return Err(MatrixError::invalid_param("the pushkey is too long"));
    }
    match &pusher.kind {
        PusherKind::Http(data) if is_gateway(&data.url) => Ok(()),
        PusherKind::Http(_) => {
            Err(MatrixError::invalid_param(format!("the url must be of HTTP with the path {GATEWAY_PATH}")))
        }
        PusherKind::Email(_) => Err(MatrixError::invalid_param("this server sends no e-mail")),
        _ => Err(MatrixError::invalid_param("this server does not know this kind of pusher")),
    }
}

fn is_gateway(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    is_http && uri.host().is_some_and(|host| !host.is_empty()) && uri.path() == GATEWAY_PATH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_told_by_their_path() {
        for url in ["https://push.example/_matrix/push/v1/notify", "http://[::1]:80/_matrix/push/v1/notify"] {
            assert!(is_gateway(url), "{url}");
        }
        for url in [
            "",
            "/_matrix/push/v1/notify",
            "https://push.example/",
            "https://push.example/x/_matrix/push/v1/notify",
            "https://push.example/_matrix/push/v1/notify/",
            "ftp://push.example/_matrix/push/v1/notify",
        ] {
            assert!(!is_gateway(url), "{url}");
        }
    }
}
