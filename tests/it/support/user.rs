//! A user as the tests play them: one device with its access token, and what one does with it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rand::distr::{Alphanumeric, SampleString};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::room::{AskSync, CreateRoom, EventId, Room, Sync, encode};

/// What nothing in a test takes; only a hang does.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The password of every user that [`super::server::Server::user`] makes.
pub const PASSWORD: &str = "correct horse battery staple";

/// Where requests go, and as whom.
#[derive(Clone)]
pub struct Caller {
    pub base_url: String,
    pub http: Client,
    pub token: Option<String>,
}

impl Caller {
    /// A request that is not sent yet. The path starts at the root, or at `/_matrix/client/v3/`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let prefix = if path.starts_with('/') { "" } else { "/_matrix/client/v3/" };
        let request = self.http.request(method, format!("{}{prefix}{path}", self.base_url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::GET, path)).await
    }

    /// Asks until the answer is so.
    pub async fn get_until(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if is_so(&answer.body) {
                return answer.body;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::to(self.request(Method::DELETE, path)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.request(Method::POST, path).json(&body)).await
    }
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    request: String,
}

impl Answer {
    /// Sends the request. An answer that is not JSON is null.
    pub async fn to(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.expect("tests make whole requests");
        let name = format!("{} {}", request.method(), request.url());
        let answer = client.execute(request).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        Self { status, body: serde_json::from_slice(&body).unwrap_or_default(), request: name }
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}: {}", self.request, self.body);
        self.body
    }

    /// That it was refused like this.
    #[track_caller]
    pub fn refused(self, status: u16, errcode: &str) -> Value {
        let answered = (self.status, self.body["errcode"].as_str().unwrap_or("no errcode"));
        assert_eq!(answered, (status, errcode), "{}: {}", self.request, self.body);
        assert!(self.body["error"].is_string(), "an error says what is wrong: {}", self.body);
        self.body
    }
}

/// A logged-in device of a user.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub device: String,
    pub caller: Caller,
}

impl std::ops::Deref for User {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl User {
    /// From the answer to `/register` or `/login`.
    #[track_caller]
    pub fn from_answer(caller: &Caller, body: &Value) -> Self {
        let text =
            |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned();
        let caller = Caller { token: Some(text("access_token")), ..caller.clone() };
        Self { id: text("user_id"), device: text("device_id"), caller }
    }

    /// The name before the colon.
    pub fn localpart(&self) -> &str {
        self.id[1..].split(':').next().expect("split yields something")
    }

    /// Logs in on another device.
    pub async fn log_in_again(&self) -> Self {
        let body = self.post("login", password_login(self.localpart())).await.ok();
        Self::from_answer(&self.caller, &body)
    }

    pub fn create_room(&self) -> CreateRoom<'_> {
        CreateRoom::new(self)
    }

    pub async fn join(&self, room: &Room) {
        self.post(&format!("rooms/{room}/join"), json!({})).await.ok();
    }

    pub async fn leave(&self, room: &Room) {
        self.post(&format!("rooms/{room}/leave"), json!({})).await.ok();
    }

    pub async fn forget(&self, room: &Room) -> Answer {
        self.post(&format!("rooms/{room}/forget"), json!({})).await
    }

    pub async fn knock(&self, room: &Room) -> Answer {
        self.post(&format!("knock/{room}"), json!({"reason": "let me in"})).await
    }

    /// Tries `invite`, `kick`, `ban` or `unban` on another user.
    pub async fn moderate(&self, action: &str, room: &Room, user: &User) -> Answer {
        self.post(&format!("rooms/{room}/{action}"), json!({"user_id": user.id})).await
    }

    pub async fn invite(&self, room: &Room, user: &User) {
        self.moderate("invite", room, user).await.ok();
    }

    pub async fn kick(&self, room: &Room, user: &User) {
        self.moderate("kick", room, user).await.ok();
    }

