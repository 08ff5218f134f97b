//! How far everything is: read at the start, written down as it changes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture};
use myelin_core::{
    nid::{EventNid, RoomNid},
    position::Position,
};
use myelin_storage::{
    destinations::{
        self, JoinChange, RelayedEvent,
        save::{self, Progress},
    },
    error::StorageError,
    events::StoredEvent,
};
use tracing::{error, warn};

use super::{FederationActor, SenderTools, destinations::Destinations, dispatch, dispatch::Servers};
use crate::room::error::RoomError;

/// Events that are read at once.
const PAGE: usize = 500;
/// Before storage that fails is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// Positions that the cursor may stay behind when there is nothing for anybody.
const SLACK: i64 = 10_000;

/// Writes down how far everything is. Answered when that has been tried.
pub(crate) struct Save;

impl Message for Save {
    type Result = ();
}

impl FederationActor {
    /// Reads how far everything is, and dispatches what was committed since. What is told meanwhile waits.
    pub(super) fn begin(&mut self, ctx: &mut Context<Self>) {
        let (tools, destinations) = (Arc::clone(&self.tools), self.destinations.clone());
        let begin = async move {
            let cursor = loop {
                match restore(&destinations).await {
                    Ok(cursor) => break cursor,
                    Err(error) => pause(&error).await,
                }
            };
            (cursor, catch_up(&tools, &destinations, cursor).await)
        };
        ctx.wait(begin.into_actor(self).map(|(cursor, read), actor, _| {
            actor.saved = cursor;
            actor.read = read;
            actor.destinations.start_all();
        }));
    }

    /// Reads what was not told because too much waited.
    pub(super) fn read_on(&mut self, ctx: &mut Context<Self>) {
        let (tools, destinations) = (Arc::clone(&self.tools), self.destinations.clone());
        let read_on = async move {
            let after = destinations.dispatched();
            warn!(position = %after, "the federation sender was overrun, and reads on from storage");
            catch_up(&tools, &destinations, after).await
        };
        ctx.wait(read_on.into_actor(self).map(|read, actor, _| {
            actor.read = read;
            actor.destinations.start_all();
        }));
    }

    /// Writes down what has changed, unless that is being done.
    pub(super) fn save(&mut self, ctx: &mut Context<Self>) {
        if let Some(progress) = self.take_progress(SLACK) {
            ctx.spawn(self.write(progress));
        }
    }

    fn take_progress(&mut self, slack: i64) -> Option<Progress> {
        if self.is_saving {
            return None;
        }
        self.destinations.take_progress(self.flow.settled(), self.saved, slack)
    }

    fn write(&mut self, progress: Progress) -> ResponseActFuture<Self, ()> {
        self.is_saving = true;
        let destinations = self.destinations.clone();
        let write = async move {
            let written = write(&destinations, &progress).await;
            (progress, written)
        };
        Box::pin(write.into_actor(self).map(|(progress, written), actor, _| {
            actor.is_saving = false;
            match written {
                Ok(()) => actor.saved = progress.cursor,
                Err(error) => {
                    warn!(%error, "what other servers have acknowledged could not be written down");
                    actor.destinations.keep_progress(&progress);
                }
            }
        }))
    }
}

impl Handler<Save> for FederationActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Save, _: &mut Context<Self>) -> Self::Result {
        match self.take_progress(1) {
            Some(progress) => self.write(progress),
            None => Box::pin(actix::fut::ready(())),
        }
    }
}

async fn write(destinations: &Destinations, progress: &Progress) -> Result<(), StorageError> {
    let mut db = destinations.tools().storage.get().await?;
    let transaction = db.transaction().await?;
    save::save(&transaction, progress).await?;
    transaction.commit().await?;
    Ok(())
}

/// Reads what was written down; the cursor.
async fn restore(destinations: &Destinations) -> Result<Position, StorageError> {
    let db = destinations.tools().storage.get().await?;
    let cursor = destinations::load_cursor(&db).await?;
    let rows = destinations::list_destinations(&db).await?;
    let missed = destinations::list_missed_rooms(&db).await?;
    destinations.restore(cursor, &rows, &missed);
    Ok(cursor)
}

/// Dispatches what was committed after that position, until storage has been read to its end; up to where that is.
async fn catch_up(tools: &SenderTools, destinations: &Destinations, after: Position) -> Position {
    // What is committed from here on is told.
    let upto = tools.journal.position();
    let mut after = after;
    loop {
        match read_page(tools, destinations, after, upto).await {
            Ok(Some(last)) => after = last,
            Ok(None) => break,
            Err(error) => pause(&error).await,
        }
    }
    while let Err(error) = read_edus(destinations).await {
        pause(&error).await;
    }
    destinations.change(&[], |state| state.dispatched = state.dispatched.max(upto));
    upto
}

