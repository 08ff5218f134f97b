//! Commits a batch, whatever happens on the way.
//!
//! - A **fence** that does not hold: another actor of that room was faster. Its changes are lost, the others go again.
//! - A **lost connection**: whether the commit happened is asked of the database, until it answers; then the batch
//!   counts as committed or goes again. Nothing is lost, nothing is written twice.
//! - Anything else is the fault of some change: the batch is divided until the one to blame stands alone.

use std::{collections::HashSet, time::Duration};

use myelin_core::{nid::RoomNid, position::Position};
use myelin_storage::{
    commit::{Batch, Change, CommitError},
    error::StorageError,
};
use tracing::{error, warn};

use super::batch::{Outcome, Submission};
use crate::room::store::RoomStore;

/// First pause before the database is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Commits the submissions, all that can be; what became of each, the committed ones in position order.
pub(crate) async fn commit(store: &dyn RoomStore, submissions: Vec<Submission>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(submissions.len());
    // A stack of what is still to be committed, the first on top.
    let mut parts = vec![submissions];
    let mut lost_rooms: HashSet<RoomNid> = HashSet::new();
    while let Some(part) = parts.pop() {
        let (part, lost): (Vec<_>, Vec<_>) = part.into_iter().partition(|submission| {
            room_of(&submission.change).is_none_or(|room| !lost_rooms.contains(&room))
        });
        outcomes.extend(lost.into_iter().map(Outcome::Lost));
        if part.is_empty() {
            continue;
        }
        let (changes, effects): (Vec<Change>, Vec<_>) =
            part.into_iter().map(|submission| (submission.change, submission.effect)).unzip();
        let batch = Batch { id: rand::random(), changes };
        let result = commit_once(store, &batch).await;
        let part =
            batch.changes.into_iter().zip(effects).map(|(change, effect)| Submission { change, effect });
        match result {
            Ok(positions) => outcomes.extend(
                part.zip(positions).map(|(submission, positions)| Outcome::Committed(submission, positions)),
            ),
            Err(CommitError::Fence(rooms)) => {
                warn!(rooms = rooms.len(), "a room was changed by another actor, its decisions are lost");
                lost_rooms.extend(rooms);
                parts.push(part.collect());
            }
            Err(CommitError::Storage(cause)) => {
                let mut part: Vec<Submission> = part.collect();
                if part.len() == 1 {
                    error!(error = %cause, "a change cannot be committed");
                    lost_rooms.extend(part.iter().filter_map(|submission| room_of(&submission.change)));
                    outcomes.extend(part.into_iter().map(Outcome::Lost));
                } else {
                    let rest = part.split_off(part.len() / 2);
                    parts.push(rest);
                    parts.push(part);
                }
            }
        }
    }
    outcomes
}

fn room_of(change: &Change) -> Option<RoomNid> {
    match change {
        Change::Room(room) => Some(room.room),
        Change::Receipt(_)
        | Change::AccountData(_)
        | Change::Outgoing(_)
        | Change::ToDevice(_)
        | Change::DeviceList(_) => None,
    }
}

/// Commits the batch, and again as long as the database cannot be reached.
async fn commit_once(store: &dyn RoomStore, batch: &Batch) -> Result<Vec<Vec<Position>>, CommitError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match store.commit(batch).await {
            Err(CommitError::Storage(cause @ StorageError::Unavailable(_))) => {
                warn!(error = %cause, "connection lost during a commit, asking whether it happened");
                if let Some(last) = outcome_of(store, batch.id, &mut pause).await {
                    return Ok(positions_up_to(last, batch));
                }
            }
            result => return result,
        }
    }
}

/// Asks until the database answers: the last position of the batch if it was committed.
async fn outcome_of(store: &dyn RoomStore, batch: u128, pause: &mut Duration) -> Option<Position> {
    loop {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        match store.find_batch(batch).await {
            Ok(found) => return found,
            Err(cause) => warn!(error = %cause, "database does not answer, asking again"),
        }
    }
}

/// The positions of a batch whose last one is known: they are given in order, without gaps.
fn positions_up_to(last: Position, batch: &Batch) -> Vec<Vec<Position>> {
    let counts: Vec<i64> = batch.changes.iter().map(Change::positions).collect();
    let mut next = last.0 - counts.iter().sum::<i64>() + 1;
    counts
        .into_iter()
        .map(|count| {
            let first = next;
            next += count;
            (first..next).map(Position).collect()
        })
        .collect()
}
