//! Events: is each what its columns say.

use myelin_core::{
    pdu::{hash, json},
    version,
};
use ruma::{CanonicalJsonValue, RoomVersionId};

use super::{Finding, LIST_EVENTS, LISTED};
use crate::{error::StorageError, pool::Transaction, row::Columns};

/// So many events are held in memory at a time.
const BATCH: i64 = 1000;

/// What came of looking at all events.
#[derive(Default)]
pub(super) struct Checked {
    pub findings: Vec<Finding>,
    /// Some are no JSON, so that nothing can be asked of the others in SQL.
    pub are_unreadable: bool,
}

enum Fault {
    Unreadable,
    Other(&'static str),
}

/// Checks all events.
pub(super) async fn check(transaction: &Transaction<'_>) -> Result<Checked, StorageError> {
    let statement = transaction.prepare_cached(LIST_EVENTS).await?;
    let mut checked = Checked::default();
    let mut last = 0_i64;
    loop {
        let rows = transaction.query(&statement, &[&last, &BATCH]).await?;
        let Some(end) = rows.last() else { return Ok(checked) };
        for row in &rows {
            check_event(&Columns::of("events", row), &mut checked)?;
        }
        last = Columns::of("events", end).get("event_nid")?;
    }
}

fn check_event(columns: &Columns<'_>, checked: &mut Checked) -> Result<(), StorageError> {
    let why = match fault(columns)? {
        None => return Ok(()),
        Some(Fault::Other(why)) => why,
        Some(Fault::Unreadable) => {
            checked.are_unreadable = true;
            "cannot be read"
        }
    };
    if i64::try_from(checked.findings.len()).unwrap_or(LISTED) < LISTED {
        let event: i64 = columns.get("event_nid")?;
        checked.findings.push(Finding::in_room(columns.nid("room_nid")?, format!("event {event} {why}")));
    }
    Ok(())
}

/// What is wrong with the event of this row.
fn fault(columns: &Columns<'_>) -> Result<Option<Fault>, StorageError> {
    let (version, pdu): (String, String) = (columns.get("room_version")?, columns.get("pdu")?);
    let version = RoomVersionId::try_from(version).ok().and_then(|version| version::find(&version));
    let Some(version) = version else { return Ok(Some(Fault::Other("is of no known room version"))) };
    let Ok(event) = json::parse(version, &pdu) else { return Ok(Some(Fault::Unreadable)) };
    let event_id: String = columns.get("event_id")?;
    if hash::event_id(version, &event).map_or(true, |id| id.as_str() != event_id) {
        return Ok(Some(Fault::Other("does not have the id that follows from it")));
    }
    let text = |field: &str| event.get(field).and_then(CanonicalJsonValue::as_str);
    for (field, column) in [("type", "event_type"), ("state_key", "state_key"), ("sender", "sender")] {
        let named: Option<Vec<u8>> = columns.get(column)?;
        if text(field).map(str::as_bytes) != named.as_deref() {
            return Ok(Some(Fault::Other("has another type, state key or sender than its row")));
        }
    }
    let room_id: String = columns.get("room_id")?;
    let is_elsewhere = text("room_id").is_some_and(|room| room != room_id);
    Ok(is_elsewhere.then_some(Fault::Other("belongs to another room than its row")))
}
