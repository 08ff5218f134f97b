//! One remote server, as the sender sees it: what it is to be sent next, and whether now.
//!
//! Values in, values out: it reads nothing, sends nothing and knows no time. A server that keeps up gets events from
//! memory, in the order of their commit. One that does not is *behind*: of each room it is noted from where on it
//! misses something, and that is read from storage once it answers again.

mod missed;
mod saved;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use myelin_core::{
    nid::{EventNid, RoomNid},
    pdu::Pdu,
    position::Position,
};
use myelin_storage::{
    destinations::{DestinationRow, MissedRange, RelayedEvent},
    events::StoredEvent,
};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedTransactionId};
use serde_json::value::RawValue;

use self::missed::{CatchUp, Missed};
pub use self::saved::DestinationStatus;
use super::{
    attempt::{Attempt, Told},
    backoff::Backoff,
    edus::{Fleeting, Waiting},
};

/// PDUs in a transaction, as the specification has it.
pub(crate) const MAX_PDUS: usize = 50;
/// EDUs in a transaction, as the specification has it.
pub(crate) const MAX_EDUS: usize = 100;
/// Events that wait in memory. A server that leaves more is behind.
const MAX_QUEUE: usize = 500;
/// The time of a success is written down so often, if nothing else is.
const NOTE_SUCCESS_MS: u64 = 10 * 60 * 1000;

/// An event that a server is to be told of.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub event: Arc<StoredEvent>,
    /// The server has joined members after it. Otherwise it is about one of its users who are outside.
    pub in_room: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing now.
    Rest,
    /// Try this again.
    Send(Arc<Attempt>),
    /// Look up what is missed: of each room the last `limit` events after one position and up to another.
    LookUp { rooms: Vec<MissedRange>, upto: Position, limit: usize },
    /// Make a transaction of this, and of what else waits.
    Make(Contents),
}

/// What a new transaction is made of.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Events in memory.
    pub queued: Vec<Queued>,
    /// Events to be loaded.
    pub missed: Vec<RelayedEvent>,
    /// EDUs after this position are to be read.
    pub edus_after: Option<Position>,
    /// There are none after this one.
    pub edus_latest: Position,
}

/// What a new transaction consists of, once it was read.
#[derive(Debug)]
pub(crate) struct Made {
    pub id: OwnedTransactionId,
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    pub pdus: Vec<Pdu>,
    pub events: Vec<Told>,
    pub edus: Vec<Box<RawValue>>,
    pub edus_upto: Option<Position>,
}

/// What has changed and is not written down yet.
#[derive(Debug, Default)]
struct Unsaved {
    row: bool,
    rooms: HashSet<RoomNid>,
    edus: bool,
}

/// One remote server.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    queue: VecDeque<Queued>,
    missed: HashMap<RoomNid, Missed>,
    catch_up: Option<CatchUp>,
    edus_after: Position,
    edus_latest: Position,
    waiting: Waiting,
    attempt: Option<Arc<Attempt>>,
    /// Attempts that come after this one: parts of a transaction that was refused as a whole.
    parts: VecDeque<Arc<Attempt>>,
    pub backoff: Backoff,
    pub last_success_ms: Option<u64>,
    noted_success_ms: u64,
    unsaved: Unsaved,
}

impl Destination {
    /// As it was written down.
    pub fn restore(&mut self, row: &DestinationRow) {
        self.backoff = Backoff::stored(row.failures, row.retry_at_ms, row.failing_since_ms);
        self.last_success_ms = row.last_success_ms;
        self.noted_success_ms = row.last_success_ms.unwrap_or_default();
    }

    /// It is to be told of this event, after all that it was to be told of before.
    pub fn push(&mut self, queued: Queued, now_ms: u64) {
        if !self.missed.is_empty() || !self.backoff.is_over(now_ms) {
            self.miss(queued.event.room, queued.event.position, queued.in_room);
            return;
        }
        self.queue.push_back(queued);
        if self.queue.len() > MAX_QUEUE {
            self.miss_queue();
        }
    }

    /// EDUs up to here wait in storage.
    pub fn push_edus(&mut self, latest: Position) {
        self.edus_latest = self.edus_latest.max(latest);
    }

    /// It is to be told of this if it can be told now.
    pub fn push_fleeting(&mut self, fleeting: Fleeting, now_ms: u64) {
        if self.backoff.failures == 0 || self.backoff.is_over(now_ms) {
            self.waiting.add(fleeting);
        }
    }

    /// There is something to be sent.
    pub fn has_work(&self) -> bool {
        self.attempt.is_some()
            || !self.queue.is_empty()
            || !self.missed.is_empty()
            || self.edus_latest > self.edus_after
            || !self.waiting.is_empty()
    }

