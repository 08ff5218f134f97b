//! Who is typing where. Never durable.
//!
//! An expiry needs no timer of its own: the first deadline of all rooms is one task's sleep.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use myelin_core::nid::{RoomNid, UserNid};
use parking_lot::Mutex;

use crate::{clock::Clock, sync::fanout::Fanout};

/// How often ended deadlines are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// Everyone who is typing.
#[derive(Clone)]
pub struct Typing(Arc<Inner>);

struct Inner {
    /// Until when, in milliseconds since 1970.
    rooms: Mutex<HashMap<RoomNid, HashMap<UserNid, u64>>>,
    fanout: Fanout,
    clock: Clock,
}

impl Typing {
    /// Nobody types. Must be called inside an actix system, which runs the sweep.
    pub fn start(fanout: Fanout, clock: Clock) -> Self {
        let typing = Self(Arc::new(Inner { rooms: Mutex::default(), fanout, clock }));
        let weak = Arc::downgrade(&typing.0);
        typing.0.fanout.watch_leaving(Leaving(weak.clone()));
        actix_rt::spawn(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                let Some(inner) = weak.upgrade() else { return };
                Self(inner).sweep();
            }
        });
        typing
    }

    /// The user types in the room until then, in milliseconds since 1970; `None`: has stopped.
    pub fn set(&self, room: RoomNid, user: UserNid, until_ms: Option<u64>) {
        let changed = {
            let mut rooms = self.0.rooms.lock();
            match until_ms {
                Some(until_ms) => rooms.entry(room).or_default().insert(user, until_ms).is_none(),
                None => rooms.get_mut(&room).is_some_and(|users| users.remove(&user).is_some()),
            }
        };
        self.0.fanout.relay_typing(room, user, until_ms.is_some());
        if changed {
            self.0.fanout.tell_typing(room);
        }
    }

    /// The user has left the room, and types there no more. Other servers see that for themselves.
    fn leave(&self, room: RoomNid, user: UserNid) {
        let typed = self.0.rooms.lock().get_mut(&room).is_some_and(|users| users.remove(&user).is_some());
        if typed {
            self.0.fanout.tell_typing(room);
        }
    }

    /// Who types there now, in the order of their numbers.
    pub fn in_room(&self, room: RoomNid) -> Vec<UserNid> {
        let mut users: Vec<UserNid> =
            self.0.rooms.lock().get(&room).into_iter().flat_map(HashMap::keys).copied().collect();
        users.sort_unstable();
        users
    }

    /// Ends what is over.
    fn sweep(&self) {
        let now_ms = self.0.clock.now_ms();
        let mut ended = Vec::new();
        self.0.rooms.lock().retain(|room, users| {
            let over: Vec<UserNid> =
                users.extract_if(|_, until_ms| *until_ms <= now_ms).map(|(user, _)| user).collect();
            if !over.is_empty() {
                ended.push((*room, over));
            }
            !users.is_empty()
        });
        for (room, users) in ended {
            for user in users {
                self.0.fanout.relay_typing(room, user, false);
            }
            self.0.fanout.tell_typing(room);
        }
    }
}

/// To be told who leaves which room.
pub(crate) struct Leaving(Weak<Inner>);

impl Leaving {
    /// These users have left these rooms.
    pub(crate) fn tell(&self, left: Vec<(RoomNid, UserNid)>) {
        let Some(inner) = self.0.upgrade() else { return };
        let typing = Typing(inner);
        for (room, user) in left {
            typing.leave(room, user);
        }
    }
}
