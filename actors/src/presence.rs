//! Who is online. Never durable: after a restart everyone is offline until they are heard of. Others may believe that
//! some are there still; they are told of those who do not come back soon.
//!
//! A local user is there while their client asks for news and a little longer, and idle when they have done nothing for
//! a while. One sweep over those who are there notices both: no user has a timer. Of users of other servers their
//! servers tell.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use myelin_core::nid::{RoomNid, UserNid};
use parking_lot::Mutex;
use ruma::presence::PresenceState;

use crate::{clock::Clock, sync::fanout::Fanout};

/// How long a user counts as active after they did something.
const ACTIVE_MS: u64 = 60 * 1000;
/// Who does nothing for so long, while their client asks for news, is idle.
const IDLE_MS: u64 = 5 * 60 * 1000;
/// A client that does not ask again for so long is gone, and its user with it.
pub const GONE_MS: u64 = 30 * 1000;
/// So long after a start those who were there before may take to come back.
pub const RETURN_MS: u64 = 60 * 1000;
/// How often it is looked who is idle or gone.
const SWEEP: Duration = Duration::from_secs(1);

/// How many bytes a user may say about their presence: all who share a room with them are told.
pub const MAX_STATUS_BYTES: usize = 1024;

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

/// A local user who is there.
#[derive(Debug)]
struct Stay {
    /// Their client is expected to ask again before this.
    until_ms: u64,
    /// When they last did something themselves.
    active_ms: u64,
    /// They count as away for doing nothing, not because they said so.
    is_idle: bool,
    /// What their client said last.
    said: PresenceState,
    /// The rooms whose members were told last.
    rooms: Vec<RoomNid>,
}

/// A local user whom others may believe to be there, as it was before this process began.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The user.
    pub user: UserNid,
    /// When they were seen last, in milliseconds since 1970.
    pub last_active_ms: u64,
    /// The rooms that they are in.
    pub rooms: Vec<RoomNid>,
}

/// Everyone's presence, as far as it is known.
#[derive(Clone)]
pub struct Presences(Arc<Inner>);

struct Inner {
    users: Mutex<HashMap<UserNid, State>>,
    stays: Mutex<HashMap<UserNid, Stay>>,
    /// Those who were there before, and until when they may come back unnoticed.
    before: Mutex<(u64, Vec<Remembered>)>,
    fanout: Fanout,
    clock: Clock,
}

impl Presences {
    /// Nobody is known. Must be called inside an actix system, which runs the sweep.
    pub fn start(fanout: Fanout, clock: Clock) -> Self {
        let presences = Self(Arc::new(Inner {
            users: Mutex::default(),
            stays: Mutex::default(),
            before: Mutex::default(),
            fanout,
            clock,
        }));
        actix_rt::spawn(sweep(Arc::downgrade(&presences.0)));
        presences
    }

    /// Those of these users who are not heard of within [`RETURN_MS`] are offline, and everybody is told.
    pub fn remember(&self, users: Vec<Remembered>) {
        *self.0.before.lock() = (self.0.clock.now_ms() + RETURN_MS, users);
    }

    /// Notes a user's presence, and tells those who share one of these rooms with them when it shows.
    pub fn set(&self, user: UserNid, rooms: &[RoomNid], update: PresenceUpdate) {
        let now_ms = self.0.clock.now_ms();
        if let Some(stay) = self.0.stays.lock().get_mut(&user) {
            stay.note(rooms, update.presence == PresenceState::Online, now_ms);
        }
        self.change(user, rooms, update, now_ms);
    }

    /// A local user's client asks for news and says that they are there so, and will ask again before that time.
    pub fn stay(&self, user: UserNid, rooms: &[RoomNid], presence: PresenceState, until_ms: u64) {
        let now_ms = self.0.clock.now_ms();
        {
            let mut stays = self.0.stays.lock();
            let stay = stays.entry(user).or_insert_with(|| Stay {
                until_ms,
                active_ms: now_ms,
                is_idle: false,
                said: presence.clone(),
                rooms: Vec::new(),
            });
            stay.until_ms = stay.until_ms.max(until_ms);
            // A client that takes care of it itself says when its user comes back.
            let is_back = presence == PresenceState::Online && stay.said != presence;
            stay.note(rooms, is_back, now_ms);
            stay.said.clone_from(&presence);
            if stay.is_idle && presence == PresenceState::Online {
                return;
            }
        }
        self.change(user, rooms, PresenceUpdate { presence, status_msg: None }, now_ms);
    }

