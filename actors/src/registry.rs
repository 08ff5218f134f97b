//! Finds rooms, starts each when it is first asked for, and lets idle ones go.
//!
//! The one place that knows who owns a room. It is no actor: a mutex held for nanoseconds guards the map, so that
//! the way to a room costs no message. Live handles are counted under the same lock as the lookup, so retiring a
//! room can never race with finding it. How a room goes is in `retirement`, how it is shown in `reading`.

mod reading;
mod retirement;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::Addr;
use arc_swap::ArcSwapOption;
use myelin_core::{
    admit,
    nid::{EventNid, RoomNid},
    pdu::Pdu,
    position::Position,
    state::Layers,
    version::RoomVersion,
};
use myelin_storage::events::StoredEvent;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, UInt, UserId,
};
use serde_json::value::RawValue;

use self::reading::Unreadable;
pub(crate) use self::retirement::WeakRooms;
use crate::{
    arbiters::Arbiters,
    remote::RemoteServers,
    room::{
        RoomActor, RoomTools, error::RoomError, handle::RoomHandle, load::Beginning, lookup,
        messages::SendEvent, store::Names, view::RoomView,
    },
};

/// Requests that may wait for one room. Above it the caller is told to come back later.
const MAX_IN_FLIGHT: usize = 1000;
/// How long a view without an actor stays when nobody looks at it.
const VIEW_IDLE_MS: u64 = 10 * 60 * 1000;
/// How often a room whose id follows from its create event is made at another time when its id may be taken.
const OTHER_TIMES: usize = 2;

/// The committed view of a room, where readers find it. Only commits replace it, and only by a newer one.
#[derive(Default)]
pub struct Published {
    view: ArcSwapOption<RoomView>,
    used_ms: AtomicU64,
}

impl Published {
    /// The newest committed view, if the room was loaded.
    pub fn view(&self) -> Option<Arc<RoomView>> {
        self.view.load_full()
    }

    /// Shows this view unless a newer one is shown already.
    pub(crate) fn publish(&self, view: &Arc<RoomView>) {
        self.view.rcu(|shown| match shown {
            Some(shown) if shown.position > view.position => Arc::clone(shown),
            _ => Arc::clone(view),
        });
    }
}

struct Slot {
    published: Arc<Published>,
    actor: Option<Addr<RoomActor>>,
    incarnation: u64,
    in_flight: usize,
}

impl Slot {
    fn new(now_ms: u64) -> Self {
        let published = Arc::new(Published::default());
        published.used_ms.store(now_ms, Ordering::Relaxed);
        Self { published, actor: None, incarnation: 0, in_flight: 0 }
    }
}

/// What a new room begins with.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// Its version.
    pub version: RoomVersionId,
    /// Its id, which nobody has yet; `None`: a random one. Not used in versions that make it from the create event.
    pub room_id: Option<OwnedRoomId>,
    /// Its first events in order, the create event first.
    pub events: Vec<SendEvent>,
}

/// Hands out rooms.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

struct Inner {
    slots: Mutex<HashMap<RoomNid, Slot>>,
    /// Grows when a slot goes away: what was loaded before that may be old.
    retired: AtomicU64,
    incarnations: AtomicU64,
    /// When the latest create event from which its room's id follows says that it was sent.
    created_ms: AtomicU64,
    ids: Cache<OwnedRoomId, RoomNid>,
    /// Rooms of other servers that were begun and of which nothing may be durable yet.
    begun: Mutex<HashMap<OwnedRoomId, RoomNid>>,
    arbiters: Arbiters,
    tools: RoomTools,
    /// Asked by whoever holds a room, never by the room.
    remote: Arc<dyn RemoteServers>,
    unreadable: Unreadable,
}

