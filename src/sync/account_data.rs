//! What the user's clients have stored for the account and for rooms.

use std::collections::HashMap;

use myelin_core::{nid::RoomNid, position::Position};
use myelin_storage::account_data::{self, AccountDataRow};

use super::{Context, preferences::PUSH_RULES, rooms::Room};
use crate::{
    error::MatrixError,
    event_format::plain_event,
    filter::{RoomEvents, allows_plain},
    push_rules::Rules,
};

/// Account data for an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Of the account.
    pub(crate) global: Vec<String>,
    /// Of each room, in the order of the rooms.
    pub(crate) rooms: Vec<Vec<String>>,
}

/// What changed since the client knew it. One query when something did.
pub(crate) async fn load(context: &Context<'_>, rooms: &[Room]) -> Result<Stored, MatrixError> {
    let since = context.since.map(|since| since.position);
    let known = |room: &Room| since.filter(|_| !room.is_new()).unwrap_or_default();
    // What was stored for a room before the user had to do with it is in no room's mark.
    let may_have = |room: &&Room| room.is_new() || room.mark.account_data > known(room);
    let in_rooms = rooms.iter().filter(may_have).map(known).min();
    let mut stored = Stored { global: Vec::new(), rooms: vec![Vec::new(); rooms.len()] };
    let after = match (context.news.account_data, in_rooms) {
        (true, in_rooms) => in_rooms.unwrap_or(Position(i64::MAX)).min(since.unwrap_or_default()),
        (false, Some(in_rooms)) => in_rooms,
        (false, None) => return Ok(stored),
    };
    let db = context.app.storage.get().await?;
    let rows = account_data::list(&db, context.ask.user.nid, after, context.news.upto.position).await?;
    let indexes: HashMap<RoomNid, usize> =
        rooms.iter().enumerate().map(|(index, room)| (room.view.nid, index)).collect();
    for row in rows {
        match row.room {
            None if row.position > since.unwrap_or_default() && allows(context, &row.event_type) => {
                stored.global.extend(event(&row, since.is_some()));
            }
            None => {}
            Some(nid) => {
                let Some(index) = indexes.get(&nid).copied() else { continue };
                let room = &rooms[index];
                if row.position > known(room) && allows_in(context, room, &row.event_type) {
                    stored.rooms[index].extend(event(&row, !room.is_new()));
                }
            }
        }
    }
    add_default_rules(context, &mut stored);
    Ok(stored)
}

/// The row as an event. What was deleted is told as empty to one who may know it.
fn event(row: &AccountDataRow, with_deleted: bool) -> Option<String> {
    match &row.content {
        Some(content) => Some(plain_event(&row.event_type, content.get())),
        None => with_deleted.then(|| plain_event(&row.event_type, "{}")),
    }
}

/// A user who never changed their push rules has the default ones, and clients find them where all rules are.
fn add_default_rules(context: &Context<'_>, stored: &mut Stored) {
    if context.since.is_none() && context.preferences.own_rules.is_none() && allows(context, PUSH_RULES) {
        let rules = Rules::read(None, &context.ask.user.id);
        stored.global.push(plain_event(PUSH_RULES, &rules.content()));
    }
}

fn allows(context: &Context<'_>, event_type: &str) -> bool {
    allows_plain(&context.ask.filter.account_data, event_type, &context.ask.user.id)
}

fn allows_in(context: &Context<'_>, room: &Room, event_type: &str) -> bool {
    let filter = &context.ask.filter.room.account_data;
    filter.allows_room(&room.view.room_id) && filter.allows_type(event_type)
}
