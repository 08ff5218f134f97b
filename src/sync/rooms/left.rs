//! How a user's stay in a room ended, where they are not in it any more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use myelin_actors::sync::messages::RoomMark;
use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid},
    position::Position,
    state::StateKey,
};
use myelin_storage::events::StoredEvent;

use crate::{app::App, error::MatrixError, visibility::membership_in};

/// How many changes of their membership are looked through for the one by which a user went out.
const MAX_STEPS_BACK: usize = 16;

/// Where a user who is outside stands.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    /// Their member event.
    pub(crate) event: Arc<StoredEvent>,
    /// The event by which they went out. It may be an earlier one: who has left can be invited again, or banned.
    /// `None`: they were never inside, as far as is known.
    pub(crate) out: Option<Arc<StoredEvent>>,
}

impl Left {
    /// Up to where the user was inside the room with this mark; `None`: never.
    pub(crate) fn inside_until(&self, mark: &RoomMark) -> Option<Position> {
        let out = self.out.as_ref()?;
        // Where the room's state was resolved anew, the member event may be older than that.
        Some(if out.nid == self.event.nid { mark.membership_position } else { out.position })
    }

    /// The member event says that the user is outside. It does not where it has vanished from the room's state.
    pub(crate) fn says_so(&self) -> bool {
        matches!(Membership::of_event(&self.event.pdu), Some(Membership::Leave | Membership::Ban))
    }

    /// The member event and its place in the state, if it says that the user is outside.
    pub(crate) fn in_state(&self) -> Option<(StateKey, EventNid)> {
        let key = self.event.state_key.filter(|_| self.says_so())?;
        Some(((self.event.type_nid, key), self.event.nid))
    }
}

/// How the stays in these rooms ended. Mostly one query; one more for each change of membership after the user went
/// out, however many rooms there are.
pub(super) async fn load(app: &App, marks: &[&RoomMark]) -> Result<HashMap<RoomNid, Left>, MatrixError> {
    let nids: Vec<EventNid> = marks.iter().map(|mark| mark.member_event).collect();
    if nids.is_empty() {
        return Ok(HashMap::new());
    }
    let have_joined: HashSet<EventNid> =
        marks.iter().filter(|mark| mark.joined_at.is_some()).map(|mark| mark.member_event).collect();
    let events = app.actors.events.load_readable(&nids).await?;
    let mut followed: Vec<Arc<StoredEvent>> =
        events.iter().filter(|event| have_joined.contains(&event.nid)).cloned().collect();
    let mut left: HashMap<RoomNid, Left> =
        events.into_iter().map(|event| (event.room, Left { event, out: None })).collect();
    for _ in 0..MAX_STEPS_BACK {
        let mut replaced: Vec<EventNid> = Vec::new();
        for event in followed {
            if !leads_out(&event) {
                replaced.extend(event.replaces);
            } else if let Some(left) = left.get_mut(&event.room) {
                left.out = Some(event);
            }
        }
        if replaced.is_empty() {
            break;
        }
        followed = app.actors.events.load_readable(&replaced).await?;
    }
    Ok(left)
}

/// Before this event the user was inside.
fn leads_out(event: &StoredEvent) -> bool {
    let before = event.prev_content.as_ref().and_then(|replaced| membership_in(&replaced.content));
    before == Some(Membership::Join) || Membership::of_event(&event.pdu) == Some(Membership::Join)
}
