//! Commits a batch, whatever happens on the way.
//!
//! - A **fence** that does not hold: another actor of that room was faster. Its changes are lost, the others go again.
//!   Where both are in the batch, each goes for itself, and the database says which of them fits.
//! - A **lost connection**: whether the commit happened is asked of the database, until it answers; then the batch
//!   counts as committed or goes again. Nothing is lost, nothing is written twice.
//! - Anything else is the fault of some change: the batch is divided until the one to blame stands alone.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use myelin_core::{nid::RoomNid, position::Position};
use myelin_storage::{
    commit::{Batch, Change, CommitError},
    error::{Chain as Causes, StorageError},
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
    let mut lost = Lost::default();
    while let Some(part) = parts.pop() {
        let (gone, part): (Vec<_>, Vec<_>) =
            part.into_iter().partition(|submission| lost.takes(&submission.change));
        outcomes.extend(gone.into_iter().map(Outcome::Lost));
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
                let (chains, rest) = divide(part, &rooms);
                parts.push(rest);
                for chain in chains.into_iter().rev() {
                    match chain {
                        Chain::Only(decisions) => {
                            for decision in decisions {
                                lost.add(&decision.change);
                                outcomes.push(Outcome::Lost(decision));
                            }
                        }
                        Chain::OneOfSome(decisions) => parts.push(decisions),
                    }
                }
            }
            Err(CommitError::Storage(cause)) => {
                let mut part: Vec<Submission> = part.collect();
                if part.len() == 1 {
                    error!(error = %Causes(&cause), "a change cannot be committed");
                    for submission in part {
                        lost.add(&submission.change);
                        outcomes.push(Outcome::Lost(submission));
                    }
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

/// Decisions that are lost, by what they would have made of the fences of their rooms.
#[derive(Default)]
struct Lost(HashSet<(RoomNid, i64)>);

impl Lost {
    fn add(&mut self, change: &Change) {
        if let Change::Room(room) = change {
            self.0.insert((room.room, room.next_fence));
        }
    }

    /// The change was built on one that is lost. So it is another.
    fn takes(&mut self, change: &Change) -> bool {
        let Change::Room(room) = change else { return false };
        let is_lost = self.0.contains(&(room.room, room.fence));
        if is_lost {
            self.add(change);
        }
        is_lost
    }
}

/// Decisions about one room, each built on the one before.
enum Chain {
    /// There are no others about that room.
    Only(Vec<Submission>),
    /// There are others, of which at most one chain can be committed.
    OneOfSome(Vec<Submission>),
}

/// The decisions about these rooms, each room's in order, and everything else.
fn divide(part: impl Iterator<Item = Submission>, rooms: &[RoomNid]) -> (Vec<Chain>, Vec<Submission>) {
    let mut chains: Vec<(RoomNid, i64, Vec<Submission>)> = Vec::new();
    let mut rest = Vec::new();
    for submission in part {
        let (room, fence, next) = match &submission.change {
            Change::Room(change) if rooms.contains(&change.room) => {
                (change.room, change.fence, change.next_fence)
            }
            _ => {
                rest.push(submission);
                continue;
            }
        };
        match chains.iter_mut().find(|(of, end, _)| (*of, *end) == (room, fence)) {
            Some((_, end, decisions)) => {
                *end = next;
                decisions.push(submission);
            }
            None => chains.push((room, next, vec![submission])),
        }
    }
    let mut count: HashMap<RoomNid, usize> = HashMap::new();
    for (room, ..) in &chains {
        *count.entry(*room).or_default() += 1;
    }
    let chain = |(room, _, decisions)| match count.get(&room) {
        Some(1) => Chain::Only(decisions),
        _ => Chain::OneOfSome(decisions),
    };
    (chains.into_iter().map(chain).collect(), rest)
}

/// Commits the batch, and again as long as the database cannot be reached.
async fn commit_once(store: &dyn RoomStore, batch: &Batch) -> Result<Vec<Vec<Position>>, CommitError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match store.commit(batch).await {
            Err(CommitError::Storage(cause @ StorageError::Unavailable(_))) => {
                warn!(error = %Causes(&cause), "the database did not commit, asking whether it did after all");
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
            Err(cause) => warn!(error = %Causes(&cause), "database does not answer, asking again"),
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
