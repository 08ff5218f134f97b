//! Who may do what in a room as it is now. A hint for early and better errors: the room itself decides.

use myelin_actors::room::view::RoomView;
use myelin_core::{auth::power_levels::PowerLevels, nid::types};

/// The power levels of the room.
pub fn levels(view: &RoomView) -> PowerLevels {
    let create = view.essential(types::CREATE).expect("a room has a create event");
    PowerLevels::new(create, view.essential(types::POWER_LEVELS))
}
