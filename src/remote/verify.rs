//! Whether events and requests are signed by whom they have to be.
//!
//! The checks run on threads that may be busy; keys are fetched before, for all events together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use myelin_actors::remote::Keys;
use myelin_core::{
    pdu::{Pdu, PduError, sign},
    request::{SignedRequest, XMatrix},
};
use myelin_storage::error::StorageError;
use ruma::{
    OwnedServerName,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet},
};
use serde::Deserialize;

use super::{
    Remote,
    keys::{ServerKeys, Want},
    pauses::Cause,
};

/// Events that one thread checks in one go.
const AT_ONCE: usize = 64;

impl Remote {
    /// Checks the signatures of events: one verdict for each, in their order.
    pub async fn verify_events(&self, events: Vec<Pdu>) -> Vec<Result<Pdu, PduError>> {
        self.verify_events_with(events, Keys::Fetched).await
    }

    /// The same, with these keys.
    pub async fn verify_events_with(&self, events: Vec<Pdu>, keys: Keys) -> Vec<Result<Pdu, PduError>> {
        let wants: Vec<Want> = events.iter().flat_map(wants_of).collect();
        let known = match keys {
            Keys::Known => self.remembered(&wants).await,
            Keys::Fetched => self.keys_for(&wants, Cause::Mentioned).await,
        };
        let known = match known {
            Ok(keys_of) => Arc::new(Known { told: self.told(&wants, keys), keys_of }),
            Err(error) => {
                let unknown = || PduError::NoKey(format!("any server ({error})"));
                return events.iter().map(|_| Err(unknown())).collect();
            }
        };
        let mut checks = Vec::new();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let some: Vec<Pdu> = events.by_ref().take(AT_ONCE).collect();
            let permit = Arc::clone(&self.keys.checks).acquire_owned().await;
            let known = Arc::clone(&known);
            checks.push(self.io.spawn_blocking(move || {
                let verdicts: Vec<_> = some.into_iter().map(|event| check(event, &known)).collect();
                drop(permit);
                verdicts
            }));
        }
        let mut verdicts = Vec::new();
        for check in checks {
            verdicts.extend(check.await.expect("checking signatures does not panic"));
        }
        verdicts
    }

    /// Those servers that have just said what their keys are, or as good as just.
    fn told(&self, wants: &[Want], keys: Keys) -> BTreeSet<OwnedServerName> {
        let has_told = |server: &&OwnedServerName| {
            **server == self.config.server_name || self.keys.pauses.has_told(server)
        };
        let servers = wants.iter().map(|want| &want.server);
        servers.filter(|server| keys == Keys::Fetched && has_told(server)).cloned().collect()
    }

    /// Whether the server signed the request with a key that is good now.
    pub async fn is_proved(
        &self,
        header: &XMatrix,
        request: SignedRequest<'_>,
    ) -> Result<bool, StorageError> {
        let want = Want {
            server: header.origin.clone(),
            key_ids: vec![header.key.to_string()],
            at_ms: self.clock.now_ms(),
            is_current: true,
        };
        let known = self.keys_for(std::slice::from_ref(&want), Cause::Heard).await?;
        let keys = known.get(&header.origin).map(|keys| &**keys).unwrap_or_default();
        let mut fitting = keys.iter().filter(|key| want.fits(key));
        Ok(fitting.any(|key| request.is_signed(&key.key, &header.signature)))
    }
}

/// What events are judged by.
struct Known {
    keys_of: HashMap<OwnedServerName, ServerKeys>,
    /// The servers of which all keys are known.
    told: BTreeSet<OwnedServerName>,
}

/// A server that was not asked, or did not answer, may still turn out to have signed with a key that is not known here
/// yet, whatever was known of it before.
fn check(event: Pdu, known: &Known) -> Result<Pdu, PduError> {
    let mut keys = PublicKeyMap::new();
    for want in wants_of(&event) {
        let of_server = known.keys_of.get(&want.server).map(|keys| &**keys).unwrap_or_default();
        let fitting = of_server.iter().filter(|key| want.fits(key));
        let fitting: PublicKeySet =
            fitting.map(|key| (key.key_id.clone(), Base64::new(key.key.clone()))).collect();
        let is_told = known.told.contains(&want.server) && !of_server.is_empty();
        if is_told || !fitting.is_empty() {
            keys.insert(want.server.into(), fitting);
        }
    }
    sign::verify(&event, &keys).map(|()| event)
}

/// The keys that prove an event. Until when a key is good matters only to newer rooms.
fn wants_of(event: &Pdu) -> Vec<Want> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Signed {
        signatures: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    }
    let Signed { mut signatures } = serde_json::from_str(event.json()).unwrap_or_default();
    let is_strict = event.version().rules.enforce_key_validity;
    let at_ms = if is_strict { u64::from(event.origin_server_ts().0) } else { 0 };
    let servers = sign::required_servers(event).into_iter();
    servers
        .filter_map(|server| {
            let by_server = signatures.remove(server.as_str())?;
            Some(Want { server, key_ids: by_server.into_keys().collect(), at_ms, is_current: false })
        })
        .collect()
}
