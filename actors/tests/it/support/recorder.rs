//! Other servers as a test wants them: they take what they are sent, refuse it, or never answer. What they were sent
//! is recorded.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use myelin_actors::remote::{
    Answer, Keys, MissingEvents, OutgoingTransaction, RemoteError, RemoteServers, StateEvents, StateIds,
};
use myelin_core::pdu::{Pdu, PduError};
use parking_lot::Mutex;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName, UserId};
use serde_json::{Value, value::RawValue};
use tokio::sync::watch;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server does with a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// It acknowledges it.
    #[default]
    Takes,
    /// It cannot be reached.
    IsAway,
    /// It says that it will never take it.
    Refuses,
    /// It says so of transactions that contain this word.
    RefusesWord(&'static str),
    /// It does not answer until its mood changes, and then answers so.
    Hangs,
}

/// A transaction as a server got it, or would have.
#[derive(Clone, Debug)]
pub struct Sent {
    pub server: OwnedServerName,
    pub id: String,
    pub origin_server_ts: u64,
    pub pdus: Vec<Value>,
    pub edus: Vec<Value>,
    /// It was acknowledged.
    pub taken: bool,
}

/// All other servers.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    sent: Mutex<Vec<Sent>>,
    moods: watch::Sender<(Mood, HashMap<OwnedServerName, Mood>)>,
    count: watch::Sender<usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        let (moods, count) = (watch::Sender::default(), watch::Sender::default());
        Self(Arc::new(Inner { sent: Mutex::default(), moods, count }))
    }
}

impl Recorder {
    /// Everybody does this from now on.
    pub fn all(&self, mood: Mood) {
        self.0.moods.send_modify(|moods| *moods = (mood, HashMap::new()));
    }

    /// This server does this from now on.
    pub fn set(&self, server: &str, mood: Mood) {
        let server: OwnedServerName = server.try_into().unwrap();
        self.0.moods.send_modify(|moods| {
            moods.1.insert(server, mood);
        });
    }

    /// Everything that was sent so far, acknowledged or not, in the order of the answers.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.sent.lock().clone()
    }

    /// What the server has acknowledged so far.
    pub fn taken(&self, server: &str) -> Vec<Sent> {
        self.of_taken(server, |sent| vec![sent.clone()])
    }

    /// The bodies of the messages that the server has acknowledged, in order.
    pub fn messages(&self, server: &str) -> Vec<String> {
        self.of_taken(server, |sent| {
            let bodies = sent.pdus.iter().filter_map(|pdu| pdu["content"]["body"].as_str());
            bodies.map(str::to_owned).collect()
        })
    }

    /// The EDUs of that type that the server has acknowledged, in order: their contents.
    pub fn edus(&self, server: &str, edu_type: &str) -> Vec<Value> {
        self.of_taken(server, |sent| {
            let edus = sent.edus.iter().filter(|edu| edu["edu_type"] == edu_type);
            edus.map(|edu| edu["content"].clone()).collect()
        })
    }

    /// Of each transaction that the server has acknowledged, in order. Nothing else is copied: conditions are looked
    /// at after each of thousands of transactions.
    fn of_taken<T>(&self, server: &str, of: impl Fn(&Sent) -> Vec<T>) -> Vec<T> {
        let sent = self.0.sent.lock();
        sent.iter().filter(|sent| sent.server == server && sent.taken).flat_map(of).collect()
    }

    /// Returns when that is so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut count = self.0.count.subscribe();
        let wait = count.wait_for(|_| holds(self));
        let waited = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(waited, "waited in vain until {what}: {}", self.overview());
    }

    /// Who was sent how much.
    fn overview(&self) -> String {
        let lines = self.sent().into_iter().map(|sent| {
            let (pdus, edus) = (sent.pdus.len(), sent.edus.len());
            format!("{} {}: {pdus} PDUs, {edus} EDUs, taken: {}", sent.server, sent.id, sent.taken)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn mood(moods: &(Mood, HashMap<OwnedServerName, Mood>), server: &ServerName) -> Mood {
        moods.1.get(server).copied().unwrap_or(moods.0)
    }
}

fn parsed(list: &[Box<RawValue>]) -> Vec<Value> {
    list.iter().map(|json| serde_json::from_str(json.get()).unwrap()).collect()
}

fn nobody<'a, T>() -> Answer<'a, T> {
    Box::pin(async { Err(RemoteError::Unreachable("nobody asks that here".to_owned())) })
}

impl RemoteServers for Recorder {
    fn allows(&self, server: &ServerName) -> bool {
        server != "forbidden.test"
    }

    fn send_transaction<'a>(
        &'a self,
        server: &'a ServerName,
        transaction: &'a OutgoingTransaction,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut moods = self.0.moods.subscribe();
            let decided = moods.wait_for(|moods| Self::mood(moods, server) != Mood::Hangs).await;
            let mut mood = Self::mood(&decided.unwrap(), server);
            if let Mood::RefusesWord(word) = mood {
                let all = transaction.pdus.iter().chain(&transaction.edus);
                let is_in = all.map(|json| json.get()).any(|json| json.contains(word));
                mood = if is_in { Mood::Refuses } else { Mood::Takes };
            }
            self.0.sent.lock().push(Sent {
                server: server.to_owned(),
                id: transaction.id.to_string(),
                origin_server_ts: transaction.origin_server_ts.get().into(),
                pdus: parsed(&transaction.pdus),
                edus: parsed(&transaction.edus),
                taken: mood == Mood::Takes,
            });
            self.0.count.send_modify(|count| *count += 1);
            match mood {
                Mood::Takes => Ok(()),
                Mood::Refuses => Err(RemoteError::Refused {
                    status: 400,
                    errcode: "M_BAD_JSON".to_owned(),
                    message: "no".to_owned(),
                    room_version: None,
                }),
                _ => Err(RemoteError::Unreachable("it is away".to_owned())),
            }
        })
    }

    fn missing_events<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a MissingEvents,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        nobody()
    }

    fn state_ids<'a>(&'a self, _: &'a ServerName, _: &'a RoomId, _: &'a EventId) -> Answer<'a, StateIds> {
        nobody()
    }

    fn state<'a>(&'a self, _: &'a ServerName, _: &'a RoomId, _: &'a EventId) -> Answer<'a, StateEvents> {
        nobody()
    }

    fn event<'a>(&'a self, _: &'a ServerName, _: &'a EventId) -> Answer<'a, Box<RawValue>> {
        nobody()
    }

    fn event_auth<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a EventId,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        nobody()
    }

    fn backfill<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a RoomId,
        _: &'a [OwnedEventId],
        _: u32,
    ) -> Answer<'a, Vec<Box<RawValue>>> {
        nobody()
    }

    fn user_devices<'a>(&'a self, _: &'a ServerName, _: &'a UserId) -> Answer<'a, Box<RawValue>> {
        nobody()
    }

    fn policy_signature<'a>(&'a self, _: &'a ServerName, _: &'a str) -> Answer<'a, String> {
        nobody()
    }

    fn verify(&self, events: Vec<Pdu>, _: Keys) -> BoxFuture<'_, Vec<Result<Pdu, PduError>>> {
        Box::pin(async { events.into_iter().map(Ok).collect() })
    }
}
