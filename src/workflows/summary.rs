//! What the directory shows of a room, kept true to the room's state.

use myelin_actors::room::view::RoomView;
use myelin_core::{
    nid::{TypeNid, types},
    visibility::HistoryVisibility,
};
use myelin_storage::directory::{self, RoomSummary};
use ruma::RoomId;
use serde::Deserialize;
use serde_json::Value;

use crate::{app::App, error::MatrixError};

/// What the directory would show of the room.
pub fn of_view(view: &RoomView) -> RoomSummary {
    RoomSummary {
        room: view.nid,
        name: text_of(view, types::NAME, "/name"),
        topic: topic_of(view),
        avatar_url: text_of(view, types::AVATAR, "/url"),
        canonical_alias: text_of(view, types::CANONICAL_ALIAS, "/alias"),
        join_rule: text_of(view, types::JOIN_RULES, "/join_rule").unwrap_or_else(|| "invite".to_owned()),
        guest_can_join: text_of(view, types::GUEST_ACCESS, "/guest_access").as_deref() == Some("can_join"),
        history_visibility: HistoryVisibility::of_event(view.essential(types::HISTORY_VISIBILITY))
            .as_str()
            .to_owned(),
        room_type: text_of(view, types::CREATE, "/type"),
        encryption: text_of(view, types::ENCRYPTION, "/algorithm"),
        joined_members: i64::try_from(view.joined).unwrap_or(i64::MAX),
    }
}

/// A text in the content of one of the room's essential state events, if it is there, a string, and not empty.
pub fn text_of(view: &RoomView, event_type: TypeNid, pointer: &str) -> Option<String> {
    let content: Value = view.essential(event_type)?.content_as()?;
    content.pointer(pointer)?.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

fn topic_of(view: &RoomView) -> Option<String> {
    #[derive(Deserialize)]
    struct Text {
        body: String,
        mimetype: Option<String>,
    }
    let content: Value = view.essential(types::TOPIC)?.content_as()?;
    let texts = content.pointer("/m.topic/m.text").cloned();
    let texts: Vec<Text> = texts.and_then(|texts| serde_json::from_value(texts).ok()).unwrap_or_default();
    let plain = texts
        .into_iter()
        .find(|text| text.mimetype.as_deref().is_none_or(|mimetype| mimetype == "text/plain"))
        .map(|text| text.body);
    plain.or_else(|| content.get("topic")?.as_str().map(ToOwned::to_owned)).filter(|topic| !topic.is_empty())
}

/// Writes the room's summary again after something in it may have changed what the directory shows.
///
/// Rooms that were never listed and that nobody can enter or read uninvited have none.
pub async fn refresh(app: &App, room_id: &RoomId) -> Result<(), MatrixError> {
    keep(app, room_id, false).await
}

/// Writes the room's summary for the first time, because the room is listed from now on.
pub async fn begin(app: &App, room_id: &RoomId) -> Result<(), MatrixError> {
    keep(app, room_id, true).await
}

/// A newer change that was made meanwhile is written too: whoever writes last looks again, so an older summary
/// never stays.
async fn keep(app: &App, room_id: &RoomId, is_listed: bool) -> Result<(), MatrixError> {
    let mut view = app.actors.rooms.view(room_id).await?;
    loop {
        let summary = of_view(&view);
        let client = app.storage.get().await?;
        let stored = directory::list_room_summaries(&client, &[view.nid]).await?.pop();
        let is_due = match stored {
            Some(stored) => stored.summary != summary,
            None => is_listed || is_open(&summary),
        };
        if !is_due {
            return Ok(());
        }
        directory::upsert_room_summaries(&client, &[summary]).await?;
        drop(client);
        let newer = app.actors.rooms.view(room_id).await?;
        if newer.position == view.position {
            return Ok(());
        }
        view = newer;
    }
}

/// Anyone may enter the room or read it: then its members can be found in the user directory.
fn is_open(summary: &RoomSummary) -> bool {
    summary.join_rule == "public" || summary.history_visibility == HistoryVisibility::WorldReadable.as_str()
}