    pub async fn ban(&self, room: &Room, user: &User) {
        self.moderate("ban", room, user).await.ok();
    }

    pub async fn unban(&self, room: &Room, user: &User) {
        self.moderate("unban", room, user).await.ok();
    }

    pub async fn send_text(&self, room: &Room, text: &str) -> EventId {
        self.send(room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await
    }

    /// Sends under a transaction id of its own.
    pub async fn send(&self, room: &Room, event_type: &str, content: Value) -> EventId {
        EventId::of(&self.try_send(room, event_type, content).await.ok())
    }

    pub async fn try_send(&self, room: &Room, event_type: &str, content: Value) -> Answer {
        let txn_id = unique();
        self.put(&format!("rooms/{room}/send/{event_type}/{txn_id}"), content).await
    }

    pub async fn set_state(&self, room: &Room, event_type: &str, key: &str, content: Value) -> EventId {
        EventId::of(&self.try_set_state(room, event_type, key, content).await.ok())
    }

    pub async fn try_set_state(&self, room: &Room, event_type: &str, key: &str, content: Value) -> Answer {
        self.put(&format!("rooms/{room}/state/{event_type}/{}", encode(key)), content).await
    }

    /// The content of a state event.
    pub async fn state(&self, room: &Room, event_type: &str, key: &str) -> Value {
        self.get(&format!("rooms/{room}/state/{event_type}/{}", encode(key))).await.ok()
    }

    pub async fn membership_of(&self, room: &Room, user: &User) -> String {
        let content = self.state(room, "m.room.member", &user.id).await;
        content["membership"].as_str().expect("a membership").to_owned()
    }

    pub async fn redact(&self, room: &Room, event: &EventId) -> EventId {
        EventId::of(&self.try_redact(room, event).await.ok())
    }

    pub async fn try_redact(&self, room: &Room, event: &EventId) -> Answer {
        let txn_id = unique();
        self.put(&format!("rooms/{room}/redact/{event}/{txn_id}"), json!({"reason": "spam"})).await
    }

    pub async fn event(&self, room: &Room, event: &EventId) -> Answer {
        self.get(&format!("rooms/{room}/event/{event}")).await
    }

    /// `/messages` with this query.
    pub async fn messages(&self, room: &Room, query: &str) -> Value {
        self.get(&format!("rooms/{room}/messages?{query}")).await.ok()
    }

    /// The ids of all messages of the room, oldest first, read backwards in pages of this size.
    pub async fn history(&self, room: &Room, page: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        let mut from = String::new();
        loop {
            let body = self.messages(room, &format!("dir=b&limit={page}{from}")).await;
            let chunk = body["chunk"].as_array().expect("a chunk");
            let messages = chunk.iter().filter(|event| event["type"] == "m.room.message");
            ids.extend(messages.map(EventId::of));
            match body["end"].as_str() {
                Some(end) if !chunk.is_empty() => from = format!("&from={}", encode(end)),
                _ => break,
            }
        }
        ids.reverse();
        ids
    }

    pub fn sync(&self) -> AskSync<'_> {
        AskSync::new(self)
    }

    /// Waits in `/sync` after `since` until an answer fulfils the condition, and returns that one.
    #[track_caller]
    pub fn sync_until(&self, since: &Sync, condition: impl Fn(&Sync) -> bool) -> impl Future<Output = Sync> {
        let caller = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            let mut last = since.clone();
            loop {
                last = self.sync().since(&last).timeout_ms(2000).await;
                if condition(&last) {
                    return last;
                }
                assert!(
                    start.elapsed() < PATIENCE,
                    "{caller}: what was waited for in /sync did not come: {}",
                    last.0
                );
            }
        }
    }
}

/// The body of a login with [`PASSWORD`].
pub fn password_login(localpart: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": localpart},
        "password": PASSWORD,
    })
}

/// A text that nothing else in this process has used.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A text of so many bytes that does not get shorter when it is packed, as the database does before it measures.
pub fn letters(count: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), count)
}
