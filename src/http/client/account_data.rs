//! Data that a user's clients share, for the account and for rooms.

use http::StatusCode;
use myelin_core::nid::{RoomNid, UserNid};
use myelin_storage::{
    account_data,
    commit::{AccountDataChange, Change},
};
use ruma::{
    RoomId, UserId,
    api::{
        client::config::{
            get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data,
        },
        error::ErrorKind,
    },
    serde::Raw,
};
use serde_json::value::RawValue;

use crate::{
    app::App,
    error::MatrixError,
    event_format::raw,
    http::{auth::User, endpoint::Ruma},
    sync::preferences::{self, PUSH_RULES},
};

/// How long the type of account data may be: as long as that of an event.
const MAX_TYPE: usize = 255;

/// Types that have endpoints of their own, through which alone they change.
const MANAGED: &[&str] = &[PUSH_RULES, "m.fully_read"];

/// `GET /_matrix/client/v3/user/{userId}/account_data/{type}`
pub async fn get_global_account_data(
    app: App,
    req: Ruma<get_global_account_data::v3::Request>,
) -> Result<get_global_account_data::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let event_type = req.event_type.to_string();
    if event_type == PUSH_RULES {
        let rules = preferences::read_rules(&app, req.user().nid, &req.user().id).await?;
        return Ok(get_global_account_data::v3::Response::new(raw(rules.content())));
    }
    let content = find(&app, req.user().nid, None, &event_type).await?;
    Ok(get_global_account_data::v3::Response::new(Raw::from_json(content)))
}

/// `PUT /_matrix/client/v3/user/{userId}/account_data/{type}`
pub async fn set_global_account_data(
    app: App,
    req: Ruma<set_global_account_data::v3::Request>,
) -> Result<set_global_account_data::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let (event_type, content) = (req.event_type.to_string(), req.data.json());
    set(&app, req.user().nid, None, event_type, content).await?;
    Ok(set_global_account_data::v3::Response::new())
}

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn get_room_account_data(
    app: App,
    req: Ruma<get_room_account_data::v3::Request>,
) -> Result<get_room_account_data::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let room = room_nid(&app, &req.room_id).await?;
    let content = find(&app, req.user().nid, Some(room), &req.event_type.to_string()).await?;
    Ok(get_room_account_data::v3::Response::new(Raw::from_json(content)))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}`
pub async fn set_room_account_data(
    app: App,
    req: Ruma<set_room_account_data::v3::Request>,
) -> Result<set_room_account_data::v3::Response, MatrixError> {
    require_self(req.user(), &req.user_id)?;
    let room = room_nid(&app, &req.room_id).await?;
    set(&app, req.user().nid, Some(room), req.event_type.to_string(), req.data.json()).await?;
    Ok(set_room_account_data::v3::Response::new())
}

/// Refuses users who want to use what is another's.
pub(super) fn require_self(user: &User, named: &UserId) -> Result<(), MatrixError> {
    if user.id == named { Ok(()) } else { Err(MatrixError::forbidden("this belongs to another user")) }
}

/// The room's number.
pub(super) async fn room_nid(app: &App, room_id: &RoomId) -> Result<RoomNid, MatrixError> {
    let room = app.actors.rooms.find(room_id).await?;
    room.ok_or_else(|| MatrixError::not_found("this server does not know the room"))
}

async fn find(
    app: &App,
    user: UserNid,
    room: Option<RoomNid>,
    event_type: &str,
) -> Result<Box<RawValue>, MatrixError> {
    let content = account_data::find(&app.storage.get().await?, user, room, event_type).await?;
    content.ok_or_else(|| MatrixError::not_found("there is no such account data"))
}

async fn set(
    app: &App,
    user: UserNid,
    room: Option<RoomNid>,
    event_type: String,
    content: &RawValue,
) -> Result<(), MatrixError> {
    if event_type.len() > MAX_TYPE {
        return Err(MatrixError::invalid_param(format!("a type has at most {MAX_TYPE} bytes")));
    }
    if MANAGED.contains(&&*event_type) {
        let why = format!("{event_type} has endpoints of its own");
        return Err(MatrixError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::BadJson, why));
    }
    if !content.get().trim_start().starts_with('{') {
        return Err(MatrixError::bad_json("account data is a JSON object"));
    }
    write(app, user, room, event_type, content.to_owned()).await
}

/// Stores the data.
pub(super) async fn write(
    app: &App,
    user: UserNid,
    room: Option<RoomNid>,
    event_type: String,
    content: Box<RawValue>,
) -> Result<(), MatrixError> {
    let change = AccountDataChange { user, room, event_type, content: Some(content) };
    app.actors.journal.write(Change::AccountData(change)).await?;
    Ok(())
}
