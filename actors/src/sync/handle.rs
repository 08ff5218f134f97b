//! How the rest of the program asks what is new for a user.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::Addr;
use futures::{FutureExt, future::BoxFuture};
use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{Storage, account_data, error::StorageError, members};
use parking_lot::Mutex;
use ruma::OwnedDeviceId;
use tokio::sync::watch;

use super::{
    Asked, Desk, UnknownPresence,
    actor::SyncActor,
    asides,
    fanout::Fanout,
    messages::{News, RoomMark, SyncPoint},
    waiting::Woken,
};
use crate::{arbiters::Arbiters, clock::Clock};

/// Where a user's rooms stand, at one position.
#[derive(Clone, Debug, Default)]
pub struct UserRooms {
    /// Everything up to here is in it.
    pub position: Position,
    /// The rooms that the user is or was in, forgotten ones included.
    pub rooms: Vec<(RoomNid, RoomMark)>,
    /// When the user's global account data changed last.
    pub account_data: Position,
}

impl UserRooms {
    /// The rooms that the user has joined.
    pub(crate) fn joined(&self) -> impl Iterator<Item = RoomNid> {
        self.rooms.iter().filter(|(_, mark)| mark.membership == Membership::Join).map(|(room, _)| *room)
    }
}

/// Where the user's rooms stand now: in one snapshot of the database, by a constant number of statements.
pub(crate) async fn load(storage: &Storage, user: UserNid) -> Result<UserRooms, StorageError> {
    let db = storage.get().await?;
    let found = members::rooms_of(&db, user).await?;
    let mut account_data = Position::START;
    let mut of_rooms: HashMap<RoomNid, Position> = HashMap::new();
    for row in account_data::list(&db, user, Position::START, found.position).await? {
        let last = row.room.map_or(&mut account_data, |room| of_rooms.entry(room).or_default());
        *last = row.position.max(*last);
    }
    let rooms = found
        .rooms
        .into_iter()
        .map(|room| {
            let mark = RoomMark {
                membership: room.member.membership,
                membership_position: room.member.position,
                member_event: room.member.event,
                joined_at: room.member.joined_at,
                forgotten: room.member.forgotten,
                events: room.room_position,
                receipts: room.receipt_position,
                account_data: of_rooms.get(&room.member.room).copied().unwrap_or_default(),
                typing: 0,
                view: None,
            };
            (room.member.room, mark)
        })
        .collect();
    Ok(UserRooms { position: found.position, rooms, account_data })
}

/// Finds the `SyncActor` of each user, and starts it at the first question.
#[derive(Clone)]
pub struct Syncers(Arc<Inner>);

struct Inner {
    slots: Mutex<HashMap<UserNid, Slot>>,
    incarnations: AtomicU64,
    arbiters: Arbiters,
    storage: Storage,
    fanout: Fanout,
    clock: Clock,
    published: watch::Receiver<Position>,
}

struct Slot {
    desk: Arc<Desk>,
    actor: Addr<SyncActor>,
    incarnation: u64,
    asking: usize,
}

impl Syncers {
    pub(crate) fn new(
        arbiters: Arbiters,
        storage: Storage,
        fanout: Fanout,
        clock: Clock,
        published: watch::Receiver<Position>,
    ) -> Self {
        Self(Arc::new(Inner {
            slots: Mutex::default(),
            incarnations: AtomicU64::new(1),
            arbiters,
            storage,
            fanout,
            clock,
            published,
        }))
    }

    pub(crate) fn tools(&self) -> (Storage, Fanout, Clock) {
        (self.0.storage.clone(), self.0.fanout.clone(), self.0.clock.clone())
    }

    pub(crate) fn published(&self) -> watch::Receiver<Position> {
        self.0.published.clone()
    }

    /// The user's actor, for as long as the handle lives.
    pub fn user(&self, nid: UserNid) -> SyncHandle {
        let mut slots = self.0.slots.lock();
        let running =
            slots.get(&nid).filter(|slot| slot.actor.connected()).map(|slot| Arc::clone(&slot.desk));
        let desk = running.unwrap_or_else(|| {
            let incarnation = self.0.incarnations.fetch_add(1, Ordering::Relaxed);
            let start = self.0.fanout.ephemeral_start();
            let desk = Arc::new(Desk::new(nid, start, self.0.clock.now_ms()));
            let actor =
                SyncActor::start(&self.0.arbiters.next(), Arc::clone(&desk), self.clone(), incarnation);
            slots.insert(nid, Slot { desk: Arc::clone(&desk), actor, incarnation, asking: 0 });
            desk
        });
        if let Some(slot) = slots.get_mut(&nid) {
            slot.asking += 1;
        }
        SyncHandle { desk, syncers: self.clone(), user: nid, device_id: None }
    }

    /// An idle actor asks whether it may stop: yes when nobody holds it.
    pub(crate) fn retire(&self, user: UserNid, incarnation: u64) -> bool {
        let mut slots = self.0.slots.lock();
        match slots.get(&user) {
            Some(slot) if slot.incarnation == incarnation => {
                if slot.asking > 0 {
                    return false;
                }
                slots.remove(&user);
                true
            }
            _ => true,
        }
    }

