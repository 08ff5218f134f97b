//! Events as they are stored, by number or id.

use std::{borrow::Cow, collections::HashMap};

use myelin_core::{
    admit::AdmissionCode,
    nid::{EventNid, RoomNid, SnapshotNid, StateKeyNid, TypeNid, UserNid},
    pdu::Pdu,
    position::{Position, TimelinePlace},
    version::{self, RoomVersion},
};
use ruma::{EventId, OwnedEventId, OwnedUserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::{
    error::StorageError,
    pool::GenericClient,
    row::{Columns, plain, text},
    statements::statements,
};

/// `SELECT`s what a [`StoredEvent`] is made of. The first part names where events come from, as `e`; the second is
/// what follows the joins.
macro_rules! select_events {
    ($from:literal, $rest:expr) => {
        concat!(
            "
        SELECT e.event_nid, e.event_id, e.room_nid, e.type_nid, e.state_key_nid, e.sender_nid, e.admission,
               e.snapshot_nid, e.position, e.anchor, e.anchor_offset, e.replaces_nid, e.redacted_by, e.pdu,
               r.room_version,
               replaced.event_id AS replaced_id, replaced.pdu AS replaced_pdu,
               redaction.event_id AS redaction_id, redaction.pdu AS redaction_pdu
        FROM   ",
            $from,
            "
        JOIN   rooms r ON r.room_nid = e.room_nid
        LEFT   JOIN events replaced ON replaced.event_nid = e.replaces_nid
        LEFT   JOIN events redaction ON redaction.event_nid = e.redacted_by AND redaction.event_nid <> e.event_nid
        ",
            $rest
        )
    };
}
pub(crate) use select_events;

statements! {
    LOAD_EVENTS = select_events!("events e", "WHERE  e.event_nid = ANY($1)"),
    FIND_EVENTS = select_events!("events e", "WHERE  e.event_id = ANY($1)"),
    FIND_WAITING_REDACTIONS = select_events!(
        "waiting_redactions JOIN events e ON e.event_nid = waiting_redactions.event_nid",
        "WHERE  waiting_redactions.target_id = ANY($1)"
    ),
    FIND_EVENT_NIDS = "
        SELECT event_nid, event_id
        FROM   events
        WHERE  event_id = ANY($1)
    ",
    LIST_PLACED = "
        SELECT event_id, room_nid, anchor, anchor_offset
        FROM   events
        WHERE  event_id = ANY($1)
          AND  admission <> 4
    ",
    NAME_EVENTS = "
        SELECT event_nid, event_id
        FROM   events
        WHERE  event_nid = ANY($1)
    ",
    LOAD_PDUS = "
        SELECT event_nid, pdu
        FROM   events
        WHERE  event_nid = ANY($1)
    ",
    AUTH_EVENTS_OF = "
        SELECT DISTINCT UNNEST(auth_nids) AS event_nid
        FROM   events
        WHERE  event_nid = ANY($1)
    ",
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its number.
    pub nid: EventNid,
    /// Its room.
    pub room: RoomNid,
    /// Its type.
    pub type_nid: TypeNid,
    /// Its state key, if it is a state event.
    pub state_key: Option<StateKeyNid>,
    /// Its sender.
    pub sender: UserNid,
    /// What was decided about it.
    pub admission: AdmissionCode,
    /// The state before it. `None`: unknown, or empty before a create event.
    pub snapshot: Option<SnapshotNid>,
    /// When it became durable.
    pub position: Position,
    /// Its place in the timeline; `None`: it is not there.
    pub place: Option<TimelinePlace>,
    /// The event that had its type and state key before it.
    pub replaces: Option<EventNid>,
    /// The event that redacted it; itself, if its time was over.
    pub redacted_by: Option<EventNid>,
    /// The event itself; in its redacted form, if it was redacted.
    pub pdu: Pdu,
    /// What clients are told of the event that it replaces.
    pub prev_content: Option<Replaced>,
    /// The event that redacted it.
    pub redacted_because: Option<Pdu>,
}

/// A state event that another one took the place of.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its content.
    pub content: Box<RawValue>,
}

/// The events with these numbers, in no certain order; unknown ones are left out.
pub async fn load_events(
    db: &impl GenericClient,
    events: &[EventNid],
) -> Result<Vec<StoredEvent>, StorageError> {
    let statement = db.prepare_cached(LOAD_EVENTS).await?;
    let rows = db.query(&statement, &[&plain(events)]).await?;
    rows.iter().map(StoredEvent::try_from).collect()
}

/// The events with these ids, whatever was decided about them, in no certain order; unknown ones are left out.
pub async fn find_events_by_id(
    db: &impl GenericClient,
    events: &[&EventId],
) -> Result<Vec<StoredEvent>, StorageError> {
    let statement = db.prepare_cached(FIND_EVENTS).await?;
    let rows = db.query(&statement, &[&ids(events)]).await?;
    rows.iter().map(StoredEvent::try_from).collect()
}

/// The redactions that wait for events with these ids, in no certain order.
pub async fn find_waiting_redactions(
    db: &impl GenericClient,
    targets: &[&EventId],
) -> Result<Vec<StoredEvent>, StorageError> {
    let statement = db.prepare_cached(FIND_WAITING_REDACTIONS).await?;
    let rows = db.query(&statement, &[&ids(targets)]).await?;
    rows.iter().map(StoredEvent::try_from).collect()
}