impl Rooms {
    /// A registry whose rooms run on these threads with these tools, and whose policy servers are reached by `remote`.
    pub fn new(arbiters: Arbiters, tools: RoomTools, remote: Arc<dyn RemoteServers>) -> Self {
        Self(Arc::new(Inner {
            slots: Mutex::default(),
            retired: AtomicU64::new(0),
            incarnations: AtomicU64::new(1),
            created_ms: AtomicU64::new(0),
            ids: Cache::new(100_000),
            begun: Mutex::default(),
            arbiters,
            tools,
            remote,
            unreadable: Unreadable::default(),
        }))
    }

    /// The room's actor, started if need be. [`RoomError::Busy`] when too much waits for it.
    pub async fn get(&self, room_id: &RoomId) -> Result<RoomHandle, RoomError> {
        let nid = self.find(room_id).await?.ok_or(RoomError::NotFound)?;
        self.handle(nid, Beginning::Stored(nid))
    }

    /// Makes a room with its first events, all in one commit; its id. Nothing remains of a room whose events are
    /// not allowed.
    pub async fn create(&self, request: CreateRoom) -> Result<OwnedRoomId, RoomError> {
        let version = myelin_core::version::find(&request.version).ok_or_else(|| {
            RoomError::Invalid(format!("room version {} is not supported", request.version))
        })?;
        if version.room_id_is_create_id() {
            for _ in 0..OTHER_TIMES {
                // The clock may have been set back, or another process may have been faster by a moment.
                match self.create_once(version, request.clone()).await {
                    Err(RoomError::Lost) => {}
                    outcome => return outcome,
                }
            }
        }
        self.create_once(version, request).await
    }

    async fn create_once(
        &self,
        version: &'static RoomVersion,
        mut request: CreateRoom,
    ) -> Result<OwnedRoomId, RoomError> {
        let named = self.0.tools.store.name(Names { rooms: 1, ..Names::default() }).await?;
        let nid = *named.rooms.first().ok_or(RoomError::Lost)?;
        let random = || RoomId::new_v1(&self.0.tools.signer.server_name);
        let room_id = if version.room_id_is_create_id() {
            if let Some(create) = request.events.first_mut() {
                create.origin_server_ts.get_or_insert_with(|| self.time_of_its_own());
            }
            None
        } else {
            Some(request.room_id.unwrap_or_else(random))
        };
        let handle = self.handle(nid, Beginning::New(nid, version, room_id))?;
        let outcome = handle.send_all(request.events).await;
        if outcome.is_err() {
            self.0.slots.lock().remove(&nid);
        }
        outcome?;
        let view = handle.view().ok_or(RoomError::Lost)?;
        self.0.ids.insert(view.room_id.clone(), nid);
        Ok(view.room_id.clone())
    }

