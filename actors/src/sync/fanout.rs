//! Who is to be told of what: the connected users, and in which rooms they are.
//!
//! One message for each connected member of a room, whatever the number of members who are not connected. The sets
//! follow memberships as the journal publishes them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::OwnedDeviceId;
use tokio::sync::{Notify, watch};

use super::{
    Desk,
    arrivals::Arrivals,
    asides::{Aside, Asides, LastTyping, News},
    messages::Output,
};
use crate::{
    clock::Clock,
    federation::tap::{Tap, Told},
    typing::Leaving,
};

/// Transactions whose event a device may still see for the first time in `/sync`.
const TRANSACTIONS: usize = 20_000;

/// Where outputs go.
#[derive(Clone)]
pub struct Fanout(Arc<Inner>);

struct Inner {
    connected: Mutex<Connected>,
    /// Numbers what is not durable. Starts from the clock, so that numbers grow over restarts.
    asides: Asides,
    transactions: Cache<EventNid, Arc<(UserNid, OwnedDeviceId, String)>>,
    /// Tells other servers.
    tap: OnceLock<Tap>,
    /// Whoever leaves a room types there no more.
    leaving: OnceLock<Leaving>,
    /// Told when another server has changed the state of a room.
    state_changes: Arc<Notify>,
}

#[derive(Default)]
struct Connected {
    users: HashMap<UserNid, User>,
    rooms: HashMap<RoomNid, HashSet<UserNid>>,
    arrivals: Arrivals,
}

struct User {
    desk: Arc<Desk>,
    rooms: HashSet<RoomNid>,
}

impl Connected {
    fn enter(&mut self, user: UserNid, room: RoomNid) {
        if let Some(entry) = self.users.get_mut(&user) {
            entry.rooms.insert(room);
            self.rooms.entry(room).or_default().insert(user);
        }
    }

    fn leave(&mut self, user: UserNid, room: RoomNid) {
        if let Some(entry) = self.users.get_mut(&user) {
            entry.rooms.remove(&room);
        }
        if let Some(users) = self.rooms.get_mut(&room) {
            users.remove(&user);
            if users.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    fn remove(&mut self, user: UserNid) {
        let rooms = self.users.remove(&user).map(|entry| entry.rooms).unwrap_or_default();
        for room in rooms {
            self.leave(user, room);
        }
    }

    fn is_in(&self, user: UserNid, room: RoomNid) -> bool {
        self.rooms.get(&room).is_some_and(|users| users.contains(&user))
    }

    fn tell(&self, user: UserNid, output: &Output) {
        if let Some(entry) = self.users.get(&user) {
            entry.desk.note(output);
        }
    }

    fn tell_room(&self, room: RoomNid, output: &Output) {
        for user in self.rooms.get(&room).into_iter().flatten() {
            self.tell(*user, output);
        }
    }

    /// Tells the user and everybody in one of these rooms, each once.
    fn tell_sharing<'a>(&self, user: UserNid, rooms: impl IntoIterator<Item = &'a RoomNid>, output: &Output) {
        let mut told: HashSet<UserNid> = HashSet::from([user]);
        told.extend(rooms.into_iter().filter_map(|room| self.rooms.get(room)).flatten());
        for other in told {
            self.tell(other, output);
        }
    }

    /// The same with the rooms that the user has entered after `as_of`.
    fn tell_sharing_now(&self, user: UserNid, rooms: &[RoomNid], as_of: Position, output: &Output) {
        match self.arrivals.of(user, as_of) {
            Some(entered) => self.tell_sharing(user, rooms.iter().chain(&entered), output),
            // Whom it does not concern finds nothing.
            None => self.users.keys().for_each(|user| self.tell(*user, output)),
        }
    }
}

impl Fanout {
    /// Nobody is connected yet.
    pub fn new(clock: &Clock) -> Self {
        Self(Arc::new(Inner {
            connected: Mutex::default(),
            asides: Asides::new(clock.now_ms() << 10),
            transactions: Cache::new(TRANSACTIONS),
            tap: OnceLock::new(),
            leaving: OnceLock::new(),
            state_changes: Arc::default(),
        }))
    }

