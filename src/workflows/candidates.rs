//! Which servers can help with a room that this one takes no part in, the likeliest first.

use std::collections::HashSet;

use myelin_actors::room::error::RoomError;
use myelin_core::nid::RoomNid;
use myelin_storage::{members, outside};
use ruma::{OwnedServerName, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;

use crate::{app::App, error::MatrixError, sessions::User};

/// How many servers are tried for one thing.
const MAX_SERVERS: usize = 20;

/// Candidates in the order in which they were named, each once, never this server.
#[derive(Debug, Default)]
struct Candidates {
    servers: Vec<OwnedServerName>,
    seen: HashSet<OwnedServerName>,
}

impl Candidates {
    fn push(&mut self, app: &App, server: &ServerName) {
        if self.servers.len() < MAX_SERVERS && !app.is_ours(server) && self.seen.insert(server.to_owned()) {
            self.servers.push(server.to_owned());
        }
    }
}

/// Servers for this room: those that are named, the room's own, and those that were in it when we last knew.
pub async fn list(
    app: &App,
    room_id: &RoomId,
    named: &[OwnedServerName],
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let mut candidates = Candidates::default();
    for server in named {
        candidates.push(app, server);
    }
    add_known(app, room_id, &mut candidates).await?;
    Ok(candidates.servers)
}

/// The same, and after those that are named the server of whoever invited the user or let them in, and those whose
/// users have made the room what it is: all that somebody who knocks knows of a room whose id names no server.
pub async fn for_user(
    app: &App,
    by: &User,
    room_id: &RoomId,
    named: &[OwnedServerName],
) -> Result<Vec<OwnedServerName>, MatrixError> {
    let mut candidates = Candidates::default();
    for server in named {
        candidates.push(app, server);
    }
    if let Some(room) = app.actors.rooms.find(room_id).await? {
        let row = members::find(&app.storage.get().await?, room, by.nid).await?;
        if let Some(row) = row {
            for event in app.actors.events.load(&[row.event]).await? {
                candidates.push(app, event.pdu.sender().server_name());
            }
            add_told(app, by, room, &mut candidates).await?;
        }
    }
    add_known(app, room_id, &mut candidates).await?;
    Ok(candidates.servers)
}

/// Adds the servers of those who made what the user was told of the room from outside.
async fn add_told(
    app: &App,
    by: &User,
    room: RoomNid,
    candidates: &mut Candidates,
) -> Result<(), MatrixError> {
    #[derive(Deserialize)]
    struct Sender {
        sender: OwnedUserId,
    }
    let db = app.storage.get().await?;
    for event in outside::load_stripped(&db, by.nid, &[room]).await?.into_values().flatten() {
        if let Ok(Sender { sender }) = serde_json::from_str(event.get()) {
            candidates.push(app, sender.server_name());
        }
    }
    Ok(())
}

async fn add_known(app: &App, room_id: &RoomId, candidates: &mut Candidates) -> Result<(), MatrixError> {
    if let Some(server) = room_id.server_name() {
        candidates.push(app, server);
    }
    match app.actors.rooms.view(room_id).await {
        Ok(view) => {
            let mut servers: Vec<(&OwnedServerName, &usize)> = view.servers.iter().collect();
            // Those with most members are the least likely to have gone.
            servers.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
            for (server, _) in servers {
                candidates.push(app, server);
            }
            Ok(())
        }
        Err(RoomError::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