    /// A local user has done something themselves: whoever was idle is not any more.
    pub fn act(&self, user: UserNid) {
        let now_ms = self.0.clock.now_ms();
        let rooms = {
            let mut stays = self.0.stays.lock();
            let Some(stay) = stays.get_mut(&user) else { return };
            stay.active_ms = now_ms;
            std::mem::take(&mut stay.is_idle).then(|| stay.rooms.clone())
        };
        match rooms {
            Some(rooms) => {
                let online = PresenceUpdate { presence: PresenceState::Online, status_msg: None };
                self.change(user, &rooms, online, now_ms);
            }
            None => {
                if let Some(state) = self.0.users.lock().get_mut(&user) {
                    state.last_active_ms = now_ms;
                }
            }
        }
    }

    /// Whether [`stay`](Self::stay) with this state would show, so that it has to be known who is to be told.
    pub fn would_show(&self, user: UserNid, presence: &PresenceState) -> bool {
        let stays_idle =
            self.0.stays.lock().get(&user).is_some_and(|stay| stay.is_idle && stay.said == *presence);
        let is_known = self.0.users.lock().get(&user).is_some_and(|state| state.presence == *presence);
        !(is_known || stays_idle && *presence == PresenceState::Online)
    }

    fn change(&self, user: UserNid, rooms: &[RoomNid], update: PresenceUpdate, now_ms: u64) {
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

    /// Tells of those who have not come back since this process began.
    fn let_go(&self, now_ms: u64) {
        let gone = {
            let mut before = self.0.before.lock();
            if before.0 > now_ms {
                return;
            }
            std::mem::take(&mut before.1)
        };
        for Remembered { user, last_active_ms, rooms } in gone {
            let is_back = {
                let mut users = self.0.users.lock();
                let is_back = users.contains_key(&user);
                users.entry(user).or_insert_with(|| State {
                    presence: PresenceState::Offline,
                    status_msg: None,
                    last_active_ms,
                });
                is_back
            };
            if !is_back {
                let rooms = self.0.fanout.rooms_of(user).unwrap_or(rooms);
                self.0.fanout.tell_presence(user, &rooms);
            }
        }
    }

    /// Notices who is gone and who is idle.
    fn sweep(&self) {
        let now_ms = self.0.clock.now_ms();
        self.let_go(now_ms);
        let mut changed: Vec<(UserNid, Vec<RoomNid>, PresenceState)> = Vec::new();
        self.0.stays.lock().retain(|user, stay| {
            if stay.until_ms <= now_ms {
                changed.push((*user, std::mem::take(&mut stay.rooms), PresenceState::Offline));
                return false;
            }
            if !stay.is_idle && stay.active_ms.saturating_add(IDLE_MS) <= now_ms {
                stay.is_idle = true;
                changed.push((*user, stay.rooms.clone(), PresenceState::Unavailable));
            }
            true
        });
        for (user, rooms, presence) in changed {
            let is_offline =
                self.0.users.lock().get(&user).is_none_or(|state| state.presence == PresenceState::Offline);
            if !is_offline {
                let rooms = self.0.fanout.rooms_of(user).unwrap_or(rooms);
                self.change(user, &rooms, PresenceUpdate { presence, status_msg: None }, now_ms);
            }
        }
    }
}

impl Stay {
    fn note(&mut self, rooms: &[RoomNid], is_act: bool, now_ms: u64) {
        if !rooms.is_empty() {
            self.rooms = rooms.to_vec();
        }
        if is_act {
            self.active_ms = now_ms;
            self.is_idle = false;
        }
    }
}

async fn sweep(presences: Weak<Inner>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let Some(inner) = presences.upgrade() else { return };
        Presences(inner).sweep();
    }
}
