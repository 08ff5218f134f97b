//! Lazily loaded members: a client that asks for it is told only of those members whose events it sees, and of each
//! only once.

use std::collections::{BTreeMap, HashMap, HashSet};

use myelin_actors::sync::messages::SyncPoint;
use myelin_core::{
    nid::{EventNid, RoomNid, UserNid, types},
    state::{StateKey, StateMap},
};
use myelin_storage::events::StoredEvent;
use parking_lot::Mutex;
use quick_cache::{Weighter, unsync::Cache};
use ruma::{DeviceId, OwnedDeviceId, api::client::filter::LazyLoadOptions};

use super::{Context, answer::StateField, rooms::Room, state::Told, summary, timeline::Page};

/// How many devices usually are remembered.
const USUAL_DEVICES: usize = 10_000;
/// How many members are remembered, of all rooms and for all devices together; some 50 bytes each.
const MAX_ENTRIES: u64 = 1_000_000;
/// How many members are remembered for one device.
const MAX_OF_DEVICE: usize = 20_000;

/// Which member events each device was sent, and with which answer. A member counts as known when the device has come
/// back with that answer's token or a later one; when it comes back with an earlier one, the answer was lost. Devices
/// that were sent nothing for the longest are forgotten when there are too many entries: they are told of members again.
#[derive(Debug)]
pub struct LazySent(Mutex<Cache<(UserNid, OwnedDeviceId), Sent, ByEntries>>);

/// What one device was sent.
#[derive(Clone, Debug, Default)]
struct Sent {
    members: BTreeMap<(RoomNid, UserNid), (EventNid, SyncPoint)>,
    /// No answer that told of one of them was later.
    latest: SyncPoint,
}

#[derive(Clone, Debug)]
struct ByEntries;

impl Weighter<(UserNid, OwnedDeviceId), Sent> for ByEntries {
    fn weight(&self, _: &(UserNid, OwnedDeviceId), sent: &Sent) -> u64 {
        // A device costs something too, and what weighs nothing would never go.
        10 + sent.members.len() as u64
    }
}

impl Default for LazySent {
    fn default() -> Self {
        Self::holding(MAX_ENTRIES)
    }
}

impl Sent {
    fn note(&mut self, room: RoomNid, member: UserNid, event: EventNid, answer: SyncPoint) {
        if self.members.len() >= MAX_OF_DEVICE {
            self.members.clear();
        }
        // The same event sent again is known since the first time, if that answer arrived.
        let entry = self.members.entry((room, member)).or_insert((event, answer));
        if entry.0 != event {
            *entry = (event, answer);
        }
        self.latest.position = self.latest.position.max(answer.position);
        self.latest.ephemeral = self.latest.ephemeral.max(answer.ephemeral);
    }

    /// The device has nothing that came later than this.
    fn forget_after(&mut self, since: SyncPoint) {
        self.members.retain(|_, (_, answer)| is_by(*answer, since));
        self.latest = since;
    }
}

/// Whoever has come to `since` has had that answer.
fn is_by(answer: SyncPoint, since: SyncPoint) -> bool {
    answer.position <= since.position && answer.ephemeral <= since.ephemeral
}

impl LazySent {
    fn holding(entries: u64) -> Self {
        Self(Mutex::new(Cache::with_weighter(USUAL_DEVICES, entries, ByEntries)))
    }

    /// The device starts over, or is gone.
    pub fn forget(&self, user: UserNid, device: Option<&DeviceId>) {
        if let Some(device) = device {
            self.0.lock().remove(&(user, device.to_owned()));
        }
    }

    /// The device is told of the room from the beginning: it may have dropped what it knew when its user left.
    fn forget_room(&self, user: UserNid, device: Option<&DeviceId>, room: RoomNid) {
        let Some(device) = device else { return };
        let mut devices = self.0.lock();
        // Taken out and put in again, so that it is weighed.
        if let Some((key, mut sent)) = devices.remove(&(user, device.to_owned())) {
            sent.members.retain(|(of, _), _| *of != room);
            devices.insert(key, sent);
        }
    }

    /// The device goes on from `since`: later answers have not reached it, and if it keeps its place only now and then,
    /// it has lost them. A later answer of its own does not say that it had those.
    pub fn go_on(&self, user: UserNid, device: Option<&DeviceId>, since: SyncPoint) {
        let Some(device) = device else { return };
        let mut devices = self.0.lock();
        let key = (user, device.to_owned());
        if devices.get(&key).is_none_or(|sent| is_by(sent.latest, since)) {
            return;
        }
        // Taken out and put in again, so that it is weighed.
        if let Some((key, mut sent)) = devices.remove(&key) {
            sent.forget_after(since);
            devices.insert(key, sent);
        }
    }

