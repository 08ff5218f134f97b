//! `SyncActor`: one per connected user. Knows what is new for them since any point; long polls wait in it.
//!
//! It shapes no answer: that is the business of whoever asked. It starts at a user's first question, reads where all
//! of the user's rooms stand in one go, and from then on is told by the journal what changes, in position order. So
//! what it has seen is a position up to which nothing is missing, and an idle long poll costs only memory.

pub mod fanout;
pub mod handle;
pub mod messages;
mod waiting;

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, WrapFuture};
use actix_rt::ArbiterHandle;
use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid},
    position::Position,
};
use myelin_storage::{Storage, error::StorageError};
use tracing::warn;

use self::{
    fanout::Fanout,
    handle::{Syncers, UserRooms},
    messages::{AskNews, EventOutput, News, Output, RoomMark, SyncPoint, SyncUser},
    waiting::Waiting,
};
use crate::clock::Clock;

/// How often an actor looks whether it is idle.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// How long it stays when its user asks nothing.
const IDLE_MS: u64 = 10 * 60 * 1000;

/// One connected user.
pub(crate) struct SyncActor {
    user: SyncUser,
    storage: Storage,
    fanout: Fanout,
    syncers: Syncers,
    clock: Clock,
    incarnation: u64,
    /// Everything up to here was read from storage, and is not told again.
    loaded: Position,
    /// Everything up to here has been seen.
    seen: SyncPoint,
    rooms: HashMap<RoomNid, RoomMark>,
    account_data: Position,
    /// Last change of each user's presence, as far as it was told.
    presence: HashMap<UserNid, u64>,
    waiting: Waiting,
    last_used_ms: u64,
}

impl Actor for SyncActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(usize::MAX >> 4);
        ctx.run_interval(IDLE_CHECK, Self::stop_when_idle);
        // From here on the journal tells of memberships; what is told before the rooms are known waits in the mailbox.
        self.fanout.connect(self.user.nid, ctx.address().recipient());
        self.load(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.fanout.disconnect(self.user.nid);
    }
}

impl SyncActor {
    /// Starts the actor for that user.
    pub(crate) fn start(
        arbiter: &ArbiterHandle,
        user: SyncUser,
        syncers: Syncers,
        incarnation: u64,
    ) -> Addr<Self> {
        let (storage, fanout, clock) = syncers.tools();
        Self::start_in_arbiter(arbiter, move |_| {
            let last_used_ms = clock.now_ms();
            let seen = SyncPoint { position: Position::START, ephemeral: fanout.ephemeral_now() };
            Self {
                user,
                storage,
                fanout,
                syncers,
                clock,
                incarnation,
                loaded: Position::START,
                seen,
                rooms: HashMap::new(),
                account_data: Position::START,
                presence: HashMap::new(),
                waiting: Waiting::default(),
                last_used_ms,
            }
        })
    }

    /// Learns where the user's rooms stand: first which they are, so that their events are told, then how far they
    /// are, so that nothing between the two is missing.
    fn load(&mut self, ctx: &mut Context<Self>) {
        let (storage, fanout, user) = (self.storage.clone(), self.fanout.clone(), self.user.nid);
        let mut published = self.syncers.published();
        let load = async move {
            let first = handle::load(&storage, user).await?;
            fanout.enter(user, first.joined());
            let rooms = handle::load(&storage, user).await?;
            // What is committed may not be shown yet: from here on, views are at least as new as what was read.
            let _ = published.wait_for(|published| *published >= rooms.position).await;
            Ok(rooms)
        };
        ctx.wait(load.into_actor(self).map(
            |loaded: Result<UserRooms, StorageError>, actor, ctx| match loaded {
                Ok(loaded) => actor.begin(loaded),
                Err(error) => {
                    warn!(%error, "a user's rooms cannot be read");
                    actor.waiting.fail_all(&Arc::new(error));
                    actor.syncers.retire(actor.user.nid, actor.incarnation);
                    ctx.stop();
                }
            },
        ));
    }

    fn begin(&mut self, loaded: UserRooms) {
        self.fanout.enter(self.user.nid, loaded.joined());
        self.loaded = loaded.position;
        self.seen.position = loaded.position;
        self.account_data = loaded.account_data;
        self.rooms = loaded.rooms.into_iter().collect();
    }

    fn stop_when_idle(&mut self, ctx: &mut Context<Self>) {
        self.waiting.drop_closed();
        let idle = self.waiting.is_empty() && self.last_used_ms + IDLE_MS <= self.clock.now_ms();
        if idle && self.syncers.retire(self.user.nid, self.incarnation) {
            ctx.stop();
        }
    }

    /// What is new after `since`; everything when it is `None`.
    fn news(&self, since: Option<SyncPoint>) -> News {
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
        }
    }

    /// Answers those for whom there is something now.
    fn wake(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.answer(|since| Some(self.news(Some(since))).filter(|news| !news.is_empty()));
        self.waiting = waiting;
    }

    fn note_event(&mut self, output: &Arc<EventOutput>) {
        let position = output.event.position;
        if position <= self.loaded {
            return;
        }
        let room = output.event.room;
        self.seen.position = self.seen.position.max(position);
        if let Some((user, membership)) = output.membership
            && user == self.user.nid
        {
            self.note_membership(room, output, membership);
        }
        if let Some(mark) = self.rooms.get_mut(&room) {
            if output.event.state_key.is_some_and(|key| key == self.user.nid.into())
                && output.event.type_nid == myelin_core::nid::types::MEMBER
            {
                mark.member_event = output.event.nid;
            }
            mark.events = mark.events.max(position);
            if mark.view.as_ref().is_none_or(|view| view.position <= output.view.position) {
                mark.view = Some(Arc::clone(&output.view));
            }
        }
    }

    fn note_membership(&mut self, room: RoomNid, output: &EventOutput, membership: Membership) {
        let position = output.event.position;
        let joined_at = (membership == Membership::Join).then_some(position);
        let mark = self.rooms.entry(room).or_insert_with(|| RoomMark {
            membership,
            membership_position: position,
            member_event: output.event.nid,
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
        mark.member_event = output.event.nid;
        mark.joined_at = joined_at.or(mark.joined_at);
        mark.forgotten = false;
    }

    fn note(&mut self, output: &Output) {
        match output {
            Output::Event(output) => self.note_event(output),
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

impl Handler<AskNews> for SyncActor {
    type Result = ();

    fn handle(&mut self, ask: AskNews, _: &mut Context<Self>) {
        self.last_used_ms = self.clock.now_ms();
        let news = self.news(ask.since);
        match ask.since {
            Some(since) if ask.wait && news.is_empty() => self.waiting.add(since, ask.answer),
            _ => drop(ask.answer.send(Ok(news))),
        }
    }
}

impl Handler<Output> for SyncActor {
    type Result = ();

    fn handle(&mut self, output: Output, _: &mut Context<Self>) {
        self.note(&output);
        self.wake();
    }
}
