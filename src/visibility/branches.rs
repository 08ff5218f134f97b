//! Where a room's history comes together: what is decided there holds for everything after it.

use std::collections::HashMap;

use myelin_actors::room::view::RoomView;
use ruma::EventId;

/// The latest of the recent events, none later than the one at `start`, that everything after it follows, the room's
/// current state too. Nothing that was sent beside it can then be among what comes after it, and what nothing after it
/// changes is the same at each of those events and now. `None`: there is none, as far as the recent events tell.
pub(super) fn meeting_before(view: &RoomView, start: usize) -> Option<usize> {
    if is_one_line_after(view, start) {
        return Some(start);
    }
    let places: HashMap<&EventId, usize> =
        view.recent.iter().enumerate().map(|(index, event)| (event.pdu.event_id(), index)).collect();
    let place = |id: &EventId| places.get(id).copied();
    // The earliest event that something after `index` follows at once.
    let mut earliest = usize::MAX;
    for end in &view.ends {
        earliest = earliest.min(place(end)?);
    }
    for index in (0..view.recent.len()).rev() {
        if index <= start && index <= earliest {
            return Some(index);
        }
        for parent in view.recent[index].pdu.prev_events() {
            earliest = earliest.min(place(parent)?);
        }
    }
    None
}

/// After this one of the recent events, each follows the one before it alone, and the last is the room's only end: the
/// state before each is the state after the one before.
pub(super) fn is_one_line_after(view: &RoomView, start: usize) -> bool {
    let last = view.recent.back().map(|event| event.pdu.event_id());
    let ends_there = matches!(&*view.ends, [end] if Some(&**end) == last);
    ends_there
        && (start + 1..view.recent.len()).all(|index| {
            let parents = view.recent[index].pdu.prev_events();
            matches!(parents, [parent] if parent == view.recent[index - 1].pdu.event_id())
        })
}
