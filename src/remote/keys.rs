//! The keys of other servers: remembered, stored, asked for at the servers themselves and at notaries.
//!
//! Each server is asked by one at a time, and for a while not again after it did not help: see
//! [`pauses`](super::pauses). What the keys prove is judged in [`verify`](super::verify).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
    stream,
};
use myelin_actors::remote::RemoteError;
use myelin_storage::{
    Storage,
    error::StorageError,
    server_keys::{self, ServerKey},
};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName, UInt,
    api::federation::discovery::{
        get_remote_server_keys_batch::v2::{self as batch, QueryCriteria},
        get_server_keys,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::{
    Remote,
    client::Allowance,
    key_answer::KeyAnswer,
    pauses::{Cause, Outcome, Pauses},
    publish::OurKeys,
};
use crate::error::Chain;

/// Servers whose keys are remembered.
const REMEMBERED: usize = 20_000;
/// Servers that are asked at the same time.
const AT_ONCE: usize = 32;
/// When more servers than this have to be asked, notaries come first: some of so many are always gone.
const FEW: usize = 16;
/// Servers that a notary is asked about in one request.
const PER_REQUEST: usize = 50;
/// How much a server's answer may take.
const ANSWER: Allowance = Allowance { time: Duration::from_secs(15), bytes: 256 * 1024 };
/// How much a notary's answer may take.
const NOTARY_ANSWER: Allowance = Allowance { time: Duration::from_secs(30), bytes: 4 * 1024 * 1024 };
/// The keys of one server that are known.
pub type ServerKeys = Arc<[ServerKey]>;

/// Keys that are needed: one of them will do.
#[derive(Clone, Debug)]
pub struct Want {
    /// Whose.
    pub server: OwnedServerName,
    /// With these ids. None: any that is current.
    pub key_ids: Vec<String>,
    /// When something was signed that the key has to prove. 0: whenever.
    pub at_ms: u64,
    /// Whether it has to be one with which the server still signs requests.
    pub is_current: bool,
}

impl Want {
    /// Whether the key is one that is wanted.
    pub fn fits(&self, key: &ServerKey) -> bool {
        let is_named = self.key_ids.contains(&key.key_id);
        (is_named || self.key_ids.is_empty() && key.is_current)
            && key.valid_until_ms >= self.at_ms
            && (key.is_current || !self.is_current)
    }

    fn is_met(&self, known: &HashMap<OwnedServerName, ServerKeys>) -> bool {
        known.get(&self.server).is_some_and(|keys| keys.iter().any(|key| self.fits(key)))
    }
}

type Flight = Shared<BoxFuture<'static, ()>>;

/// What is known of keys.
pub struct KeyRing {
    storage: Storage,
    ours: ServerKeys,
    known: Cache<OwnedServerName, ServerKeys>,
    pub(super) pauses: Pauses,
    flights: Mutex<HashMap<OwnedServerName, Flight>>,
    /// Bounds how many threads check signatures.
    pub(super) checks: Arc<Semaphore>,
}

impl KeyRing {
    /// Knows our own keys, and what is stored of others.
    pub fn new(storage: Storage, ours: &OurKeys) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            storage,
            ours: ours.known().into(),
            known: Cache::new(REMEMBERED),
            pauses: Pauses::new(REMEMBERED),
            flights: Mutex::default(),
            checks: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Reads what is stored of these servers, so that it is remembered from now on.
    async fn load(
        &self,
        servers: &[OwnedServerName],
    ) -> Result<Vec<(OwnedServerName, ServerKeys)>, StorageError> {
        let mut by_server: BTreeMap<OwnedServerName, Vec<ServerKey>> =
            servers.iter().map(|server| (server.clone(), Vec::new())).collect();
        for key in server_keys::list(&self.storage.get().await?, servers).await? {
            by_server.entry(key.server.clone()).or_default().push(key);
        }
        let loaded: Vec<(_, ServerKeys)> =
            by_server.into_iter().map(|(server, keys)| (server, keys.into())).collect();
        for (server, keys) in &loaded {
            self.known.insert(server.clone(), Arc::clone(keys));
        }
        Ok(loaded)
    }

    /// Stores what answers say, and remembers what is then stored.
    async fn take(&self, answers: Vec<KeyAnswer>, is_from_themselves: bool) -> Result<(), StorageError> {
        let servers: BTreeSet<_> = answers.iter().map(|answer| answer.server.clone()).collect();
        let servers: Vec<_> = servers.into_iter().collect();
        let keys: Vec<_> = answers.into_iter().flat_map(|answer| answer.keys).collect();
        server_keys::store(&self.storage.get().await?, &keys, is_from_themselves).await?;
        self.load(&servers).await.map(drop)
    }
}

/// Ends a flight even when what it does panics.
struct Landing {
    remote: Remote,
    server: OwnedServerName,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.remote.keys.flights.lock().remove(&self.server);
    }
}

