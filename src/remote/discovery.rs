//! Where servers are: asks what [`route`] wants to know, and remembers the answers.

use std::{sync::Arc, time::Duration};

use myelin_actors::clock::Clock;
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};

use super::{
    client::Client,
    dns::Dns,
    route::{self, Route, Step},
    well_known,
};

/// Hosts and servers of which something is remembered.
const REMEMBERED: usize = 10_000;
/// How long a route is used before its services are looked up again.
const ROUTE_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// A host that did not delegate is asked again after this time, the next time after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// But at least so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Finds servers. To be used on the I/O runtime only.
pub struct Discovery {
    client: Client,
    dns: Dns,
    clock: Clock,
    delegations: Cache<String, Answered>,
    routes: Cache<OwnedServerName, Known>,
}

/// What a host said.
#[derive(Clone)]
struct Answered {
    delegated: Option<OwnedServerName>,
    until_ms: u64,
    /// How often in a row it did not delegate.
    failures: u32,
}

#[derive(Clone)]
struct Known {
    route: Arc<Route>,
    until_ms: u64,
}

impl Discovery {
    /// Knows nothing yet.
    pub fn new(client: Client, dns: Dns, clock: Clock) -> Self {
        Self { client, dns, clock, delegations: Cache::new(REMEMBERED), routes: Cache::new(REMEMBERED) }
    }

    /// The way to a server. Always has one; whether anything is there is for connecting to find.
    pub async fn route(&self, server: &ServerName) -> Arc<Route> {
        let now_ms = self.clock.now_ms();
        if let Some(known) = self.routes.get(server).filter(|known| known.until_ms > now_ms) {
            return known.route;
        }
        let mut step = route::first(server);
        let route = loop {
            step = match step {
                Step::WellKnown(host) => {
                    let delegated = self.delegation(&host).await;
                    route::after_well_known(&host, delegated.as_deref())
                }
                Step::Services(host) => Step::Reach(self.services(&host).await),
                Step::Reach(route) => break Arc::new(route),
            };
        };
        let known = Known { route: Arc::clone(&route), until_ms: now_ms + millis(ROUTE_LIFETIME) };
        self.routes.insert(server.to_owned(), known);
        route
    }

    async fn delegation(&self, host: &str) -> Option<OwnedServerName> {
        let now_ms = self.clock.now_ms();
        let before = self.delegations.get(host);
        if let Some(known) = before.as_ref().filter(|known| known.until_ms > now_ms) {
            return known.delegated.clone();
        }
        let answered = if let Some(found) = well_known::fetch(&self.client, host).await {
            let until_ms = now_ms + millis(found.lifetime);
            Answered { until_ms, delegated: Some(found.server), failures: 0 }
        } else {
            let failures = before.map_or(0, |before| before.failures.saturating_add(1));
            let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
            Answered { until_ms: now_ms + millis(pause), delegated: None, failures }
        };
        let delegated = answered.delegated.clone();
        self.delegations.insert(host.to_owned(), answered);
        delegated
    }

    async fn services(&self, host: &str) -> Route {
        for name in route::service_names(host) {
            let services = self.dns.services(&name).await;
            if !services.is_empty() {
                return route::after_services(host, services);
            }
        }
        route::after_services(host, Vec::new())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
