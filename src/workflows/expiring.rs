//! Takes their content from messages whose time is over, if the administrator wants it.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/2228>

use std::{collections::HashMap, time::Duration};

use myelin_core::nid::EventNid;
use myelin_storage::expiring_events;
use ruma::{OwnedRoomId, RoomId};
use tokio::time::interval;
use tracing::warn;

use crate::{
    app::App,
    error::{Chain, MatrixError},
};

/// How often it is looked whether some time is over.
const EVERY: Duration = Duration::from_secs(1);
/// So many are done at once.
const PORTION: i64 = 100;
/// When a room is tried again that failed, so that it does not hold up others.
const AGAIN_MS: u64 = 60 * 1000;

/// Looks after it as long as the server runs.
pub async fn keep_expiring(app: App) {
    if !app.config.rooms.self_destructing_messages {
        return;
    }
    let mut tick = interval(EVERY);
    loop {
        tick.tick().await;
        if let Err(error) = expire(&app).await {
            warn!(error = %Chain(&error), "messages whose time is over keep their content for now");
        }
    }
}

async fn expire(app: &App) -> Result<(), MatrixError> {
    let now_ms = app.process.clock.now_ms();
    let due = expiring_events::list_due(&app.storage.get().await?, now_ms, PORTION).await?;
    let mut rooms: HashMap<OwnedRoomId, Vec<EventNid>> = HashMap::new();
    for (event, room) in due {
        rooms.entry(room).or_default().push(event);
    }
    for (room, events) in rooms {
        let expired = expire_in(app, &room, &events).await;
        let db = app.storage.get().await?;
        match expired {
            Ok(()) => expiring_events::forget(&db, &events).await?,
            Err(error) => {
                warn!(error = %Chain(&error), "messages of a room keep their content for now");
                expiring_events::postpone(&db, &events, now_ms.saturating_add(AGAIN_MS)).await?;
            }
        }
    }
    Ok(())
}

async fn expire_in(app: &App, room: &RoomId, events: &[EventNid]) -> Result<(), MatrixError> {
    Ok(app.actors.rooms.get(room).await?.expire(events.to_vec()).await?)
}
