//! The tasks of one room: of its queue, and of the events that are parked for each server.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use myelin_core::pdu::{Pdu, PduError};
use myelin_storage::{
    error::StorageError,
    inbound::{self, Parking, QueuedPdu},
};
use ruma::{OwnedEventId, OwnedServerName, RoomId};
use tracing::{debug, info, warn};

use super::{
    Inner, Running,
    gap::{self, Failure},
    order,
};
use crate::{
    remote::Keys,
    room::{error::RoomError, messages::Received},
};

/// Events that are taken out of the queue at a time.
const BATCH: usize = 100;
/// How long to wait before the database is asked again after an error.
const STORAGE_RETRY: Duration = Duration::from_secs(2);
/// After so many answers in vain an event is quarantined.
const MAX_FAILURES: u32 = 6;
/// After so many attempts of any kind it is too: with the longest pause that is a month.
const MAX_ATTEMPTS: u32 = 750;
/// So often an event waits for a policy server that does not answer. After that it counts as not signed.
const PATIENT_ATTEMPTS: u32 = 3;
/// So often it is an accident that the room's actor goes away over an event. After that it is the event's fault.
const ACCIDENTS: u32 = 10;
/// How long until an event is tried for the second time; each later pause is twice as long.
const FIRST_PAUSE_MS: u64 = 5_000;
/// The longest pause between attempts.
const LAST_PAUSE_MS: u64 = 60 * 60 * 1000;

/// What becomes of a queued event.
enum Verdict {
    /// Its room has decided, or it is no business of this server's any more.
    Done,
    /// Something has to be fetched for it, which takes its time.
    Fetch(String),
    /// Nobody could be asked, or this server is too busy.
    Later(String),
    /// The room's actor went away. That may be an accident, or this event's doing.
    Lost(String),
    /// Servers have answered, and it was of no use; or the event itself is wrong.
    Failed(String),
    /// Whoever is asked, it will not become better.
    Poison(String),
}

/// Hands the room what is queued for it, until nothing is.
pub(super) async fn drain(mut running: Running) {
    loop {
        match drain_batch(&running).await {
            Ok(had_some) => {
                if !had_some && running.has_ended() {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, room.id = %running.room, "the inbound queue cannot be read");
                tokio::time::sleep(STORAGE_RETRY).await;
            }
        }
    }
}

/// Whether there was anything.
async fn drain_batch(running: &Running) -> Result<bool, StorageError> {
    let inner = &running.inner;
    let queued = inbound::list_waiting(&inner.storage.get().await?, &running.room, BATCH).await?;
    if queued.is_empty() {
        let due = inbound::next_parked(&inner.storage.get().await?, &running.room).await?;
        inner.note_due(&running.room, due);
        return Ok(false);
    }
    let (verified, mut verdicts) = check(inner, &running.room, &queued, Keys::Known).await?;
    let mut by_id: HashMap<OwnedEventId, Vec<&QueuedPdu>> = HashMap::new();
    for queued in &queued {
        by_id.entry(queued.event_id.clone()).or_default().push(queued);
    }
    let working = inner.working.acquire().await;
    for (id, received) in receive(inner, &running.room, order::oldest_first(&verified)).await {
        let copies = by_id.get(&id).into_iter().flatten();
        let waiting: Vec<i64> =
            copies.map(|queued| queued.nid).filter(|nid| !verdicts.contains_key(nid)).collect();
        for nid in waiting {
            verdicts.insert(nid, verdict_of_room(&received));
        }
    }
    drop(working);
    let is_to_fetch = |queued: &&QueuedPdu| matches!(verdicts.get(&queued.nid), Some(Verdict::Fetch(_)));
    let fetching: HashSet<OwnedServerName> =
        queued.iter().filter(is_to_fetch).map(|queued| queued.origin.clone()).collect();
    settle(inner, &queued, verdicts).await?;
    inner.fill(&running.room, fetching);
    Ok(true)
}

