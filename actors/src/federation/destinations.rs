//! All remote servers: finds each one's state, and starts its actor while there is something to be sent.
//!
//! A server with nothing to be sent, or whose time has not come, is a row in a map: no actor, no task, no timer. One
//! heap holds when the failed ones are to be tried again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::Addr;
use myelin_core::position::Position;
use myelin_storage::{
    Storage,
    destinations::{DestinationRow, MissedRoom, save::Progress},
};
use parking_lot::Mutex;
use ruma::{OwnedServerName, OwnedTransactionId, ServerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use super::{
    actor::DestinationActor,
    attempt::Attempt,
    destination::{Destination, DestinationStatus, Next},
};
use crate::{arbiters::Arbiters, clock::Clock, events::Events, remote::RemoteServers};

/// Attempts under way with servers that answered the last time, or were never asked.
const ATTEMPTS: usize = 256;
/// Attempts under way with servers that did not: they must not keep the others waiting.
const RETRIES: usize = 64;

/// What a destination's actor works with.
pub(crate) struct Tools {
    pub storage: Storage,
    pub events: Events,
    pub remote: Arc<dyn RemoteServers>,
    pub clock: Clock,
    pub arbiters: Arbiters,
    /// How long what is not an event waits for a server that does not answer.
    pub patience_ms: u64,
}

/// What has happened since the start, for all servers together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub transactions: AtomicU64,
    pub pdus: AtomicU64,
    pub edus: AtomicU64,
    pub failures: AtomicU64,
}

/// All remote servers.
#[derive(Clone)]
pub(crate) struct Destinations(Arc<Inner>);

struct Inner {
    tools: Tools,
    servers: Mutex<Servers>,
    attempts: Arc<Semaphore>,
    retries: Arc<Semaphore>,
    counters: Counters,
    /// Random, so that no transaction of an earlier start has the same id.
    epoch: u64,
    transactions: AtomicU64,
}

/// The state under the lock.
#[derive(Default)]
pub(crate) struct Servers {
    slots: HashMap<OwnedServerName, Slot>,
    /// Events up to here have been given to the servers that they are for.
    pub dispatched: Position,
    /// Something was sent, or is to be, since the cursor was saved.
    touched: bool,
    retries: BinaryHeap<Reverse<(u64, OwnedServerName)>>,
}

#[derive(Default)]
struct Slot {
    destination: Destination,
    actor: Option<Addr<DestinationActor>>,
}

impl Servers {
    /// The server's state, made when it is first asked for.
    pub fn get(&mut self, server: &ServerName) -> &mut Destination {
        self.touched = true;
        if !self.slots.contains_key(server) {
            self.slots.insert(server.to_owned(), Slot::default());
        }
        &mut self.slots.get_mut(server).expect("it was added above").destination
    }

    /// The server's state, if anything is known of it.
    pub fn find(&mut self, server: &ServerName) -> Option<&mut Destination> {
        self.slots.get_mut(server).map(|slot| &mut slot.destination)
    }
}

impl Destinations {
    /// No server is known yet.
    pub fn new(tools: Tools) -> Self {
        Self(Arc::new(Inner {
            tools,
            servers: Mutex::default(),
            attempts: Arc::new(Semaphore::new(ATTEMPTS)),
            retries: Arc::new(Semaphore::new(RETRIES)),
            counters: Counters::default(),
            epoch: rand::random(),
            transactions: AtomicU64::new(0),
        }))
    }

    pub fn tools(&self) -> &Tools {
        &self.0.tools
    }

    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Changes servers' states, and starts the actors of those among `servers` that have something to be sent now.
    pub fn change(&self, servers: &[OwnedServerName], change: impl FnOnce(&mut Servers)) {
        let mut state = self.0.servers.lock();
        change(&mut state);
        for server in servers {
            self.start_if_due(&mut state, server);
        }
    }

