//! Myelin's storage: every SQL statement, and nothing that decides.
//!
//! In reading order:
//!
//! - [`Storage`]: the door. [`pool`]: its connections. [`error`]: what can go wrong.
//! - [`managed`]: the private Postgres cluster; [`migrate`]: its schema. [`ownership`]: whose database it is; [`sole`]:
//!   that only one server uses it.
//! - [`commit`]: the journal's one transaction, the only way to add to rooms.
//! - [`nids`]: strings to numbers and back.
//! - [`rooms`], [`events`], [`state`], [`timeline`], [`members`], [`relations`]: reading what was committed.
//! - [`auth_chains`]: what state events are based on, for state resolution.
//! - [`transactions`], [`receipts`], [`account_data`], [`unread`]: what users keep about rooms.
//! - [`accounts`], [`devices`], [`tokens`], [`uia`], [`registration_tokens`]: who is who, and what proves it.
//! - [`profiles`], [`filters`], [`directory`], [`user_directory`]: what users say about themselves, keep, and find.
//! - [`encryption`]: keys of devices and users. [`backup`]: keys of rooms, which clients have encrypted. [`to_device`]: messages that wait for a device.
//! - [`destinations`]: what other servers have still to be sent.
//! - [`pushers`]: where their devices want to be told of news.
//! - [`inbound`]: what other servers have sent, until it is decided.
//! - [`media`]: what is known of uploaded files, and of copies of others'.
//! - [`server_keys`]: with what other servers sign.
//! - [`fsck`]: checks what must hold.
//!
//! # How to add a statement
//!
//! 1. Write it in the `statements!` block at the top of the module of its table family, upper-case keywords, one
//!    clause a line, set-based: a list of keys comes as an array, and no query runs inside a loop.
//! 2. Write one typed function that runs it. `&impl GenericClient` when it stands alone, `&Transaction<'_>` when
//!    it must be atomic with its neighbours.
//! 3. If the module is new, name it in `statements.rs`; then a test prepares the statement.
//!
//! Deliberately absent: decisions, actors, HTTP, caches of rows. What is written together with an event stands
//! in `commit/`.

pub mod account_data;
pub mod accounts;
pub mod auth_chains;
pub mod backup;
pub mod commit;
pub mod destinations;
pub mod devices;
pub mod directory;
pub mod encryption;
pub mod error;
pub mod events;
pub mod expiring_events;
pub mod filters;
pub mod followed_rooms;
pub mod fsck;
pub mod gaps;
pub mod inbound;
pub mod managed;
pub mod media;
pub mod members;
pub mod migrate;
pub mod nids;
pub mod outside;
pub mod ownership;
pub mod pool;
pub mod profiles;
pub mod pushers;
pub mod receipts;
pub mod registration_tokens;
pub mod relations;
pub mod rooms;
pub(crate) mod row;
pub mod server_keys;
pub mod sole;
pub mod state;
pub mod statements;
pub mod timeline;
pub mod to_device;
pub mod tokens;
pub mod transactions;
pub mod uia;
pub mod unread;
pub mod user_directory;

#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::runtime::Handle;

pub use error::StorageError;
pub use pool::{Client, DatabaseUrl, GenericClient, Transaction};

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) url: DatabaseUrl,
    pool: deadpool_postgres::Pool,
    /// How often a connection was asked for.
    asked: Arc<AtomicU64>,
}

impl Storage {
    /// Connects to a database, with at most `pool_size` connections, all living on the runtime `io`. Fails if
    /// none can be opened.
    pub async fn connect(url: &DatabaseUrl, io: Handle, pool_size: usize) -> Result<Self, StorageError> {
        let pool = pool::pool(url, io, pool_size)?;
        let storage = Self { url: url.clone(), pool, asked: Arc::default() };
        drop(storage.get().await?);
        Ok(storage)
    }

    /// The same database through one connection of its own, which lives on that runtime: for a single caller that
    /// does little else there than wait for its answers, and then gets them without another thread's help.
    pub fn beside(&self, runtime: Handle) -> Result<Self, StorageError> {
        let pool = pool::pool(&self.url, runtime, 1)?;
        Ok(Self { url: self.url.clone(), pool, asked: Arc::clone(&self.asked) })
    }

    /// A connection, which goes back to the pool when it is dropped. Waits while all are in use.
    pub async fn get(&self) -> Result<Client, StorageError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.pool.get().await?)
    }

    /// How often anybody asked for a connection, one beside this included. What leaves this number as it is has asked
    /// the database nothing, since no statement runs without a connection.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Closes every connection that nobody uses, and the others when they come back. Afterwards there are none.
    pub fn close(&self) {
        self.pool.close();
    }
}
