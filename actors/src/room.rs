//! `RoomActor`: puts one room's events in order.
//!
//! Each event goes the same way, a local one or another server's: load what the decision needs, decide (pure core),
//! advance the decided head, submit one plain value to the journal. The room answers at once with a promise and
//! goes on with the next; the commit keeps the promise. So one room's rate is bounded by the decisions' CPU, not by
//! the disk.
//!
//! It awaits storage reads and nothing else: no commit, no network, no other actor.

mod admitted;
mod changes;
mod decision;
pub mod error;
mod expiring;
mod forks;
pub mod handle;
pub(crate) mod head;
mod history;
mod history_state;
mod judge;
pub(crate) mod load;
pub(crate) mod lookup;
pub mod messages;
mod numbers;
mod outliers;
mod outside;
pub mod pending;
pub(crate) mod pending_view;
mod pg_store;
mod policy;
mod prepare;
mod receive;
mod redactions;
mod refuse;
mod send;
mod state_of;
pub mod store;
pub mod view;

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, AtomicResponse, Context, Handler, WrapFuture,
};
use actix_rt::ArbiterHandle;
use futures::TryFutureExt;
use myelin_core::{nid::RoomNid, pdu::build::Signer};
use tracing::{debug, warn};

pub use self::pg_store::PgStore;
use self::{
    decision::{Decided, Decision},
    error::RoomError,
    head::Head,
    load::Beginning,
    messages::{
        AddSigned, EventsCommitted, Expire, JoinForks, LeaveOutside, MakeTemplate, PrepareEvent, ReceiveAt,
        ReceiveHistory, ReceiveMembership, ReceiveOutliers, ReceivePdu, RetireIfIdle, SendEvents,
        SubmissionLost,
    },
    pending::{Commit, Pending},
    store::{RoomStore, RoomsBy},
};
use crate::{
    clock::Clock,
    events::Events,
    journal::{batch::Decider, handle::JournalHandle},
    registry::{Published, WeakRooms},
};

/// How often an actor looks whether it is idle.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// How long a room stays that nobody asks for anything.
const IDLE_MS: u64 = 5 * 60 * 1000;

/// What every room works with.
#[derive(Clone)]
pub struct RoomTools {
    /// Where rooms are read from.
    pub store: Arc<dyn RoomStore>,
    /// Committed events.
    pub events: Events,
    /// Where decisions go.
    pub journal: JournalHandle,
    /// Signs this server's events.
    pub signer: Arc<Signer>,
    /// The time.
    pub clock: Clock,
}

/// One room.
pub(crate) struct RoomActor {
    tools: RoomTools,
    rooms: WeakRooms,
    beginning: Beginning,
    incarnation: u64,
    published: Arc<Published>,
    /// `None`: not loaded, or lost.
    head: Option<Head>,
    /// What becomes of the last decision, and with it of all before it. `None`: everything is durable.
    last: Option<Commit>,
    last_used_ms: u64,
}

impl Actor for RoomActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // The bound is the registry's count of requests in flight.
        ctx.set_mailbox_capacity(usize::MAX >> 4);
        ctx.run_interval(IDLE_CHECK, Self::retire_when_idle);
        match self.beginning.clone() {
            Beginning::New(nid, version, room_id) => self.head = Some(Head::new(nid, room_id, version)),
            Beginning::Stored(nid) => self.load(nid, ctx),
        }
    }
}

impl RoomActor {
    /// Starts a room on that thread. What it is asked waits until it is loaded.
    pub(crate) fn start(
        arbiter: &ArbiterHandle,
        tools: RoomTools,
        rooms: WeakRooms,
        beginning: Beginning,
        incarnation: u64,
        published: Arc<Published>,
    ) -> Addr<Self> {
        Self::start_in_arbiter(arbiter, move |_| {
            let last_used_ms = tools.clock.now_ms();
            Self { tools, rooms, beginning, incarnation, published, head: None, last: None, last_used_ms }
        })
    }

    fn nid(&self) -> RoomNid {
        match self.beginning {
            Beginning::New(nid, ..) | Beginning::Stored(nid) => nid,
        }
    }

    fn load(&mut self, nid: RoomNid, ctx: &mut Context<Self>) {
        let tools = self.tools.clone();
        let load = async move {
            let (loaded, moment) = load::load_rooms(&tools, RoomsBy::Nids(&[nid])).await?;
            let loaded = loaded.first().ok_or(RoomError::NotFound)?;
            Ok::<_, RoomError>((load::head_of(&tools, loaded)?, load::view_of(&tools, loaded, moment)?))
        };
        ctx.wait(load.into_actor(self).map(|loaded, room, ctx| match loaded {
            Ok((head, view)) => {
                debug!(room.id = %view.room_id, "room started");
                room.published.publish(&Arc::new(view));
                room.head = Some(head);
            }
            Err(error) => {
                warn!(room.nid = %room.nid(), %error, "a room cannot be loaded");
                room.end(ctx);
            }
        }));
    }

    /// Ends this incarnation: the next caller gets another one.
    fn end(&mut self, ctx: &mut Context<Self>) {
        self.head = None;
        self.rooms.discard(self.nid(), self.incarnation);
        ctx.stop();
    }

