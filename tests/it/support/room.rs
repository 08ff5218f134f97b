//! What users do with rooms and get from them: ids, the room under construction, what `/sync` said.

use std::{fmt, future::IntoFuture, pin::Pin};

use serde_json::{Map, Value, json};

use super::user::User;

/// The id of a room that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room(pub String);

/// The id of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId(pub String);

impl fmt::Display for Room {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&encode(&self.0))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&encode(&self.0))
    }
}

impl EventId {
    /// The id of an event in client format.
    #[track_caller]
    pub fn of(event: &Value) -> Self {
        Self(event["event_id"].as_str().unwrap_or_else(|| panic!("no event id: {event}")).to_owned())
    }
}

/// As one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    use std::fmt::Write;

    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("strings take everything");
        }
        encoded
    })
}

/// A room under construction: `alice.create_room().invite(&bob).await`.
pub struct CreateRoom<'a> {
    creator: &'a User,
    request: Map<String, Value>,
}

impl<'a> CreateRoom<'a> {
    pub(super) fn new(creator: &'a User) -> Self {
        Self { creator, request: Map::new() }
    }

    /// Sets any field of the request.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.request.insert(field.to_owned(), value.into());
        self
    }

    pub fn version(self, version: &str) -> Self {
        self.with("room_version", version)
    }

    /// Everybody may join.
    pub fn public(self) -> Self {
        self.with("preset", "public_chat")
    }

    pub fn invite(mut self, user: &User) -> Self {
        let invited = self.request.entry("invite").or_insert_with(|| json!([]));
        invited.as_array_mut().expect("made here").push(user.id.clone().into());
        self
    }

    /// Adds an event to `initial_state`.
    #[expect(clippy::needless_pass_by_value, reason = "callers write the content in place")]
    pub fn state(mut self, event_type: &str, content: Value) -> Self {
        let states = self.request.entry("initial_state").or_insert_with(|| json!([]));
        let event = json!({"type": event_type, "state_key": "", "content": content});
        states.as_array_mut().expect("made here").push(event);
        self
    }
}

impl<'a> IntoFuture for CreateRoom<'a> {
    type Output = Room;
    type IntoFuture = Pin<Box<dyn Future<Output = Room> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let body = self.creator.post("createRoom", Value::Object(self.request)).await.ok();
            Room(body["room_id"].as_str().expect("a room id").to_owned())
        })
    }
}

/// A `/sync` about to be asked for: `bob.sync().since(&earlier).await`.
pub struct AskSync<'a> {
    user: &'a User,
    query: Vec<(&'static str, String)>,
}

impl<'a> AskSync<'a> {
    pub(super) fn new(user: &'a User) -> Self {
        Self { user, query: Vec::new() }
    }

    pub fn since(self, earlier: &Sync) -> Self {
        self.with("since", earlier.next_batch())
    }

    pub fn filter(self, filter: &Value) -> Self {
        self.with("filter", filter.to_string())
    }

    pub fn full_state(self) -> Self {
        self.with("full_state", "true")
    }

    /// Waits this long for something new.
    pub fn timeout_ms(self, timeout_ms: u64) -> Self {
        self.with("timeout", timeout_ms.to_string())
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

impl<'a> IntoFuture for AskSync<'a> {
    type Output = Sync;
    type IntoFuture = Pin<Box<dyn Future<Output = Sync> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let query: Vec<String> =
            self.query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        Box::pin(async move { Sync(self.user.get(&format!("sync?{}", query.join("&"))).await.ok()) })
    }
}

/// What `/sync` answered.
#[derive(Clone, Debug)]
pub struct Sync(pub Value);

impl Sync {
    pub fn next_batch(&self) -> &str {
        self.0["next_batch"].as_str().expect("every answer has a next_batch")
    }

    /// The room's part of this section (`join`, `invite`, `knock`, `leave`), or null.
    pub fn section(&self, section: &str, room: &Room) -> &Value {
        &self.0["rooms"][section][&room.0]
    }

    pub fn joined(&self, room: &Room) -> &Value {
        self.section("join", room)
    }

    /// Whether any section has the room.
    pub fn mentions(&self, room: &Room) -> bool {
        ["join", "invite", "knock", "leave"].iter().any(|section| !self.section(section, room).is_null())
    }

    /// The events of the timeline of a room that the user is in or has left.
    pub fn events(&self, room: &Room) -> &[Value] {
        let part = ["join", "leave"].map(|section| self.section(section, room));
        let part = part.into_iter().find(|part| !part.is_null());
        part.and_then(|part| part["timeline"]["events"].as_array()).map_or(&[], Vec::as_slice)
    }

    /// Their ids.
    pub fn timeline(&self, room: &Room) -> Vec<EventId> {
        self.events(room).iter().map(EventId::of).collect()
    }

    /// The state before the timeline, or (asked for so) after it.
    pub fn state(&self, room: &Room) -> &[Value] {
        let part = ["join", "leave"].map(|section| self.section(section, room));
        let part = part.into_iter().find(|part| !part.is_null()).unwrap_or(&Value::Null);
        let events = ["state", "state_after"].iter().find_map(|name| part[name]["events"].as_array());
        events.map_or(&[], Vec::as_slice)
    }

    /// Whether the state has an event of this type and key.
    pub fn has_state(&self, room: &Room, event_type: &str, state_key: &str) -> bool {
        self.state(room).iter().any(|event| event["type"] == event_type && event["state_key"] == state_key)
    }

    /// The content of the ephemeral event of this type, or null.
    pub fn ephemeral(&self, room: &Room, event_type: &str) -> &Value {
        find(&self.joined(room)["ephemeral"]["events"], event_type)
    }

    /// The content of the account data of this type (of a room, or global), or null.
    pub fn account_data(&self, room: Option<&Room>, event_type: &str) -> &Value {
        let part = room.map_or(&self.0, |room| self.joined(room));
        find(&part["account_data"]["events"], event_type)
    }

    /// Notifications and highlights.
    pub fn unread(&self, room: &Room) -> (u64, u64) {
        let counts = &self.joined(room)["unread_notifications"];
        let count = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("no {name} in {counts}"));
        (count("notification_count"), count("highlight_count"))
    }

    pub fn is_limited(&self, room: &Room) -> bool {
        self.joined(room)["timeline"]["limited"] == true
    }

    pub fn prev_batch(&self, room: &Room) -> &str {
        self.joined(room)["timeline"]["prev_batch"].as_str().expect("a prev_batch")
    }
}

fn find<'a>(events: &'a Value, event_type: &str) -> &'a Value {
    let found = events.as_array().and_then(|events| events.iter().find(|event| event["type"] == event_type));
    found.map_or(&Value::Null, |event| &event["content"])
}
