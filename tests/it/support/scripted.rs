//! A server that is played by the test: it signs what it likes, and answers what it is told to.
//!
//! It has keys and TLS of its own and speaks to the server under test as any other server would. What it has made is
//! what it answers with (`/event`, `/get_missing_events`, `/state`, ..), unless the [`Script`] says otherwise.

mod answers;

use std::{
    collections::{BTreeSet, HashMap},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use myelin_core::{
    pdu::{
        Pdu,
        build::{self, Draft, Signer},
    },
    request::SignedRequest,
    version::{self, RoomVersion},
};
use parking_lot::Mutex;
use reqwest::Method;
use ruma::{
    CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName,
    OwnedUserId, ServerName, UInt, canonical_json::to_canonical_value, signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

pub use self::answers::{Headers, Script};
use super::{
    Room, Server, User, encode,
    federation::Authority,
    user::{Answer, PATIENCE},
};

/// The time at which scripted events say that they were made, growing.
static TIME: AtomicU64 = AtomicU64::new(1_700_000_000_000);

/// A scripted server.
#[derive(Clone)]
pub struct Scripted {
    pub name: OwnedServerName,
    pub script: Arc<Mutex<Script>>,
    signer: Arc<Signer>,
    http: reqwest::Client,
    /// The server under test.
    base_url: String,
    next: Arc<AtomicU64>,
}

/// A room as a scripted server sees it.
#[derive(Clone)]
pub struct Place {
    pub room_id: OwnedRoomId,
    pub version: &'static RoomVersion,
    /// The current state.
    pub state: HashMap<(String, String), OwnedEventId>,
    /// What its next event follows.
    pub heads: Vec<OwnedEventId>,
    pub depth: i64,
}

/// An event to be made: of this type and content, by whom, and where it stands if not at the end.
#[derive(Clone)]
pub struct Wanted {
    pub sender: OwnedUserId,
    pub event_type: &'static str,
    pub state_key: Option<String>,
    pub content: Value,
    pub redacts: Option<OwnedEventId>,
    pub prev: Option<Vec<OwnedEventId>>,
    pub auth: Option<Vec<OwnedEventId>>,
}

impl Wanted {
    /// A message.
    pub fn text(sender: &OwnedUserId, body: &str) -> Self {
        Self {
            sender: sender.clone(),
            event_type: "m.room.message",
            state_key: None,
            content: json!({ "msgtype": "m.text", "body": body }),
            redacts: None,
            prev: None,
            auth: None,
        }
    }

    /// A state event.
    pub fn state(sender: &OwnedUserId, event_type: &'static str, key: &str, content: Value) -> Self {
        Self { event_type, state_key: Some(key.to_owned()), content, ..Self::text(sender, "") }
    }

    /// Standing after these.
    pub fn after(self, prev: &[OwnedEventId]) -> Self {
        Self { prev: Some(prev.to_vec()), ..self }
    }
}

impl Scripted {
    /// Starts one, which talks to that server.
    pub fn start(authority: &Authority, server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let name: OwnedServerName = address.to_string().try_into().expect("an address is a name");
        let key =
            Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "script".to_owned()).expect("a new key");
        let signer = Arc::new(Signer { server_name: name.clone(), key });
        let script = Arc::new(Mutex::new(Script::default()));
        answers::serve(listener, authority, address, Arc::clone(&signer), Arc::clone(&script));
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client needs nothing");
        Self { name, script, signer, http, base_url: server.anyone().base_url, next: Arc::default() }
    }

    /// The same server as it signs with another key, whether it has published that or not.
    pub fn with_key(&self, version: &str) -> Self {
        let key =
            Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).expect("a new key");
        Self { signer: Arc::new(Signer { server_name: self.name.clone(), key }), ..self.clone() }
    }

    /// What it signs with.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// One of its users.
    pub fn user(&self, localpart: &str) -> OwnedUserId {
        format!("@{localpart}:{}", self.name).try_into().expect("a user id")
    }

    /// Asks the server under test, signed.
    pub async fn put(&self, server: &ServerName, path: &str, body: &Value) -> Answer {
        self.ask(Method::PUT, server, path, serde_json::to_vec(body).expect("JSON")).await
    }

    /// The same without a body.
    pub async fn get(&self, server: &ServerName, path: &str) -> Answer {
        self.ask(Method::GET, server, path, Vec::new()).await
    }

    async fn ask(&self, method: Method, server: &ServerName, path: &str, content: Vec<u8>) -> Answer {
        let signed = SignedRequest {
            method: method.as_str(),
            uri: path,
            origin: &self.name,
            destination: server,
            content: &content,
        };
        let header = signed.sign(&self.signer).expect("it can be signed");
        let request = self.http.request(method, format!("{}{path}", self.base_url));
        Answer::to(request.header("Authorization", header).body(content)).await
    }

    /// Sends a transaction.
    pub async fn transaction(&self, txn_id: &str, pdus: &[Value], edus: &[Value]) -> Answer {
        let body = json!({ "origin": self.name, "origin_server_ts": 1, "pdus": pdus, "edus": edus });
        let server: OwnedServerName = super::server::SERVER_NAME.try_into().expect("a name");
        self.put(&server, &format!("/_matrix/federation/v1/send/{}", encode(txn_id)), &body).await
    }

    /// Sends events, none of which is refused.
    pub async fn send(&self, pdus: &[&Pdu]) {
        let results = self.try_send(&pdus.iter().map(|pdu| value(pdu)).collect::<Vec<_>>()).await;
        for pdu in pdus {
            assert_eq!(results[pdu.event_id().as_str()], json!({}), "{results}");
        }
    }

    /// Sends events: the result of each.
    pub async fn try_send(&self, pdus: &[Value]) -> Value {
        let txn_id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.transaction(&txn_id, pdus, &[]).await.ok()["pdus"].clone()
    }

    /// Sends EDUs.
    pub async fn send_edus(&self, edus: &[Value]) {
        let txn_id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.transaction(&txn_id, &[], edus).await.ok();
    }

    /// The room as a local user sees it, after one of this server's users has joined it.
    pub async fn join(&self, member: &User, room: &Room, user: &OwnedUserId) -> Place {
        let mut place = Place::of(member, room).await;
        let join = self.make(
            &mut place,
            Wanted::state(user, "m.room.member", user.as_str(), json!({ "membership": "join" })),
        );
        self.send(&[&join]).await;
        arrived(member, room, join.event_id()).await;
        place
    }

    /// Makes an event at the end of the room, which becomes its new end.
    pub fn make(&self, place: &mut Place, wanted: Wanted) -> Pdu {
        let pdu = self.build(place, wanted);
        place.depth += 1;
        place.heads = vec![pdu.event_id().to_owned()];
        if let Some(key) = pdu.state_key() {
            place.state.insert((pdu.event_type().to_owned(), key.to_owned()), pdu.event_id().to_owned());
        }
        pdu
    }

    /// Makes an event and leaves the room as it is.
    pub fn build(&self, place: &Place, wanted: Wanted) -> Pdu {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.build_as(&format!("event{number}"), place, wanted)
    }

    /// The same; where events carry ids, with this one before the colon.
    pub fn build_as(&self, name: &str, place: &Place, wanted: Wanted) -> Pdu {
        let draft = Draft { event_id_local_part: Some(name.to_owned()), ..Self::draft(place, wanted) };
        let pdu = build::build(place.version, draft, &self.signer).expect("an event");
        let mut script = self.script.lock();
        script.events.insert(pdu.event_id().to_owned(), value(&pdu));
        script.states.insert(pdu.event_id().to_owned(), place.state.values().cloned().collect());
        pdu
    }

    fn draft(place: &Place, wanted: Wanted) -> Draft {
        let CanonicalJsonValue::Object(content) = to_canonical_value(&wanted.content).expect("canonical")
        else {
            panic!("content is an object")
        };
        let auth = wanted.auth.clone().unwrap_or_else(|| place.auth_events(&wanted));
        let time = TIME.fetch_add(1, Ordering::Relaxed);
        Draft {
            room_id: Some(place.room_id.clone()),
            sender: wanted.sender,
            event_type: wanted.event_type.to_owned(),
            state_key: wanted.state_key,
            content,
            redacts: wanted.redacts,
            prev_events: wanted.prev.unwrap_or_else(|| place.heads.clone()),
            auth_events: auth,
            depth: place.depth + 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(time).expect("small")),
            event_id_local_part: None,
        }
    }

    /// How often it was asked for something with this in its path.
    pub fn asked(&self, what: &str) -> usize {
        self.script.lock().asked.iter().filter(|path| path.contains(what)).count()
    }
}

