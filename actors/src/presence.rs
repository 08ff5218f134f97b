//! Who is online. Never durable: after a restart everyone is offline until they are heard of.

use std::{collections::HashMap, sync::Arc};

use myelin_core::nid::{RoomNid, UserNid};
use parking_lot::Mutex;
use ruma::presence::PresenceState;

use crate::{clock::Clock, sync::fanout::Fanout};

/// How long a user counts as active after they did something.
const ACTIVE_MS: u64 = 60 * 1000;

/// A user's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The state that clients show.
    pub presence: PresenceState,
    /// What the user says about it.
    pub status_msg: Option<String>,
    /// When the user last did something, in milliseconds since 1970.
    pub last_active_ms: u64,
    /// That was not long ago.
    pub currently_active: bool,
}

/// What is known now of a user's presence.
#[derive(Clone, Debug)]
pub struct PresenceUpdate {
    /// The state.
    pub presence: PresenceState,
    /// What the user says about it; the outer `None`: as before.
    pub status_msg: Option<Option<String>>,
}

#[derive(Clone, Debug)]
struct State {
    presence: PresenceState,
    status_msg: Option<String>,
    last_active_ms: u64,
}

/// Everyone's presence, as far as it is known.
#[derive(Clone)]
pub struct Presences(Arc<Inner>);

struct Inner {
    users: Mutex<HashMap<UserNid, State>>,
    fanout: Fanout,
    clock: Clock,
}

impl Presences {
    /// Nobody is known.
    pub fn new(fanout: Fanout, clock: Clock) -> Self {
        Self(Arc::new(Inner { users: Mutex::default(), fanout, clock }))
    }

    /// Notes a user's presence, and tells those who share one of these rooms with them when it shows.
    pub fn set(&self, user: UserNid, rooms: &[RoomNid], update: PresenceUpdate) {
        let now_ms = self.0.clock.now_ms();
        let shows = {
            let mut users = self.0.users.lock();
            let before = users.get(&user).cloned();
            let status_msg = update
                .status_msg
                .unwrap_or_else(|| before.as_ref().and_then(|state| state.status_msg.clone()));
            let last_active_ms = match &before {
                Some(state) if update.presence != PresenceState::Online => state.last_active_ms,
                _ => now_ms,
            };
            let shows = before
                .as_ref()
                .is_none_or(|state| state.presence != update.presence || state.status_msg != status_msg);
            users.insert(user, State { presence: update.presence, status_msg, last_active_ms });
            shows
        };
        if shows {
            self.0.fanout.tell_presence(user, rooms);
        }
    }

    /// Notes what another server says of its user, and tells those who share one of these rooms with them.
    pub fn hear(&self, user: UserNid, rooms: &[RoomNid], heard: Presence) {
        let state = State {
            presence: heard.presence,
            status_msg: heard.status_msg,
            last_active_ms: if heard.currently_active { self.0.clock.now_ms() } else { heard.last_active_ms },
        };
        self.0.users.lock().insert(user, state);
        self.0.fanout.tell_presence(user, rooms);
    }

    /// The presence of those of the users who are known.
    pub fn of(&self, users: &[UserNid]) -> HashMap<UserNid, Presence> {
        let now_ms = self.0.clock.now_ms();
        let states = self.0.users.lock();
        users
            .iter()
            .filter_map(|user| {
                let state = states.get(user)?;
                let presence = Presence {
                    presence: state.presence.clone(),
                    status_msg: state.status_msg.clone(),
                    last_active_ms: state.last_active_ms,
                    currently_active: state.presence == PresenceState::Online
                        && state.last_active_ms + ACTIVE_MS > now_ms,
                };
                Some((*user, presence))
            })
            .collect()
    }
}
