//! Events that lose their content when the time is over that they name, as if they were redacted by nobody.

use std::sync::Arc;

use myelin_core::{nid::EventNid, self_destruct};
use myelin_storage::events::StoredEvent;

use super::{
    RoomTools,
    decision::{Decided, Decision},
    error::RoomError,
    head::Head,
    numbers::Numbers,
};

/// Decides on those of the events that have not lost it yet.
pub(crate) async fn decide(
    tools: &RoomTools,
    head: Head,
    events: Vec<EventNid>,
) -> Result<Decided<()>, RoomError> {
    let now_ms = tools.clock.now_ms();
    let decided = events.iter().filter_map(|nid| head.decided.get(nid).cloned());
    let mut due: Vec<Arc<StoredEvent>> = decided.collect();
    let others: Vec<EventNid> = events.into_iter().filter(|nid| !head.decided.contains_key(nid)).collect();
    due.extend(tools.events.load(&others).await?);
    let is_over = |event: &StoredEvent| self_destruct::expires_ms(&event.pdu).is_some_and(|at| at <= now_ms);
    due.retain(|event| event.room == head.nid && event.redacted_by.is_none() && is_over(event));
    if due.is_empty() {
        return Ok(Decided::nothing(()));
    }
    let mut decision = Decision::on(head, Numbers::default(), now_ms);
    for event in due {
        decision.redact(&event, None)?;
    }
    Ok(Decided { answer: (), decision: Some(decision) })
}