    /// Those of the members whose event the device has, as it was then.
    fn known(
        &self,
        user: UserNid,
        device: Option<&DeviceId>,
        room: RoomNid,
        since: Option<SyncPoint>,
        members: impl Iterator<Item = UserNid>,
    ) -> HashMap<UserNid, EventNid> {
        let (Some(device), Some(since)) = (device, since) else { return HashMap::new() };
        let devices = self.0.lock();
        let Some(sent) = devices.get(&(user, device.to_owned())) else { return HashMap::new() };
        let known = |member| {
            let (event, answer) = sent.members.get(&(room, member))?;
            is_by(*answer, since).then_some((member, *event))
        };
        members.filter_map(known).collect()
    }

    fn note(
        &self,
        user: UserNid,
        device: Option<&DeviceId>,
        answer: SyncPoint,
        sent: impl Iterator<Item = (RoomNid, UserNid, EventNid)>,
    ) {
        let Some(device) = device else { return };
        let mut sent = sent.peekable();
        if sent.peek().is_none() {
            return;
        }
        let mut devices = self.0.lock();
        let key = (user, device.to_owned());
        // Taken out and put in again, so that it is weighed and others make room.
        let mut device =
            devices.get_mut(&key).map(|mut known| std::mem::take(&mut *known)).unwrap_or_default();
        for (room, member, event) in sent {
            device.note(room, member, event, answer);
        }
        devices.insert(key, device);
    }
}

/// What is told of a room's state when members are loaded lazily; all of it otherwise. `with_heroes`: the client is told
/// anew after whom the room is called.
pub(crate) fn lazy(
    context: &Context<'_>,
    room: &Room,
    page: &Page,
    end: &StateMap,
    told: Vec<Told>,
    with_heroes: bool,
) -> Vec<Told> {
    let LazyLoadOptions::Enabled { include_redundant_members } =
        context.ask.filter.room.state.lazy_load_options
    else {
        return told;
    };
    if room.is_new() {
        let (user, device) = (context.ask.user.nid, context.ask.device.as_deref());
        context.app.memory.sync.lazy.forget_room(user, device, room.view.nid);
    }
    let mut needed: HashSet<UserNid> = page.shown.iter().map(|seen| seen.event.sender).collect();
    if room.wants_all_state() || with_heroes {
        needed.extend(summary::heroes(&room.view, context.ask.user.nid).into_iter().flatten());
    }
    let mut told = told;
    if room.wants_all_state() {
        needed.insert(context.ask.user.nid);
        told.retain(|told| {
            told.key.0 != types::MEMBER || needed.contains(&UserNid::from_state_key(told.key.1))
        });
    }
    let settled: HashSet<StateKey> =
        told.iter().filter(|told| told.unless_older.is_none()).map(|told| told.key).collect();
    let known = if include_redundant_members {
        HashMap::new()
    } else {
        let device = context.ask.device.as_deref();
        let user = context.ask.user.nid;
        let needed = needed.iter().copied();
        context.app.memory.sync.lazy.known(user, device, room.view.nid, context.since, needed)
    };
    let shown = match context.ask.state_field {
        StateField::Before => shown_members(page),
        StateField::After | StateField::UnstableAfter => HashMap::new(),
    };
    let mut missing: Vec<Told> = needed
        .into_iter()
        .filter_map(|member| {
            let key = (types::MEMBER, member.into());
            let event = match shown.get(&member) {
                None => *end.get(&key)?,
                Some(Shown::FirstOfAll) => return None,
                Some(Shown::Later { replaces }) => (*replaces)?,
            };
            let is_told = settled.contains(&key) || known.get(&member) == Some(&event);
            (!is_told).then_some(Told { key, event, unless_older: None })
        })
        .collect();
    missing.sort_by_key(|told| told.key);
    told.retain(|told| missing.binary_search_by_key(&told.key, |missing| missing.key).is_err());
    told.extend(missing);
    told
}

/// Where a page shows the first of a member's events about them.
#[derive(Clone, Copy, Debug)]
enum Shown {
    /// Before anything else of theirs: the client has met them by then.
    FirstOfAll,
    /// After something that they sent: until there, they were who the replaced event says.
    Later { replaces: Option<EventNid> },
}

fn shown_members(page: &Page) -> HashMap<UserNid, Shown> {
    let (mut senders, mut members) = (HashSet::new(), HashMap::new());
    for event in page.shown.iter().map(|seen| &seen.event) {
        if let Some(key) = event.state_key.filter(|_| event.type_nid == types::MEMBER) {
            let member = UserNid::from_state_key(key);
            let replaces = event.replaces;
            let shown = if senders.contains(&member) { Shown::Later { replaces } } else { Shown::FirstOfAll };
            members.entry(member).or_insert(shown);
        }
        senders.insert(event.sender);
    }
    members
}

