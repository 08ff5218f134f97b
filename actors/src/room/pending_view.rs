//! What readers will see of a decision when it is durable.

use std::sync::Arc;

use imbl::Vector;
use myelin_core::{position::Position, state::StateKey};
use myelin_storage::events::StoredEvent;
use ruma::OwnedRoomId;

use super::{
    head::Head,
    redactions::after_redaction,
    view::{MAX_RESOLVED, RECENT, Resolved, RoomView},
};

/// A view that lacks what the commit gives: its position, and what is recent by then.
#[derive(Debug)]
pub(crate) struct PendingView {
    view: RoomView,
    /// Where the state changed without an event that is shown.
    resolved: Vec<StateKey>,
}

impl PendingView {
    /// Of the head that was decided. `resolved`: the places of its state that changed, but for those of the events
    /// that are shown.
    pub fn of(head: &Head, room_id: OwnedRoomId, resolved: Vec<StateKey>) -> Self {
        let view = RoomView {
            nid: head.nid,
            room_id,
            version: head.version,
            position: Position::START,
            snapshot: head.snapshot,
            state: head.state.clone(),
            members: head.members.clone(),
            joined: head.joined,
            invited: head.invited,
            servers: head.servers.clone(),
            essentials: head.essentials.clone(),
            ends: head.extremities.iter().map(|extremity| extremity.id.clone()).collect(),
            recent: Vector::new(),
            recent_from: Position::START,
            resolved: Vector::new(),
            resolved_from: Position::START,
        };
        Self { view, resolved }
    }

    /// The view, now that it is durable: `timeline` follows what `previous` showed, and `redacted` events take the
    /// place of their older forms.
    pub fn commit(
        self,
        position: Position,
        previous: Option<&RoomView>,
        timeline: Vec<Arc<StoredEvent>>,
        redacted: &[Arc<StoredEvent>],
    ) -> RoomView {
        let mut view = self.view;
        view.position = position;
        if let Some(previous) = previous {
            view.recent = previous.recent.clone();
            view.recent_from = previous.recent_from;
            view.resolved = previous.resolved.clone();
            view.resolved_from = previous.resolved_from;
        }
        view.recent.extend(timeline);
        for event in redacted {
            for index in 0..view.recent.len() {
                if let Some(shown) = after_redaction(&view.recent[index], event) {
                    view.recent.set(index, Arc::new(shown));
                }
            }
        }
        while view.recent.len() > RECENT {
            if let Some(oldest) = view.recent.pop_front() {
                view.recent_from = oldest.position;
            }
        }
        if self.resolved.len() > MAX_RESOLVED {
            view.resolved.clear();
            view.resolved_from = position;
        } else if !self.resolved.is_empty() {
            view.resolved.push_back(Resolved { position, places: self.resolved.into() });
        }
        while view.resolved.front().is_some_and(|oldest| oldest.position <= view.recent_from) {
            view.resolved.pop_front();
        }
        view
    }
}