impl Remote {
    /// What is known of the keys of all these servers, when everything has been tried to learn what is wanted.
    pub async fn keys_for(
        &self,
        wants: &[Want],
        cause: Cause,
    ) -> Result<HashMap<OwnedServerName, ServerKeys>, StorageError> {
        let mut known = self.remembered(wants).await?;
        let mut missing: Vec<&Want> = wants.iter().filter(|want| !want.is_met(&known)).collect();
        if missing.is_empty() {
            return Ok(known);
        }
        let has_many = servers_of(&missing).len() > FEW;
        let order: [bool; 2] = if has_many { [true, false] } else { [false, true] };
        for asks_notaries in order {
            if asks_notaries {
                self.ask_notaries(&missing).await;
            } else {
                self.ask_themselves(&missing, cause).await;
            }
            known = self.remembered(wants).await?;
            missing.retain(|want| !want.is_met(&known));
            if missing.is_empty() {
                break;
            }
        }
        Ok(known)
    }

    /// The same, without asking notaries: what a notary passes on is what it heard itself.
    pub async fn keys_from_themselves(
        &self,
        wants: &[Want],
    ) -> Result<HashMap<OwnedServerName, ServerKeys>, StorageError> {
        let known = self.remembered(wants).await?;
        let missing: Vec<&Want> = wants.iter().filter(|want| !want.is_met(&known)).collect();
        if missing.is_empty() {
            return Ok(known);
        }
        self.ask_themselves(&missing, Cause::Mentioned).await;
        self.remembered(wants).await
    }

    /// The same, without asking anyone.
    pub async fn remembered(
        &self,
        wants: &[Want],
    ) -> Result<HashMap<OwnedServerName, ServerKeys>, StorageError> {
        let mut known = HashMap::new();
        let mut stored = Vec::new();
        for server in wants.iter().map(|want| &want.server).collect::<BTreeSet<_>>() {
            if *server == self.config.server_name {
                known.insert(server.clone(), Arc::clone(&self.keys.ours));
            } else if let Some(keys) = self.keys.known.get(server) {
                known.insert(server.clone(), keys);
            } else {
                stored.push(server.clone());
            }
        }
        if !stored.is_empty() {
            known.extend(self.keys.load(&stored).await?);
        }
        Ok(known)
    }

    async fn ask_themselves(&self, missing: &[&Want], cause: Cause) {
        let now_ms = self.clock.now_ms();
        let servers = servers_of(missing).into_iter().filter(|server| {
            *server != self.config.server_name
                && self.allows(server)
                && self.keys.pauses.may_ask(server, cause, now_ms)
        });
        stream::iter(servers.map(|server| self.flight(&server)))
            .buffer_unordered(AT_ONCE)
            .for_each(|()| async {})
            .await;
    }

    /// The one question to the server that is on its way, or a new one.
    fn flight(&self, server: &ServerName) -> Flight {
        let mut flights = self.keys.flights.lock();
        if let Some(flight) = flights.get(server) {
            return flight.clone();
        }
        let landing = Landing { remote: self.clone(), server: server.to_owned() };
        let task = self.io.spawn(async move { landing.remote.ask_itself(&landing.server).await });
        let flight = task.map(drop).boxed().shared();
        flights.insert(server.to_owned(), flight.clone());
        flight
    }

