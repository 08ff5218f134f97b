//! What is new for each connected user, since any point; long polls wait here.
//!
//! It shapes no answer: that is the business of whoever asked. A user's `SyncActor` starts at
//! their first question, reads where all of their rooms stand in one go, and stops when they are idle. From then on
//! the journal notes what changes on the user's `Desk`, in position order. So what the desk has seen is a position up
//! to which nothing is missing, and an idle long poll costs only memory.
//!
//! The desk is to its actor what a published view is to a room: who asks looks at it without a message, and who waits
//! is woken by the journal itself. A delivery then costs one change of threads, not three.

mod actor;
mod arrivals;
pub mod asides;
mod devices;
pub mod fanout;
pub mod handle;
pub mod messages;
mod waiting;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use myelin_core::{
    membership::Membership,
    nid::{EventNid, RoomNid, UserNid},
    position::Position,
};
use myelin_storage::error::StorageError;
use parking_lot::Mutex;
use ruma::{DeviceId, OwnedDeviceId};

use self::{
    asides::LastTyping,
    devices::DeviceNews,
    handle::UserRooms,
    messages::{EventOutput, MemberOutput, News, Output, RoomMark, SyncPoint},
    waiting::{Waiting, Woken},
};

/// What is known of one connected user, for all who ask.
pub(crate) struct Desk {
    user: UserNid,
    known: Mutex<Known>,
    last_used_ms: AtomicU64,
}

/// How far the actor is.
enum Stage {
    /// Where the rooms stand is being read. What the journal tells meanwhile comes after that.
    Loading(Vec<Output>),
    /// The journal's outputs are noted as they come.
    Ready,
    /// There will be no answer.
    Failed(Arc<StorageError>),
}

struct Known {
    user: UserNid,
    stage: Stage,
    /// Everything up to here was read from storage, and is not told again.
    loaded: Position,
    /// Everything up to here has been seen.
    seen: SyncPoint,
    /// Who typed before this number is not known.
    ephemeral_start: u64,
    rooms: HashMap<RoomNid, RoomMark>,
    account_data: Position,
    /// Last change of each user's presence, as far as it was told or looked up.
    presence: HashMap<UserNid, u64>,
    /// Whose presence changed last before this number is not known: it is looked up when somebody asks.
    presence_after: u64,
    devices: DeviceNews,
    /// When keys of each device were given away last.
    device_keys: HashMap<OwnedDeviceId, u64>,
    waiting: Waiting,
}

/// What asking comes to.
pub(crate) enum Asked {
    /// This is new.
    News(News),
    /// Nothing yet: ask again when woken.
    Later(Woken),
    /// This has to be learnt first.
    Earlier(UnknownPresence),
}

/// Whose presence changed last after the one number and not after the other, among those who are in these rooms.
pub(crate) struct UnknownPresence {
    after: u64,
    upto: u64,
    rooms: Vec<RoomNid>,
}

impl Desk {
    /// Nothing is known yet, and never what happened without being durable before the process gave out this number.
    pub(crate) fn new(user: UserNid, ephemeral_start: u64, now_ms: u64) -> Self {
        let known = Known {
            user,
            stage: Stage::Loading(Vec::new()),
            loaded: Position::START,
            seen: SyncPoint { position: Position::START, ephemeral: ephemeral_start },
            ephemeral_start,
            rooms: HashMap::new(),
            account_data: Position::START,
            presence: HashMap::new(),
            presence_after: ephemeral_start,
            devices: DeviceNews::default(),
            device_keys: HashMap::new(),
            waiting: Waiting::default(),
        };
        Self { user, known: Mutex::new(known), last_used_ms: AtomicU64::new(now_ms) }
    }

    /// What is new for the device after `since`; everything when it is `None`. With `wait`, nothing new is no answer.
    pub(crate) fn ask(
        &self,
        since: Option<SyncPoint>,
        device_id: Option<&DeviceId>,
        wait: bool,
        now_ms: u64,
    ) -> Result<Asked, Arc<StorageError>> {
        self.last_used_ms.store(now_ms, Ordering::Relaxed);
        let mut known = self.known.lock();
        match &known.stage {
            Stage::Failed(error) => return Err(Arc::clone(error)),
            Stage::Ready => {
                if let Some(unknown) = known.unknown_presence(since) {
                    return Ok(Asked::Earlier(unknown));
                }
                let news = known.news(since, device_id);
                if !wait || !news.is_empty() {
                    return Ok(Asked::News(news));
                }
            }
            Stage::Loading(_) => {}
        }
        Ok(Asked::Later(known.waiting.add()))
    }