    fn retire_when_idle(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.tools.clock.now_ms();
        if let Some(head) = &mut self.head {
            head.forget_transactions(now_ms);
            if head.has_uncommitted() || self.last_used_ms + IDLE_MS > now_ms {
                return;
            }
        }
        if self.rooms.retire(self.nid(), self.incarnation) {
            debug!(room.nid = %self.nid(), "room retired");
            ctx.stop();
        }
    }

    /// The head to decide on. [`RoomError::Lost`] when this incarnation is ending.
    fn head(&mut self) -> Result<Head, RoomError> {
        self.last_used_ms = self.tools.clock.now_ms();
        self.head.clone().ok_or(RoomError::Lost)
    }

    /// Advances the decided head and hands the decision to the journal. An answer that needs no decision may rest on
    /// what was decided before and is not durable yet, so it waits for that.
    fn submit<T>(&mut self, answer: T, decision: Option<Decision>, ctx: &mut Context<Self>) -> Pending<T> {
        let Some(decision) = decision else { return Pending::new(answer, self.last.clone()) };
        let actor = Decider {
            rooms: self.rooms.clone(),
            room: self.nid(),
            incarnation: self.incarnation,
            lost: ctx.address().recipient(),
            committed: ctx.address().recipient(),
        };
        let (head, submission, commit) = decision.finish(Arc::clone(&self.published), actor);
        if forks::are_many(&head) {
            ctx.address().do_send(JoinForks);
        }
        self.head = Some(head);
        self.last = Some(commit.clone());
        self.tools.journal.submit(submission);
        Pending::new(answer, Some(commit))
    }
}

impl Handler<JoinForks> for RoomActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: JoinForks, _: &mut Context<Self>) -> Self::Result {
        AtomicResponse::new(Box::pin(
            actix::fut::ready(())
                .then(|(), room: &mut Self, _| {
                    let (tools, head) = (room.tools.clone(), room.head());
                    async move { forks::join(&tools, head?).await }.into_actor(room)
                })
                .map(|decided, room, ctx| match decided {
                    // Nobody waits for it. If it is lost, the next fork asks for another.
                    Ok(Decided { decision, .. }) => drop(room.submit((), decision, ctx)),
                    Err(error) => debug!(room.nid = %room.nid(), %error, "forks are not joined"),
                }),
        ))
    }
}

/// Decides on the head as it is when nothing that came before is left to be decided.
macro_rules! decides {
    ($message:ident, |$tools:ident, $head:ident, $body:pat_param| $decide:expr) => {
        impl Handler<$message> for RoomActor {
            type Result = AtomicResponse<Self, <$message as actix::Message>::Result>;

            fn handle(&mut self, $body: $message, _: &mut Context<Self>) -> Self::Result {
                AtomicResponse::new(Box::pin(
                    actix::fut::ready(())
                        .then(move |(), room: &mut Self, _| {
                            let (tools, head) = (room.tools.clone(), room.head());
                            async move {
                                let ($tools, $head) = (&tools, head?);
                                $decide.await
                            }
                            .into_actor(room)
                        })
                        .map(|decided, room, ctx| {
                            let Decided { answer, decision } = decided?;
                            Ok(room.submit(answer, decision, ctx))
                        }),
                ))
            }
        }
    };
}

decides!(SendEvents, |tools, head, SendEvents(events)| send::decide(tools, head, events));
decides!(AddSigned, |tools, head, signed| receive::decide_signed(tools, head, signed));
decides!(ReceivePdu, |tools, head, event| receive::decide(tools, head, event));
decides!(ReceiveAt, |tools, head, event| receive::decide_at(tools, head, event));
decides!(ReceiveOutliers, |tools, head, ReceiveOutliers(events)| outliers::decide(tools, head, events));

decides!(ReceiveHistory, |tools, head, history| history::decide(tools, head, history));
decides!(ReceiveMembership, |tools, head, ReceiveMembership { member, stripped }| outside::receive(
    tools, head, member, stripped
));
decides!(LeaveOutside, |tools, head, LeaveOutside(user)| outside::leave(tools, head, user));

decides!(Expire, |tools, head, Expire(events)| expiring::decide(tools, head, events));

// Nothing is decided: but the answer names events of the head to other servers, and so waits until they are durable.
decides!(PrepareEvent, |tools, head, PrepareEvent(event)| {
    prepare::prepare(tools, &head, event).map_ok(Decided::nothing)
});
decides!(MakeTemplate, |tools, head, MakeTemplate(event)| {
    prepare::template(tools, &head, event).map_ok(Decided::nothing)
});

impl Handler<RetireIfIdle> for RoomActor {
    type Result = ();

    fn handle(&mut self, _: RetireIfIdle, ctx: &mut Context<Self>) {
        self.retire_when_idle(ctx);
    }
}

impl Handler<SubmissionLost> for RoomActor {
    type Result = ();

    fn handle(&mut self, _: SubmissionLost, ctx: &mut Context<Self>) {
        warn!(room.nid = %self.nid(), "a room's decision was lost, beginning again from storage");
        self.end(ctx);
    }
}

impl Handler<EventsCommitted> for RoomActor {
    type Result = ();

    fn handle(&mut self, EventsCommitted { fence, events }: EventsCommitted, _: &mut Context<Self>) {
        if let Some(head) = &mut self.head {
            head.committed(fence, &events);
        }
    }
}
