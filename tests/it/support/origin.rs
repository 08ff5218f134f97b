//! Another server as far as it asks: it signs requests and events with its key, and keeps nothing.

use myelin_core::{
    pdu::{
        Pdu,
        build::{self, Signer},
    },
    version,
};
use reqwest::Method;
use ruma::{CanonicalJsonObject, Int};
use serde_json::{Value, json};

use super::{Answer, Room, Server, User, encode, federation, room::EventId, unique};

/// A server that asks another one.
pub struct Origin<'a> {
    asked: &'a Server,
    pub signer: Signer,
}

impl<'a> Origin<'a> {
    /// `server`, as it asks `asked`. It must run, so that its key can be fetched.
    pub fn new(server: &Server, asked: &'a Server) -> Self {
        Self { asked, signer: federation::signer(server) }
    }

    /// A user of it.
    pub fn user(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.signer.server_name)
    }

    /// Asks below `/_matrix/federation/`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, Value::Null).await
    }

    /// Asks below `/_matrix/federation/`.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, body).await
    }

    /// Asks below `/_matrix/federation/`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    pub async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let path = format!("/_matrix/federation/{path}");
        federation::signed(self.asked, &self.signer, method, &path, body).await
    }

    /// `make_join`, `make_leave` or `make_knock`, for a server that knows all versions.
    pub async fn template(&self, make: &str, room: &Room, user: &str) -> Answer {
        let versions: Vec<String> = (1..=12).map(|version| format!("ver={version}")).collect();
        self.get(&format!("v1/{make}/{room}/{}?{}", encode(user), versions.join("&"))).await
    }

    /// The template, signed.
    pub fn complete(&self, template: &Value) -> Pdu {
        let version = template["room_version"].as_str().expect("it has a version");
        let version = version::find_str(version).expect("it is known");
        let mut event: CanonicalJsonObject =
            serde_json::from_value(template["event"].clone()).expect("it is an object");
        event.insert("origin_server_ts".to_owned(), Int::from(1_700_000_000).into());
        build::complete_template(version, event, Some(unique()), &self.signer).expect("it can be signed")
    }

    /// Hands over an event: `v2/send_join` and the like.
    pub async fn hand_over(&self, send: &str, room: &Room, event: &Pdu) -> Answer {
        self.put(&format!("{send}/{room}/{}", encode(event.event_id().as_str())), value(event)).await
    }

    /// Joins a user: the join, and the answer to it.
    pub async fn join(&self, room: &Room, user: &str) -> (Pdu, Value) {
        let join = self.complete(&self.template("make_join", room, user).await.ok());
        let answer = self.hand_over("v2/send_join", room, &join).await.ok();
        (join, answer)
    }
}

/// The event as it is sent.
pub fn value(event: &Pdu) -> Value {
    serde_json::from_str(event.json()).expect("events are JSON")
}

/// Its id, as clients' tests have it.
pub fn id_of(event: &Pdu) -> EventId {
    EventId(event.event_id().to_string())
}

/// The events of these types and state keys in a list of PDUs.
pub fn state_keys(pdus: &Value) -> Vec<(String, String)> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let pdus = pdus.as_array().unwrap_or_else(|| panic!("no list of events: {pdus}"));
    pdus.iter().map(|event| (text(event, "type"), text(event, "state_key"))).collect()
}

/// Makes a room of this version that everybody may join, with one message.
pub async fn open_room(creator: &User, version: &str) -> Room {
    let room = creator.create_room().version(version).public().await;
    creator.send_text(&room, "hello").await;
    room
}

/// Shuts a server out of a room.
pub async fn shut_out(user: &User, room: &Room, server: &str) {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    user.set_state(room, "m.room.server_acl", "", json!({"allow": ["*"], "deny": [host]})).await;
}
