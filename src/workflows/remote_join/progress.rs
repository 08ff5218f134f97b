//! Joins that are under way: one for each room and user, however often it is asked for, and how far each has come.

use std::{collections::HashMap, sync::Arc};

use myelin_core::version::RoomVersion;
use parking_lot::Mutex;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId};
use tokio::sync::watch;
use tracing::info;

use crate::error::MatrixError;

/// Rooms of so many events are large: joining them takes a while.
const LARGE: usize = 5_000;

/// How far a join has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It looks for a server that helps.
    Beginning,
    /// This server is asked.
    Asking(OwnedServerName),
    /// Events are read and their signatures checked.
    Checking {
        /// So many are done.
        done: usize,
        /// So many there are.
        total: usize,
    },
    /// So many events are stored.
    Storing(usize),
}

/// A join as an administrator sees it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who joins.
    pub user_id: OwnedUserId,
    /// When it began.
    pub started_ms: u64,
    /// How far it has come.
    pub stage: Stage,
}

type Key = (OwnedRoomId, OwnedUserId);
/// What came of it. `None`: nothing yet.
type Outcome = Option<Result<(), Arc<MatrixError>>>;

struct UnderWay {
    started_ms: u64,
    stage: Stage,
    version: Option<&'static RoomVersion>,
    outcome: watch::Receiver<Outcome>,
}

/// All joins under way.
#[derive(Clone, Default)]
pub struct Joins(Arc<Mutex<HashMap<Key, UnderWay>>>);

/// The right to do a join. When it is dropped without an outcome, who waits is told that it was lost.
pub struct Running {
    joins: Joins,
    key: Key,
    outcome: watch::Sender<Outcome>,
}

/// Somebody who waits for a join.
pub struct Waiting(watch::Receiver<Outcome>);

impl Joins {
    /// Waits for this join; the right to do it comes along unless somebody has it.
    pub fn enter(
        &self,
        room_id: OwnedRoomId,
        user_id: OwnedUserId,
        now_ms: u64,
    ) -> (Waiting, Option<Running>) {
        let key = (room_id, user_id);
        let mut joins = self.0.lock();
        if let Some(under_way) = joins.get(&key) {
            return (Waiting(under_way.outcome.clone()), None);
        }
        let (sender, receiver) = watch::channel(None);
        let (stage, outcome) = (Stage::Beginning, receiver.clone());
        let under_way = UnderWay { started_ms: now_ms, stage, version: None, outcome };
        joins.insert(key.clone(), under_way);
        drop(joins);
        (Waiting(receiver), Some(Running { joins: self.clone(), key, outcome: sender }))
    }

    /// Whether anything is under way.
    pub fn is_any(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// The version of a room that one of our users is joining, once it is known. From then on the servers in the
    /// room may take them for joined, and send what happens there.
    pub fn version_of(&self, room_id: &RoomId) -> Option<&'static RoomVersion> {
        let joins = self.0.lock();
        joins.iter().find_map(|((room, _), join)| join.version.filter(|_| room == room_id))
    }

    /// What is under way.
    pub fn list(&self) -> Vec<Status> {
        let joins = self.0.lock();
        let status = |((room_id, user_id), under_way): (&Key, &UnderWay)| Status {
            room_id: room_id.clone(),
            user_id: user_id.clone(),
            started_ms: under_way.started_ms,
            stage: under_way.stage.clone(),
        };
        joins.iter().map(status).collect()
    }
}

/// Joins of large rooms say in the log how they come on: at every tenth of what is to be checked, and when all is.
fn is_worth_a_line(before: &Stage, now: &Stage) -> bool {
    let tenth = |done: usize, total: usize| done.saturating_mul(10) / total.max(1);
    match (before, now) {
        (Stage::Checking { done: before, .. }, Stage::Checking { done, total }) => {
            *total >= LARGE && tenth(*before, *total) != tenth(*done, *total)
        }
        (_, Stage::Checking { total, .. } | Stage::Storing(total)) => *total >= LARGE,
        (_, Stage::Beginning | Stage::Asking(_)) => false,
    }
}

impl Running {
    /// Says how far it has come.
    pub fn at(&self, stage: Stage) {
        let (room_id, user_id) = &self.key;
        if let Some(under_way) = self.joins.0.lock().get_mut(&self.key) {
            if is_worth_a_line(&under_way.stage, &stage) {
                info!(room.id = %room_id, user.id = %user_id, ?stage, "a join of a large room goes on");
            }
            under_way.stage = stage;
        }
    }

    /// The room's version is known.
    pub fn is_of(&self, version: &'static RoomVersion) {
        if let Some(under_way) = self.joins.0.lock().get_mut(&self.key) {
            under_way.version = Some(version);
        }
    }

    /// Tells everybody who waits what came of it.
    pub fn finish(self, outcome: Result<(), MatrixError>) {
        self.outcome.send_replace(Some(outcome.map_err(Arc::new)));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.joins.0.lock().remove(&self.key);
    }
}

impl Waiting {
    /// What came of the join.
    pub async fn outcome(mut self) -> Result<(), MatrixError> {
        let lost = || MatrixError::Unavailable("the join was interrupted".into());
        let outcome = self.0.wait_for(Option::is_some).await.map_err(|_| lost())?;
        match outcome.as_ref() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(MatrixError::shared(error)),
            None => Err(lost()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{room_id, user_id};

    use super::*;

    fn enter(joins: &Joins) -> (Waiting, Option<Running>) {
        joins.enter(room_id!("!a:b").to_owned(), user_id!("@a:b").to_owned(), 5)
    }

    #[test]
    fn large_joins_say_how_they_come_on() {
        let at = |done| Stage::Checking { done, total: 50_000 };
        assert!(is_worth_a_line(&Stage::Beginning, &at(0)));
        assert!(!is_worth_a_line(&at(500), &at(1000)));
        assert!(is_worth_a_line(&at(4_500), &at(5_000)));
        assert!(is_worth_a_line(&at(50_000), &Stage::Storing(50_000)));
        assert!(!is_worth_a_line(&Stage::Beginning, &Stage::Checking { done: 0, total: 100 }));
    }

    #[tokio::test]
    async fn everybody_learns_the_outcome_of_one_join() {
        let joins = Joins::default();
        let (first, running) = enter(&joins);
        let (second, nothing) = enter(&joins);
        assert!(nothing.is_none());
        let running = running.expect("nobody else does it");
        running.at(Stage::Storing(2));
        assert_eq!(joins.list()[0].stage, Stage::Storing(2));
        running.finish(Err(MatrixError::forbidden("no")));
        assert_eq!(first.outcome().await.unwrap_err().errcode().as_deref(), Some("M_FORBIDDEN"));
        assert_eq!(second.outcome().await.unwrap_err().errcode().as_deref(), Some("M_FORBIDDEN"));
        assert!(joins.list().is_empty());
        assert!(enter(&joins).1.is_some());
    }

    #[tokio::test]
    async fn lost_join_is_told() {
        let joins = Joins::default();
        let (waiting, running) = enter(&joins);
        drop(running);
        assert_eq!(waiting.outcome().await.unwrap_err().status(), 503);
    }
}
