//! What a server that is behind misses, and how it gets it once it answers again.

use std::collections::VecDeque;

use myelin_core::{nid::RoomNid, position::Position};
use myelin_storage::destinations::{MissedRange, MissedRoom, RelayedEvent};

use super::{Destination, Next};

/// What a server that was away is sent of all that it missed: everything, if it is no more than this; otherwise the
/// latest events of each room, and it asks for what lies between if it wants it.
const CATCH_UP: usize = 1000;

/// From where on a server misses something of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    pub after: Position,
    /// The last thing that it misses, as far as is known.
    pub latest: Position,
    /// It has no member in the room after this. Of what comes later it is only to have what is about its users.
    pub upto: Option<Position>,
}

/// What of all that is missed was found in storage, and not yet sent.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    upto: Position,
    rooms: Vec<RoomNid>,
    pub events: VecDeque<RelayedEvent>,
}

impl Destination {
    /// As it was written down, when the sender's cursor was there.
    pub fn restore_missed(&mut self, row: &MissedRoom, cursor: Position) {
        let missed = Missed { after: row.after, latest: cursor, upto: row.upto };
        self.missed.insert(row.room, missed);
    }

    /// Its last member has left the room: what comes later is not for it.
    pub fn leave(&mut self, room: RoomNid, position: Position) {
        if let Some(missed) = self.missed.get_mut(&room)
            && missed.upto.is_none()
        {
            missed.upto = Some(position);
            self.unsaved.rooms.insert(room);
        }
    }

    /// Its first member has come back to a room that it had left: with the join it has learned what it needs.
    pub fn rejoin(&mut self, room: RoomNid) {
        if self.missed.get(&room).is_some_and(|missed| missed.upto.is_some()) {
            self.missed.remove(&room);
            self.unsaved.rooms.insert(room);
        }
    }

    /// It misses the event at this position.
    pub(super) fn miss(&mut self, room: RoomNid, position: Position, in_room: bool) {
        let before = Position(position.0 - 1);
        let upto = (!in_room).then_some(position);
        let fresh = Missed { after: before, latest: position, upto };
        let missed = self.missed.entry(room).or_insert(fresh);
        let was_outside = missed.upto.is_some_and(|upto| position > upto);
        let changed = if was_outside && in_room {
            // It is not to have what was said in between.
            fresh
        } else {
            let latest = missed.latest.max(position);
            let upto = if latest == position && !was_outside { upto } else { missed.upto };
            Missed { after: missed.after.min(before), latest, upto }
        };
        let is_new = *missed == fresh;
        let to_save = is_new || (missed.after, missed.upto) != (changed.after, changed.upto);
        *missed = changed;
        if to_save {
            self.unsaved.rooms.insert(room);
        }
    }

    /// It misses all that waits in memory.
    pub(super) fn miss_queue(&mut self) {
        for queued in std::mem::take(&mut self.queue) {
            self.miss(queued.event.room, queued.event.position, queued.in_room);
        }
    }

    /// Where to look for what it misses.
    pub(super) fn look_up(&self, dispatched: Position) -> Next {
        let range = |(room, missed): (&RoomNid, &Missed)| MissedRange {
            room: *room,
            after: missed.after,
            upto: missed.upto.map_or(dispatched, |upto| upto.min(dispatched)),
            last: missed.upto.map_or(dispatched, |_| missed.latest.min(dispatched)),
        };
        let limit = (CATCH_UP / self.missed.len().max(1)).max(1);
        Next::LookUp { rooms: self.missed.iter().map(range).collect(), upto: dispatched, limit }
    }

    /// These are the events that it misses of these rooms, up to that position.
    pub fn found(&mut self, rooms: Vec<RoomNid>, upto: Position, events: Vec<RelayedEvent>) {
        self.catch_up = Some(CatchUp { upto, rooms, events: events.into() });
        self.end_catch_up();
    }

    /// When all that was found has been sent, the server is as far as was looked.
    pub(super) fn end_catch_up(&mut self) {
        let Some(catch_up) = self.catch_up.take_if(|catch_up| catch_up.events.is_empty()) else { return };
        for room in catch_up.rooms {
            self.advance(room, catch_up.upto);
        }
    }

    /// It has all of the room up to this position.
    pub(super) fn advance(&mut self, room: RoomNid, position: Position) {
        let Some(missed) = self.missed.get_mut(&room) else { return };
        if missed.after >= position {
            return;
        }
        missed.after = position;
        if missed.after >= missed.latest {
            self.missed.remove(&room);
        }
        self.unsaved.rooms.insert(room);
    }
}
