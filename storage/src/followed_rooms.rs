//! Rooms that other servers have changed, since it was last looked what follows from that here.

use myelin_core::{
    nid::{RoomNid, types},
    position::Position,
};

use crate::{
    error::StorageError, pool::GenericClient, row::Columns, statements::statements,
    timeline::current_position,
};

statements! {
    LOAD_FOLLOWED = "
        SELECT position
        FROM   followed_rooms
    ",
    SAVE_FOLLOWED = "
        UPDATE followed_rooms
        SET    position = $1
    ",
    /// What this server relays comes from its own users, or was followed up by whoever took it.
    LIST_CHANGED = "
        SELECT room_nid, BOOL_OR(type_nid = $3) AS guest_access
        FROM   events
        WHERE  position > $1
          AND  position <= $2
          AND  state_key_nid IS NOT NULL
          AND  anchor_offset = 0
          AND  admission = 1
          AND  NOT relay
        GROUP  BY room_nid
    ",
}

/// So many positions are looked through at once, so that nobody waits long for a server that was away long.
const SPAN: i64 = 10_000;

/// Changes of rooms, and up to where there are no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The rooms, each with whether it may have changed whether guests may be there.
    pub rooms: Vec<(RoomNid, bool)>,
    /// Everything up to here is among them.
    pub upto: Position,
    /// There is more after that.
    pub has_more: bool,
}

/// Up to where everything was followed up.
pub async fn load(db: &impl GenericClient) -> Result<Position, StorageError> {
    let statement = db.prepare_cached(LOAD_FOLLOWED).await?;
    let row = db.query_one(&statement, &[]).await?;
    Columns::of("followed_rooms", &row).position("position")
}

/// Notes up to where everything was followed up.
pub async fn save(db: &impl GenericClient, position: Position) -> Result<(), StorageError> {
    let statement = db.prepare_cached(SAVE_FOLLOWED).await?;
    db.execute(&statement, &[&position.0]).await?;
    Ok(())
}

/// Rooms of which other servers have changed the state after this position, as far as it is looked at once.
pub async fn list_changed(db: &impl GenericClient, after: Position) -> Result<Changed, StorageError> {
    // Read first: whatever is committed by then is seen below.
    let current = current_position(db).await?;
    let upto = Position(after.0.saturating_add(SPAN)).min(current);
    let statement = db.prepare_cached(LIST_CHANGED).await?;
    let guest_access = types::GUEST_ACCESS.get();
    let rows = db.query(&statement, &[&after.0, &upto.0, &guest_access]).await?;
    let room = |row| {
        let columns = Columns::of("events", row);
        Ok::<_, StorageError>((columns.nid("room_nid")?, columns.get("guest_access")?))
    };
    let rooms = rows.iter().map(room).collect::<Result<_, _>>()?;
    Ok(Changed { rooms, upto, has_more: upto < current })
}
