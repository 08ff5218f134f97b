//! `SyncActor`: one per connected user. Reads where their rooms stand when they come, and ends when they are idle.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, WrapFuture};
use actix_rt::ArbiterHandle;
use myelin_storage::error::StorageError;
use tracing::warn;

use super::{
    Desk,
    asides::LastTyping,
    handle::{self, Syncers, UserRooms},
};

/// How often an actor looks whether it is idle.
const IDLE_CHECK: Duration = Duration::from_secs(60);
/// How long it stays when its user asks nothing.
const IDLE_MS: u64 = 10 * 60 * 1000;

/// One connected user.
pub(crate) struct SyncActor {
    desk: Arc<Desk>,
    syncers: Syncers,
    incarnation: u64,
}

impl Actor for SyncActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(IDLE_CHECK, Self::stop_when_idle);
        self.load(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.syncers.tools().1.disconnect(&self.desk);
        // Nobody waits for an actor that is idle; for one that failed or panicked somebody may.
        self.desk.fail(StorageError::Unavailable("the user's rooms could not be read".into()));
    }
}

impl SyncActor {
    /// Starts the actor of that desk.
    pub(crate) fn start(
        arbiter: &ArbiterHandle,
        desk: Arc<Desk>,
        syncers: Syncers,
        incarnation: u64,
    ) -> Addr<Self> {
        // From here on the journal tells of memberships; the desk keeps them until the rooms are known.
        syncers.tools().1.connect(Arc::clone(&desk));
        Self::start_in_arbiter(arbiter, move |_| Self { desk, syncers, incarnation })
    }

    /// Learns where the user's rooms stand: first which they are, so that their events are told, then how far they
    /// are, so that nothing between the two is missing.
    fn load(&mut self, ctx: &mut Context<Self>) {
        let (storage, fanout, _) = self.syncers.tools();
        let user = self.desk.user;
        let mut published = self.syncers.published();
        let load = async move {
            let first = handle::load(&storage, user).await?;
            fanout.enter(user, first.joined());
            let rooms = handle::load(&storage, user).await?;
            fanout.enter(user, rooms.joined());
            // What is committed may not be shown yet: from here on, views are at least as new as what was read.
            let _ = published.wait_for(|published| *published >= rooms.position).await;
            let typing = fanout.last_typing(rooms.joined());
            Ok((rooms, typing))
        };
        ctx.wait(load.into_actor(self).map(
            |loaded: Result<(UserRooms, LastTyping), StorageError>, actor, ctx| match loaded {
                Ok((rooms, typing)) => actor.desk.begin(rooms, typing),
                Err(error) => {
                    warn!(%error, "a user's rooms cannot be read");
                    actor.desk.fail(error);
                    actor.syncers.discard(actor.desk.user, actor.incarnation);
                    ctx.stop();
                }
            },
        ));
    }

    fn stop_when_idle(&mut self, ctx: &mut Context<Self>) {
        let now_ms = self.syncers.tools().2.now_ms();
        let idle = self.desk.last_used_ms(now_ms) + IDLE_MS <= now_ms;
        if idle && self.syncers.retire(self.desk.user, self.incarnation) {
            ctx.stop();
        }
    }
}
