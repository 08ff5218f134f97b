//! Telling other servers: the `FederationActor` finds out for whom things are, a `DestinationActor` sends them to one
//! server.
//!
//! In reading order:
//!
//! - [`handle`]: what the rest of the program holds. `tap`: how the sender is told of what happens.
//! - `dispatch`: for whom an event is.
//! - [`destination`]: what one server is to be sent next, as a value; `backoff`: when; `edus`: what is not kept.
//! - `destinations`: all of them; `actor`: sends to one; `attempt`: one transaction.
//! - `progress`: reads at the start, and writes down, how far everything is.
//!
//! # What is promised
//!
//! What a client was told is done reaches the other servers in the room, whenever this server is killed. The sender's
//! cursor never passes an event that a server has not acknowledged, unless in the same transaction it is written down
//! which room that server is behind in. So a server that keeps up costs no row, and one that does not costs one for
//! each room, however much is said there. What was sent just before a crash may be sent once more.
//!
//! Deliberately absent: HTTP (`src/remote`), and what other servers send us (`inbound`).

pub(crate) mod actor;
pub(crate) mod attempt;
pub(crate) mod backoff;
pub mod destination;
pub(crate) mod destinations;
pub(crate) mod dispatch;
pub(crate) mod edus;
mod fleeting;
pub mod handle;
mod progress;
pub(crate) mod tap;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler};
use actix_rt::ArbiterHandle;
use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{commit::ReceiptChange, events::StoredEvent, nids::Nids};
use ruma::{OwnedServerName, ServerName};

use self::{
    destination::Queued,
    destinations::Destinations,
    dispatch::{Servers, audience},
    fleeting::RoomServers,
    tap::{Flow, Told},
};
use crate::{journal::handle::JournalHandle, presence::Presences, registry::Rooms};

/// How often it is looked what is due, and what came meanwhile is sent together: receipts and presence.
const TICK: Duration = Duration::from_millis(500);
/// Progress is written down every so many ticks.
const SAVE_TICKS: u64 = 4;

/// What the sender works with.
pub(crate) struct SenderTools {
    pub server_name: OwnedServerName,
    pub rooms: Rooms,
    pub nids: Arc<Nids>,
    pub journal: JournalHandle,
    pub presences: Presences,
    /// Other servers are told of local users' presence.
    pub presence: bool,
}

/// Finds out for whom things are.
pub(crate) struct FederationActor {
    tools: Arc<SenderTools>,
    destinations: Destinations,
    flow: Arc<Flow>,
    /// Everything up to here was read from storage, and is not dispatched again when it is told.
    read: Position,
    /// The cursor as it is written down.
    saved: Position,
    is_saving: bool,
    ticks: u64,
    typing: Vec<(RoomNid, UserNid, bool)>,
    /// When other servers were last told that somebody types.
    typing_told: HashMap<(RoomNid, UserNid), u64>,
    receipts: Vec<Arc<ReceiptChange>>,
    presence: HashMap<UserNid, Vec<RoomNid>>,
    /// Servers that have come into rooms, and do not know yet who is there.
    newcomers: HashSet<(OwnedServerName, RoomNid)>,
    /// Local users who have joined rooms, where others do not know yet whether they are there.
    arrivals: HashSet<(UserNid, RoomNid)>,
    servers_of: Arc<RoomServers>,
}

impl Actor for FederationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // The bound is in the tap.
        ctx.set_mailbox_capacity(usize::MAX >> 4);
        self.begin(ctx);
        ctx.run_interval(TICK, Self::tick);
    }
}

impl FederationActor {
    pub(crate) fn start(
        arbiter: &ArbiterHandle,
        tools: SenderTools,
        destinations: Destinations,
        flow: Arc<Flow>,
    ) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, move |_| Self {
            tools: Arc::new(tools),
            destinations,
            flow,
            read: Position::START,
            saved: Position::START,
            is_saving: false,
            ticks: 0,
            typing: Vec::new(),
            typing_told: HashMap::new(),
            receipts: Vec::new(),
            presence: HashMap::new(),
            newcomers: HashSet::new(),
            arrivals: HashSet::new(),
            servers_of: Arc::default(),
        })
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.ticks += 1;
        if self.flow.reopen() {
            self.read_on(ctx);
        }
        self.destinations.retry_due();
        self.send_fleeting(ctx);
        if self.ticks.is_multiple_of(SAVE_TICKS) {
            self.save(ctx);
        }
    }
}

/// Gives an event to the servers that it is for.
fn dispatch(
    tools: &SenderTools,
    destinations: &Destinations,
    event: &Arc<StoredEvent>,
    servers: &Servers,
    relay: bool,
) {
    let remote = &destinations.tools().remote;
    let may = |server: &ServerName| remote.allows(server);
    let audience = audience(event, servers, relay, &tools.server_name, may);
    let now_ms = destinations.tools().clock.now_ms();
    let names: Vec<OwnedServerName> = audience.servers.iter().map(|(server, _)| server.clone()).collect();
    destinations.change(&names, |state| {
        if let Some(destination) = audience.came.as_deref().and_then(|server| state.find(server)) {
            destination.rejoin(event.room);
        }
        for (server, in_room) in &audience.servers {
            let queued = Queued { event: Arc::clone(event), in_room: *in_room };
            state.get(server).push(queued, now_ms);
        }
        if let Some(destination) = audience.left.as_deref().and_then(|server| state.find(server)) {
            destination.leave(event.room, event.position);
        }
        state.dispatched = state.dispatched.max(event.position);
    });
}

impl Handler<Told> for FederationActor {
    type Result = ();

    fn handle(&mut self, told: Told, ctx: &mut Context<Self>) {
        match told {
            Told::Event(output) if output.event.position > self.read => {
                dispatch(&self.tools, &self.destinations, &output.event, &output.view.servers, output.relay);
                if self.tools.presence {
                    self.note_newcomer(&output.event, &output.view.servers);
                }
            }
            Told::Edus { servers, position } => {
                let allowed: HashSet<&OwnedServerName> = servers.iter().collect();
                self.destinations.change(&servers, |state| {
                    for server in allowed {
                        state.get(server).push_edus(position);
                    }
                });
            }
            Told::Receipt(receipt) => self.receipts.push(receipt),
            Told::Typing { room, user, typing } => {
                self.typing.push((room, user, typing));
                self.send_typing(ctx);
            }
            Told::Presence { user, rooms } if self.tools.presence => {
                self.presence.insert(user, rooms);
            }
            // An event that was read was dispatched then.
            Told::Event(_) | Told::Presence { .. } => {}
        }
        // Last: what is counted as taken has been given to those whom it is for.
        self.flow.taken();
    }
}