/// The numbers of these events; unknown ones are left out.
pub async fn find_nids(
    db: &impl GenericClient,
    events: &[&EventId],
) -> Result<HashMap<OwnedEventId, EventNid>, StorageError> {
    let statement = db.prepare_cached(FIND_EVENT_NIDS).await?;
    let rows = db.query(&statement, &[&ids(events)]).await?;
    rows.iter().map(|row| name(row).map(|(nid, id)| (id, nid))).collect()
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// In which room's graph.
    pub room: RoomNid,
    /// Where in its timeline, if it is shown to anybody.
    pub place: Option<TimelinePlace>,
}

/// Those of the events that have a place in a room's graph, and where: outliers and unknown ones are left out.
pub async fn list_placed(
    db: &impl GenericClient,
    events: &[&EventId],
) -> Result<HashMap<OwnedEventId, Placed>, StorageError> {
    let statement = db.prepare_cached(LIST_PLACED).await?;
    let rows = db.query(&statement, &[&ids(events)]).await?;
    let placed = |row| {
        let columns = Columns::of("events", row);
        Ok((columns.parse("event_id")?, Placed { room: columns.nid("room_nid")?, place: columns.place()? }))
    };
    rows.iter().map(placed).collect()
}

/// The ids of these events; unknown ones are left out.
pub async fn event_ids(
    db: &impl GenericClient,
    events: &[EventNid],
) -> Result<HashMap<EventNid, OwnedEventId>, StorageError> {
    let statement = db.prepare_cached(NAME_EVENTS).await?;
    let rows = db.query(&statement, &[&plain(events)]).await?;
    rows.iter().map(name).collect()
}

/// The JSON of these events as servers exchange it, and nothing else of them, in their order. An event without a row
/// is corrupt.
pub async fn load_pdus(db: &impl GenericClient, events: &[EventNid]) -> Result<Vec<String>, StorageError> {
    let statement = db.prepare_cached(LOAD_PDUS).await?;
    let rows = db.query(&statement, &[&plain(events)]).await?;
    let mut found: HashMap<EventNid, String> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let columns = Columns::of("events", row);
        found.insert(columns.nid("event_nid")?, columns.get("pdu")?);
    }
    let pdu = |nid: &EventNid| {
        let missing = || StorageError::corrupt("events", format_args!("{nid} has no row"));
        found.remove(nid).ok_or_else(missing)
    };
    events.iter().map(pdu).collect()
}

/// The events that these name as their auth events, each once.
pub async fn auth_events_of(
    db: &impl GenericClient,
    events: &[EventNid],
) -> Result<Vec<EventNid>, StorageError> {
    let statement = db.prepare_cached(AUTH_EVENTS_OF).await?;
    let rows = db.query(&statement, &[&plain(events)]).await?;
    rows.iter().map(|row| Columns::of("events", row).nid("event_nid")).collect()
}

/// Ids as parameters of a statement.
pub(crate) fn ids<'a>(events: &[&'a EventId]) -> Vec<Cow<'a, str>> {
    events.iter().map(|event| text(event.as_str())).collect()
}

fn name(row: &Row) -> Result<(EventNid, OwnedEventId), StorageError> {
    let columns = Columns::of("events", row);
    Ok((columns.nid("event_nid")?, columns.parse("event_id")?))
}

impl TryFrom<&Row> for StoredEvent {
    type Error = StorageError;

    fn try_from(row: &Row) -> Result<Self, StorageError> {
        let columns = Columns::of("events", row);
        let version: String = columns.get("room_version")?;
        let version = version::find_str(&version)
            .ok_or_else(|| columns.corrupt(format_args!("its room has the unknown version {version:?}")))?;
        let admission: i16 = columns.get("admission")?;
        Ok(Self {
            nid: columns.nid("event_nid")?,
            room: columns.nid("room_nid")?,
            type_nid: columns.nid("type_nid")?,
            state_key: columns.opt_nid("state_key_nid")?,
            sender: columns.nid("sender_nid")?,
            admission: AdmissionCode::from_code(admission)
                .ok_or_else(|| columns.corrupt(format_args!("there is no admission {admission}")))?,
            snapshot: columns.opt_nid("snapshot_nid")?,
            position: columns.position("position")?,
            place: columns.place()?,
            replaces: columns.opt_nid("replaces_nid")?,
            redacted_by: columns.opt_nid("redacted_by")?,
            pdu: parse_pdu(
                &columns,
                version,
                &columns.parse::<OwnedEventId>("event_id")?,
                columns.get("pdu")?,
            )?,
            prev_content: replaced(&columns)?,
            redacted_because: redaction(&columns, version)?,
        })
    }
}

fn parse_pdu(
    columns: &Columns<'_>,
    version: &'static RoomVersion,
    id: &EventId,
    json: String,
) -> Result<Pdu, StorageError> {
    Pdu::from_stored(version, id.to_owned(), json)
        .map_err(|error| columns.corrupt(format_args!("{id}: {error}")))
}

/// The joined event that this one took the place of.
fn replaced(columns: &Columns<'_>) -> Result<Option<Replaced>, StorageError> {
    #[derive(Deserialize)]
    struct Parts {
        sender: OwnedUserId,
        content: Box<RawValue>,
    }

    let Some(pdu) = columns.get::<Option<String>>("replaced_pdu")? else { return Ok(None) };
    let Parts { sender, content } =
        serde_json::from_str(&pdu).map_err(|error| columns.corrupt(format_args!("replaced pdu: {error}")))?;
    Ok(Some(Replaced { event_id: columns.parse("replaced_id")?, sender, content }))
}

/// The joined event that redacted this one.
fn redaction(columns: &Columns<'_>, version: &'static RoomVersion) -> Result<Option<Pdu>, StorageError> {
    let Some(json) = columns.get("redaction_pdu")? else { return Ok(None) };
    parse_pdu(columns, version, &columns.parse::<OwnedEventId>("redaction_id")?, json).map(Some)
}
