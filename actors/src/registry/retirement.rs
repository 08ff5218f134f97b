//! How a room leaves the registry, and what else its actor and its handles tell it.

use std::sync::{Weak, atomic::Ordering};

use myelin_core::nid::RoomNid;

use super::{Inner, Rooms};

/// The registry as its rooms hold it: without keeping it alive.
#[derive(Clone)]
pub(crate) struct WeakRooms(pub(super) Weak<Inner>);

impl WeakRooms {
    pub(crate) fn upgrade(&self) -> Option<Rooms> {
        self.0.upgrade().map(Rooms)
    }

    /// An idle room asks whether it may stop: yes exactly when nobody holds it, and then nobody finds it any more.
    pub(crate) fn retire(&self, room: RoomNid, incarnation: u64) -> bool {
        let Some(inner) = self.0.upgrade() else { return true };
        let mut slots = inner.slots.lock();
        match slots.get(&room) {
            Some(slot) if slot.incarnation == incarnation => {
                if slot.in_flight > 0 {
                    return false;
                }
                slots.remove(&room);
                inner.begun.lock().retain(|_, begun| *begun != room);
                inner.retired.fetch_add(1, Ordering::Relaxed);
                true
            }
            // Another incarnation has taken over: this one is not needed.
            _ => true,
        }
    }

    /// The room's actor has lost its decisions: the next caller starts another.
    pub(crate) fn discard(&self, room: RoomNid, incarnation: u64) {
        let Some(inner) = self.0.upgrade() else { return };
        if let Some(slot) = inner.slots.lock().get_mut(&room)
            && slot.incarnation == incarnation
        {
            slot.actor = None;
        }
    }

    /// A handle is gone.
    pub(crate) fn release(&self, room: RoomNid) {
        let Some(inner) = self.0.upgrade() else { return };
        if let Some(slot) = inner.slots.lock().get_mut(&room) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
        }
    }
}
