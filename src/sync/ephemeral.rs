//! Receipts and typing: what happens in rooms without being an event of theirs.

use std::collections::HashMap;

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{
    receipts::{self, ReceiptRow},
    rooms,
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value, json};

use super::{
    Context,
    answer::{RoomPart, Timeline},
    rooms::Room,
    token::sync_token,
};
use crate::{
    app::App,
    error::MatrixError,
    event_format::plain_event,
    filter::{RoomEvents, allows_room},
};

/// The ephemeral events of each room, in the same order. One query when there are new receipts.
pub(crate) async fn events(context: &Context<'_>, rooms: &[Room]) -> Result<Vec<Vec<String>>, MatrixError> {
    let mut rows = new_receipts(context, rooms).await?;
    let typing: Vec<Option<Vec<UserNid>>> = rooms.iter().map(|room| typing(context, room)).collect();
    let mut users: Vec<UserNid> = rows.values().flatten().map(|row| row.user).collect();
    users.extend(typing.iter().flatten().flatten());
    users.sort_unstable();
    users.dedup();
    let names = context.app.actors.nids.user_ids(&users).await?;
    let names: HashMap<UserNid, OwnedUserId> = users.into_iter().zip(names).collect();
    let of_room = |(room, typing): (&Room, Option<Vec<UserNid>>)| {
        let receipts = receipt_contents(rows.remove(&room.view.nid).unwrap_or_default(), &names);
        let receipts = receipts.into_iter().map(|content| plain_event("m.receipt", &content.to_string()));
        let typing = typing.map(|users| {
            let users: Vec<&OwnedUserId> = users.iter().filter_map(|user| names.get(user)).collect();
            typing_event(&users)
        });
        receipts.chain(typing).collect()
    };
    Ok(rooms.iter().zip(typing).map(of_room).collect())
}

async fn new_receipts(
    context: &Context<'_>,
    rooms: &[Room],
) -> Result<HashMap<RoomNid, Vec<ReceiptRow>>, MatrixError> {
    let wanted: Vec<(RoomNid, Position)> = rooms
        .iter()
        .filter(|room| room.left.is_none() && allows(context, room, "m.receipt"))
        .map(|room| (room, room.known.unwrap_or_default()))
        .filter(|(room, after)| room.mark.receipts > *after)
        .map(|(room, after)| (room.view.nid, after))
        .collect();
    let mut found: HashMap<RoomNid, Vec<ReceiptRow>> = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let db = context.app.storage.get().await?;
    for row in receipts::list(&db, &wanted, context.news.upto.position, context.ask.user.nid).await? {
        found.entry(row.room).or_default().push(row);
    }
    Ok(found)
}

/// That these users type.
pub fn typing_event(users: &[impl AsRef<UserId>]) -> String {
    let users: Vec<&UserId> = users.iter().map(AsRef::as_ref).collect();
    plain_event("m.typing", &json!({ "user_ids": users }).to_string())
}

/// These receipts of one room as events.
pub async fn receipt_events(app: &App, rows: Vec<ReceiptRow>) -> Result<Vec<String>, MatrixError> {
    let mut users: Vec<UserNid> = rows.iter().map(|row| row.user).collect();
    users.sort_unstable();
    users.dedup();
    let names = app.actors.nids.user_ids(&users).await?;
    let names: HashMap<UserNid, OwnedUserId> = users.into_iter().zip(names).collect();
    let contents = receipt_contents(rows, &names);
    Ok(contents.into_iter().map(|content| plain_event("m.receipt", &content.to_string())).collect())
}

/// The contents of as few `m.receipt` events as can hold these receipts: one holds a single receipt of each type that
/// a user has on an event, whatever its thread.
fn receipt_contents(rows: Vec<ReceiptRow>, names: &HashMap<UserNid, OwnedUserId>) -> Vec<Value> {
    let mut contents: Vec<Map<String, Value>> = Vec::new();
    for row in rows {
        let Some(user) = names.get(&row.user) else { continue };
        let mut receipt = json!({ "ts": row.ts });
        if let Some(thread) = row.thread {
            receipt["thread_id"] = thread.into();
        }
        let path = [row.event_id.as_str(), row.receipt_type.as_str(), user.as_str()];
        let free = contents.iter_mut().find(|content| !has_path(content, path));
        if let Some(content) = free {
            insert(content, path, receipt);
        } else {
            let mut content = Map::new();
            insert(&mut content, path, receipt);
            contents.push(content);
        }
    }
    contents.into_iter().map(Value::Object).collect()
}