    /// From now on the federation sender is told as well. Only the first one is.
    pub(crate) fn attach(&self, tap: Tap) {
        drop(self.0.tap.set(tap));
    }

    /// From now on this is told who leaves rooms. Only the first one is.
    pub(crate) fn watch_leaving(&self, leaving: Leaving) {
        drop(self.0.leaving.set(leaving));
    }

    /// Told when another server has changed the state of a room.
    pub(crate) fn state_changes(&self) -> Arc<Notify> {
        Arc::clone(&self.0.state_changes)
    }

    /// The rooms that a connected user is in; `None`: they are not connected.
    pub(crate) fn rooms_of(&self, user: UserNid) -> Option<Vec<RoomNid>> {
        self.0.connected.lock().users.get(&user).map(|entry| entry.rooms.iter().copied().collect())
    }

    /// The transaction that made the event, if a client of this server sent it not long ago.
    pub fn transaction_of(&self, event: EventNid) -> Option<Arc<(UserNid, OwnedDeviceId, String)>> {
        self.0.transactions.get(&event)
    }

    /// How many users are connected.
    pub fn connected(&self) -> usize {
        self.0.connected.lock().users.len()
    }

    /// From now on the desk is told of what concerns its user, instead of one that the user had before.
    pub(crate) fn connect(&self, desk: Arc<Desk>) {
        let mut connected = self.0.connected.lock();
        connected.remove(desk.user);
        connected.users.insert(desk.user, User { desk, rooms: HashSet::new() });
    }

    /// The desk is told nothing any more. Another one that its user may have by now is left alone.
    pub(crate) fn disconnect(&self, desk: &Arc<Desk>) {
        let mut connected = self.0.connected.lock();
        if connected.users.get(&desk.user).is_some_and(|entry| Arc::ptr_eq(&entry.desk, desk)) {
            connected.remove(desk.user);
        }
    }

    pub(crate) fn enter(&self, user: UserNid, rooms: impl Iterator<Item = RoomNid>) {
        let mut connected = self.0.connected.lock();
        for room in rooms {
            connected.enter(user, room);
        }
    }

    pub(crate) fn ephemeral_now(&self) -> u64 {
        self.0.asides.last()
    }

    /// What happened without being durable before this number is not known: it was before this process began.
    pub(crate) fn ephemeral_start(&self) -> u64 {
        self.0.asides.start()
    }

    /// When typing last changed in these rooms. A desk that has entered rooms before is told everything there that is
    /// not in it, of presence too.
    pub(super) fn last_typing(&self, rooms: impl Iterator<Item = RoomNid>) -> LastTyping {
        self.0.asides.last_typing(rooms)
    }

    /// Everybody whose presence changed last after the one number and not after the other, and when.
    pub(super) fn presence_between(&self, after: u64, upto: u64) -> Vec<(UserNid, u64)> {
        self.0.asides.presence_between(after, upto)
    }

    /// Told with everything that happens without being durable, and with receipts.
    pub(crate) fn watch_asides(&self) -> watch::Receiver<u64> {
        self.0.asides.watch()
    }

    /// What of that may be new in the room after this number.
    pub(crate) fn asides(&self, room: RoomNid, after: u64) -> News {
        self.0.asides.news(room, after)
    }