    /// There is something to be sent, and it may be sent now.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.backoff.is_over(now_ms) && self.has_work()
    }

    /// What to do next. `dispatched`: events up to here have been pushed.
    pub fn next(&self, now_ms: u64, dispatched: Position) -> Next {
        if !self.backoff.is_over(now_ms) {
            return Next::Rest;
        }
        if let Some(attempt) = &self.attempt {
            return Next::Send(Arc::clone(attempt));
        }
        let mut contents = Contents { edus_latest: self.edus_latest, ..Contents::default() };
        match &self.catch_up {
            _ if !self.queue.is_empty() => {
                contents.queued = self.queue.iter().take(MAX_PDUS).cloned().collect();
            }
            Some(catch_up) => contents.missed = catch_up.events.iter().take(MAX_PDUS).copied().collect(),
            None if !self.missed.is_empty() => return self.look_up(dispatched),
            None => {}
        }
        contents.edus_after = (self.edus_latest > self.edus_after).then_some(self.edus_after);
        let is_empty =
            contents.queued.is_empty() && contents.missed.is_empty() && contents.edus_after.is_none();
        if is_empty && self.waiting.is_empty() { Next::Rest } else { Next::Make(contents) }
    }

    /// Begins with a new transaction. `None`: there is nothing in it.
    pub fn begin(&mut self, mut made: Made) -> Option<Arc<Attempt>> {
        if let Some(Told { position: last, .. }) = made.events.last() {
            while self.queue.front().is_some_and(|queued| queued.event.position <= *last) {
                self.queue.pop_front();
            }
            if let Some(catch_up) = &mut self.catch_up {
                while catch_up.events.front().is_some_and(|event| event.position <= *last) {
                    catch_up.events.pop_front();
                }
            }
        }
        made.edus.extend(self.waiting.take(MAX_EDUS.saturating_sub(made.edus.len())));
        let Made { id, origin_server_ts, pdus, events, edus, edus_upto } = made;
        let attempt =
            Arc::new(Attempt { id, origin_server_ts, pdus, edus, events, edus_upto, is_part: false });
        if attempt.pdus.is_empty() && attempt.edus.is_empty() {
            self.settle(&attempt);
            return None;
        }
        self.attempt = Some(Arc::clone(&attempt));
        Some(attempt)
    }

    /// What was in the transaction is no longer missed.
    fn settle(&mut self, attempt: &Attempt) {
        for told in &attempt.events {
            self.advance(told.room, told.position);
        }
        if let Some(upto) = attempt.edus_upto {
            self.edus_after = self.edus_after.max(upto);
            self.unsaved.edus = true;
        }
        self.end_catch_up();
    }

    /// The transaction was acknowledged.
    pub fn succeed(&mut self, now_ms: u64) {
        if let Some(attempt) = self.attempt.take() {
            self.settle(&attempt);
        }
        self.attempt = self.parts.pop_front();
        self.unsaved.row |=
            self.backoff.failures > 0 || self.noted_success_ms.saturating_add(NOTE_SUCCESS_MS) <= now_ms;
        self.backoff.succeed();
        self.last_success_ms = Some(now_ms);
    }

    /// The transaction was not acknowledged. It is tried again later, unless nobody would miss it.
    pub fn fail(&mut self, now_ms: u64, jitter: f64) {
        self.catch_up = None;
        self.waiting = Waiting::default();
        if let Some(mut attempt) = self.attempt.take() {
            for told in &mut Arc::make_mut(&mut attempt).events {
                if let Some(in_room) = told.in_room.take() {
                    self.miss(told.room, told.position, in_room);
                }
            }
            self.attempt = Some(attempt).filter(|attempt| attempt.is_durable());
        }
        self.miss_queue();
        self.backoff.fail(now_ms, jitter);
        self.unsaved.row = true;
    }

    /// The server will never take this transaction. It is sent in parts then, under these ids; what cannot be parted is
    /// dropped and returned, so that what comes after it is sent.
    pub fn refuse(&mut self, id: impl FnMut() -> OwnedTransactionId) -> Option<Arc<Attempt>> {
        let attempt = self.attempt.take()?;
        let dropped = if let Some((first, second)) = attempt.halves(id) {
            self.parts.push_front(Arc::new(second));
            self.parts.push_front(Arc::new(first));
            None
        } else {
            self.settle(&attempt);
            Some(attempt)
        };
        self.attempt = self.parts.pop_front();
        dropped
    }

    /// Drops the EDUs that wait, if the server has not answered for so long. Events do not wait: they are looked up
    /// when it is there again. Whether there were any.
    pub fn expire_edus(&mut self, now_ms: u64, patience_ms: u64) -> bool {
        let is_dead =
            self.backoff.failing_since_ms.is_some_and(|since| since.saturating_add(patience_ms) <= now_ms);
        if !is_dead || self.edus_latest <= self.edus_after {
            return false;
        }
        self.attempt = None;
        self.parts.clear();
        self.edus_after = self.edus_latest;
        self.unsaved.edus = true;
        true
    }

    /// The server is tried again, however often it has failed. Whether there was anything to forget.
    pub fn reset_backoff(&mut self) -> bool {
        let failed = self.backoff.failures > 0;
        self.backoff.succeed();
        self.unsaved.row |= failed;
        failed
    }

    /// This server may not be talked to: what waits for it is dropped.
    pub fn drop_all(&mut self) {
        self.attempt = None;
        self.parts.clear();
        self.queue.clear();
        self.catch_up = None;
        self.waiting = Waiting::default();
        self.unsaved.rooms.extend(self.missed.drain().map(|(room, _)| room));
        if self.edus_latest > self.edus_after {
            self.edus_after = self.edus_latest;
            self.unsaved.edus = true;
        }
    }

    /// The first event that a server which is not behind has not acknowledged: the sender's cursor stays before it.
    pub fn first_unacknowledged(&self) -> Option<Position> {
        let is_noted = |room: &RoomNid, position: Position| {
            self.missed.get(room).is_some_and(|missed| missed.after < position)
        };
        let attempted = self.attempt.iter().chain(&self.parts).flat_map(|attempt| &attempt.events);
        let attempted =
            attempted.filter(|told| !is_noted(&told.room, told.position)).map(|told| told.position);
        attempted.chain(self.queue.front().map(|queued| queued.event.position)).min()
    }
}

impl Contents {
    /// The events to be loaded.
    pub fn missed_nids(&self) -> Vec<EventNid> {
        self.missed.iter().map(|event| event.nid).collect()
    }
}