    /// The actor cannot go on: the next who asks starts another.
    pub(crate) fn discard(&self, user: UserNid, incarnation: u64) {
        let mut slots = self.0.slots.lock();
        if slots.get(&user).is_some_and(|slot| slot.incarnation == incarnation) {
            slots.remove(&user);
        }
    }

    /// The transaction that made the event, if it was sent not long ago: whose, of which device, and its id.
    pub fn transaction_of(&self, event: EventNid) -> Option<Arc<(UserNid, OwnedDeviceId, String)>> {
        self.0.fanout.transaction_of(event)
    }

    /// Where everything stands now.
    pub fn now(&self) -> SyncPoint {
        SyncPoint { position: *self.0.published.borrow(), ephemeral: self.0.fanout.ephemeral_now() }
    }

    /// What happens in rooms without being an event of theirs, for those who look into one that they are not in: told
    /// with everything.
    pub fn watch_asides(&self) -> watch::Receiver<u64> {
        self.0.fanout.watch_asides()
    }

    /// What of that may be new in the room after this number, as in [`SyncPoint::ephemeral`].
    pub fn asides(&self, room: RoomNid, after: u64) -> asides::News {
        self.0.fanout.asides(room, after)
    }

    /// How many users are connected.
    pub fn connected(&self) -> usize {
        self.0.fanout.connected()
    }

    /// Tells the user's actor that keys of a device of theirs were given away.
    pub fn keys_given(&self, user: UserNid, device_id: OwnedDeviceId) {
        self.0.fanout.tell_device_keys(user, device_id);
    }

    /// Tells the user's actor that they forgot the room.
    pub fn forgotten(&self, user: UserNid, room: RoomNid) {
        self.0.fanout.tell_forgotten(user, room);
    }
}

/// What comes before looking at the desk again.
enum Pause<'a> {
    UntilWoken(Woken),
    ToLearn(BoxFuture<'a, Result<(), Arc<StorageError>>>),
}

/// One user's actor.
pub struct SyncHandle {
    desk: Arc<Desk>,
    syncers: Syncers,
    user: UserNid,
    device_id: Option<OwnedDeviceId>,
}

impl SyncHandle {
    /// The same, asked for one of the user's devices: its news are also of the messages that come for it.
    #[must_use]
    pub fn for_device(mut self, device_id: Option<OwnedDeviceId>) -> Self {
        self.device_id = device_id;
        self
    }

    /// What is new after `since`, at once; everything when it is `None`.
    pub async fn news(&self, since: Option<SyncPoint>) -> Result<News, Arc<StorageError>> {
        self.ask(since, false).await
    }

    /// What is new after `since`, when something is. Dropping the future gives up.
    pub async fn wait(&self, since: SyncPoint) -> Result<News, Arc<StorageError>> {
        self.ask(Some(since), true).await
    }

    async fn ask(&self, since: Option<SyncPoint>, wait: bool) -> Result<News, Arc<StorageError>> {
        loop {
            let pause = match self.look(since, wait)? {
                Ok(news) => return Ok(news),
                Err(pause) => pause,
            };
            match pause {
                // Who wakes does not say why: look again.
                Pause::UntilWoken(woken) => _ = woken.await,
                Pause::ToLearn(learning) => learning.await?,
            }
        }
    }

    /// What is new, or what to wait for before looking again. All that is left of looking is a pointer, so that one
    /// who waits does not hold the space for what others find.
    fn look(
        &self,
        since: Option<SyncPoint>,
        wait: bool,
    ) -> Result<Result<News, Pause<'_>>, Arc<StorageError>> {
        let now_ms = self.syncers.0.clock.now_ms();
        Ok(match self.desk.ask(since, self.device_id.as_deref(), wait, now_ms)? {
            Asked::News(news) => Ok(news),
            Asked::Later(woken) => Err(Pause::UntilWoken(woken)),
            Asked::Earlier(unknown) => Err(Pause::ToLearn(self.learn_presence(unknown).boxed())),
        })
    }

    /// Lets the desk know whose presence changed before it was told of anything: of those who share a room with the
    /// user. One query, if it was anybody's.
    async fn learn_presence(&self, unknown: UnknownPresence) -> Result<(), Arc<StorageError>> {
        let mut changes = self.syncers.0.fanout.presence_between(unknown.after, unknown.upto);
        let others: Vec<UserNid> = changes.iter().map(|(other, _)| *other).collect();
        let mut told = HashSet::from([self.user]);
        if others.iter().any(|other| *other != self.user) && !unknown.rooms.is_empty() {
            let db = self.syncers.0.storage.get().await?;
            told.extend(members::joined_of(&db, &unknown.rooms, &others).await?);
        }
        changes.retain(|(other, _)| told.contains(other));
        self.desk.learn_presence(unknown.after, changes);
        Ok(())
    }
}

impl Drop for SyncHandle {
    fn drop(&mut self) {
        if let Some(slot) = self.syncers.0.slots.lock().get_mut(&self.user) {
            slot.asking = slot.asking.saturating_sub(1);
        }
    }
}