    /// Tells each connected user whom they concern, in the order given.
    pub(crate) fn tell(&self, outputs: Vec<Output>) {
        if outputs.is_empty() {
            return;
        }
        if let Some(tap) = self.0.tap.get() {
            tap.tell(&outputs);
        }
        if outputs.iter().any(is_change_of_others) {
            self.0.state_changes.notify_one();
        }
        let left: Vec<(RoomNid, UserNid)> = outputs.iter().filter_map(who_left).collect();
        let mut connected = self.0.connected.lock();
        for output in outputs {
            connected.arrivals.note(&output);
            match &output {
                // It has no place in the timeline: it is for other servers only.
                Output::Event(event) if event.event.place.is_none() => {}
                Output::Event(event) => {
                    if let Some(txn) = &event.txn {
                        self.0.transactions.insert(event.event.nid, Arc::new(txn.clone()));
                    }
                    let room = event.event.room;
                    let was_there = event.membership.is_some_and(|(user, _)| connected.is_in(user, room));
                    if let Some((user, Membership::Join)) = event.membership {
                        connected.enter(user, room);
                    }
                    connected.tell_room(room, &output);
                    if let Some((user, membership)) = event.membership
                        && membership != Membership::Join
                    {
                        if was_there {
                            connected.leave(user, room);
                        } else {
                            connected.tell(user, &output);
                        }
                    }
                }
                Output::Member(member) => {
                    let (user, room) = (member.user, member.view.nid);
                    match member.membership {
                        Membership::Join => connected.enter(user, room),
                        _ => connected.leave(user, room),
                    }
                    connected.tell(user, &output);
                }
                Output::Redacted(view) => connected.tell_room(view.nid, &output),
                Output::Receipt { room, position, .. } => {
                    self.0.asides.add(Aside::Receipt(*room, *position));
                    connected.tell_room(*room, &output);
                }
                Output::AccountData { user, .. }
                | Output::ToDevice { user, .. }
                | Output::Forgotten { user, .. } => connected.tell(*user, &output),
                Output::DeviceLists { user, rooms, as_of, .. } => {
                    connected.tell_sharing_now(*user, rooms, *as_of, &output);
                }
                Output::Outgoing { .. }
                | Output::DeviceKeys { .. }
                | Output::Typing { .. }
                | Output::Presence { .. } => {}
            }
        }
        drop(connected);
        if let Some(leaving) = self.0.leaving.get() {
            leaving.tell(left);
        }
    }

    /// A user of this server or another types in the room, still or again, or has stopped.
    pub(crate) fn relay_typing(&self, room: RoomNid, user: UserNid, typing: bool) {
        if let Some(tap) = self.0.tap.get() {
            tap.tell_fleeting(Told::Typing { room, user, typing });
        }
    }

    /// Who is typing in the room has changed.
    pub(crate) fn tell_typing(&self, room: RoomNid) {
        let connected = self.0.connected.lock();
        let ephemeral = self.0.asides.add(Aside::Typing(room));
        connected.tell_room(room, &Output::Typing { room, ephemeral });
    }

    /// A user's presence has changed: those who share a room with them are told.
    pub(crate) fn tell_presence(&self, user: UserNid, rooms: &[RoomNid]) {
        if let Some(tap) = self.0.tap.get() {
            tap.tell_fleeting(Told::Presence { user, rooms: rooms.to_vec() });
        }
        let connected = self.0.connected.lock();
        let ephemeral = self.0.asides.add(Aside::Presence(user));
        connected.tell_sharing(user, rooms, &Output::Presence { user, ephemeral });
    }

    /// Keys of a device were given away: its user is told, who has to see to new ones.
    pub(crate) fn tell_device_keys(&self, user: UserNid, device_id: OwnedDeviceId) {
        let connected = self.0.connected.lock();
        let ephemeral = self.0.asides.next();
        connected.tell(user, &Output::DeviceKeys { user, device_id, ephemeral });
    }

    /// The user has forgotten a room.
    pub fn tell_forgotten(&self, user: UserNid, room: RoomNid) {
        self.tell(vec![Output::Forgotten { user, room }]);
    }
}

fn is_change_of_others(output: &Output) -> bool {
    matches!(output, Output::Event(event) if !event.relay && event.event.state_key.is_some())
}

fn who_left(output: &Output) -> Option<(RoomNid, UserNid)> {
    let (room, (user, membership)) = match output {
        Output::Event(event) => (event.event.room, event.membership?),
        Output::Member(member) => (member.view.nid, (member.user, member.membership)),
        _ => return None,
    };
    (membership != Membership::Join).then_some((room, user))
}