    /// The journal, or whoever makes ephemeral changes, tells in order what happened.
    pub(crate) fn note(&self, output: &Output) {
        let mut known = self.known.lock();
        match &mut known.stage {
            Stage::Loading(early) => early.push(output.clone()),
            Stage::Ready => {
                known.note(output);
                known.waiting.wake();
            }
            Stage::Failed(_) => {}
        }
    }

    /// These had changed before the desk was told of anything, after that number.
    fn learn_presence(&self, after: u64, changes: Vec<(UserNid, u64)>) {
        let mut known = self.known.lock();
        known.presence_after = known.presence_after.min(after);
        for (user, changed) in changes {
            let last = known.presence.entry(user).or_insert(changed);
            *last = changed.max(*last);
        }
    }

    /// This is where the user's rooms stand, and when who types there changed last: what was told since is noted on top
    /// of it.
    fn begin(&self, loaded: UserRooms, typing: LastTyping) {
        let mut known = self.known.lock();
        known.loaded = loaded.position;
        known.seen = SyncPoint { position: loaded.position, ephemeral: typing.upto };
        known.presence_after = typing.upto;
        known.account_data = loaded.account_data;
        known.devices = DeviceNews::since(loaded.position);
        known.rooms = loaded.rooms.into_iter().collect();
        for (room, changed) in typing.typing {
            if let Some(mark) = known.rooms.get_mut(&room) {
                mark.typing = changed;
            }
        }
        if let Stage::Loading(early) = std::mem::replace(&mut known.stage, Stage::Ready) {
            for output in &early {
                known.note(output);
            }
        }
        known.waiting.wake();
    }

    /// There will be no more answers. The first reason is the one that counts.
    fn fail(&self, error: StorageError) {
        let mut known = self.known.lock();
        if !matches!(known.stage, Stage::Failed(_)) {
            known.stage = Stage::Failed(Arc::new(error));
        }
        known.waiting.wake();
    }

    /// When the user was here last: now, if someone waits.
    fn last_used_ms(&self, now_ms: u64) -> u64 {
        if self.known.lock().waiting.is_empty() { self.last_used_ms.load(Ordering::Relaxed) } else { now_ms }
    }
}

impl Known {
    /// What is new for the device after `since`; everything when it is `None`.
    fn news(&self, since: Option<SyncPoint>, device_id: Option<&DeviceId>) -> News {
        let rooms = self
            .rooms
            .iter()
            .filter(|(_, mark)| since.is_none_or(|since| mark.changed_since(since)))
            .map(|(room, mark)| (*room, mark.clone()))
            .collect();
        let presence = self
            .presence
            .iter()
            .filter(|(_, changed)| since.is_none_or(|since| **changed > since.ephemeral))
            .map(|(user, _)| *user)
            .collect();
        News {
            upto: self.seen,
            rooms,
            account_data: since.is_none_or(|since| self.account_data > since.position),
            presence,
            typing_lost: since.map(|since| self.typing_lost(since)).unwrap_or_default(),
            to_device: since.is_none_or(|since| self.devices.has_messages(device_id, since.position)),
            device_lists: since.is_none_or(|since| self.devices.lists_changed(since.position)),
            device_keys: since
                .zip(device_id.and_then(|device_id| self.device_keys.get(device_id)))
                .is_some_and(|(since, changed)| *changed > since.ephemeral),
        }
    }

    /// What has to be known of presence for one who knows everything up to `since`, and is not.
    fn unknown_presence(&self, since: Option<SyncPoint>) -> Option<UnknownPresence> {
        let after = since.map_or(0, |since| since.ephemeral);
        (after < self.presence_after).then(|| {
            let joined = self.rooms.iter().filter(|(_, mark)| mark.membership == Membership::Join);
            let rooms = joined.map(|(room, _)| *room).collect();
            UnknownPresence { after, upto: self.presence_after, rooms }
        })
    }

    /// The rooms of which a client that knows everything up to `since` may know that somebody typed there before this
    /// process began.
    fn typing_lost(&self, since: SyncPoint) -> Vec<RoomNid> {
        if since.ephemeral >= self.ephemeral_start {
            return Vec::new();
        }
        let is_known = |mark: &RoomMark| {
            mark.membership == Membership::Join && mark.joined_at.is_some_and(|at| at <= since.position)
        };
        self.rooms.iter().filter(|(_, mark)| is_known(mark)).map(|(room, _)| *room).collect()
    }

