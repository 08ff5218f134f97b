//! What the sender is told of what happens here, as it happens.
//!
//! Only what may concern other servers costs a message. The messages are hints: when too many wait, the rest is not
//! told, and the sender reads it from storage from where it stands.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

use actix::{Addr, Message};
use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use myelin_storage::commit::ReceiptChange;
use ruma::OwnedServerName;

use super::{FederationActor, dispatch::subject};
use crate::sync::messages::{EventOutput, Output};

/// Messages that may wait for the sender.
const MAX_WAITING: usize = 10_000;

/// Something that other servers may have to be told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// An event was committed.
    Event(Arc<EventOutput>),
    /// EDUs were committed.
    Edus { servers: Arc<[OwnedServerName]>, position: Position },
    /// Somebody has read something.
    Receipt(Arc<ReceiptChange>),
    /// Somebody types or has stopped.
    Typing { room: RoomNid, user: UserNid, typing: bool },
    /// Somebody's presence has changed; they are in these rooms.
    Presence { user: UserNid, rooms: Vec<RoomNid> },
}

impl Message for Told {
    type Result = ();
}

/// Where the sender is told.
#[derive(Clone)]
pub(crate) struct Tap {
    actor: Addr<FederationActor>,
    flow: Arc<Flow>,
    ours: OwnedServerName,
}

/// How much waits for the sender.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    waiting: AtomicUsize,
    overflown: AtomicBool,
    told: AtomicI64,
}

impl Flow {
    /// The sender has taken a message.
    pub fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Everything up to here has been told, and nothing waits. `None`: something waits.
    pub fn settled(&self) -> Option<Position> {
        // In this order: what was told up to that position had been counted before.
        let told = self.told.load(Ordering::Acquire);
        let is_settled = self.waiting.load(Ordering::Acquire) == 0 && !self.overflown.load(Ordering::Acquire);
        is_settled.then_some(Position(told))
    }

    /// Whether something was not told since the last time. From now on everything is told again.
    pub fn reopen(&self) -> bool {
        self.overflown.swap(false, Ordering::AcqRel)
    }
}

impl Tap {
    pub fn new(actor: Addr<FederationActor>, flow: Arc<Flow>, ours: OwnedServerName) -> Self {
        Self { actor, flow, ours }
    }

    /// Tells of those outputs that may concern other servers.
    pub fn tell(&self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Event(event) if self.concerns_others(event) => {
                    self.send(Told::Event(Arc::clone(event)));
                }
                Output::Outgoing { servers, position } => {
                    self.send(Told::Edus { servers: Arc::clone(servers), position: *position });
                }
                Output::Receipt { receipt, .. } => self.tell_fleeting(Told::Receipt(Arc::clone(receipt))),
                _ => {}
            }
        }
        let positions = outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(event.event.position),
            Output::Receipt { position, .. }
            | Output::Outgoing { position, .. }
            | Output::AccountData { position, .. } => Some(*position),
            _ => None,
        });
        if let Some(last) = positions.max() {
            self.flow.told.fetch_max(last.0, Ordering::AcqRel);
        }
    }

    /// Tells of what nobody misses.
    pub fn tell_fleeting(&self, told: Told) {
        if self.flow.waiting.load(Ordering::Acquire) < MAX_WAITING / 2 {
            self.send(told);
        }
    }

    fn send(&self, told: Told) {
        if self.flow.waiting.load(Ordering::Acquire) >= MAX_WAITING {
            self.flow.overflown.store(true, Ordering::Release);
        }
        if self.flow.overflown.load(Ordering::Acquire) {
            return;
        }
        self.flow.waiting.fetch_add(1, Ordering::AcqRel);
        self.actor.do_send(told);
    }

    /// There is somebody else, and the event is to be relayed or says who comes; or it is about somebody else. With the
    /// leave of our last member this server is no longer among those of the room, and the others are to be told all the
    /// same.
    fn concerns_others(&self, event: &EventOutput) -> bool {
        let subject = subject(&event.event);
        subject.is_some_and(|server| server != self.ours)
            || ((event.relay || subject.is_some())
                && event.view.servers.keys().any(|server| *server != self.ours))
    }
}
