//! Counts that were made before: in memory, and less often written, in storage.

use std::collections::{BTreeMap, HashMap};

use myelin_core::nid::{RoomNid, UserNid};
use myelin_storage::unread::{self, UnreadCounts};
use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId};

use super::{Counts, Unread};
use crate::{
    error::MatrixError,
    sync::{Context, rooms::Room},
};

/// How many counts are kept in memory.
const MAX_COUNTS: usize = 500_000;

/// Counts by user and room.
#[derive(Debug, Default)]
pub struct CountCache(Mutex<HashMap<(UserNid, RoomNid), Counts>>);

impl CountCache {
    pub(super) fn get(&self, user: UserNid, room: RoomNid) -> Option<Counts> {
        self.0.lock().get(&(user, room)).cloned()
    }

    pub(super) fn put(&self, user: UserNid, room: RoomNid, counts: &Counts) {
        let mut cached = self.0.lock();
        if cached.len() >= MAX_COUNTS {
            cached.clear();
        }
        let entry = cached.entry((user, room)).or_default();
        if entry.position <= counts.position {
            entry.clone_from(counts);
        }
    }
}

/// What is remembered of these rooms: from memory, else from storage.
pub(super) async fn known_counts(
    context: &Context<'_>,
    rooms: &[&Room],
) -> Result<HashMap<RoomNid, Counts>, MatrixError> {
    let user = context.ask.user.nid;
    let mut known = HashMap::with_capacity(rooms.len());
    let mut missing = Vec::new();
    for room in rooms {
        match context.app.memory.sync.counts.get(user, room.view.nid) {
            Some(counts) => drop(known.insert(room.view.nid, counts)),
            None => missing.push(room.view.nid),
        }
    }
    if !missing.is_empty() {
        let rows = unread::load(&context.app.storage.get().await?, user, &missing).await?;
        known.extend(rows.into_iter().map(|row| (row.room, from_row(&row))));
    }
    // Counts from before the user last joined are of another stay.
    let is_of_this_stay =
        |room: &&&Room, counts: &Counts| room.mark.joined_at.is_none_or(|joined| counts.position >= joined);
    known.retain(|nid, counts| {
        rooms.iter().find(|room| room.view.nid == *nid).is_some_and(|room| is_of_this_stay(&room, counts))
    });
    Ok(known)
}

/// The counts as they are stored.
pub(super) fn to_row(room: RoomNid, counts: &Counts) -> UnreadCounts {
    let total = counts.total();
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let threads: BTreeMap<&EventId, [u64; 2]> = counts
        .threads
        .iter()
        .map(|(root, unread)| (&**root, [unread.notifications, unread.highlights]))
        .collect();
    UnreadCounts {
        room,
        position: counts.position,
        notifications: small(total.notifications),
        highlights: small(total.highlights),
        threads: (!threads.is_empty()).then(|| serde_json::json!(threads).to_string()),
    }
}

fn from_row(row: &UnreadCounts) -> Counts {
    let threads: BTreeMap<OwnedEventId, [u64; 2]> =
        row.threads.as_deref().and_then(|threads| serde_json::from_str(threads).ok()).unwrap_or_default();
    let in_threads = |which: usize| threads.values().map(|counts| counts[which]).sum::<u64>();
    let main = Unread {
        notifications: u64::from(row.notifications).saturating_sub(in_threads(0)),
        highlights: u64::from(row.highlights).saturating_sub(in_threads(1)),
    };
    let thread = |(root, [notifications, highlights]): (OwnedEventId, [u64; 2])| {
        (root, Unread { notifications, highlights })
    };
    Counts { position: row.position, main, threads: threads.into_iter().map(thread).collect() }
}

#[cfg(test)]
mod tests {
    use myelin_core::position::Position;
    use ruma::owned_event_id;

    use super::*;

    #[test]
    fn rows_lead_back_to_the_same_counts() {
        let counts = Counts {
            position: Position(7),
            main: Unread { notifications: 3, highlights: 1 },
            threads: [(owned_event_id!("$t"), Unread { notifications: 2, highlights: 2 })].into(),
        };
        let row = to_row(RoomNid::new(1).expect("positive"), &counts);
        assert_eq!((row.notifications, row.highlights), (5, 3));
        assert_eq!(from_row(&row), counts);
    }
}
