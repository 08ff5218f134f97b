//! The way of other servers' events to their rooms.
//!
//! What arrives is stored in a queue first ([`myelin_storage::inbound`]) and answered then; from there on, it is
//! worked on until its room has decided about it, over restarts. Each room has a task of its own, so that a slow or
//! broken room delays no other. An event whose ancestors are missing is parked, with its reason, and a task for that
//! room and sender fetches what is missing (`gap`); meanwhile the room goes on with what else arrives.
//!
//! An event that cannot be decided because nobody can be asked is tried again, ever more rarely. One for which servers
//! answer, but in vain, is quarantined after some attempts: its row stays for a while, with the reason.
//!
//! - [`backfill`]: history from before the room's events that are here.
//! - `worker`: one room's queue. `gap`: what is missing before an event. `fetch`: asking several servers.
//!
//! No actor of actix: a task has no messages. It may await rooms, storage and other servers.

pub mod backfill;
mod fetch;
mod gap;
mod order;
mod turns;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use myelin_core::nid::RoomNid;
use myelin_storage::{Storage, error::StorageError, events, inbound};
use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, ServerName};
use tokio::sync::{MutexGuard, Semaphore};
use tracing::warn;

use self::turns::Turns;
use crate::{
    arbiters::Arbiters, clock::Clock, registry::Rooms, remote::RemoteServers, room::error::RoomError,
};

/// How many rooms may work at the same time on what has arrived for them, other than waiting for other servers.
const WORKING: usize = 16;
/// How many requests to other servers may be under way at the same time for missing events.
const ASKING: usize = 64;
/// How often parked events are looked for whose time has come.
const TICK: Duration = Duration::from_millis(500);
/// How often what is no longer needed is looked for.
const FORGET_MS: u64 = 60 * 60 * 1000;
/// How long answered transactions and quarantined events are remembered.
const REMEMBERED_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// How many quarantined events are kept for each server.
const QUARANTINED: usize = 1000;

/// The consumer of the inbound queue. Cheap to clone.
#[derive(Clone)]
pub struct Inbound(Arc<Inner>);

/// What the tasks work with.
pub(crate) struct Inner {
    pub storage: Storage,
    pub rooms: Rooms,
    pub remote: Arc<dyn RemoteServers>,
    pub server_name: OwnedServerName,
    pub clock: Clock,
    pub arbiters: Arbiters,
    pub working: Semaphore,
    pub asking: Semaphore,
    /// One page of a room's history is fetched at a time.
    backfilling: Turns,
    /// Until when nobody is asked for the history before an event.
    no_history: Mutex<HashMap<OwnedEventId, u64>>,
    /// Until when nobody is asked for an event that could not be had.
    out_of_reach: Mutex<HashMap<OwnedEventId, u64>>,
    /// One transaction of a server is taken in at a time.
    transactions: Turns,
    tasks: Mutex<HashMap<OwnedRoomId, Tasks>>,
}

/// A room's tasks.
#[derive(Default)]
struct Tasks {
    drain: Drain,
    /// Servers for whose parked events a task runs now.
    filling: HashSet<OwnedServerName>,
    /// When the first parked event of a server is to be tried again.
    due: HashMap<OwnedServerName, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Drain {
    #[default]
    Idle,
    Running,
    /// Something has arrived since the task last looked.
    Again,
}

impl Tasks {
    fn is_idle(&self) -> bool {
        self.drain == Drain::Idle && self.filling.is_empty() && self.due.is_empty()
    }
}

impl Inbound {
    /// Goes on with what is queued. Must be called inside an actix system.
    pub async fn start(
        storage: Storage,
        rooms: Rooms,
        remote: Arc<dyn RemoteServers>,
        server_name: OwnedServerName,
        clock: Clock,
        arbiters: Arbiters,
    ) -> Result<Self, StorageError> {
        let inbound = Self(Arc::new(Inner {
            storage,
            rooms,
            remote,
            server_name,
            clock,
            arbiters,
            working: Semaphore::new(WORKING),
            asking: Semaphore::new(ASKING),
            backfilling: Turns::default(),
            no_history: Mutex::default(),
            out_of_reach: Mutex::default(),
            transactions: Turns::default(),
            tasks: Mutex::default(),
        }));
        let queued = inbound::list_rooms(&inbound.0.storage.get().await?).await?;
        inbound.wake(queued);
        inbound.tick();
        Ok(inbound)
    }

    /// Something was queued for these rooms.
    pub fn wake(&self, rooms: impl IntoIterator<Item = OwnedRoomId>) {
        let mut tasks = self.0.tasks.lock();
        for room in rooms {
            let drain = &mut tasks.entry(room.clone()).or_default().drain;
            match drain {
                Drain::Idle => {
                    *drain = Drain::Running;
                    self.0.arbiters.next().spawn(worker::drain(Running::new(&self.0, room, None)));
                }
                Drain::Running | Drain::Again => *drain = Drain::Again,
            }
        }
    }

