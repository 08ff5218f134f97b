//! Tells other servers who types, who is there and who has read what: local users only, and only servers that share a
//! room with them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid},
};
use myelin_storage::{commit::ReceiptChange, error::StorageError, events::StoredEvent, members};
use parking_lot::Mutex;
use ruma::{OwnedServerName, OwnedUserId, presence::PresenceState};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use tracing::warn;

use super::{
    FederationActor, SenderTools,
    destinations::Destinations,
    dispatch::{Servers, newcomer},
    edus::{Fleeting, ReceiptEdu},
};
use crate::{
    presence::Presence,
    room::view::{Member, RoomView},
};

/// Other servers are told again of somebody who goes on typing, but not more often than this. They forget it after
/// half a minute or so.
const TYPING_AGAIN_MS: u64 = 20_000;
/// How long it is believed which servers are in a room that is not in memory: in such a room nothing happens.
const SERVERS_OF_MS: u64 = 10 * 60 * 1000;

/// Which servers are in rooms that are not in memory.
#[derive(Debug, Default)]
pub(crate) struct RoomServers(Mutex<HashMap<RoomNid, (u64, ServerList)>>);

type ServerList = Arc<[OwnedServerName]>;

impl RoomServers {
    /// The servers in these rooms; by one query for all rooms that are not in memory and were not asked for lately.
    async fn load(
        &self,
        tools: &SenderTools,
        destinations: &Destinations,
        rooms: HashSet<RoomNid>,
        now_ms: u64,
    ) -> Result<HashMap<RoomNid, ServerList>, StorageError> {
        let mut servers: HashMap<RoomNid, ServerList> = HashMap::with_capacity(rooms.len());
        let mut missing = Vec::new();
        {
            let mut known = self.0.lock();
            known.retain(|_, (asked_ms, _)| asked_ms.saturating_add(SERVERS_OF_MS) > now_ms);
            for room in rooms {
                if let Some(view) = tools.rooms.shown(room) {
                    known.remove(&room);
                    servers.insert(room, view.servers.keys().cloned().collect());
                } else if let Some((_, known)) = known.get(&room) {
                    servers.insert(room, Arc::clone(known));
                } else {
                    missing.push(room);
                }
            }
        }
        if missing.is_empty() {
            return Ok(servers);
        }
        let db = destinations.tools().storage.get().await?;
        let mut found = members::other_servers(&db, &missing).await?;
        let mut known = self.0.lock();
        for room in missing {
            let list = found.remove(&room).unwrap_or_default();
            let list: ServerList = list.into_iter().map(|(server, _)| server).collect();
            known.insert(room, (now_ms, Arc::clone(&list)));
            servers.insert(room, list);
        }
        Ok(servers)
    }
}

impl FederationActor {
    /// Tells at once who types.
    pub(super) fn send_typing(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.destinations.tools().clock.now_ms();
        let told = &mut self.typing_told;
        told.retain(|_, told_ms| told_ms.saturating_add(TYPING_AGAIN_MS) > now_ms);
        let mut typing = std::mem::take(&mut self.typing);
        typing.retain(|(room, user, typing)| {
            if *typing {
                let is_new = !told.contains_key(&(*room, *user));
                is_new && told.insert((*room, *user), now_ms).is_none()
            } else {
                told.remove(&(*room, *user));
                true
            }
        });
        if typing.is_empty() {
            return;
        }
        let (tools, destinations) = (Arc::clone(&self.tools), self.destinations.clone());
        let send = async move { spread_typing(&tools, &destinations, &typing).await };
        ctx.wait(send.into_actor(self).map(note));
    }

    /// Notes who has come into a room with this event: others are told who is there.
    pub(super) fn note_newcomer(&mut self, event: &StoredEvent, servers: &Servers) {
        let Some(user) = newcomer(event) else { return };
        let server = user.server_name();
        if *server == *self.tools.server_name {
            let user = event.state_key.map(UserNid::from_state_key);
            self.arrivals.extend(user.map(|user| (user, event.room)));
        } else if servers.get(server) == Some(&1) {
            self.newcomers.insert((server.to_owned(), event.room));
        }
    }