    async fn ask_itself(&self, server: &ServerName) {
        let now_ms = self.clock.now_ms();
        let answered =
            self.ask(server, get_server_keys::v2::Request::new(), ANSWER).await.and_then(|answer| {
                let unusable = || RemoteError::Invalid("it does not prove its keys".to_owned());
                let text = std::str::from_utf8(answer.body()).map_err(|_| unusable())?;
                let answer = KeyAnswer::read(text, now_ms).filter(|answer| answer.server == *server);
                answer.ok_or_else(unusable)
            });
        let outcome = match answered {
            Ok(_) => Outcome::Told,
            Err(RemoteError::Unreachable(_) | RemoteError::NotAllowed(_)) => Outcome::Silent,
            Err(RemoteError::Refused { .. } | RemoteError::Invalid(_)) => Outcome::Answered,
        };
        self.keys.pauses.note(server, outcome, self.clock.now_ms());
        match answered {
            Ok(answer) => self.store(vec![answer], true).await,
            Err(error) => debug!(server.name = %server, %error, "could not learn a server's keys"),
        }
    }

    async fn store(&self, answers: Vec<KeyAnswer>, is_from_themselves: bool) {
        if let Err(error) = self.keys.take(answers, is_from_themselves).await {
            warn!(error = %Chain(&error), "could not store the keys of other servers");
        }
    }

    async fn ask_notaries(&self, missing: &[&Want]) {
        let notaries = self.config.federation.notaries.iter();
        for notary in notaries.filter(|notary| **notary != self.config.server_name && self.allows(notary)) {
            let about: Vec<&Want> = missing.iter().copied().filter(|want| want.server != *notary).collect();
            if about.is_empty() {
                continue;
            }
            let trusted = Want { server: notary.clone(), key_ids: Vec::new(), at_ms: 0, is_current: true };
            self.ask_themselves(&[&trusted], Cause::Mentioned).await;
            let Ok(keys) = self.remembered(&[trusted]).await else { return };
            let Some(keys) = keys.get(notary) else { continue };
            for wants in about.chunks(PER_REQUEST) {
                match self.ask_notary(notary, wants, keys).await {
                    Ok(answers) => self.store(answers, false).await,
                    Err(error) => {
                        debug!(server.name = %notary, %error, "a notary did not help");
                        break;
                    }
                }
            }
        }
    }

    async fn ask_notary(
        &self,
        notary: &ServerName,
        wants: &[&Want],
        trusted: &[ServerKey],
    ) -> Result<Vec<KeyAnswer>, RemoteError> {
        #[derive(Deserialize)]
        struct Body {
            server_keys: Vec<Box<RawValue>>,
        }
        let answer = self.ask(notary, batch::Request::new(query(wants)), NOTARY_ANSWER).await?;
        let body: Body =
            serde_json::from_slice(answer.body()).map_err(|error| RemoteError::Invalid(error.to_string()))?;
        let now_ms = self.clock.now_ms();
        let asked = servers_of(wants);
        Ok(body
            .server_keys
            .iter()
            .filter_map(|answer| KeyAnswer::read(answer.get(), now_ms))
            .filter(|answer| asked.contains(&answer.server) && answer.is_signed_by(notary, trusted))
            .collect())
    }
}

fn servers_of(wants: &[&Want]) -> BTreeSet<OwnedServerName> {
    wants.iter().map(|want| want.server.clone()).collect()
}

fn query(wants: &[&Want]) -> BTreeMap<OwnedServerName, BTreeMap<OwnedServerSigningKeyId, QueryCriteria>> {
    let mut query: BTreeMap<_, BTreeMap<_, QueryCriteria>> = BTreeMap::new();
    for want in wants {
        let keys = query.entry(want.server.clone()).or_default();
        let ids = want.key_ids.iter().filter_map(|id| OwnedServerSigningKeyId::try_from(id.as_str()).ok());
        for id in ids {
            let criteria = keys.entry(id).or_insert_with(QueryCriteria::new);
            let until = MilliSecondsSinceUnixEpoch(UInt::new_saturating(want.at_ms));
            criteria.minimum_valid_until_ts = criteria.minimum_valid_until_ts.max(Some(until));
        }
    }
    query
}