/// Works on the parked events of one server, until none is left whose time has come.
pub(super) async fn fill(running: Running, origin: OwnedServerName) {
    loop {
        match fill_next(&running, &origin).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                warn!(%error, room.id = %running.room, "the inbound queue cannot be read");
                tokio::time::sleep(STORAGE_RETRY).await;
            }
        }
    }
}

/// Whether there was anything.
async fn fill_next(running: &Running, origin: &OwnedServerName) -> Result<bool, StorageError> {
    let inner = &running.inner;
    let client = inner.storage.get().await?;
    let now_ms = inner.clock.now_ms();
    let queued = inbound::list_parked(&client, &running.room, origin, now_ms, 1).await?;
    if queued.is_empty() {
        let due = inbound::next_parked(&client, &running.room).await?;
        inner.note_due(&running.room, due);
        return Ok(false);
    }
    drop(client);
    let (verified, mut verdicts) = check(inner, &running.room, &queued, Keys::Fetched).await?;
    for pdu in verified {
        let attempts = queued.iter().map(|queued| queued.attempts).max().unwrap_or(0);
        let is_patient = attempts < PATIENT_ATTEMPTS;
        let verdict = match gap::receive(inner, &running.room, origin, pdu, is_patient).await {
            Ok(received) => {
                debug!(room.id = %running.room, ?received, "a parked event was decided");
                Verdict::Done
            }
            Err(Failure::Room(error)) => verdict_of_error(&error),
            Err(Failure::Unreachable(why)) => Verdict::Later(why),
            Err(Failure::Useless(why)) => Verdict::Failed(why),
        };
        verdicts.extend(queued.iter().map(|queued| queued.nid).zip([verdict]));
    }
    settle(inner, &queued, verdicts).await?;
    Ok(true)
}

/// Those of the queued events that their servers have signed, each once, and what became of the others.
async fn check(
    inner: &Inner,
    room: &RoomId,
    queued: &[QueuedPdu],
    keys: Keys,
) -> Result<(Vec<Pdu>, HashMap<i64, Verdict>), StorageError> {
    let all = |verdict: fn() -> Verdict| queued.iter().map(|queued| (queued.nid, verdict())).collect();
    let view = match inner.rooms.view(room).await {
        Ok(view) => view,
        Err(RoomError::Storage(error)) => return Err(error),
        Err(_not_known) => return Ok((Vec::new(), all(|| Verdict::Done))),
    };
    if !view.servers.contains_key(&inner.server_name) {
        return Ok((Vec::new(), all(|| Verdict::Done)));
    }
    let mut verdicts = HashMap::new();
    let mut events = Vec::new();
    let mut nids = Vec::new();
    for queued in queued {
        match Pdu::from_stored(view.version, queued.event_id.clone(), queued.json.clone()) {
            Ok(pdu) => {
                events.push(pdu);
                nids.push(queued.nid);
            }
            Err(error) => drop(verdicts.insert(queued.nid, Verdict::Poison(error.to_string()))),
        }
    }
    let mut seen = HashSet::new();
    let mut verified = Vec::new();
    for (checked, nid) in inner.remote.verify(events, keys).await.into_iter().zip(nids) {
        match checked {
            Ok(pdu) => {
                if seen.insert(pdu.event_id().to_owned()) {
                    verified.push(pdu);
                }
            }
            Err(error) => drop(verdicts.insert(nid, verdict_of_check(&error, keys))),
        }
    }
    Ok((verified, verdicts))
}

/// What an event is worth whose signatures were not found good. Without the keys nobody knows: it was acknowledged, so
/// it waits for them.
fn verdict_of_check(error: &PduError, keys: Keys) -> Verdict {
    match error {
        PduError::NoKey(_) if keys == Keys::Known => Verdict::Fetch(error.to_string()),
        PduError::NoKey(_) => Verdict::Later(error.to_string()),
        PduError::Signature(why) => Verdict::Failed(why.clone()),
        other => Verdict::Poison(other.to_string()),
    }
}

