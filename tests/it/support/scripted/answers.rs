//! What a scripted server answers, over TLS.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use myelin_core::{
    pdu::{build::Signer, format, sign},
    version,
};
use parking_lot::Mutex;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId,
    canonical_json::to_canonical_value,
    serde::{Base64, base64::Standard},
    signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::super::{federation::Authority, identity::Known};

/// Headers of an answer.
pub type Headers = Vec<(&'static str, String)>;

/// What the scripted server does when it is asked.
#[derive(Default)]
pub struct Script {
    /// Every event that it has made or been given.
    pub events: HashMap<OwnedEventId, Value>,
    /// The state before events, as it says when asked.
    pub states: HashMap<OwnedEventId, Vec<OwnedEventId>>,
    /// Events that it does not give out.
    pub hidden: HashSet<OwnedEventId>,
    /// Answers to requests whose path contains this.
    pub instead: Vec<(&'static str, u16, Value)>,
    /// Files: answers to requests whose path contains this, with these headers.
    pub files: Vec<(&'static str, u16, Headers, Vec<u8>)>,
    /// It takes requests whose path contains one of these, and never answers.
    pub silent: Vec<&'static str>,
    /// It takes requests whose path contains this, and answers each when it is let through.
    pub held: Option<(&'static str, Arc<Semaphore>)>,
    /// The key with which it signs as a policy server, for rooms of version 11.
    pub policy: Option<Arc<Ed25519KeyPair>>,
    /// What it knows as an identity server.
    pub identity: Option<Known>,
    /// The paths of all requests.
    pub asked: Vec<String>,
}

/// Serves until the process ends.
pub(super) fn serve(
    listener: TcpListener,
    authority: &Authority,
    address: SocketAddr,
    signer: Arc<Signer>,
    script: Arc<Mutex<Script>>,
) {
    let tls = authority.server_config(address.ip());
    std::thread::spawn(move || {
        let answer = move |request: HttpRequest, body: web::Bytes| {
            let (signer, script) = (Arc::clone(&signer), Arc::clone(&script));
            async move { answer(&signer, &script, &request, &body).await }
        };
        actix_web::rt::System::new().block_on(async move {
            let app = move || App::new().default_service(web::to(answer.clone()));
            let server = HttpServer::new(app).workers(1).disable_signals();
            server.listen_rustls_0_23(listener, tls).expect("it can listen").run().await.ok();
        });
    });
}

async fn answer(signer: &Signer, script: &Mutex<Script>, request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let path = request.uri().to_string();
    let path = percent(&path);
    let (is_silent, held, instead) = {
        let mut script = script.lock();
        script.asked.push(path.clone());
        let instead = script.instead.iter().find(|(part, ..)| path.contains(part)).cloned();
        let held = script.held.clone().filter(|(part, _)| path.contains(part));
        (script.silent.iter().any(|part| path.contains(part)), held, instead)
    };
    if is_silent {
        std::future::pending::<()>().await;
    }
    if let Some((_, gate)) = held {
        gate.acquire().await.expect("nobody closes it").forget();
    }
    if let Some((_, status, body)) = instead {
        return HttpResponse::build(StatusCode::from_u16(status).expect("a status")).json(body);
    }
    if let Some(file) = file(&script.lock(), &path) {
        return file;
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if path.starts_with("/_matrix/identity/")
        && let Some(known) = &mut script.lock().identity
    {
        let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let (status, body) = known.answer(&path, authorization.unwrap_or_default(), &body);
        return HttpResponse::build(StatusCode::from_u16(status).expect("a status")).json(body);
    }
    let answer = match &*path {
        path if path.contains("/key/v2/server") => Some(keys(signer)),
        path if path.contains("/policy/v1/sign") => {
            script.lock().policy.as_ref().map(|key| recommend(signer, key, &body))
        }
        path if path.contains("/v1/invite/") => Some(invited(signer, &body)),
        path => script.lock().answer(path, &body),
    };
    match answer {
        Some(answer) => HttpResponse::Ok().json(answer),
        None => {
            HttpResponse::NotFound().json(json!({ "errcode": "M_NOT_FOUND", "error": "not in the script" }))
        }
    }
}

fn file(script: &Script, path: &str) -> Option<HttpResponse> {
    let (_, status, headers, body) = script.files.iter().find(|(part, ..)| path.contains(part))?;
    let mut answer = HttpResponse::build(StatusCode::from_u16(*status).expect("a status"));
    for (name, value) in headers {
        answer.insert_header((*name, value.as_str()));
    }
    // Without a length that is announced, where that is asked for.
    let is_streamed = headers.iter().any(|(name, _)| *name == "transfer-encoding");
    let body = web::Bytes::from(body.clone());
    let stream = futures::stream::iter([Ok::<_, std::io::Error>(body.clone())]);
    Some(if is_streamed { answer.streaming(stream) } else { answer.body(body) })
}

fn percent(path: &str) -> String {
    let mut text = path.to_owned();
    for (code, char) in
        [("%24", "$"), ("%21", "!"), ("%3A", ":"), ("%3a", ":"), ("%40", "@"), ("%2D", "-"), ("%5F", "_")]
    {
        text = text.replace(code, char);
    }
    text
}

/// The signature of a policy server.
fn recommend(signer: &Signer, key: &Ed25519KeyPair, pdu: &Value) -> Value {
    let object = serde_json::from_value(pdu.clone()).expect("a PDU");
    let version = version::find_str("11").expect("known");
    let pdu = format::parse_remote_object(version, object).expect("a PDU");
    let signature = sign::signature_of(&pdu, key).expect("it can be signed");
    json!({ signer.server_name.as_str(): { "ed25519:policy_server": signature } })
}

/// An invite to a room of version 1, with the signature of the invited user's server.
fn invited(signer: &Signer, pdu: &Value) -> Value {
    assert!(pdu["unsigned"]["invite_room_state"].is_array(), "{pdu}");
    let object = serde_json::from_value(pdu.clone()).expect("a PDU");
    let invite = format::parse_remote_object(version::find_str("1").expect("known"), object).expect("a PDU");
    let signed = sign::add_signature(&invite, signer).expect("it can be signed");
    json!([200, { "event": super::value(&signed) }])
}

/// What the server says about its keys.
fn keys(signer: &Signer) -> Value {
    let id = format!("ed25519:{}", signer.key.version());
    let public = Base64::<Standard, _>::new(signer.key.public_key()).encode();
    let valid_until = 32_503_680_000_000_u64;
    let keys = json!({
        "server_name": signer.server_name, "valid_until_ts": valid_until,
        "verify_keys": { id: { "key": public } }, "old_verify_keys": {},
    });
    let CanonicalJsonValue::Object(mut keys) = to_canonical_value(keys).expect("canonical") else {
        panic!("an object")
    };
    ruma::signatures::sign_json(signer.server_name.as_str(), &signer.key, &mut keys)
        .expect("it can be signed");
    json!(keys as CanonicalJsonObject)
}

impl Script {
    fn answer(&self, path: &str, body: &Value) -> Option<Value> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let argument = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let last = path.rsplit('/').next().unwrap_or_default();
        let events =
            |ids: Vec<OwnedEventId>| -> Vec<&Value> { ids.iter().filter_map(|id| self.give(id)).collect() };
        if path.contains("/get_missing_events/") {
            let ids = |name: &str| -> Vec<OwnedEventId> {
                serde_json::from_value(body[name].clone()).unwrap_or_default()
            };
            let limit = usize::try_from(body["limit"].as_u64().unwrap_or(10)).unwrap_or(10);
            let mut found = self.before(&ids("latest_events"), &ids("earliest_events"), limit);
            found.reverse();
            return Some(json!({ "events": events(found) }));
        }
        if path.contains("/backfill/") {
            let from: OwnedEventId = argument("v")?.try_into().ok()?;
            let limit = argument("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10);
            let mut found = vec![from.clone()];
            found.extend(self.before(&[from], &[], limit));
            return Some(json!({ "origin": "x", "origin_server_ts": 1, "pdus": events(found) }));
        }
        if path.contains("/state_ids/") || path.contains("/state/") {
            let event: OwnedEventId = argument("event_id")?.try_into().ok()?;
            let state = self.states.get(&event)?;
            let chain = self.auth_chain(state);
            return Some(if path.contains("/state_ids/") {
                json!({ "pdu_ids": state, "auth_chain_ids": chain })
            } else {
                json!({ "pdus": events(state.clone()), "auth_chain": events(chain) })
            });
        }
        let event: OwnedEventId = last.to_owned().try_into().ok()?;
        if path.contains("/event_auth/") {
            let chain = self.auth_chain(std::slice::from_ref(&event));
            return Some(json!({ "auth_chain": events(chain) }));
        }
        if path.contains("/event/") {
            return Some(json!({ "origin": "x", "origin_server_ts": 1, "pdus": [self.give(&event)?] }));
        }
        None
    }

    fn give(&self, id: &EventId) -> Option<&Value> {
        if self.hidden.contains(id) { None } else { self.events.get(id) }
    }

    /// What comes before these and not before those, nearest first.
    fn before(&self, latest: &[OwnedEventId], earliest: &[OwnedEventId], limit: usize) -> Vec<OwnedEventId> {
        let mut found: Vec<OwnedEventId> = Vec::new();
        let mut todo: VecDeque<OwnedEventId> = latest.to_vec().into();
        while let Some(id) = todo.pop_front() {
            for prev in references(self.events.get(&id), "prev_events") {
                let is_new = !found.contains(&prev) && !latest.contains(&prev) && !earliest.contains(&prev);
                if is_new && self.events.contains_key(&prev) && found.len() < limit {
                    found.push(prev.clone());
                    todo.push_back(prev);
                }
            }
        }
        found
    }

    fn auth_chain(&self, of: &[OwnedEventId]) -> Vec<OwnedEventId> {
        let mut chain = BTreeSet::new();
        let mut todo: Vec<OwnedEventId> = of.to_vec();
        while let Some(id) = todo.pop() {
            let auth = references(self.events.get(&id), "auth_events");
            todo.extend(auth.into_iter().filter(|id| chain.insert(id.clone())));
        }
        chain.into_iter().collect()
    }
}

fn references(event: Option<&Value>, field: &str) -> Vec<OwnedEventId> {
    event.and_then(|event| serde_json::from_value(event[field].clone()).ok()).unwrap_or_default()
}
