//! The threads on which actors run.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix_rt::{Arbiter, ArbiterHandle};
use futures::channel::oneshot;
use tokio::runtime::Handle;

/// A fixed set of threads. Actors are given to them in turn, when they start: the registries remember the
/// addresses, so no hash ties a hot room to another hot room's thread.
#[derive(Clone)]
pub struct Arbiters(Arc<Inner>);

struct Inner {
    arbiters: Vec<Arbiter>,
    next: AtomicUsize,
}

impl Arbiters {
    /// Starts `count` threads, at least one. Must be called inside an actix system.
    pub fn start(count: usize) -> Self {
        let arbiters = (0..count.max(1)).map(|_| Arbiter::new()).collect();
        Self(Arc::new(Inner { arbiters, next: AtomicUsize::new(0) }))
    }

    /// The thread for the next actor.
    pub(crate) fn next(&self) -> ArbiterHandle {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.arbiters[turn % self.0.arbiters.len()].handle()
    }

    /// The thread for the next actor, and its runtime: for an actor whose sockets are to live beside it.
    pub(crate) async fn next_with_runtime(&self) -> (ArbiterHandle, Handle) {
        let arbiter = self.next();
        let (tell, told) = oneshot::channel();
        arbiter.spawn(async move { drop(tell.send(Handle::current())) });
        // The threads live as long as this does.
        (arbiter, told.await.expect("a thread that was just started"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}
