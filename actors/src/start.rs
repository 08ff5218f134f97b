//! Starts all actors with what they need, and is what the rest of the program holds of them.

use std::{sync::Arc, time::Duration};

use myelin_core::{nid::UserNid, pdu::build::Signer};
use myelin_storage::{Storage, devices, error::StorageError, members, nids::Nids, timeline};
use tokio::sync::Notify;

use crate::{
    arbiters::Arbiters,
    clock::Clock,
    events::Events,
    federation::{SenderTools, destinations::Tools, handle::Federation},
    inbound::Inbound,
    journal::{Journal, handle::JournalHandle},
    presence::{Presences, Remembered},
    registry::Rooms,
    remote::RemoteServers,
    room::{PgStore, RoomTools, store::RoomStore},
    sync::{fanout::Fanout, handle::Syncers},
    typing::Typing,
};

/// How often views that nobody needs are let go.
const SWEEP: Duration = Duration::from_secs(60);
/// Who was seen within so long before the last who was seen at all may have been there to the end: it is noted some
/// minutes late.
const LATELY_MS: i64 = 10 * 60 * 1000;

/// How much the actors may use.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Threads for rooms and users.
    pub arbiters: usize,
    /// How many bytes of events' JSON are kept in memory.
    pub event_bytes: u64,
}

/// What other servers are told.
#[derive(Clone, Copy, Debug)]
pub struct FederationSettings {
    /// Anything at all.
    pub enabled: bool,
    /// That local users are online.
    pub presence: bool,
    /// How long what is not an event waits for a server that does not answer, in milliseconds.
    pub patience_ms: u64,
}

/// The running actors.
#[derive(Clone)]
pub struct Actors {
    /// Rooms.
    pub rooms: Rooms,
    /// Receipts and account data are written here.
    pub journal: JournalHandle,
    /// Committed events.
    pub events: Events,
    /// What is new for each user.
    pub syncers: Syncers,
    /// Who is typing.
    pub typing: Typing,
    /// Who is online.
    pub presences: Presences,
    /// Tells other servers.
    pub federation: Federation,
    /// Numbers for strings.
    pub nids: Arc<Nids>,
    /// What other servers send, and what is missing here.
    pub inbound: Inbound,
    /// Other servers.
    pub remote: Arc<dyn RemoteServers>,
    /// Told when another server has changed the state of a room.
    pub state_changes: Arc<Notify>,
}

impl Actors {
    /// Starts everything over this storage. Must be called inside an actix system.
    pub async fn start(
        storage: Storage,
        nids: Arc<Nids>,
        signer: Arc<Signer>,
        remote: Arc<dyn RemoteServers>,
        clock: Clock,
        sizes: Sizes,
        federation: FederationSettings,
    ) -> Result<Self, StorageError> {
        let arbiters = Arbiters::start(sizes.arbiters);
        let (journal_thread, runtime) = arbiters.next_with_runtime().await;
        let commits = storage.beside(runtime)?;
        let store: Arc<dyn RoomStore> = Arc::new(PgStore::new(storage.clone(), commits, Arc::clone(&nids)));
        let events = Events::new(Arc::clone(&store), sizes.event_bytes);
        let fanout = Fanout::new(&clock);
        let position = timeline::current_position(&storage.get().await?).await?;
        let journal =
            Journal::start(&journal_thread, Arc::clone(&store), events.clone(), fanout.clone(), position);
        let server_name = signer.server_name.clone();
        let tools = RoomTools {
            store,
            events: events.clone(),
            journal: journal.clone(),
            signer,
            clock: clock.clone(),
        };
        let rooms = Rooms::new(arbiters.clone(), tools, Arc::clone(&remote));
        sweep(rooms.clone());
        let inbound = Inbound::start(
            storage.clone(),
            rooms.clone(),
            Arc::clone(&remote),
            server_name.clone(),
            clock.clone(),
            arbiters.clone(),
        )
        .await?;
        let presences = Presences::start(fanout.clone(), clock.clone());
        remember_who_was_here(&storage, &presences).await?;
        let federation = if federation.enabled {
            let sending = Tools {
                storage: storage.clone(),
                events: events.clone(),
                remote: Arc::clone(&remote),
                clock: clock.clone(),
                arbiters: arbiters.clone(),
                patience_ms: federation.patience_ms,
            };
            let tools = SenderTools {
                server_name,
                rooms: rooms.clone(),
                nids: Arc::clone(&nids),
                journal: journal.clone(),
                presences: presences.clone(),
                presence: federation.presence,
            };
            Federation::start(tools, sending, &fanout)
        } else {
            Federation::off()
        };
        let state_changes = fanout.state_changes();
        Ok(Self {
            state_changes,
            rooms,
            events,
            syncers: Syncers::new(arbiters, storage, fanout.clone(), clock.clone(), journal.watch()),
            typing: Typing::start(fanout, clock),
            presences,
            federation,
            nids,
            inbound,
            remote,
            journal,
        })
    }
}

/// Others may believe that those who were here when the server was last are there still.
async fn remember_who_was_here(storage: &Storage, presences: &Presences) -> Result<(), StorageError> {
    let db = storage.get().await?;
    let seen = devices::list_seen_last(&db, LATELY_MS).await?;
    let users: Vec<UserNid> = seen.iter().map(|(user, _)| *user).collect();
    let mut rooms = members::joined_rooms_of(&db, &users).await?;
    let remembered = seen.into_iter().map(|(user, seen)| Remembered {
        user,
        last_active_ms: seen.try_into().unwrap_or_default(),
        rooms: rooms.remove(&user).unwrap_or_default(),
    });
    presences.remember(remembered.collect());
    Ok(())
}

fn sweep(rooms: Rooms) {
    actix_rt::spawn(async move {
        let mut tick = tokio::time::interval(SWEEP);
        loop {
            tick.tick().await;
            rooms.sweep();
        }
    });
}