    /// Now, or as soon after it as no other create event was sent: two that are the same but for their time must not be
    /// one room.
    fn time_of_its_own(&self) -> MilliSecondsSinceUnixEpoch {
        let now_ms = self.0.tools.clock.now_ms();
        let next = |last: u64| now_ms.max(last.saturating_add(1));
        let last =
            self.0.created_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(last.map_or(now_ms, next)))
    }

    /// A room that another server hosts and that nothing is stored of yet: it can be handed the room's events. That of
    /// the known room if it is known. Until something of it is durable, nobody else finds it.
    pub async fn begin(&self, room_id: &RoomId, version: &RoomVersionId) -> Result<RoomHandle, RoomError> {
        if let Some(nid) = self.find(room_id).await? {
            self.0.begun.lock().remove(room_id);
            return self.handle(nid, Beginning::Stored(nid));
        }
        let version = myelin_core::version::find(version)
            .ok_or_else(|| RoomError::Invalid(format!("room version {version} is not supported")))?;
        let named = self.0.tools.store.name(Names { rooms: 1, ..Names::default() }).await?;
        let new = *named.rooms.first().ok_or(RoomError::Lost)?;
        // Two who begin the same room at the same time must find the same one.
        let nid = *self.0.begun.lock().entry(room_id.to_owned()).or_insert(new);
        self.handle(nid, Beginning::New(nid, version, Some(room_id.to_owned())))
    }

    /// Takes an invitation, a knock or a leave of a user of this server in a room that this server is not in, with what
    /// another server tells of the room to those outside. The event was checked for its format, hashes and signatures;
    /// whether it is allowed cannot be known. The user is told; the position by which they are.
    pub async fn receive_membership(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
        member: Pdu,
        stripped: Vec<Box<RawValue>>,
    ) -> Result<Position, RoomError> {
        self.begin(room_id, version).await?.receive_membership(member, stripped).await?;
        Ok(self.0.tools.journal.position())
    }

    /// Ends a user's invitation to a room that this server is not in, or their knock on it, without any event: when no
    /// other server answers.
    pub async fn leave_outside(&self, room_id: &RoomId, user: &UserId) -> Result<(), RoomError> {
        self.get(room_id).await?.leave_outside(user.to_owned()).await
    }

    /// What is stored of these events and of those that they name, which is in memory now.
    pub(crate) async fn look_up(
        &self,
        pdus: &[Pdu],
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>, RoomError> {
        let mut ids: HashSet<OwnedEventId> = HashSet::new();
        for pdu in pdus {
            ids.insert(pdu.event_id().to_owned());
            ids.extend(pdu.prev_events().iter().cloned());
            ids.extend(admit::required_events(pdu));
        }
        Ok(self.0.tools.events.by_ids(ids).await?)
    }

    /// The events of the state before an event of the room, in no certain order. `None`: the event is not known, or its
    /// place in the room is not.
    pub async fn state_before(
        &self,
        room: RoomNid,
        event_id: &EventId,
    ) -> Result<Option<Vec<EventNid>>, RoomError> {
        let event = self.0.tools.events.by_id(event_id).await?;
        let Some(event) = event.filter(|event| event.room == room && lookup::is_settled(event)) else {
            return Ok(None);
        };
        let Some(snapshot) = event.snapshot else { return Ok(Some(Vec::new())) };
        let layers = self.0.tools.store.load_layers(&[snapshot]).await?;
        let state = layers.get(&snapshot).map(Layers::to_map);
        Ok(state.map(|state| state.values().copied().collect()))
    }

    /// Lets go of views that nobody looked at for a while and that no actor keeps. To be called now and then.
    pub fn sweep(&self) {
        let now_ms = self.0.tools.clock.now_ms();
        let mut slots = self.0.slots.lock();
        let before = slots.len();
        slots.retain(|_, slot| {
            slot.actor.is_some()
                || slot.in_flight > 0
                || slot.published.used_ms.load(Ordering::Relaxed) + VIEW_IDLE_MS > now_ms
        });
        if slots.len() < before {
            self.0.retired.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn remote(&self) -> Arc<dyn RemoteServers> {
        Arc::clone(&self.0.remote)
    }

    /// How many rooms are in memory.
    pub fn resident(&self) -> usize {
        self.0.slots.lock().len()
    }

    fn handle(&self, room: RoomNid, beginning: Beginning) -> Result<RoomHandle, RoomError> {
        let now_ms = self.0.tools.clock.now_ms();
        let weak = WeakRooms(Arc::downgrade(&self.0));
        let mut slots = self.0.slots.lock();
        let slot = slots.entry(room).or_insert_with(|| Slot::new(now_ms));
        if slot.in_flight >= MAX_IN_FLIGHT {
            return Err(RoomError::Busy);
        }
        let actor = match &slot.actor {
            Some(actor) if actor.connected() => actor.clone(),
            // Never started, or it panicked: begin from storage.
            _ => {
                slot.incarnation = self.0.incarnations.fetch_add(1, Ordering::Relaxed);
                let actor = RoomActor::start(
                    &self.0.arbiters.next(),
                    self.0.tools.clone(),
                    weak.clone(),
                    beginning,
                    slot.incarnation,
                    Arc::clone(&slot.published),
                );
                slot.actor = Some(actor.clone());
                actor
            }
        };
        slot.in_flight += 1;
        slot.published.used_ms.store(now_ms, Ordering::Relaxed);
        Ok(RoomHandle::new(actor, weak, room, Arc::clone(&slot.published)))
    }
}
