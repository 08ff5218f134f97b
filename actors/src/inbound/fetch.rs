//! Asking the servers of a room for events: one after the other, each for a bounded time, all for a bounded number of
//! requests. What comes back was checked for its format, hashes and signatures, and is of the room.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use futures::{StreamExt, stream};
use myelin_core::{
    nid::RoomNid,
    pdu::{Pdu, format},
    version::RoomVersion,
};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use serde_json::value::RawValue;
use tracing::debug;

use super::Inner;
use crate::{
    remote::{Answer, Keys, MissingEvents, RemoteError, StateIds},
    room::view::RoomView,
};

/// How long a server may take for an answer of some events.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a server may take for all of a room's state.
const PATIENCE_FOR_STATE: Duration = Duration::from_secs(120);
/// How many requests may be made to bring one event, or one page of history, into its room.
const REQUESTS: u32 = 200;
/// How many servers are asked for the same thing.
const SERVERS: usize = 6;
/// How many single events are asked for at the same time.
const AT_ONCE: usize = 8;
/// How many events an answer may hold that is not the state.
const MAX_EVENTS: usize = 500;
/// How many events a room's state and its auth chain may hold.
const MAX_STATE: usize = 200_000;

/// The servers of a room, while something is missing there.
pub(super) struct Asking<'a> {
    inner: &'a Inner,
    pub room: &'a RoomId,
    pub room_nid: RoomNid,
    pub version: &'static RoomVersion,
    servers: Vec<OwnedServerName>,
    has_answer: AtomicBool,
    requests: AtomicU32,
}

impl<'a> Asking<'a> {
    /// Those that are likely to know come first: `first`, then the servers with the most members.
    pub fn new(inner: &'a Inner, room: &'a RoomId, view: &RoomView, first: Vec<OwnedServerName>) -> Self {
        let mut servers: Vec<OwnedServerName> = first;
        let mut others: Vec<(&OwnedServerName, &usize)> = view.servers.iter().collect();
        others.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        servers.extend(others.into_iter().map(|(server, _)| server.clone()));
        let mut seen = HashSet::new();
        servers.retain(|server| *server != inner.server_name && seen.insert(server.clone()));
        servers.truncate(SERVERS);
        Self {
            inner,
            room,
            room_nid: view.nid,
            version: view.version,
            servers,
            has_answer: AtomicBool::new(false),
            requests: AtomicU32::new(REQUESTS),
        }
    }

    /// Whom to ask, in this order.
    pub fn servers(&self) -> impl Iterator<Item = &ServerName> {
        self.servers.iter().map(AsRef::as_ref)
    }

    /// Some server has answered, be it with a refusal.
    pub fn has_answer(&self) -> bool {
        self.has_answer.load(Ordering::Relaxed)
    }

    /// Events between those that are here and those whose ancestors are wanted.
    pub async fn missing_events(&self, server: &ServerName, which: &MissingEvents) -> Vec<Pdu> {
        let answer = self.inner.remote.missing_events(server, self.room, which);
        match self.wait(server, PATIENCE, answer).await {
            Some(events) => self.verified(events, MAX_EVENTS).await,
            None => Vec::new(),
        }
    }

    /// Events and what comes before them.
    pub async fn backfill(&self, server: &ServerName, from: &[OwnedEventId], limit: u32) -> Vec<Pdu> {
        let answer = self.inner.remote.backfill(server, self.room, from, limit);
        match self.wait(server, PATIENCE, answer).await {
            Some(events) => self.verified(events, MAX_EVENTS).await,
            None => Vec::new(),
        }
    }

    /// The ids of the state before the event.
    pub async fn state_ids(&self, server: &ServerName, event: &EventId) -> Option<StateIds> {
        let answer = self.inner.remote.state_ids(server, self.room, event);
        let ids = self.wait(server, PATIENCE_FOR_STATE, answer).await?;
        (ids.state.len() + ids.auth_chain.len() <= MAX_STATE).then_some(ids)
    }

    /// The state before the event, with its auth chain.
    pub async fn state(&self, server: &ServerName, event: &EventId) -> Vec<Pdu> {
        let answer = self.inner.remote.state(server, self.room, event);
        match self.wait(server, PATIENCE_FOR_STATE, answer).await {
            Some(answer) => {
                self.verified(answer.state.into_iter().chain(answer.auth_chain).collect(), MAX_STATE).await
            }
            None => Vec::new(),
        }
    }

    /// The event's auth chain.
    pub async fn event_auth(&self, server: &ServerName, event: &EventId) -> Vec<Pdu> {
        let answer = self.inner.remote.event_auth(server, self.room, event);
        match self.wait(server, PATIENCE_FOR_STATE, answer).await {
            Some(events) => self.verified(events, MAX_STATE).await,
            None => Vec::new(),
        }
    }

    /// Those of the events that anyone has.
    pub async fn events(&self, ids: &[OwnedEventId]) -> Vec<Pdu> {
        let found: Vec<Option<Box<RawValue>>> =
            stream::iter(ids.to_vec()).map(|id| self.event(id)).buffer_unordered(AT_ONCE).collect().await;
        let events = self.verified(found.into_iter().flatten().collect(), MAX_STATE).await;
        events.into_iter().filter(|pdu| ids.iter().any(|id| id == pdu.event_id())).collect()
    }

    async fn event(&self, id: OwnedEventId) -> Option<Box<RawValue>> {
        for server in self.servers() {
            if let Some(event) = self.wait(server, PATIENCE, self.inner.remote.event(server, &id)).await {
                return Some(event);
            }
        }
        None
    }

    /// The answer, if there is one in time.
    async fn wait<T>(&self, server: &ServerName, patience: Duration, answer: Answer<'_, T>) -> Option<T> {
        let taken = |left: u32| left.checked_sub(1);
        if self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_err() {
            return None;
        }
        let _permit = self.inner.asking.acquire().await;
        let error = match tokio::time::timeout(patience, answer).await {
            Ok(Ok(answer)) => {
                self.has_answer.store(true, Ordering::Relaxed);
                return Some(answer);
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => RemoteError::Unreachable("no answer in time".to_owned()),
        };
        if matches!(error, RemoteError::Refused { .. } | RemoteError::Invalid(_)) {
            self.has_answer.store(true, Ordering::Relaxed);
        }
        debug!(server.name = %server, room.id = %self.room, %error, "a server did not answer as asked");
        None
    }

    /// The events of the room that are what their servers have signed; others are left out.
    async fn verified(&self, events: Vec<Box<RawValue>>, limit: usize) -> Vec<Pdu> {
        let (version, room) = (self.version, self.room.to_owned());
        let parse = move || {
            let mut seen = HashSet::new();
            let parsed =
                events.iter().take(limit).filter_map(|json| format::parse_remote(version, json).ok());
            parsed
                .filter(|pdu| pdu.room_id() == room && seen.insert(pdu.event_id().to_owned()))
                .collect::<Vec<Pdu>>()
        };
        // A panic on one event's account: as if there had been no answer.
        let parsed = tokio::task::spawn_blocking(parse).await.unwrap_or_default();
        self.inner.remote.verify(parsed, Keys::Fetched).await.into_iter().filter_map(Result::ok).collect()
    }
}
