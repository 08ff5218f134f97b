//! What is counted, and the page that shows it to Prometheus.
//!
//! Labels are of few values: methods, routes and statuses, never rooms, users or addresses.

use std::{
    future::ready,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use actix_web::HttpResponse;
use myelin_actors::federation::handle::FederationCounts;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::{endpoint::Plain, response::Raw, routes::Routes};
use crate::{app::App, error::MatrixError};
use ruma::api::auth_scheme::NoAuthentication;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    method: String,
    route: String,
}

/// The server's counters.
pub struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    duration: Family<Served, Histogram, fn() -> Histogram>,
    active: Gauge<i64, AtomicI64>,
    resident_rooms: Gauge<i64, AtomicI64>,
    connected_users: Gauge<i64, AtomicI64>,
    database_uses: Counter,
    federation: Federation,
}

/// What other servers are sent: for all of them together, since a label for each would be a series for each.
#[derive(Default)]
struct Federation {
    destinations: Gauge<i64, AtomicI64>,
    failing: Gauge<i64, AtomicI64>,
    active: Gauge<i64, AtomicI64>,
    transactions: Counter,
    pdus: Counter,
    edus: Counter,
    failures: Counter,
}

impl Federation {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("federation");
        registry.register("destinations", "Servers that were sent something", self.destinations.clone());
        registry.register("failing_destinations", "Servers whose last attempt failed", self.failing.clone());
        registry.register(
            "active_destinations",
            "Servers to which something is being sent",
            self.active.clone(),
        );
        registry.register(
            "sent_transactions",
            "Transactions that were acknowledged",
            self.transactions.clone(),
        );
        registry.register("sent_pdus", "PDUs that were acknowledged", self.pdus.clone());
        registry.register("sent_edus", "EDUs that were acknowledged", self.edus.clone());
        registry.register(
            "failed_attempts",
            "Transactions that were not acknowledged",
            self.failures.clone(),
        );
    }

    fn set(&self, counts: FederationCounts) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.destinations.set(gauge(counts.destinations));
        self.failing.set(gauge(counts.failing));
        self.active.set(gauge(counts.active));
        for (counter, count) in [
            (&self.transactions, counts.transactions),
            (&self.pdus, counts.pdus),
            (&self.edus, counts.edus),
            (&self.failures, counts.failures),
        ] {
            advance(counter, count);
        }
    }
}

/// Brings a counter of this page forward to what is counted elsewhere.
fn advance(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

impl Default for Metrics {
    fn default() -> Self {
        let answered = Family::default();
        let new_histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let duration = Family::new_with_constructor(new_histogram);
        let (active, resident_rooms, connected_users) = Default::default();
        let mut registry = Registry::with_prefix("myelin");
        registry.register("http_requests", "Requests that were answered", answered.clone());
        registry.register("http_request_duration_seconds", "Time until the answer", duration.clone());
        registry.register(
            "http_active_requests",
            "Requests that wait for their answer",
            Gauge::clone(&active),
        );
        registry.register("resident_rooms", "Rooms in memory", Gauge::clone(&resident_rooms));
        registry.register("connected_users", "Users who sync", Gauge::clone(&connected_users));
        let database_uses = Counter::default();
        registry.register(
            "database_uses",
            "Connections that were taken from the pool",
            database_uses.clone(),
        );
        let federation = Federation::default();
        federation.register(&mut registry);
        Self {
            registry,
            answered,
            duration,
            active,
            resident_rooms,
            connected_users,
            database_uses,
            federation,
        }
    }
}

/// Counts as an active request while it lives.
pub struct Active(Gauge<i64, AtomicI64>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A request has come in.
    pub fn begin(&self) -> Active {
        self.active.inc();
        Active(self.active.clone())
    }

    /// How many requests wait for their answer.
    pub fn active(&self) -> i64 {
        self.active.get()
    }

    /// A request was answered. `route` is the path in the table, not the one of the request.
    pub fn answered(&self, method: &str, route: &str, status: u16, after: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        self.duration
            .get_or_create(&Served { method: method.clone(), route: route.clone() })
            .observe(after.as_secs_f64());
        self.answered.get_or_create(&Answered { method, route, status }).inc();
    }

    fn text(&self) -> Result<String, MatrixError> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map_err(MatrixError::internal)?;
        Ok(text)
    }
}

/// `GET /metrics`
fn page(app: &App, metrics: &Metrics) -> Result<Raw, MatrixError> {
    metrics.resident_rooms.set(i64::try_from(app.actors.rooms.resident()).unwrap_or(i64::MAX));
    metrics.connected_users.set(i64::try_from(app.actors.syncers.connected()).unwrap_or(i64::MAX));
    advance(&metrics.database_uses, app.storage.asked());
    metrics.federation.set(app.actors.federation.counts());
    let page = HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(metrics.text()?);
    Ok(Raw(page))
}

/// The route of the metrics surface.
pub fn routes(routes: &mut Routes, metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    let handler = move |app: App, _: Plain<NoAuthentication>| ready(page(&app, &metrics));
    routes.plain(http::Method::GET, "/metrics", handler);
}
