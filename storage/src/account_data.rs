//! Account data: what a user's clients share. It is written by the journal, see `commit`.

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::{
    commit::account_data::NO_ROOM,
    error::StorageError,
    pool::GenericClient,
    row::{Columns, text},
    statements::statements,
};

statements! {
    FIND_ACCOUNT_DATA = "
        SELECT room_nid, event_type, content, position
        FROM   account_data
        WHERE  user_nid = $1
          AND  room_nid = $2
          AND  event_type = $3
          AND  content IS NOT NULL
    ",
    LIST_ACCOUNT_DATA = "
        SELECT room_nid, event_type, content, position
        FROM   account_data
        WHERE  user_nid = $1
          AND  position > $2
          AND  position <= $3
    ",
    FIND_FOR_USERS = "
        SELECT user_nid, room_nid, event_type, content, position
        FROM   account_data
        WHERE  user_nid = ANY($1)
          AND  room_nid = $2
          AND  event_type = $3
          AND  content IS NOT NULL
    ",
}

/// Account data of one type.
#[derive(Clone, Debug)]
pub struct AccountDataRow {
    /// The room that it is about; `None`: the account as a whole.
    pub room: Option<RoomNid>,
    /// Its type.
    pub event_type: String,
    /// A JSON object; `None`: it was deleted.
    pub content: Option<Box<RawValue>>,
    /// When it last changed.
    pub position: Position,
}

/// A user's account data of one type, for a room or for the account as a whole. `None`: never set, or deleted.
pub async fn find(
    db: &impl GenericClient,
    user: UserNid,
    room: Option<RoomNid>,
    event_type: &str,
) -> Result<Option<Box<RawValue>>, StorageError> {
    let statement = db.prepare_cached(FIND_ACCOUNT_DATA).await?;
    let room = room.map_or(NO_ROOM, RoomNid::get);
    let row = db.query_opt(&statement, &[&user.get(), &room, &text(event_type)]).await?;
    let row = row.as_ref().map(AccountDataRow::try_from).transpose()?;
    Ok(row.and_then(|row| row.content))
}

/// Account data of one type, for the account as a whole, of several users; those without it are left out.
pub async fn find_for_users(
    db: &impl GenericClient,
    users: &[UserNid],
    event_type: &str,
) -> Result<Vec<(UserNid, Box<RawValue>)>, StorageError> {
    let statement = db.prepare_cached(FIND_FOR_USERS).await?;
    let users = crate::row::plain(users);
    let rows = db.query(&statement, &[&users, &NO_ROOM, &text(event_type)]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let user = Columns::of("account_data", row).nid("user_nid")?;
        found.extend(AccountDataRow::try_from(row)?.content.map(|content| (user, content)));
    }
    Ok(found)
}

/// What changed of a user's account data after one position and up to another, in all rooms and for the account;
/// what was deleted included.
pub async fn list(
    db: &impl GenericClient,
    user: UserNid,
    after: Position,
    upto: Position,
) -> Result<Vec<AccountDataRow>, StorageError> {
    let statement = db.prepare_cached(LIST_ACCOUNT_DATA).await?;
    let rows = db.query(&statement, &[&user.get(), &after.0, &upto.0]).await?;
    rows.iter().map(AccountDataRow::try_from).collect()
}

impl TryFrom<&Row> for AccountDataRow {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("account_data", row);
        let content: Option<String> = columns.get("content")?;
        Ok(Self {
            room: RoomNid::new(columns.get("room_nid")?),
            event_type: columns.get("event_type")?,
            content: content
                .map(RawValue::from_string)
                .transpose()
                .map_err(|error| columns.corrupt(format_args!("content: {error}")))?,
            position: columns.position("position")?,
        })
    }
}