impl Place {
    /// A room of which nothing is there yet.
    pub fn empty(room_id: &str, version: &str) -> Self {
        Self {
            room_id: room_id.try_into().expect("a room id"),
            version: version::find_str(version).expect("known"),
            state: HashMap::new(),
            heads: Vec::new(),
            depth: 0,
        }
    }

    /// The room as this member sees it.
    pub async fn of(member: &User, room: &Room) -> Self {
        let events = member.get(&format!("rooms/{room}/state")).await.ok();
        let mut state = HashMap::new();
        let mut version = "1".to_owned();
        for event in events.as_array().expect("a list") {
            let text = |name: &str| event[name].as_str().expect("text").to_owned();
            let id: OwnedEventId = text("event_id").try_into().expect("an id");
            if event["type"] == "m.room.create" {
                version = event["content"]["room_version"].as_str().expect("it has one").to_owned();
            }
            state.insert((text("type"), text("state_key")), id);
        }
        let last = member.messages(room, "dir=b&limit=1").await;
        let last = last["chunk"][0]["event_id"].as_str().expect("a room has events");
        Self {
            room_id: room.0.clone().try_into().expect("a room id"),
            version: version::find_str(&version).expect("known"),
            state,
            heads: vec![last.try_into().expect("an id")],
            depth: 50,
        }
    }

    /// The event in the state.
    pub fn state_of(&self, event_type: &str, key: &str) -> Option<OwnedEventId> {
        self.state.get(&(event_type.to_owned(), key.to_owned())).cloned()
    }

    fn auth_events(&self, wanted: &Wanted) -> Vec<OwnedEventId> {
        let mut keys =
            vec![("m.room.power_levels", String::new()), ("m.room.member", wanted.sender.to_string())];
        if !self.version.room_id_is_create_id() {
            keys.push(("m.room.create", String::new()));
        }
        if wanted.event_type == "m.room.member" {
            if wanted.content["membership"] != "ban" && wanted.content["membership"] != "leave" {
                keys.push(("m.room.join_rules", String::new()));
            }
            keys.extend(wanted.state_key.iter().map(|user| ("m.room.member", user.clone())));
        }
        let ids: BTreeSet<_> = keys.iter().filter_map(|(kind, key)| self.state_of(kind, key)).collect();
        ids.into_iter().collect()
    }
}

/// The event as it is sent.
pub fn value(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).expect("a PDU is JSON")
}

/// Waits until the user is given the event.
pub async fn arrived(user: &User, room: &Room, event: &EventId) -> Value {
    let path = format!("rooms/{room}/event/{}", encode(event.as_str()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = user.get(&path).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "{event} does not arrive: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
