//! Where servers are: asks what [`route`] wants to know, and remembers the answers. Whoever wants to know the same thing
//! at the same time waits for one answer.

use std::{convert::Infallible, sync::Arc, time::Duration};

use myelin_actors::clock::Clock;
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};

use super::{
    client::Client,
    dns::Dns,
    route::{self, Route, Step},
    well_known::{self, Said},
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
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answered {
    delegated: Option<OwnedServerName>,
    until_ms: u64,
    /// When it last said that it delegates.
    said_ms: u64,
    /// How often in a row it did not delegate.
    failures: u32,
}

impl Answered {
    /// What is believed after the host was asked once more. A delegation outlives that nobody answers for a while, but
    /// not longer than any answer is good.
    /// <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
    fn after(before: Option<&Self>, said: Said, now_ms: u64) -> Self {
        if let Said::Delegates(found) = said {
            let until_ms = now_ms + millis(found.lifetime);
            return Self { until_ms, delegated: Some(found.server), said_ms: now_ms, failures: 0 };
        }
        let failures = before.map_or(0, |before| before.failures.saturating_add(1));
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
        let said_ms = before.map_or(0, |before| before.said_ms);
        let is_good = said == Said::NoAnswer && said_ms + millis(well_known::LONGEST) > now_ms;
        let delegated = before.and_then(|before| before.delegated.clone()).filter(|_| is_good);
        Self { until_ms: now_ms + millis(pause), delegated, said_ms, failures }
    }
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
        let is_old = |known: &Known| known.until_ms <= now_ms;
        self.routes.remove_if(server, is_old);
        let find = async { Ok::<_, Infallible>(self.find(server).await) };
        let Ok(known) = self.routes.get_or_insert_async(server, find).await;
        known.route
    }

    async fn find(&self, server: &ServerName) -> Known {
        let now_ms = self.clock.now_ms();
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
        Known { route, until_ms: now_ms + millis(ROUTE_LIFETIME) }
    }

    async fn delegation(&self, host: &str) -> Option<OwnedServerName> {
        let now_ms = self.clock.now_ms();
        let before = self.delegations.get(host);
        if let Some(known) = before.as_ref().filter(|known| known.until_ms > now_ms) {
            return known.delegated.clone();
        }
        let said = well_known::fetch(&self.client, host).await;
        let answered = Answered::after(before.as_ref(), said, now_ms);
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

#[cfg(test)]
mod tests {
    use super::{well_known::Delegation, *};

    const HOUR_MS: u64 = 60 * 60 * 1000;

    #[test]
    fn delegations_outlive_outages_but_not_for_ever() {
        let found = Delegation { server: "b.org:1".try_into().unwrap(), lifetime: Duration::from_secs(3600) };
        let first = Answered::after(None, Said::Delegates(found.clone()), HOUR_MS);
        assert_eq!((first.delegated.is_some(), first.until_ms), (true, 2 * HOUR_MS));
        let away = Answered::after(Some(&first), Said::NoAnswer, 2 * HOUR_MS);
        assert_eq!(away.delegated, first.delegated, "nobody answers");
        assert!(away.until_ms > 2 * HOUR_MS && away.until_ms <= 3 * HOUR_MS, "it is asked again soon");
        let still = Answered::after(Some(&away), Said::NoAnswer, 48 * HOUR_MS);
        assert_eq!(still.delegated, first.delegated);
        assert_eq!(Answered::after(Some(&still), Said::NoAnswer, 49 * HOUR_MS).delegated, None, "too old");
        assert_eq!(
            Answered::after(Some(&away), Said::Nothing, 3 * HOUR_MS).delegated,
            None,
            "it was withdrawn"
        );
        assert_eq!(Answered::after(None, Said::NoAnswer, HOUR_MS).delegated, None);
        let again = Answered::after(Some(&still), Said::Delegates(found), 50 * HOUR_MS);
        assert_eq!((again.failures, again.delegated.is_some()), (0, true));
    }
}
