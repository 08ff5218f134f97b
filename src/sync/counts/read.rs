//! How far a user has read, by their own receipts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use myelin_actors::room::view::RoomView;
use myelin_core::{
    nid::{RoomNid, UserNid},
    position::{Position, TimelinePlace},
};
use myelin_storage::{
    events,
    receipts::{self, ReceiptRow},
};
use ruma::{EventId, OwnedEventId};

use super::Counts;
use crate::{
    app::App,
    error::MatrixError,
    sync::{Context, rooms::Room},
};

/// How far a user has read a room.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadTo {
    /// Everything up to here.
    pub(super) all: Option<TimelinePlace>,
    /// Outside of threads.
    main: Option<TimelinePlace>,
    /// In each thread.
    threads: BTreeMap<OwnedEventId, TimelinePlace>,
}

impl ReadTo {
    /// The event at this place, in this thread, has been read.
    pub(crate) fn has_read(&self, place: Option<TimelinePlace>, thread: Option<&EventId>) -> bool {
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
    let views: Vec<Arc<RoomView>> = rooms.iter().map(|room| Arc::clone(&room.view)).collect();
    let counted = |room| known.get(&room).map(|counts| counts.position);
    read_after(context.app, context.ask.user.nid, &views, counted).await
}

/// How far the user has read those of these rooms where they sent a receipt after that position, or where there is
/// none. At most two queries.
async fn read_after(
    app: &App,
    user: UserNid,
    rooms: &[Arc<RoomView>],
    counted: impl Fn(RoomNid) -> Option<Position>,
) -> Result<HashMap<RoomNid, ReadTo>, MatrixError> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    let nids: Vec<RoomNid> = rooms.iter().map(|room| room.nid).collect();
    let db = app.storage.get().await?;
    let mut by_room: HashMap<RoomNid, Vec<ReceiptRow>> = HashMap::new();
    for row in receipts::list_own(&db, &nids, user).await? {
        by_room.entry(row.room).or_default().push(row);
    }
    let changed: Vec<(&RoomView, Vec<ReceiptRow>)> = rooms
        .iter()
        .filter_map(|room| {
            let receipts = by_room.remove(&room.nid).unwrap_or_default();
            let is_new = |counted| receipts.iter().any(|receipt| receipt.position > counted);
            counted(room.nid).is_none_or(is_new).then_some((&**room, receipts))
        })
        .collect();
    let mut places = HashMap::new();
    let mut unknown: Vec<&EventId> = Vec::new();
    for (room, receipts) in &changed {
        for receipt in receipts {
            match room.recent.iter().rev().find(|event| event.pdu.event_id() == receipt.event_id) {
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
    Ok(changed.iter().map(|(room, receipts)| (room.nid, read(receipts))).collect())
}

impl ReadTo {
    /// How far the user has read each of these rooms.
    pub(crate) async fn load(
        app: &App,
        user: UserNid,
        rooms: &[Arc<RoomView>],
    ) -> Result<HashMap<RoomNid, Self>, MatrixError> {
        read_after(app, user, rooms, |_| None).await
    }

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