/// Dispatches a page of events; the position of the last one. `None`: there are no more.
async fn read_page(
    tools: &SenderTools,
    destinations: &Destinations,
    after: Position,
    upto: Position,
) -> Result<Option<Position>, RoomError> {
    let listed = {
        let db = destinations.tools().storage.get().await?;
        destinations::list_relayed(&db, after, upto, PAGE).await?
    };
    let Some(last) = listed.last() else { return Ok(None) };
    let found = match find_audiences(tools, destinations, after, &listed).await {
        Err(error) if error.is_corruption() => find_readable(tools, destinations, after, &listed).await?,
        found => found?,
    };
    for (event, servers, relay) in &found {
        dispatch(tools, destinations, event, servers, *relay);
    }
    Ok(Some(last.position))
}

/// An event, the servers in its room right after it, and whether they are told of it.
type Relayed = (Arc<StoredEvent>, Servers, bool);

/// The events with the servers in their rooms, in the same order. Rooms that cannot be read are left out.
async fn find_audiences(
    tools: &SenderTools,
    destinations: &Destinations,
    after: Position,
    listed: &[RelayedEvent],
) -> Result<Vec<Relayed>, RoomError> {
    let mut rooms: Vec<RoomNid> = listed.iter().map(|event| event.room).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let views = tools.rooms.views(&rooms).await?;
    // Asked for after the views, so that nothing is missing that they show.
    let joins = destinations::list_joins(&destinations.tools().storage.get().await?, &rooms, after).await?;
    let listed: Vec<RelayedEvent> =
        listed.iter().filter(|event| views.contains_key(&event.room)).copied().collect();
    let nids: Vec<_> = listed.iter().map(|event| event.nid).collect();
    let events = destinations.tools().events.load(&nids).await?;
    let mut events: HashMap<EventNid, Arc<StoredEvent>> =
        events.into_iter().map(|event| (event.nid, event)).collect();
    let shown = |room: &RoomNid| views.get(room).map(|view| (view.position, view.servers.clone()));
    let servers = servers_after(&listed, &joins, shown);
    let relayed = |(listed, servers): (&RelayedEvent, Servers)| {
        Some((events.remove(&listed.nid)?, servers, listed.relay))
    };
    Ok(listed.iter().zip(servers).filter_map(relayed).collect())
}

/// The same, but for the rooms of which something cannot be read: other servers are told nothing more of these events,
/// and find out that they miss them.
async fn find_readable(
    tools: &SenderTools,
    destinations: &Destinations,
    after: Position,
    listed: &[RelayedEvent],
) -> Result<Vec<Relayed>, RoomError> {
    let mut by_room: HashMap<RoomNid, Vec<RelayedEvent>> = HashMap::new();
    for event in listed {
        by_room.entry(event.room).or_default().push(*event);
    }
    let mut found = Vec::new();
    for (room, listed) in by_room {
        match find_audiences(tools, destinations, after, &listed).await {
            Ok(relayed) => found.extend(relayed),
            Err(error) if error.is_corruption() => {
                error!(room.nid = %room, "a room cannot be read: other servers are not told what was sent there");
            }
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|(event, ..)| event.position);
    Ok(found)
}

/// The servers in the room right after each of these events: those that are there at a later position, and what
/// happened since undone.
fn servers_after(
    events: &[RelayedEvent],
    joins: &[JoinChange],
    shown: impl Fn(&RoomNid) -> Option<(Position, Servers)>,
) -> Vec<Servers> {
    let mut later: HashMap<RoomNid, Vec<&JoinChange>> = HashMap::new();
    for change in joins {
        later.entry(change.room).or_default().push(change);
    }
    let mut undone: HashMap<RoomNid, (Servers, Vec<&JoinChange>)> = HashMap::new();
    let mut servers: Vec<Servers> = Vec::with_capacity(events.len());
    for event in events.iter().rev() {
        let (now, later) = undone.entry(event.room).or_insert_with(|| {
            let (position, servers) = shown(&event.room).unwrap_or_default();
            let mut later = later.remove(&event.room).unwrap_or_default();
            later.retain(|change| change.position <= position);
            (servers, later)
        });
        while let Some(change) = later.pop_if(|change| change.position > event.position) {
            let joined = now.get(&change.server).copied().unwrap_or_default();
            let before = if change.joined { joined.saturating_sub(1) } else { joined + 1 };
            if before == 0 {
                now.remove(&change.server);
            } else {
                now.insert(change.server.clone(), before);
            }
        }
        servers.push(now.clone());
    }
    servers.reverse();
    servers
}

async fn read_edus(destinations: &Destinations) -> Result<(), StorageError> {
    let waiting = destinations::list_edu_servers(&destinations.tools().storage.get().await?).await?;
    destinations.change(&[], |state| {
        for (server, latest) in &waiting {
            state.get(server).push_edus(*latest);
        }
    });
    Ok(())
}

async fn pause(error: &(dyn std::error::Error + Sync)) {
    warn!(%error, "what other servers have still to be sent cannot be read");
    tokio::time::sleep(PAUSE).await;
}