/// Remembers which members an answer tells of.
pub(crate) fn note_sent(
    context: &Context<'_>,
    rooms: &[Room],
    pages: &[Page],
    states: &[Vec<std::sync::Arc<StoredEvent>>],
) {
    if context.ask.filter.room.state.lazy_load_options.is_disabled() {
        return;
    }
    let sent =
        rooms.iter().zip(pages.iter().zip(states)).flat_map(|(room, (page, state))| {
            let shown = page.shown.iter().map(|seen| &seen.event);
            state.iter().chain(shown).filter(|event| event.type_nid == types::MEMBER).filter_map(|event| {
                Some((room.view.nid, UserNid::from_state_key(event.state_key?), event.nid))
            })
        });
    let (user, device) = (context.ask.user.nid, context.ask.device.as_deref());
    context.app.memory.sync.lazy.note(user, device, context.news.upto, sent);
}

#[cfg(test)]
mod tests {
    use myelin_core::position::Position;
    use ruma::device_id;

    use super::*;

    fn point(position: i64) -> SyncPoint {
        SyncPoint { position: Position(position), ephemeral: 1 }
    }

    #[test]
    fn members_are_known_once_the_answer_was_acknowledged() {
        let sent = LazySent::default();
        let user = UserNid::new(1).expect("positive");
        let member = UserNid::new(2).expect("positive");
        let room = RoomNid::new(1).expect("positive");
        let event = EventNid::new(9).expect("positive");
        let device = Some(device_id!("D"));
        let known =
            |device, position| sent.known(user, device, room, Some(point(position)), [member].into_iter());
        sent.note(user, device, point(10), [(room, member, event)].into_iter());
        assert!(known(device, 9).is_empty());
        assert_eq!(known(device, 10).get(&member), Some(&event));
        assert!(known(Some(device_id!("E")), 10).is_empty());
        sent.note(user, device, point(12), [(room, member, event)].into_iter());
        assert_eq!(known(device, 10).get(&member), Some(&event));
        sent.forget(user, device);
        assert!(known(device, 20).is_empty());
    }

    #[test]
    fn members_of_a_lost_answer_are_not_known_by_a_later_one() {
        let sent = LazySent::default();
        let user = UserNid::new(1).expect("positive");
        let room = RoomNid::new(1).expect("positive");
        let member = |number| UserNid::new(number).expect("positive");
        let event = |number| EventNid::new(number).expect("positive");
        let device = Some(device_id!("D"));
        sent.note(user, device, point(10), [(room, member(2), event(2))].into_iter());
        sent.go_on(user, device, point(10));
        sent.note(user, device, point(12), [(room, member(3), event(3))].into_iter());
        // The same question again.
        sent.go_on(user, device, point(10));
        sent.note(user, device, point(14), [(room, member(4), event(4))].into_iter());
        sent.go_on(user, device, point(14));
        let known = sent.known(user, device, room, Some(point(14)), (2..=5).map(member));
        assert_eq!(known, [(member(2), event(2)), (member(4), event(4))].into());
        let devices = sent.0.lock();
        assert!(devices.iter().all(|(_, sent)| sent.members.len() == 2));
    }

    #[test]
    fn devices_in_many_large_rooms_make_room_for_others() {
        const ENTRIES: u64 = 100_000;
        let sent = LazySent::holding(ENTRIES);
        let user = UserNid::new(1).expect("positive");
        let (room, event) =
            (|number| RoomNid::new(number).expect("positive"), EventNid::new(9).expect("positive"));
        let members = || (1..=100).filter_map(UserNid::new);
        for number in 1..=500 {
            let device = OwnedDeviceId::from(format!("D{number}"));
            for room in (1..=5).map(room) {
                let told = members().map(|member| (room, member, event));
                sent.note(user, Some(&device), point(10), told);
            }
            sent.known(user, Some(&device), room(1), Some(point(10)), members());
        }
        let devices = sent.0.lock();
        let entries: usize = devices.iter().map(|(_, sent)| sent.members.len()).sum();
        assert!(entries as u64 <= ENTRIES, "{entries} members are remembered");
        assert!(entries as u64 > ENTRIES / 2, "only {entries} members are remembered");
    }

    #[test]
    fn a_device_with_too_many_members_is_begun_again() {
        let mut sent = Sent::default();
        let (room, event) = (RoomNid::new(1).expect("positive"), EventNid::new(9).expect("positive"));
        for member in (1..).filter_map(UserNid::new).take(MAX_OF_DEVICE + 5) {
            sent.note(room, member, event, point(10));
        }
        assert_eq!(sent.members.len(), 5);
    }
}