fn verdict_of_room(received: &Result<Received, Arc<RoomError>>) -> Verdict {
    match received {
        Ok(Received::Missing(ids)) => Verdict::Fetch(missing(ids)),
        Ok(Received::Unsigned(server)) => {
            Verdict::Fetch(format!("waits for the policy server {}", server.name))
        }
        Ok(_) => Verdict::Done,
        Err(error) => verdict_of_error(error),
    }
}

fn verdict_of_error(error: &RoomError) -> Verdict {
    match error {
        RoomError::NotFound => Verdict::Done,
        RoomError::Busy | RoomError::Policy(_) | RoomError::Storage(_) => Verdict::Later(error.to_string()),
        RoomError::Lost => Verdict::Lost(error.to_string()),
        RoomError::Forbidden(_) | RoomError::Invalid(_) | RoomError::TooLarge(_) => {
            Verdict::Failed(error.to_string())
        }
    }
}

/// What the room makes of the events, in this order.
async fn receive(
    inner: &Inner,
    room: &RoomId,
    pdus: Vec<Pdu>,
) -> Vec<(OwnedEventId, Result<Received, Arc<RoomError>>)> {
    let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    let received = match inner.rooms.get(room).await {
        Ok(room) => room.receive_all(pdus).await,
        Err(error) => Err(error),
    };
    match received {
        Ok(received) => ids.into_iter().zip(received.into_iter().map(|one| one.map_err(Arc::new))).collect(),
        Err(error) => {
            let error = Arc::new(error);
            ids.into_iter().map(|id| (id, Err(Arc::clone(&error)))).collect()
        }
    }
}

fn missing(ids: &[OwnedEventId]) -> String {
    let ids: Vec<&str> = ids.iter().take(10).map(|id| id.as_str()).collect();
    format!("waits for {}", ids.join(", "))
}

/// Writes down what became of the events.
async fn settle(
    inner: &Inner,
    queued: &[QueuedPdu],
    mut verdicts: HashMap<i64, Verdict>,
) -> Result<(), StorageError> {
    let now_ms = inner.clock.now_ms();
    let (mut done, mut poison, mut parked) = (Vec::new(), Vec::new(), Vec::new());
    for queued in queued {
        let attempts = queued.attempts.saturating_add(1);
        let (reason, failures) = match verdicts.remove(&queued.nid) {
            None => continue,
            Some(Verdict::Done) => {
                done.push(queued.nid);
                continue;
            }
            Some(Verdict::Fetch(reason)) => {
                let QueuedPdu { nid, attempts, failures, .. } = *queued;
                parked.push(Parking { nid, reason, attempts, failures, retry_ms: 0 });
                continue;
            }
            Some(Verdict::Poison(why)) => (why, MAX_FAILURES),
            Some(Verdict::Failed(why)) => (why, queued.failures.saturating_add(1)),
            Some(Verdict::Lost(why)) => {
                (why, queued.failures.saturating_add(u32::from(attempts > ACCIDENTS)))
            }
            Some(Verdict::Later(why)) => (why, queued.failures),
        };
        if failures >= MAX_FAILURES || attempts >= MAX_ATTEMPTS {
            info!(room.id = %queued.room_id, event.id = %queued.event_id, %reason, "an event is quarantined");
            poison.push((queued.nid, reason));
        } else {
            debug!(room.id = %queued.room_id, event.id = %queued.event_id, %reason, "an event is parked");
            let retry_ms = now_ms + pause_ms(attempts);
            parked.push(Parking { nid: queued.nid, reason, attempts, failures, retry_ms });
        }
    }
    let client = inner.storage.get().await?;
    inbound::remove(&client, &done).await?;
    inbound::quarantine(&client, &poison).await?;
    inbound::park(&client, &parked).await
}

/// How long to wait after so many attempts.
fn pause_ms(attempts: u32) -> u64 {
    FIRST_PAUSE_MS.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(LAST_PAUSE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_an_hour() {
        assert_eq!(pause_ms(1), FIRST_PAUSE_MS);
        assert_eq!(pause_ms(3), 4 * FIRST_PAUSE_MS);
        assert_eq!(pause_ms(MAX_ATTEMPTS), LAST_PAUSE_MS);
    }
}
