//! Profiles: what may stand in them, and how their changes reach the rooms.

use futures::{StreamExt, stream};
use myelin_actors::room::messages::SendEvent;
use myelin_core::membership::Membership;
use myelin_storage::profiles;
use ruma::{RoomId, api::error::ErrorKind};
use serde_json::Value;
use tracing::warn;

use super::{member, membership};
use crate::{app::App, error::MatrixError, sessions::User};

/// The specification: a profile is under 64 KiB.
const MAX_PROFILE: i64 = 64 * 1024 - 1;

/// The specification: a field's name has at most 255 bytes.
const MAX_FIELD_NAME: usize = 255;

/// Display names and avatars go into every member event.
const MAX_MEMBER_FIELD: usize = 1024;

/// In how many rooms the user's name is changed at the same time.
const ROOMS_AT_ONCE: usize = 16;

/// Sets a field of the user's own profile. A display name or avatar that is empty or `null` is removed instead. The
/// rooms that the user is in have the new name and avatar when this returns.
pub async fn set_field(app: &App, user: &User, field: &str, value: &Value) -> Result<(), MatrixError> {
    check_name(field)?;
    check_value(field, value)?;
    let is_empty = value.is_null() || value.as_str() == Some("");
    if is_empty && is_shown_in_rooms(field) {
        return delete_field(app, user, field).await;
    }
    let mut client = app.storage.get().await?;
    let is_set = profiles::set_field(&mut client, user.nid, field, &value.to_string(), MAX_PROFILE).await?;
    drop(client);
    if !is_set {
        let why = "the profile would have 64 KiB or more";
        return Err(MatrixError::bad_request(ErrorKind::ProfileTooLarge, why));
    }
    publish(app, user, field).await
}

/// Removes a field of the user's own profile, if it is there.
pub async fn delete_field(app: &App, user: &User, field: &str) -> Result<(), MatrixError> {
    check_name(field)?;
    profiles::delete_field(&app.storage.get().await?, user.nid, field).await?;
    publish(app, user, field).await
}

fn is_shown_in_rooms(field: &str) -> bool {
    matches!(field, "displayname" | "avatar_url")
}

fn check_name(field: &str) -> Result<(), MatrixError> {
    if field.len() > MAX_FIELD_NAME {
        return Err(MatrixError::bad_request(ErrorKind::KeyTooLarge, "the field's name is too long"));
    }
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if field.starts_with(|first: char| first.is_ascii_lowercase()) && field.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(MatrixError::invalid_param("this cannot be the name of a profile field"))
}

fn check_value(field: &str, value: &Value) -> Result<(), MatrixError> {
    match (field, value) {
        ("displayname" | "avatar_url", Value::String(text)) if text.len() > MAX_MEMBER_FIELD => {
            Err(MatrixError::invalid_param(format!("{field} is too long")))
        }
        ("displayname" | "avatar_url", Value::Null) | (_, Value::String(_)) => Ok(()),
        ("displayname" | "avatar_url" | "m.tz", _) => {
            Err(MatrixError::bad_json(format!("{field} is no text")))
        }
        _ => Ok(()),
    }
}

/// Lets the rooms that the user is in know, if they show this field. A room where that fails keeps the old name until
/// the next change: the profile itself is changed all the same.
async fn publish(app: &App, user: &User, field: &str) -> Result<(), MatrixError> {
    if !is_shown_in_rooms(field) {
        return Ok(());
    }
    let profile = member::profile(app, &user.id).await?;
    let rooms = membership::joined_rooms(app, user.nid).await?;
    let updates = stream::iter(&rooms).for_each_concurrent(ROOMS_AT_ONCE, async |room_id| {
        let content = profile.content(Membership::Join, None);
        if let Err(error) = update_member(app, user, room_id, content).await {
            warn!(room.id = %room_id, %error, "a room does not show a changed profile");
        }
    });
    updates.await;
    Ok(())
}

async fn update_member(
    app: &App,
    user: &User,
    room_id: &RoomId,
    content: ruma::CanonicalJsonObject,
) -> Result<(), MatrixError> {
    let event = SendEvent::state(user.id.clone(), "m.room.member", user.id.as_str(), content);
    app.actors.rooms.get(room_id).await?.send(event).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name_error(field: &str) -> Option<String> {
        check_name(field).err().and_then(|error| error.errcode())
    }

    fn value_error(field: &str, value: &Value) -> Option<String> {
        check_value(field, value).err().and_then(|error| error.errcode())
    }

    #[test]
    fn field_names_follow_the_grammar() {
        assert_eq!(name_error("displayname"), None);
        assert_eq!(name_error("org.example.job-title_2"), None);
        assert_eq!(name_error(&"a".repeat(255)), None);
        assert_eq!(name_error(&"a".repeat(256)).as_deref(), Some("M_KEY_TOO_LARGE"));
        assert_eq!(name_error("").as_deref(), Some("M_INVALID_PARAM"));
        assert_eq!(name_error("Job").as_deref(), Some("M_INVALID_PARAM"));
        assert_eq!(name_error("2b").as_deref(), Some("M_INVALID_PARAM"));
    }

    #[test]
    fn defined_fields_have_their_types() {
        assert_eq!(value_error("displayname", &json!("Alice")), None);
        assert_eq!(value_error("displayname", &Value::Null), None);
        assert_eq!(value_error("displayname", &json!(1)).as_deref(), Some("M_BAD_JSON"));
        assert_eq!(value_error("avatar_url", &json!("mxc://example.org/abc")), None);
        assert_eq!(value_error("avatar_url", &json!("")), None);
        // Clients have to cope with what other servers' users set anyway.
        assert_eq!(value_error("avatar_url", &json!("https://x")), None);
        assert_eq!(value_error("m.tz", &Value::Null).as_deref(), Some("M_BAD_JSON"));
        assert_eq!(value_error("org.example.x", &json!({"any": [1.5, null]})), None);
    }
}
