//! What is under way with device lists, in memory: who has the turn, what is being fetched, and who did not answer.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use myelin_core::nid::UserNid;
use parking_lot::Mutex;
use ruma::{OwnedServerName, UserId};
use tokio::sync::Notify;

/// The first and the longest pause after a server did not answer.
const FIRST_PAUSE_MS: u64 = 30_000;
const LONGEST_PAUSE_MS: u64 = 60 * 60 * 1_000;

/// What is under way with device lists.
#[derive(Debug, Default)]
pub struct DeviceLists {
    /// One user's list is changed by one at a time.
    turns: Mutex<HashMap<UserNid, Weak<tokio::sync::Mutex<()>>>>,
    /// Users whose list is being fetched, each with the last update that came meanwhile.
    fetching: Mutex<HashMap<UserNid, i64>>,
    /// When servers that did not answer are asked again.
    pauses: Mutex<HashMap<OwnedServerName, Pause>>,
    /// A list was found to be stale.
    pub(super) stale: Notify,
    /// There is something to announce to other servers.
    pub(in crate::workflows::keys) announcements: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    length_ms: u64,
    until_ms: u64,
}

impl DeviceLists {
    pub(super) fn turn(&self, user: UserNid) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(&user).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(user, Arc::downgrade(&turn));
        turn
    }

    /// The user's list is fetched until what this returns is dropped.
    pub(super) fn fetch(&self, user: UserNid) -> Fetching<'_> {
        self.fetching.lock().insert(user, i64::MIN);
        Fetching { lists: self, user }
    }

    /// Whether the user's list is being fetched: then the update is noted as come meanwhile.
    pub(super) fn note_missed(&self, user: UserNid, stream_id: i64) -> bool {
        let mut fetching = self.fetching.lock();
        let missed = fetching.get_mut(&user);
        missed.map(|missed| *missed = stream_id.max(*missed)).is_some()
    }

    pub(super) fn is_paused(&self, user: &UserId, now_ms: u64) -> bool {
        self.pauses.lock().get(user.server_name()).is_some_and(|pause| pause.until_ms > now_ms)
    }

    pub(super) fn pause(&self, user: &UserId, now_ms: u64) {
        let mut pauses = self.pauses.lock();
        let pause =
            pauses.entry(user.server_name().to_owned()).or_insert(Pause { length_ms: 0, until_ms: 0 });
        pause.length_ms = (pause.length_ms * 2).clamp(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
        pause.until_ms = now_ms + pause.length_ms;
    }

    pub(super) fn end_pause(&self, user: &UserId) {
        self.pauses.lock().remove(user.server_name());
    }
}

/// A list that is being fetched.
pub(super) struct Fetching<'a> {
    lists: &'a DeviceLists,
    user: UserNid,
}

impl Fetching<'_> {
    /// The last update that came meanwhile.
    pub(super) fn missed(&self) -> i64 {
        self.lists.fetching.lock().get(&self.user).copied().unwrap_or(i64::MIN)
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.lists.fetching.lock().remove(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn what_comes_while_a_list_is_fetched_is_noted() {
        let lists = DeviceLists::default();
        let user = UserNid::new(2).expect("positive");
        assert!(!lists.note_missed(user, 5));
        let fetching = lists.fetch(user);
        assert!(lists.note_missed(user, 5) && lists.note_missed(user, 3));
        assert_eq!(fetching.missed(), 5);
        drop(fetching);
        assert!(!lists.note_missed(user, 7));
    }

    #[test]
    fn pauses_grow_and_end() {
        let lists = DeviceLists::default();
        let user = user_id!("@a:b");
        assert!(!lists.is_paused(user, 0));
        lists.pause(user, 0);
        assert!(lists.is_paused(user, FIRST_PAUSE_MS - 1) && !lists.is_paused(user, FIRST_PAUSE_MS));
        lists.pause(user, FIRST_PAUSE_MS);
        assert!(lists.is_paused(user, 3 * FIRST_PAUSE_MS - 1));
        lists.end_pause(user);
        assert!(!lists.is_paused(user, 0));
    }
}
