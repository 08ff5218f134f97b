//! Who is online on other servers, as they tell.
//!
//! A server that helps one of our users into a room tells at once who is online there, which may be heard before the
//! room is known here. So while joins are under way, what is heard of users with whom nobody shares a room is held.

use std::collections::HashMap;

use myelin_actors::presence::{MAX_STATUS_BYTES, Presence};
use myelin_core::nid::UserNid;
use myelin_storage::members;
use parking_lot::Mutex;
use ruma::{
    ServerName,
    api::federation::transactions::edu::{PresenceContent, PresenceUpdate},
};

use super::find_users;
use crate::{app::App, error::MatrixError};

/// How many users' presence one EDU may bring.
const MAX_PRESENCES: usize = 1000;
/// How many users' presence is held while joins are under way. What is beyond that is not told.
const MAX_HELD: usize = 5000;

/// What was heard of users who may be in the rooms that are being joined. Nobody misses it.
#[derive(Debug, Default)]
pub struct Held(Mutex<Vec<PresenceUpdate>>);

/// Takes in the content of an EDU from this server.
pub async fn take(app: &App, origin: &ServerName, content: &str) -> Result<(), MatrixError> {
    let Ok(mut content) = serde_json::from_str::<PresenceContent>(content) else { return Ok(()) };
    content.push.retain(|update| update.user_id.server_name() == origin);
    content.push.truncate(MAX_PRESENCES);
    // Before it is looked who is where: a join that ends meanwhile has its users in the room then.
    let is_joining = app.memory.others.joins.is_any();
    let unplaced = place(app, content.push).await?;
    if !is_joining || unplaced.is_empty() {
        return Ok(());
    }
    {
        let mut held = app.memory.others.presences.0.lock();
        let room = MAX_HELD.saturating_sub(held.len());
        held.extend(unplaced.into_iter().take(room));
    }
    if app.memory.others.joins.is_any() { Ok(()) } else { release(app).await }
}

/// Takes in what was held: a join has come to its end.
pub async fn release(app: &App) -> Result<(), MatrixError> {
    let held = std::mem::take(&mut *app.memory.others.presences.0.lock());
    let unplaced = place(app, held).await?;
    if app.memory.others.joins.is_any() {
        app.memory.others.presences.0.lock().extend(unplaced);
    }
    Ok(())
}

/// Notes the presence of users who are in rooms here; the others are returned.
async fn place(app: &App, updates: Vec<PresenceUpdate>) -> Result<Vec<PresenceUpdate>, MatrixError> {
    if updates.is_empty() {
        return Ok(updates);
    }
    let users = find_users(app, updates.iter().map(|update| &*update.user_id)).await?;
    let nids: Vec<UserNid> = users.values().copied().collect();
    let rooms = if nids.is_empty() {
        HashMap::default()
    } else {
        members::joined_rooms_of(&app.storage.get().await?, &nids).await?
    };
    let now_ms = app.process.clock.now_ms();
    let mut unplaced = Vec::new();
    for update in updates {
        let Some((user, rooms)) = users.get(&update.user_id).and_then(|user| Some((*user, rooms.get(user)?)))
        else {
            unplaced.push(update);
            continue;
        };
        let heard = Presence {
            presence: update.presence,
            status_msg: update.status_msg.filter(|status| status.len() <= MAX_STATUS_BYTES),
            last_active_ms: now_ms.saturating_sub(update.last_active_ago.into()),
            currently_active: update.currently_active,
        };
        app.actors.presences.hear(user, rooms, heard);
    }
    Ok(unplaced)
}