    fn note_event(&mut self, output: &Arc<EventOutput>) {
        let position = output.event.position;
        if position <= self.loaded {
            return;
        }
        let room = output.event.room;
        self.seen.position = self.seen.position.max(position);
        if let Some((user, membership)) = output.membership
            && user == self.user
        {
            self.note_membership(room, position, output.event.nid, membership);
        }
        if let Some(mark) = self.rooms.get_mut(&room) {
            if output.event.state_key.is_some_and(|key| key == self.user.into())
                && output.event.type_nid == myelin_core::nid::types::MEMBER
            {
                mark.member_event = output.event.nid;
            }
            mark.events = mark.events.max(position);
            mark.show(&output.view);
        }
    }

    fn note_member(&mut self, output: &MemberOutput) {
        if output.position <= self.loaded || output.user != self.user {
            return;
        }
        self.seen.position = self.seen.position.max(output.position);
        self.note_membership(output.view.nid, output.position, output.member_event, output.membership);
        if let Some(mark) = self.rooms.get_mut(&output.view.nid) {
            mark.events = mark.events.max(output.position);
            mark.view = Some(Arc::clone(&output.view));
        }
    }

    fn note_membership(
        &mut self,
        room: RoomNid,
        position: Position,
        member_event: EventNid,
        membership: Membership,
    ) {
        let joined_at = (membership == Membership::Join).then_some(position);
        let mark = self.rooms.entry(room).or_insert_with(|| RoomMark {
            membership,
            membership_position: position,
            member_event,
            joined_at,
            forgotten: false,
            events: position,
            receipts: Position::START,
            account_data: Position::START,
            typing: 0,
            view: None,
        });
        mark.membership = membership;
        mark.membership_position = position;
        mark.member_event = member_event;
        mark.joined_at = joined_at.or(mark.joined_at);
        if joined_at.is_some() {
            // Nobody told this desk what the others had read in the room until then.
            mark.receipts = mark.receipts.max(position);
        }
        mark.forgotten = false;
    }

    fn note(&mut self, output: &Output) {
        match output {
            Output::Event(output) => self.note_event(output),
            Output::Member(output) => self.note_member(output),
            Output::Redacted(view) => {
                if let Some(mark) = self.rooms.get_mut(&view.nid) {
                    mark.show(view);
                }
            }
            Output::Receipt { room, position, .. } => {
                self.seen.position = self.seen.position.max(*position);
                if let Some(mark) = self.rooms.get_mut(room) {
                    mark.receipts = mark.receipts.max(*position);
                }
            }
            Output::AccountData { room, position, .. } => {
                self.seen.position = self.seen.position.max(*position);
                match room.and_then(|room| self.rooms.get_mut(&room)) {
                    Some(mark) => mark.account_data = mark.account_data.max(*position),
                    // Data for a room that the user was never in is read with the global one.
                    None => self.account_data = self.account_data.max(*position),
                }
            }
            Output::Outgoing { .. } => {}
            Output::ToDevice { device_id, position, .. } => {
                self.seen.position = self.seen.position.max(*position);
                self.devices.note_message(device_id.as_deref(), *position);
            }
            Output::DeviceLists { position, .. } => {
                self.seen.position = self.seen.position.max(*position);
                self.devices.note_lists(*position);
            }
            Output::DeviceKeys { device_id, ephemeral, .. } => {
                self.seen.ephemeral = self.seen.ephemeral.max(*ephemeral);
                self.device_keys.insert(device_id.clone(), *ephemeral);
            }
            Output::Forgotten { room, .. } => {
                if let Some(mark) = self.rooms.get_mut(room) {
                    mark.forgotten = true;
                }
            }
            Output::Typing { room, ephemeral } => {
                self.seen.ephemeral = self.seen.ephemeral.max(*ephemeral);
                if let Some(mark) = self.rooms.get_mut(room) {
                    mark.typing = *ephemeral;
                }
            }
            Output::Presence { user, ephemeral } => {
                self.seen.ephemeral = self.seen.ephemeral.max(*ephemeral);
                self.presence.insert(*user, *ephemeral);
            }
        }
    }
}
