//! Rooms of which something stored cannot be read, found among others: an answer tells of the others.

use tracing::error;

use super::{
    Context,
    answer::Answer,
    fill,
    rooms::{Outside, Plan, Room},
};
use crate::error::MatrixError;

/// The plan without the rooms that cannot be told of. An error that is no room's stays one.
pub(super) async fn leave_out(context: &Context<'_>, plan: Plan) -> Result<Plan, MatrixError> {
    let mut readable = Plan::default();
    // Halves are tried until what cannot be read stands alone.
    let mut parts = vec![Plan { rooms: plan.rooms, outside: Vec::new() }];
    parts.push(Plan { rooms: Vec::new(), outside: plan.outside });
    while let Some(mut part) = parts.pop() {
        match fill(context, &part, &mut Answer::default()).await {
            Ok(()) => {
                readable.rooms.append(&mut part.rooms);
                readable.outside.append(&mut part.outside);
            }
            Err(error) if error.is_corruption() => match part.rooms.len() + part.outside.len() {
                0 => return Err(error),
                1 => log(&part),
                _ => {
                    let rooms: Vec<Room> = part.rooms.split_off(part.rooms.len() / 2);
                    let outside: Vec<Outside> = part.outside.split_off(part.outside.len() / 2);
                    parts.extend([part, Plan { rooms, outside }]);
                }
            },
            Err(error) => return Err(error),
        }
    }
    readable.rooms.sort_by_key(|room| room.view.nid);
    readable.outside.sort_by_key(|room| room.view.nid);
    Ok(readable)
}

/// What is wrong in detail may repeat what somebody has written.
fn log(part: &Plan) {
    let rooms = part.rooms.iter().map(|room| &room.view);
    for view in rooms.chain(part.outside.iter().map(|room| &room.view)) {
        error!(room.id = %view.room_id, "something of a room cannot be read, and /sync leaves the room out: see `myelin fsck`");
    }
}
