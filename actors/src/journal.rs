//! The single writer: turns what actors want durable into commits, many actors' writes in one.
//!
//! While one commit is on its way, the next batch gathers. After a commit the journal publishes the rooms' views and
//! then lets the outputs go, both in position order, before it commits again: so nobody is told of an event that
//! readers cannot see yet.
//!
//! It decides nothing about rooms. When a commit cannot be made, it finds out which change is to blame, tells those
//! who wait for it that it is lost, and goes on with the others.

pub mod batch;
pub mod handle;
mod recover;

use std::{collections::VecDeque, sync::Arc};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use actix_rt::ArbiterHandle;
use myelin_core::position::Position;
use tokio::sync::watch;

use self::{
    batch::{Outcome, Submission},
    handle::JournalHandle,
};
use crate::{events::Events, room::store::RoomStore, sync::fanout::Fanout};

/// Submissions that one commit carries at most.
const MAX_BATCH: usize = 1000;

/// Writes, in order.
pub struct Journal {
    store: Arc<dyn RoomStore>,
    events: Events,
    fanout: Fanout,
    waiting: VecDeque<Submission>,
    committing: bool,
    published: watch::Sender<Position>,
}

pub(crate) struct Submit(pub Submission);

impl Message for Submit {
    type Result = ();
}

impl Actor for Journal {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // The bound is in the handles: see `JournalHandle`.
        ctx.set_mailbox_capacity(usize::MAX >> 4);
    }
}

impl Journal {
    /// Starts the journal on that thread.
    pub fn start(
        arbiter: &ArbiterHandle,
        store: Arc<dyn RoomStore>,
        events: Events,
        fanout: Fanout,
        position: Position,
    ) -> JournalHandle {
        let (published, watch) = watch::channel(position);
        let journal = Self::start_in_arbiter(arbiter, move |_| Self {
            store,
            events,
            fanout,
            waiting: VecDeque::new(),
            committing: false,
            published,
        });
        JournalHandle::new(journal, watch)
    }

    fn commit_next(&mut self, ctx: &mut Context<Self>) {
        if self.committing || self.waiting.is_empty() {
            return;
        }
        self.committing = true;
        let submissions: Vec<Submission> = self.waiting.drain(..self.waiting.len().min(MAX_BATCH)).collect();
        let store = Arc::clone(&self.store);
        let commit = async move { recover::commit(store.as_ref(), submissions).await };
        ctx.spawn(commit.into_actor(self).map(|outcomes, journal, ctx| {
            journal.publish(outcomes);
            journal.committing = false;
            journal.commit_next(ctx);
        }));
    }

    /// Shows, tells and answers what the commit made of its submissions, in position order.
    fn publish(&mut self, outcomes: Vec<Outcome>) {
        let mut outputs = Vec::new();
        let mut answers = Vec::with_capacity(outcomes.len());
        let mut last = *self.published.borrow();
        for outcome in outcomes {
            match outcome {
                Outcome::Committed(submission, positions) => {
                    if let Some(position) = positions.last() {
                        last = last.max(*position);
                    }
                    answers.push(submission.publish(&positions, &self.events, &mut outputs));
                }
                Outcome::Lost(submission) => submission.lose(),
            }
        }
        self.published.send_replace(last);
        self.fanout.tell(outputs);
        for answer in answers {
            answer.send();
        }
    }
}

impl Handler<Submit> for Journal {
    type Result = ();

    fn handle(&mut self, Submit(submission): Submit, ctx: &mut Context<Self>) {
        self.waiting.push_back(submission);
        // What else is in the mailbox already goes into the same commit.
        if !self.committing {
            ctx.notify(Gathered);
        }
    }
}

/// Everything that had arrived when the first submission did has been taken out of the mailbox.
struct Gathered;

impl Message for Gathered {
    type Result = ();
}

impl Handler<Gathered> for Journal {
    type Result = ();

    fn handle(&mut self, _: Gathered, ctx: &mut Context<Self>) {
        self.commit_next(ctx);
    }
}