    /// Tells who has read what and who is there, since the last time.
    pub(super) fn send_fleeting(&mut self, ctx: &mut Context<Self>) {
        let receipts = std::mem::take(&mut self.receipts);
        let newcomers = std::mem::take(&mut self.newcomers);
        let arrivals = std::mem::take(&mut self.arrivals);
        let mut presence = std::mem::take(&mut self.presence);
        for (user, room) in arrivals {
            presence.entry(user).or_default().push(room);
        }
        if receipts.is_empty() && presence.is_empty() && newcomers.is_empty() {
            return;
        }
        let (tools, destinations) = (Arc::clone(&self.tools), self.destinations.clone());
        let servers_of = Arc::clone(&self.servers_of);
        let send = async move {
            spread_receipts(&tools, &destinations, &receipts).await?;
            spread_presence(&tools, &destinations, &servers_of, presence).await?;
            greet(&tools, &destinations, newcomers).await
        };
        // Not `wait`: who is there may have to be read, and events go on meanwhile.
        ctx.spawn(send.into_actor(self).map(note));
    }
}

fn note(result: Result<(), StorageError>, _: &mut FederationActor, _: &mut Context<FederationActor>) {
    if let Err(error) = result {
        warn!(%error, "other servers could not be told who types, reads or is there");
    }
}

/// What is told to which server, collected so that each is started once.
#[derive(Default)]
struct Spread(HashMap<OwnedServerName, Vec<Fleeting>>);

impl Spread {
    fn tell<'a>(&mut self, servers: impl Iterator<Item = &'a OwnedServerName>, fleeting: &Fleeting) {
        for server in servers {
            match self.0.get_mut(server) {
                Some(list) => list.push(fleeting.clone()),
                None => drop(self.0.insert(server.clone(), vec![fleeting.clone()])),
            }
        }
    }

    fn hand_over(self, tools: &SenderTools, destinations: &Destinations) {
        let now_ms = destinations.tools().clock.now_ms();
        let remote = &destinations.tools().remote;
        let mut told = self.0;
        told.retain(|server, _| *server != tools.server_name && remote.allows(server));
        let names: Vec<OwnedServerName> = told.keys().cloned().collect();
        destinations.change(&names, |state| {
            for (server, list) in told {
                let destination = state.get(&server);
                for fleeting in list {
                    destination.push_fleeting(fleeting, now_ms);
                }
            }
        });
    }
}

/// The room, if it is in memory, there are others in it, and the user is a local member. It is in memory when a user
/// does something there.
fn room_of(tools: &SenderTools, room: RoomNid, user: UserNid) -> Option<Arc<RoomView>> {
    let view = tools.rooms.shown(room)?;
    let is_local = view.members.get(&user).is_some_and(|member| member.is_local);
    (is_local && view.is_joined(user) && view.servers.len() > 1).then_some(view)
}

async fn spread_typing(
    tools: &SenderTools,
    destinations: &Destinations,
    typing: &[(RoomNid, UserNid, bool)],
) -> Result<(), StorageError> {
    let mut spread = Spread::default();
    let mut found = Vec::new();
    for (room, user, typing) in typing {
        found.extend(room_of(tools, *room, *user).map(|view| (view, *user, *typing)));
    }
    let users: Vec<UserNid> = found.iter().map(|(_, user, _)| *user).collect();
    let names = tools.nids.user_ids(&users).await?;
    for ((view, user, typing), name) in found.iter().zip(names) {
        let content = json!({ "room_id": view.room_id, "user_id": name, "typing": typing });
        let Ok(content) = to_raw_value(&content) else { continue };
        spread.tell(view.servers.keys(), &Fleeting::Typing(view.nid, *user, content.into()));
    }
    spread.hand_over(tools, destinations);
    Ok(())
}