    /// Events up to here have been given to the servers that they are for.
    pub fn dispatched(&self) -> Position {
        self.0.servers.lock().dispatched
    }

    /// As everything was written down.
    pub fn restore(&self, cursor: Position, rows: &[DestinationRow], missed: &[MissedRoom]) {
        let mut state = self.0.servers.lock();
        for row in rows {
            state.get(&row.server).restore(row);
            if row.failures > 0 {
                state.retries.push(Reverse((row.retry_at_ms, row.server.clone())));
            }
        }
        for room in missed {
            state.get(&room.server).restore_missed(room, cursor);
        }
        state.dispatched = cursor;
        state.touched = false;
    }

    fn start_if_due(&self, state: &mut Servers, server: &ServerName) {
        let now_ms = self.0.tools.clock.now_ms();
        let Some(slot) = state.slots.get_mut(server) else { return };
        let is_running = slot.actor.as_ref().is_some_and(Addr::connected);
        if !is_running && slot.destination.is_due(now_ms) {
            slot.actor =
                Some(DestinationActor::start(&self.0.tools.arbiters.next(), self.clone(), server.to_owned()));
        }
    }

    /// Starts the actors of all servers that have something to be sent now.
    pub fn start_all(&self) {
        let mut state = self.0.servers.lock();
        let servers: Vec<OwnedServerName> = state.slots.keys().cloned().collect();
        for server in servers {
            self.start_if_due(&mut state, &server);
        }
    }

    /// Starts the actors of the failed servers whose time has come.
    pub fn retry_due(&self) {
        let now_ms = self.0.tools.clock.now_ms();
        let mut state = self.0.servers.lock();
        while state.retries.peek().is_some_and(|Reverse((retry_at_ms, _))| *retry_at_ms <= now_ms) {
            if let Some(Reverse((_, server))) = state.retries.pop() {
                self.start_if_due(&mut state, &server);
            }
        }
    }

    /// The server was heard of: if it failed, it is tried again.
    pub fn hear(&self, server: &ServerName) {
        let now_ms = self.0.tools.clock.now_ms();
        let mut state = self.0.servers.lock();
        let heard = state.find(server).is_some_and(|destination| destination.backoff.hear(now_ms));
        if heard {
            self.start_if_due(&mut state, server);
        }
    }

    /// What the server's actor is to do next. At [`Next::Rest`] it is to end, and is not found any more.
    pub fn next(&self, server: &ServerName) -> Next {
        let now_ms = self.0.tools.clock.now_ms();
        let mut state = self.0.servers.lock();
        let dispatched = state.dispatched;
        let Some(slot) = state.slots.get_mut(server) else { return Next::Rest };
        let next = slot.destination.next(now_ms, dispatched);
        if matches!(next, Next::Rest) {
            slot.actor = None;
        }
        next
    }

    /// Changes the server's state, on behalf of its actor.
    pub fn update<T>(&self, server: &ServerName, update: impl FnOnce(&mut Destination) -> T) -> T {
        update(self.0.servers.lock().get(server))
    }

    /// The transaction was not acknowledged.
    pub fn fail(&self, server: &ServerName) {
        let now_ms = self.0.tools.clock.now_ms();
        self.0.counters.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.0.servers.lock();
        let destination = state.get(server);
        destination.fail(now_ms, rand::random());
        if destination.expire_edus(now_ms, self.0.tools.patience_ms) {
            info!(server.name = %server, "a server has been away for so long that it is not kept what waits for it");
        }
        // Also when nothing is left to be sent: there may be something by then.
        let retry_at_ms = destination.backoff.retry_at_ms;
        state.retries.push(Reverse((retry_at_ms, server.to_owned())));
    }

