//! What every request may use.

use std::{ops::Deref, sync::Arc};

use myelin_actors::{clock::Clock, start::Actors};
use myelin_storage::Storage;
use ruma::{OwnedRoomId, ServerName};
use tokio::runtime::Handle;

use crate::{
    accounts::passwords::Passwords, config::Config, flights::Flights, http::rate_limit::RateLimits,
    locks::Locks, media::Media, remote::Remote, sessions::Sessions, shutdown::Shutdown, sync::SyncCaches,
    workflows::keys::lists::under_way::DeviceLists, workflows::others::Others,
};

/// The running server, as handlers see it. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`]. None of them refers back to it.
pub struct Parts {
    /// What the operator decided.
    pub config: Arc<Config>,
    /// The database, for reading; rooms are written by their actors.
    pub storage: Storage,
    /// Rooms, the journal, who waits for news, and numbers for strings.
    pub actors: Arc<Actors>,
    /// Other servers.
    pub remote: Remote,
    /// Hashes and compares passwords.
    pub passwords: Passwords,
    /// Files that were uploaded or fetched.
    pub media: Media,
    /// What this process remembers.
    pub memory: Memory,
    /// The process itself.
    pub process: Process,
}

/// What is in memory only. All of it can be lost.
pub struct Memory {
    /// How often who has asked. One for all listeners, so that nobody asks twice as often on two of them.
    pub limits: RateLimits,
    /// Who is logged in.
    pub sessions: Sessions,
    /// What is under way with device lists.
    pub device_lists: DeviceLists,
    /// What is done one after the other.
    pub locks: Locks,
    /// What answers to `/sync` remember of each other.
    pub sync: SyncCaches,
    /// What is remembered of other servers.
    pub others: Others,
    /// Rooms that are being replaced, and by which.
    pub upgrades: Flights<OwnedRoomId, OwnedRoomId>,
}

impl Memory {
    /// Nothing is remembered yet.
    pub fn new(config: &Config) -> Self {
        Self {
            limits: RateLimits::new(&config.rate_limits),
            sessions: Sessions::default(),
            device_lists: DeviceLists::default(),
            locks: Locks::default(),
            sync: SyncCaches::default(),
            others: Others::default(),
            upgrades: Flights::default(),
        }
    }
}

/// What the program runs in.
pub struct Process {
    /// The runtime of what outlives a request.
    pub io: Handle,
    /// The time.
    pub clock: Clock,
    /// Tells when the server is about to end: who waits answers then.
    pub shutdown: Shutdown,
}

impl App {
    /// The server that consists of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Whether that is the name of this server.
    pub fn is_ours(&self, server: &ServerName) -> bool {
        *server == self.config.server_name
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
