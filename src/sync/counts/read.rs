//! How far a user has read, by their own receipts.

use std::collections::{BTreeMap, HashMap};

use myelin_core::{nid::RoomNid, position::TimelinePlace};
use myelin_storage::{
    events,
    receipts::{self, ReceiptRow},
};
use ruma::{EventId, OwnedEventId};

use super::Counts;
use crate::{
    error::MatrixError,
    sync::{Context, rooms::Room},
};

/// How far a user has read a room.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadTo {
    /// Everything up to here.
    pub(super) all: Option<TimelinePlace>,
    /// Outside of threads.
    main: Option<TimelinePlace>,
    /// In each thread.
    threads: BTreeMap<OwnedEventId, TimelinePlace>,
}

impl ReadTo {
    /// The event at this place, in this thread, has been read.
    pub(super) fn has_read(&self, place: Option<TimelinePlace>, thread: Option<&EventId>) -> bool {
        let own = match thread {
            Some(root) => self.threads.get(root).copied(),
            None => self.main,
        };
        place <= self.all.max(own)
    }
}

/// How far the user has read those of these rooms in which that changed since they were counted, or which never were.
pub(super) async fn read_to(
    context: &Context<'_>,
    rooms: &[&Room],
    known: &HashMap<RoomNid, Counts>,
) -> Result<HashMap<RoomNid, ReadTo>, MatrixError> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    let nids: Vec<RoomNid> = rooms.iter().map(|room| room.view.nid).collect();
    let db = context.app.storage.get().await?;
    let mut by_room: HashMap<RoomNid, Vec<ReceiptRow>> = HashMap::new();
    for row in receipts::list_own(&db, &nids, context.ask.user.nid).await? {
        by_room.entry(row.room).or_default().push(row);
    }
    let changed: Vec<(&Room, Vec<ReceiptRow>)> = rooms
        .iter()
        .filter_map(|room| {
            let receipts = by_room.remove(&room.view.nid).unwrap_or_default();
            let counted = known.get(&room.view.nid).map(|counts| counts.position);
            let is_new = |counted| receipts.iter().any(|receipt| receipt.position > counted);
            counted.is_none_or(is_new).then_some((*room, receipts))
        })
        .collect();
    let mut places = HashMap::new();
    let mut unknown: Vec<&EventId> = Vec::new();
    for (room, receipts) in &changed {
        for receipt in receipts {
            match room.view.recent.iter().rev().find(|event| event.pdu.event_id() == receipt.event_id) {
                Some(event) => drop(places.insert(receipt.event_id.clone(), event.place)),
                None => unknown.push(&receipt.event_id),
            }
        }
    }
    if !unknown.is_empty() {
        let found = events::find_events_by_id(&db, &unknown).await?;
        places.extend(found.into_iter().map(|event| (event.pdu.event_id().to_owned(), event.place)));
    }
    let read = |receipts: &[ReceiptRow]| {
        let mut read = ReadTo::default();
        for receipt in receipts {
            let Some(place) = places.get(&receipt.event_id).copied().flatten() else { continue };
            read.note(receipt.thread.as_deref(), place);
        }
        read
    };
    Ok(changed.iter().map(|(room, receipts)| (room.view.nid, read(receipts))).collect())
}

impl ReadTo {
    fn note(&mut self, thread: Option<&str>, place: TimelinePlace) {
        match thread {
            None => self.all = self.all.max(Some(place)),
            Some("main") => self.main = self.main.max(Some(place)),
            Some(root) => {
                let Ok(root) = OwnedEventId::try_from(root) else { return };
                let known = self.threads.entry(root).or_insert(place);
                *known = place.max(*known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use myelin_core::position::Position;
    use ruma::event_id;

    use super::*;

    fn place(position: i64) -> TimelinePlace {
        TimelinePlace::live(Position(position))
    }

    #[test]
    fn receipts_of_a_thread_reach_no_further_than_it() {
        let mut read = ReadTo::default();
        read.note(None, place(5));
        read.note(Some("main"), place(8));
        read.note(Some("$t"), place(10));
        read.note(None, place(3));
        assert!(read.has_read(Some(place(5)), None));
        assert!(read.has_read(Some(place(8)), None));
        assert!(!read.has_read(Some(place(9)), None));
        assert!(read.has_read(Some(place(10)), Some(event_id!("$t"))));
        assert!(!read.has_read(Some(place(6)), Some(event_id!("$u"))));
        assert!(read.has_read(Some(place(4)), Some(event_id!("$u"))));
    }
}