    /// The transaction was acknowledged.
    pub fn succeed(&self, server: &ServerName, attempt: &Attempt) {
        let now_ms = self.0.tools.clock.now_ms();
        let (pdus, edus) = attempt.size();
        let counters = &self.0.counters;
        counters.transactions.fetch_add(1, Ordering::Relaxed);
        counters.pdus.fetch_add(u64::try_from(pdus).unwrap_or_default(), Ordering::Relaxed);
        counters.edus.fetch_add(u64::try_from(edus).unwrap_or_default(), Ordering::Relaxed);
        self.0.servers.lock().get(server).succeed(now_ms);
    }

    /// A transaction id that no other transaction has.
    pub fn next_id(&self) -> OwnedTransactionId {
        let number = self.0.transactions.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}.{number}", self.0.epoch).into()
    }

    /// Permission for an attempt. Servers that failed the last time wait among themselves.
    pub async fn permit(&self, server: &ServerName) -> Option<OwnedSemaphorePermit> {
        let failed = self.update(server, |destination| destination.backoff.failures > 0);
        let semaphore = if failed { &self.0.retries } else { &self.0.attempts };
        // It is closed by nobody.
        Arc::clone(semaphore).acquire_owned().await.ok()
    }

    /// What has changed since the last time. `told`: events up to here have been dispatched, if that is known.
    /// `None`: nothing that would have to be written down now.
    pub fn take_progress(&self, told: Option<Position>, saved: Position, slack: i64) -> Option<Progress> {
        let mut state = self.0.servers.lock();
        state.dispatched = state.dispatched.max(told.unwrap_or_default());
        if !state.touched && state.dispatched.0 - saved.0 < slack {
            return None;
        }
        state.touched = false;
        let mut progress = Progress { cursor: state.dispatched, ..Progress::default() };
        for (server, slot) in &mut state.slots {
            if let Some(first) = slot.destination.first_unacknowledged() {
                progress.cursor = progress.cursor.min(Position(first.0 - 1));
            }
            slot.destination.take_unsaved(server, &mut progress);
        }
        progress.cursor = progress.cursor.max(saved);
        Some(progress)
    }

    /// What could not be written down is to be written down the next time.
    pub fn keep_progress(&self, progress: &Progress) {
        let rows = progress.destinations.iter().map(|row| (&row.server, None));
        let edus = progress.edus.iter().map(|(server, _)| (server, None));
        let missed = progress.missed.iter().map(|row| (&row.server, Some(row.room)));
        let caught_up = progress.caught_up.iter().map(|(server, room)| (server, Some(*room)));
        let mut state = self.0.servers.lock();
        for (server, room) in rows.chain(edus).chain(missed).chain(caught_up) {
            state.get(server).keep_unsaved(room);
        }
    }

    /// Forgets that the server has failed, and tries it again. Whether it had.
    pub fn reset(&self, server: &ServerName) -> bool {
        let mut state = self.0.servers.lock();
        let had_failed = state.find(server).is_some_and(Destination::reset_backoff);
        if had_failed {
            state.touched = true;
            self.start_if_due(&mut state, server);
        }
        had_failed
    }

    /// How it goes with the server; `None`: it was never sent anything.
    pub fn status(&self, server: &ServerName) -> Option<DestinationStatus> {
        self.0.servers.lock().slots.get(server).map(|slot| slot.destination.status(server))
    }

    /// How it goes with all servers, in the order of their names.
    pub fn list(&self) -> Vec<DestinationStatus> {
        let state = self.0.servers.lock();
        let mut list: Vec<DestinationStatus> =
            state.slots.iter().map(|(server, slot)| slot.destination.status(server)).collect();
        drop(state);
        list.sort_unstable_by(|a, b| a.server.cmp(&b.server));
        list
    }

    /// How many servers are known, fail, and are being talked to.
    pub fn count(&self) -> (usize, usize, usize) {
        let state = self.0.servers.lock();
        let failing = state.slots.values().filter(|slot| slot.destination.backoff.failures > 0).count();
        let active = state.slots.values().filter(|slot| slot.actor.is_some()).count();
        (state.slots.len(), failing, active)
    }
}
