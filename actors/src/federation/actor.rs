//! `DestinationActor`: sends to one remote server, one transaction after the other, until there is nothing to send
//! or the server does not take it. Then it ends: what remains is in the server's state, and starts the next one.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, WrapFuture};
use actix_rt::ArbiterHandle;
use myelin_core::{pdu::Pdu, position::Position};
use myelin_storage::{
    destinations::{self, MissedRange, RelayedEvent},
    error::StorageError,
};
use ruma::{EventId, OwnedServerName, ServerName};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{
    attempt::{Attempt, Told},
    destination::{Contents, MAX_EDUS, Made, Next},
    destinations::Destinations,
    edus,
};
use crate::remote::RemoteError;

/// An attempt ends after this at the latest, whatever the other server does.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(90);
/// Before storage that fails is asked again.
const STORAGE_PAUSE: Duration = Duration::from_secs(2);
/// A transaction that the server calls wrong is sent in parts after so many attempts.
const REFUSALS: u32 = 3;

/// Sends to one remote server.
pub(crate) struct DestinationActor {
    destinations: Destinations,
    server: OwnedServerName,
}

impl Actor for DestinationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (destinations, server) = (self.destinations.clone(), self.server.clone());
        let work = async move { send_all(&destinations, &server).await };
        ctx.spawn(work.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl DestinationActor {
    /// Starts sending on that thread.
    pub fn start(arbiter: &ArbiterHandle, destinations: Destinations, server: OwnedServerName) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, move |_| Self { destinations, server })
    }
}

async fn send_all(destinations: &Destinations, server: &ServerName) {
    if !destinations.tools().remote.allows(server) {
        destinations.update(server, super::destination::Destination::drop_all);
    }
    // Waiting for the permit comes first, so that the transaction is made of what there is when it is sent.
    let mut permit = destinations.permit(server).await;
    loop {
        let made = match destinations.next(server) {
            Next::Rest => return,
            Next::Send(attempt) => Ok(Some(attempt)),
            Next::LookUp { rooms, upto, limit } => {
                look_up(destinations, server, rooms, upto, limit).await.map(|()| None)
            }
            Next::Make(contents) => make(destinations, server, contents).await,
        };
        match made {
            Ok(Some(attempt)) => {
                let failed_before = attempt_once(destinations, server, &attempt).await;
                if failed_before {
                    drop(permit.take());
                    permit = destinations.permit(server).await;
                }
            }
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "what another server is to be sent cannot be read");
                tokio::time::sleep(STORAGE_PAUSE).await;
            }
        }
    }
}

async fn look_up(
    destinations: &Destinations,
    server: &ServerName,
    rooms: Vec<MissedRange>,
    upto: Position,
    limit: usize,
) -> Result<(), StorageError> {
    let db = destinations.tools().storage.get().await?;
    let events = destinations::list_missed(&db, server, &rooms, limit).await?;
    debug!(server.name = %server, rooms = rooms.len(), events = events.len(), "a server was behind");
    let rooms = rooms.into_iter().map(|range| range.room).collect();
    destinations.update(server, |destination| destination.found(rooms, upto, events));
    Ok(())
}

/// Makes a transaction. `None`: there was nothing in it after all.
async fn make(
    destinations: &Destinations,
    server: &ServerName,
    contents: Contents,
) -> Result<Option<Arc<Attempt>>, StorageError> {
    let tools = destinations.tools();
    let mut made = Made {
        id: destinations.next_id(),
        origin_server_ts: tools.clock.now(),
        pdus: Vec::new(),
        events: Vec::new(),
        edus: Vec::new(),
        edus_upto: None,
    };
    for queued in &contents.queued {
        made.pdus.push(queued.event.pdu.clone());
        let in_room = Some(queued.in_room);
        made.events.push(Told { room: queued.event.room, position: queued.event.position, in_room });
    }
    if !contents.missed.is_empty() {
        let events = tools.events.load_readable(&contents.missed_nids()).await?;
        made.pdus.extend(events.iter().map(|event| event.pdu.clone()));
        let noted = |event: &RelayedEvent| Told { room: event.room, position: event.position, in_room: None };
        made.events.extend(contents.missed.iter().map(noted));
    }
    if let Some(after) = contents.edus_after {
        let edus = destinations::list_edus(&tools.storage.get().await?, server, after, MAX_EDUS).await?;
        made.edus_upto = match edus.last() {
            Some(last) if edus.len() == MAX_EDUS => Some(last.position),
            last => Some(contents.edus_latest.max(last.map_or(after, |last| last.position))),
        };
        made.edus.extend(edus.iter().filter_map(|row| edus::edu(&row.edu_type, row.content.as_ref())));
    }
    Ok(destinations.update(server, |destination| destination.begin(made)))
}

/// Sends the transaction. Whether the server had failed before and has answered now.
async fn attempt_once(destinations: &Destinations, server: &ServerName, attempt: &Attempt) -> bool {
    let remote = &destinations.tools().remote;
    let transaction = attempt.transaction();
    let sent = timeout(LONGEST_ATTEMPT, remote.send_transaction(server, &transaction)).await;
    let sent = sent.unwrap_or_else(|_elapsed| Err(RemoteError::Unreachable("no answer in time".to_owned())));
    let failures = destinations.update(server, |destination| destination.backoff.failures);
    match sent {
        Ok(()) => {
            destinations.succeed(server, attempt);
            if failures > 0 {
                info!(server.name = %server, failures, "a server answers again");
            }
            failures > 0
        }
        Err(RemoteError::NotAllowed(_)) => {
            destinations.update(server, super::destination::Destination::drop_all);
            false
        }
        Err(error) if is_final(&error) && (attempt.is_part || failures + 1 >= REFUSALS) => {
            let dropped =
                destinations.update(server, |destination| destination.refuse(|| destinations.next_id()));
            if let Some(dropped) = dropped {
                let events: Vec<&EventId> = dropped.pdus.iter().map(Pdu::event_id).collect();
                let edus = dropped.edus.len();
                warn!(server.name = %server, ?events, edus, %error, "a server refuses this, which is dropped");
            }
            false
        }
        Err(error) => {
            debug!(server.name = %server, failures, %error, "a transaction was not sent");
            destinations.fail(server);
            false
        }
    }
}

/// The server has read the transaction and will never take it.
fn is_final(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { status: 400 | 405..=407 | 409..=428 | 430..=499, .. })
}