    /// Waits until no other transaction of the server is being taken in.
    pub async fn turn(&self, server: &ServerName) -> MutexGuard<'_, ()> {
        self.0.transactions.take(server.as_str()).await
    }

    /// Whether there is nothing that a task works on now. Parked events may wait for their time.
    pub fn is_idle(&self) -> bool {
        self.0.tasks.lock().values().all(|tasks| tasks.drain == Drain::Idle && tasks.filling.is_empty())
    }

    fn tick(&self) {
        let weak = Arc::downgrade(&self.0);
        actix_rt::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            let mut forget_at = 0;
            loop {
                tick.tick().await;
                let Some(inner) = weak.upgrade() else { return };
                inner.start_due();
                let now_ms = inner.clock.now_ms();
                if now_ms >= forget_at {
                    forget_at = now_ms + FORGET_MS;
                    if let Err(error) = inner.forget(now_ms).await {
                        warn!(%error, "could not forget old transactions of other servers");
                    }
                }
            }
        });
    }
}

impl Inner {
    /// Those of the events that have their place in this room's graph here. One query.
    async fn placed(
        &self,
        room: RoomNid,
        ids: Vec<OwnedEventId>,
    ) -> Result<HashSet<OwnedEventId>, RoomError> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<&EventId> = ids.iter().map(AsRef::as_ref).collect();
        let placed = events::list_placed(&self.storage.get().await?, &ids).await?;
        Ok(placed.into_iter().filter(|(_, placed)| placed.room == room).map(|(id, _)| id).collect())
    }

    /// Starts tasks for the parked events whose time has come.
    fn start_due(self: &Arc<Self>) {
        let now_ms = self.clock.now_ms();
        for (room, tasks) in self.tasks.lock().iter_mut() {
            let due: Vec<OwnedServerName> = tasks
                .due
                .iter()
                .filter(|(server, at)| **at <= now_ms && !tasks.filling.contains(*server))
                .map(|(server, _)| server.clone())
                .collect();
            for server in due {
                tasks.due.remove(&server);
                self.start_filling(tasks, room, server);
            }
        }
    }

    /// Starts tasks for parked events of these servers, unless they run.
    fn fill(self: &Arc<Self>, room: &OwnedRoomId, servers: impl IntoIterator<Item = OwnedServerName>) {
        let mut tasks = self.tasks.lock();
        let tasks = tasks.entry(room.clone()).or_default();
        for server in servers {
            if tasks.filling.contains(&server) {
                tasks.due.insert(server, 0);
            } else {
                self.start_filling(tasks, room, server);
            }
        }
    }

    fn start_filling(self: &Arc<Self>, tasks: &mut Tasks, room: &OwnedRoomId, server: OwnedServerName) {
        tasks.filling.insert(server.clone());
        let running = Running::new(self, room.clone(), Some(server.clone()));
        self.arbiters.next().spawn(worker::fill(running, server));
    }

    /// When parked events of the room are to be tried again.
    fn note_due(&self, room: &OwnedRoomId, due: HashMap<OwnedServerName, u64>) {
        let mut tasks = self.tasks.lock();
        let tasks = tasks.entry(room.clone()).or_default();
        for (server, at) in due {
            let noted = tasks.due.entry(server).or_insert(at);
            *noted = at.min(*noted);
        }
    }

    async fn forget(&self, now_ms: u64) -> Result<(), StorageError> {
        let client = self.storage.get().await?;
        inbound::forget(&client, now_ms.saturating_sub(REMEMBERED_MS), QUARANTINED).await
    }
}

/// A running task: of a room's queue, or of a server's parked events in it. However it ends, another may begin.
pub(crate) struct Running {
    inner: Arc<Inner>,
    room: OwnedRoomId,
    /// `None`: the room's queue.
    server: Option<OwnedServerName>,
    has_ended: bool,
}

impl Running {
    fn new(inner: &Arc<Inner>, room: OwnedRoomId, server: Option<OwnedServerName>) -> Self {
        Self { inner: Arc::clone(inner), room, server, has_ended: false }
    }

    /// Whether the task of the queue is at its end: nothing has arrived since it was last asked.
    fn has_ended(&mut self) -> bool {
        let mut all = self.inner.tasks.lock();
        if let Some(tasks) = all.get_mut(&self.room) {
            if tasks.drain == Drain::Again {
                tasks.drain = Drain::Running;
                return false;
            }
            tasks.drain = Drain::Idle;
        }
        self.has_ended = true;
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut all = self.inner.tasks.lock();
        let Some(tasks) = all.get_mut(&self.room) else { return };
        match &self.server {
            Some(server) => drop(tasks.filling.remove(server)),
            None if !self.has_ended => tasks.drain = Drain::Idle,
            None => {}
        }
        if tasks.is_idle() {
            all.remove(&self.room);
        }
    }
}
