//! What follows here from what other servers change in rooms: what the directory shows of them, and that guests leave
//! who may not be there any more.
//!
//! Whoever changes something for a local user sees to it at once. Nobody does for events that come from elsewhere, so
//! they are followed with a cursor that is stored: what was missed when the server stopped comes after it has started.

use std::time::Duration;

use myelin_core::position::Position;
use myelin_storage::followed_rooms::{self, Changed};
use ruma::RoomId;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{guests, summary};
use crate::{
    app::App,
    error::{Chain, MatrixError},
};

/// How often it is looked, though nothing was heard of: so that the cursor does not stay far behind.
const EVERY: Duration = Duration::from_secs(60);

/// Follows as long as the server runs.
pub async fn keep_following(app: App) {
    loop {
        if let Err(error) = follow(&app).await {
            warn!(error = %Chain(&error), "changes of other servers cannot be followed up for now");
            sleep(EVERY).await;
            continue;
        }
        tokio::select! {
            () = app.actors.state_changes.notified() => {}
            () = sleep(EVERY) => {}
        }
    }
}

async fn follow(app: &App) -> Result<(), MatrixError> {
    let mut done: Position = followed_rooms::load(&app.storage.get().await?).await?;
    loop {
        let changed = followed_rooms::list_changed(&app.storage.get().await?, done).await?;
        if changed.upto > done {
            follow_all(app, &changed).await?;
            done = changed.upto;
            followed_rooms::save(&app.storage.get().await?, done).await?;
        }
        if !changed.has_more {
            return Ok(());
        }
    }
}

/// An error is one that has to do with no room: then all of it is done again.
async fn follow_all(app: &App, changed: &Changed) -> Result<(), MatrixError> {
    let rooms: Vec<_> = changed.rooms.iter().map(|(room, _)| *room).collect();
    let views = app.actors.rooms.views(&rooms).await?;
    for (room, guests) in &changed.rooms {
        let Some(view) = views.get(room) else { continue };
        match follow_one(app, &view.room_id, *guests).await {
            Ok(()) => {}
            Err(error @ MatrixError::Unavailable(_)) => return Err(error),
            Err(error) => debug!(%error, room.id = %view.room_id, "a change of a room has no effect here"),
        }
    }
    Ok(())
}

async fn follow_one(app: &App, room_id: &RoomId, guests: bool) -> Result<(), MatrixError> {
    summary::refresh(app, room_id).await?;
    if guests {
        guests::leave_if_unwelcome(app, room_id).await?;
    }
    Ok(())
}
