//! Rooms as readers see them: found, loaded and shown.
//!
//! A room of which something stored cannot be read takes no other one with it: who asks for it alone gets the error, who
//! asks for many gets the others.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use myelin_core::nid::RoomNid;
use myelin_storage::error::StorageError;
use parking_lot::Mutex;
use ruma::RoomId;
use tracing::error;

use super::{Rooms, Slot};
use crate::room::{error::RoomError, load, store::RoomsBy, view::RoomView};

/// How long a room that cannot be read is left out before it is tried again.
const LEFT_OUT_MS: u64 = 60 * 1000;

/// Rooms that could not be read, and until when they are left out: finding that out among many costs several queries.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<HashMap<RoomNid, u64>>);

impl Unreadable {
    fn note(&self, room: RoomNid, now_ms: u64) {
        let mut unreadable = self.0.lock();
        unreadable.retain(|_, until_ms| *until_ms > now_ms);
        unreadable.insert(room, now_ms + LEFT_OUT_MS);
    }

    fn leave_out(&self, rooms: &mut Vec<RoomNid>, now_ms: u64) {
        let unreadable = self.0.lock();
        rooms.retain(|room| unreadable.get(room).is_none_or(|until_ms| *until_ms <= now_ms));
    }
}

impl Rooms {
    /// The room's number; `None`: not known here.
    pub async fn find(&self, room_id: &RoomId) -> Result<Option<RoomNid>, RoomError> {
        if let Some(nid) = self.0.ids.get(room_id) {
            return Ok(Some(nid));
        }
        Ok(self.load(RoomsBy::Id(room_id)).await?.pop().map(|view| view.nid))
    }

    /// The room as readers see it, if it is in memory.
    pub fn shown(&self, room: RoomNid) -> Option<Arc<RoomView>> {
        self.0.slots.lock().get(&room).and_then(|slot| slot.published.view())
    }

    /// The room as readers see it.
    pub async fn view(&self, room_id: &RoomId) -> Result<Arc<RoomView>, RoomError> {
        let nid = self.find(room_id).await?.ok_or(RoomError::NotFound)?;
        match self.resident_views(&[nid]).0.remove(&nid) {
            Some(view) => Ok(view),
            None => self.load(RoomsBy::Nids(&[nid])).await?.pop().ok_or(RoomError::NotFound),
        }
    }

    /// The rooms as readers see them; unknown ones are left out, and so are those that cannot be read, which is logged.
    /// A constant number of queries, none when all are resident; some more when one cannot be read.
    pub async fn views(&self, rooms: &[RoomNid]) -> Result<HashMap<RoomNid, Arc<RoomView>>, RoomError> {
        let (mut views, mut missing) = self.resident_views(rooms);
        let now_ms = self.0.tools.clock.now_ms();
        self.0.unreadable.leave_out(&mut missing, now_ms);
        // All together; where that fails, halves of it, until what cannot be read stands alone.
        let mut parts: Vec<&[RoomNid]> = vec![&missing];
        while let Some(part) = parts.pop() {
            let Some(first) = part.first() else { continue };
            match self.load(RoomsBy::Nids(part)).await {
                Ok(loaded) => views.extend(loaded.into_iter().map(|view| (view.nid, view))),
                Err(RoomError::Storage(error)) if error.is_corruption() => {
                    if part.len() == 1 {
                        self.0.unreadable.note(*first, now_ms);
                        self.log_unreadable(*first, &error);
                    } else {
                        let (one, other) = part.split_at(part.len() / 2);
                        parts.extend([one, other]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(views)
    }

    /// What is wrong in detail may repeat what somebody has written, so only the place is named.
    fn log_unreadable(&self, room: RoomNid, error: &StorageError) {
        let room_id = self.0.ids.iter().find(|(_, known)| *known == room).map(|(room_id, _)| room_id);
        let table = if let StorageError::Corrupt { table, .. } = error { table } else { "damaged" };
        let room_id = room_id.as_ref().map(tracing::field::display);
        error!(room.nid = %room, room.id = room_id, table, "a room cannot be read and is left out: see `myelin fsck`");
    }

    /// Those of the rooms that are in memory, and which are not.
    fn resident_views(&self, rooms: &[RoomNid]) -> (HashMap<RoomNid, Arc<RoomView>>, Vec<RoomNid>) {
        let now_ms = self.0.tools.clock.now_ms();
        let (mut views, mut missing) = (HashMap::with_capacity(rooms.len()), Vec::new());
        let slots = self.0.slots.lock();
        for room in rooms {
            match slots.get(room).and_then(|slot| {
                slot.published.used_ms.store(now_ms, Ordering::Relaxed);
                slot.published.view()
            }) {
                Some(view) => drop(views.insert(*room, view)),
                None => missing.push(*room),
            }
        }
        (views, missing)
    }

    /// Loads the rooms, as far as they are known, and shows them.
    async fn load(&self, which: RoomsBy<'_>) -> Result<Vec<Arc<RoomView>>, RoomError> {
        let retired = self.0.retired.load(Ordering::Relaxed);
        let (loaded, moment) = load::load_rooms(&self.0.tools, which).await?;
        let views = loaded.iter().map(|room| load::view_of(&self.0.tools, room, moment).map(Arc::new));
        Ok(self.install(views.collect::<Result<_, _>>()?, retired))
    }

    /// Shows what was loaded, unless something newer is there. What was read before a slot went away may be older
    /// than what that slot showed last: it is returned, since it is committed, but not kept.
    fn install(&self, loaded: Vec<Arc<RoomView>>, retired_before: u64) -> Vec<Arc<RoomView>> {
        let now_ms = self.0.tools.clock.now_ms();
        let mut slots = self.0.slots.lock();
        let keep = self.0.retired.load(Ordering::Relaxed) == retired_before;
        loaded
            .into_iter()
            .map(|view| {
                self.0.ids.insert(view.room_id.clone(), view.nid);
                let slot = match slots.get(&view.nid) {
                    Some(slot) => Some(&slot.published),
                    None if keep => {
                        Some(&slots.entry(view.nid).or_insert_with(|| Slot::new(now_ms)).published)
                    }
                    None => None,
                };
                match slot {
                    Some(published) => {
                        published.publish(&view);
                        published.view().unwrap_or(view)
                    }
                    None => view,
                }
            })
            .collect()
    }
}
