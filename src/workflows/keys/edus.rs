//! What other servers send about their users' devices and keys, and from those devices to ours.
//!
//! A server speaks for its own users only. What it may not say and what cannot be read is dropped.

use ruma::{ServerName, UserId};
use serde::de::DeserializeOwned;
use tracing::debug;

use super::lists;
use crate::{app::App, error::MatrixError, workflows::to_device};

/// Takes in an EDU of encryption; `false`: it is of another type. An error is one of this server.
pub async fn take(
    app: &App,
    origin: &ServerName,
    edu_type: &str,
    content: &str,
) -> Result<bool, MatrixError> {
    match edu_type {
        "m.device_list_update" => {
            let update = parse(origin, edu_type, content, |update: &lists::DeviceUpdate| &update.user_id);
            if let Some(update) = update {
                lists::receive_update(app, update).await?;
            }
        }
        "m.signing_key_update" => {
            let update = parse(origin, edu_type, content, |update: &lists::SigningKeyUpdate| &update.user_id);
            if let Some(update) = update {
                lists::receive_signing_keys(app, update).await?;
            }
        }
        "m.direct_to_device" => {
            let edu = parse(origin, edu_type, content, |edu: &to_device::DirectToDevice| &edu.sender);
            if let Some(edu) = edu {
                to_device::receive(app, edu).await?;
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The content, if the one whom it is about is a user of the server that sends it.
fn parse<T: DeserializeOwned>(
    origin: &ServerName,
    edu_type: &str,
    content: &str,
    user: impl Fn(&T) -> &ruma::OwnedUserId,
) -> Option<T> {
    let parsed = serde_json::from_str(content);
    let parsed = parsed.inspect_err(|error| {
        debug!(server.name = %origin, edu.r#type = edu_type, %error, "an EDU cannot be read");
    });
    parsed.ok().filter(|parsed| UserId::server_name(user(parsed)) == origin)
}