fn has_path(content: &Map<String, Value>, [event, kind, user]: [&str; 3]) -> bool {
    content.get(event).and_then(|event| event.get(kind)).is_some_and(|kind| kind.get(user).is_some())
}

fn insert(content: &mut Map<String, Value>, [event, kind, user]: [&str; 3], receipt: Value) {
    content.entry(event).or_insert_with(|| json!({}))[kind][user] = receipt;
}

/// Who types in the room, if the client does not know.
fn typing(context: &Context<'_>, room: &Room) -> Option<Vec<UserNid>> {
    if room.left.is_some() || !allows(context, room, "m.typing") {
        return None;
    }
    let since = if room.is_new() { None } else { context.since };
    match since {
        Some(since)
            if room.mark.typing > since.ephemeral || context.news.typing_lost.contains(&room.view.nid) =>
        {
            Some(context.app.actors.typing.in_room(room.view.nid))
        }
        Some(_) => None,
        // That somebody has stopped is told as well: this may be a client that saw them begin.
        None => Some(context.app.actors.typing.in_room(room.view.nid))
            .filter(|users| !users.is_empty() || room.mark.typing > 0),
    }
}

/// That nobody types in those rooms of which the client may believe it, as things were before a restart, and of which
/// nothing else is told. One query after a restart, and none else.
pub(crate) async fn lost_typing(context: &Context<'_>) -> Result<Vec<(OwnedRoomId, RoomPart)>, MatrixError> {
    let is_told = |room: &&RoomNid| context.news.rooms.contains_key(*room);
    let silent: Vec<RoomNid> =
        context.news.typing_lost.iter().filter(|room| !is_told(room)).copied().collect();
    if silent.is_empty() {
        return Ok(Vec::new());
    }
    let room_ids = rooms::room_ids(&context.app.storage.get().await?, &silent).await?;
    let prev_batch = sync_token(context.news.upto);
    let part = |room_id: OwnedRoomId| {
        let timeline = Timeline { prev_batch: prev_batch.clone(), ..Timeline::default() };
        let ephemeral = vec![typing_event(&[] as &[OwnedUserId])];
        (room_id, RoomPart { timeline, ephemeral, ..RoomPart::default() })
    };
    let filter = &context.ask.filter.room;
    let is_wanted =
        |room_id: &OwnedRoomId| allows_room(filter, room_id) && allows_in(context, room_id, "m.typing");
    Ok(room_ids.into_values().filter(is_wanted).map(part).collect())
}

fn allows(context: &Context<'_>, room: &Room, event_type: &str) -> bool {
    allows_in(context, &room.view.room_id, event_type)
}

fn allows_in(context: &Context<'_>, room_id: &RoomId, event_type: &str) -> bool {
    let filter = &context.ask.filter.room.ephemeral;
    filter.allows_room(room_id) && filter.allows_type(event_type)
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_user_id};

    use super::*;

    fn receipt(kind: &str, thread: Option<&str>) -> ReceiptRow {
        ReceiptRow {
            room: RoomNid::new(1).expect("positive"),
            user: UserNid::new(1).expect("positive"),
            receipt_type: kind.to_owned(),
            thread: thread.map(str::to_owned),
            event_id: owned_event_id!("$e"),
            ts: 5,
            position: Position(1),
        }
    }

    #[test]
    fn receipts_of_two_threads_on_one_event_do_not_hide_each_other() {
        let names = [(UserNid::new(1).expect("positive"), owned_user_id!("@a:b"))].into();
        let rows =
            vec![receipt("m.read", None), receipt("m.read.private", None), receipt("m.read", Some("main"))];
        assert_eq!(
            receipt_contents(rows, &names),
            [
                json!({ "$e": { "m.read": { "@a:b": { "ts": 5 } }, "m.read.private": { "@a:b": { "ts": 5 } } } }),
                json!({ "$e": { "m.read": { "@a:b": { "ts": 5, "thread_id": "main" } } } }),
            ]
        );
    }
}
