//! What the rest of the program holds of the sender.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::Addr;
use ruma::ServerName;
use tokio::time::timeout;

use super::{
    FederationActor,
    destination::DestinationStatus,
    destinations::{Destinations, Tools},
    progress::Save,
    tap::{Flow, Tap},
};
use crate::sync::fanout::Fanout;

/// Tells other servers, if this one has anything to do with others.
#[derive(Clone)]
pub struct Federation(Option<Arc<Running>>);

struct Running {
    destinations: Destinations,
    actor: Addr<FederationActor>,
}

/// What is to be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FederationCounts {
    /// Servers that are known.
    pub destinations: usize,
    /// Servers whose last attempt failed.
    pub failing: usize,
    /// Servers to which something is being sent.
    pub active: usize,
    /// Transactions that were acknowledged since the start.
    pub transactions: u64,
    /// PDUs in them.
    pub pdus: u64,
    /// EDUs in them.
    pub edus: u64,
    /// Attempts that failed since the start.
    pub failures: u64,
}

impl Federation {
    /// Nobody is told anything.
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins to tell other servers of what the fanout tells.
    pub(crate) fn start(tools: super::SenderTools, sending: Tools, fanout: &Fanout) -> Self {
        let arbiter = sending.arbiters.next();
        let ours = tools.server_name.clone();
        let destinations = Destinations::new(sending);
        let flow = Arc::new(Flow::default());
        let actor = FederationActor::start(&arbiter, tools, destinations.clone(), Arc::clone(&flow));
        fanout.attach(Tap::new(actor.clone(), flow, ours));
        Self(Some(Arc::new(Running { destinations, actor })))
    }

    /// That server was heard of. If it could not be reached, it is tried again.
    pub fn wake(&self, server: &ServerName) {
        if let Some(running) = &self.0 {
            running.destinations.hear(server);
        }
    }

    /// Writes down how far everything is, so that less is sent twice after a restart. Whether that has been tried in the
    /// time: a sender that still reads what was committed before, or waits for the database to do so, answers nobody.
    pub async fn save(&self, within: Duration) -> bool {
        let Some(running) = &self.0 else { return true };
        // An error says that the actor is gone: then there is nothing to wait for.
        timeout(within, running.actor.send(Save)).await.is_ok()
    }

    /// Tries a server again at once that could not be reached. Whether that was so.
    pub fn reset(&self, server: &ServerName) -> bool {
        self.0.as_ref().is_some_and(|running| running.destinations.reset(server))
    }

    /// How it goes with the server. `None`: it was never sent anything.
    pub fn status(&self, server: &ServerName) -> Option<DestinationStatus> {
        self.0.as_ref()?.destinations.status(server)
    }

    /// How it goes with all servers that were ever sent something, in the order of their names.
    pub fn list(&self) -> Vec<DestinationStatus> {
        self.0.as_ref().map(|running| running.destinations.list()).unwrap_or_default()
    }

    /// What is to be counted.
    pub fn counts(&self) -> FederationCounts {
        let Some(running) = &self.0 else { return FederationCounts::default() };
        let (destinations, failing, active) = running.destinations.count();
        let counters = running.destinations.counters();
        FederationCounts {
            destinations,
            failing,
            active,
            transactions: counters.transactions.load(Ordering::Relaxed),
            pdus: counters.pdus.load(Ordering::Relaxed),
            edus: counters.edus.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
        }
    }
}
