//! What is written down of a server, and what those who look after this one see of it.

use myelin_core::{nid::RoomNid, position::Position};
use myelin_storage::destinations::{DestinationRow, MissedRoom, save::Progress};
use ruma::{OwnedServerName, ServerName};

use super::{Destination, missed::Missed};

impl Destination {
    /// Adds what has changed since the last time.
    pub fn take_unsaved(&mut self, server: &ServerName, progress: &mut Progress) {
        if std::mem::take(&mut self.unsaved.row) {
            self.noted_success_ms = self.last_success_ms.unwrap_or_default();
            progress.destinations.push(DestinationRow {
                server: server.to_owned(),
                failures: self.backoff.failures,
                retry_at_ms: self.backoff.retry_at_ms,
                last_success_ms: self.last_success_ms,
                failing_since_ms: self.backoff.failing_since_ms,
            });
        }
        for room in std::mem::take(&mut self.unsaved.rooms) {
            match self.missed.get(&room) {
                Some(Missed { after, upto, .. }) => progress.missed.push(MissedRoom {
                    server: server.to_owned(),
                    room,
                    after: *after,
                    upto: *upto,
                }),
                None => progress.caught_up.push((server.to_owned(), room)),
            }
        }
        if std::mem::take(&mut self.unsaved.edus) {
            progress.edus.push((server.to_owned(), self.edus_after));
        }
    }

    /// What could not be saved is to be saved the next time.
    pub fn keep_unsaved(&mut self, room: Option<RoomNid>) {
        if let Some(room) = room {
            self.unsaved.rooms.insert(room);
        } else {
            (self.unsaved.row, self.unsaved.edus) = (true, true);
        }
    }

    /// How it goes with the server.
    pub fn status(&self, server: &ServerName) -> DestinationStatus {
        DestinationStatus {
            server: server.to_owned(),
            last_success_ms: self.last_success_ms,
            failures: self.backoff.failures,
            failing_since_ms: self.backoff.failing_since_ms,
            retry_interval_ms: self.backoff.pause_ms,
            retry_at_ms: (self.backoff.failures > 0).then_some(self.backoff.retry_at_ms),
            acknowledged: self.missed.values().map(|missed| missed.after).min(),
            rooms_behind: self.missed.len(),
        }
    }
}

/// How it goes with a server, for those who look after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    /// The server.
    pub server: OwnedServerName,
    /// When it last acknowledged a transaction, in milliseconds since 1970. `None`: never.
    pub last_success_ms: Option<u64>,
    /// Attempts that failed since.
    pub failures: u32,
    /// When the first of them was, in milliseconds since 1970.
    pub failing_since_ms: Option<u64>,
    /// How long the pause is in which the server is not tried; 0: there is none, or it began before this server did.
    pub retry_interval_ms: u64,
    /// When it is tried again, in milliseconds since 1970. `None`: it does not fail.
    pub retry_at_ms: Option<u64>,
    /// It has acknowledged everything up to here. `None`: everything that there is.
    pub acknowledged: Option<Position>,
    /// Of so many rooms it misses something.
    pub rooms_behind: usize,
}
