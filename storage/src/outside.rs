//! What users are told of rooms that this server is not in.

use std::collections::HashMap;

use myelin_core::nid::{RoomNid, UserNid};
use serde_json::value::RawValue;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain},
    statements::statements,
};

statements! {
    LOAD_STRIPPED = "
        SELECT room_nid, stripped
        FROM   outside_memberships
        WHERE  user_nid = $1
          AND  room_nid = ANY($2)
    ",
}

/// The stripped state of these rooms that the user was given when they were invited or knocked, without their own
/// member event. Rooms of which they were told nothing are left out.
pub async fn load_stripped(
    db: &impl GenericClient,
    user: UserNid,
    rooms: &[RoomNid],
) -> Result<HashMap<RoomNid, Vec<Box<RawValue>>>, StorageError> {
    let statement = db.prepare_cached(LOAD_STRIPPED).await?;
    let rows = db.query(&statement, &[&user.get(), &plain(rooms)]).await?;
    let told = |row| {
        let columns = Columns::of("outside_memberships", row);
        let events: String = columns.get("stripped")?;
        let events = serde_json::from_str(&events).map_err(|error| columns.corrupt(error))?;
        Ok((columns.nid("room_nid")?, events))
    };
    rows.iter().map(told).collect()
}