async fn spread_receipts(
    tools: &SenderTools,
    destinations: &Destinations,
    receipts: &[Arc<ReceiptChange>],
) -> Result<(), StorageError> {
    let mut spread = Spread::default();
    let public = receipts.iter().filter(|receipt| receipt.receipt_type == "m.read");
    let found: Vec<(Arc<RoomView>, &Arc<ReceiptChange>)> =
        public.filter_map(|receipt| Some((room_of(tools, receipt.room, receipt.user)?, receipt))).collect();
    let users: Vec<UserNid> = found.iter().map(|(_, receipt)| receipt.user).collect();
    let names = tools.nids.user_ids(&users).await?;
    for ((view, receipt), user_id) in found.iter().zip(names) {
        let edu = ReceiptEdu {
            room: receipt.room,
            room_id: view.room_id.clone(),
            user: receipt.user,
            user_id,
            thread: receipt.thread.clone(),
            event_id: receipt.event_id.clone(),
            ts: receipt.ts,
        };
        spread.tell(view.servers.keys(), &Fleeting::Receipt(Arc::new(edu)));
    }
    spread.hand_over(tools, destinations);
    Ok(())
}

async fn spread_presence(
    tools: &SenderTools,
    destinations: &Destinations,
    servers_of: &RoomServers,
    presence: HashMap<UserNid, Vec<RoomNid>>,
) -> Result<(), StorageError> {
    let users: Vec<UserNid> = presence.keys().copied().collect();
    let names = tools.nids.user_ids(&users).await?;
    let known = tools.presences.of(&users);
    let now_ms = destinations.tools().clock.now_ms();
    let rooms: HashSet<RoomNid> = presence.values().flatten().copied().collect();
    let servers = servers_of.load(tools, destinations, rooms, now_ms).await?;
    let mut spread = Spread::default();
    for (user, name) in users.iter().zip(names) {
        let (Some(state), Some(rooms)) = (known.get(user), presence.get(user)) else { continue };
        if name.server_name() != tools.server_name {
            continue;
        }
        let Some(entry) = presence_entry(&name, state, now_ms) else { continue };
        let told: HashSet<&OwnedServerName> =
            rooms.iter().filter_map(|room| servers.get(room)).flat_map(|servers| servers.iter()).collect();
        spread.tell(told.into_iter(), &Fleeting::Presence(*user, entry));
    }
    spread.hand_over(tools, destinations);
    Ok(())
}

/// Tells servers that have come into a room which of the users of this server there are online.
async fn greet(
    tools: &SenderTools,
    destinations: &Destinations,
    newcomers: HashSet<(OwnedServerName, RoomNid)>,
) -> Result<(), StorageError> {
    let now_ms = destinations.tools().clock.now_ms();
    let mut spread = Spread::default();
    for (server, room) in newcomers {
        let Some(view) = tools.rooms.shown(room) else { continue };
        let is_here = |member: &Member| member.is_local && member.membership == Membership::Join;
        let here = view.members.iter().filter(|(_, member)| is_here(member)).map(|(user, _)| *user);
        let here: Vec<UserNid> = here.collect();
        let mut known: Vec<(UserNid, Presence)> = tools.presences.of(&here).into_iter().collect();
        known.retain(|(_, presence)| presence.presence != PresenceState::Offline);
        let users: Vec<UserNid> = known.iter().map(|(user, _)| *user).collect();
        let names = tools.nids.user_ids(&users).await?;
        for ((user, presence), name) in known.iter().zip(names) {
            let Some(entry) = presence_entry(&name, presence, now_ms) else { continue };
            spread.tell(std::iter::once(&server), &Fleeting::Presence(*user, entry));
        }
    }
    spread.hand_over(tools, destinations);
    Ok(())
}

fn presence_entry(user: &OwnedUserId, presence: &Presence, now_ms: u64) -> Option<Arc<RawValue>> {
    let mut entry = json!({
        "user_id": user,
        "presence": presence.presence,
        "currently_active": presence.currently_active,
        "last_active_ago": now_ms.saturating_sub(presence.last_active_ms),
    });
    if let Some(status) = &presence.status_msg {
        entry["status_msg"] = status.as_str().into();
    }
    to_raw_value(&entry).ok().map(Into::into)
}
