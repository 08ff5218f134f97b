//! What no honest client sends: malformed, oversized, deeply nested, wrongly typed and unauthorised requests to
//! every endpoint. Each gets its status and errcode; none gets a 5xx; none hangs.

mod names;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Answer, EventId, Room, Server, User};

/// Endpoints that need an access token. `{room}`, `{event}`, `{user}` and `{device}` are filled in.
const WITH_TOKEN: &[(&str, &str)] = &[
    ("GET", "account/whoami"),
    ("GET", "account/3pid"),
    ("POST", "logout"),
    ("POST", "logout/all"),
    ("GET", "capabilities"),
    ("GET", "devices"),
    ("GET", "devices/{device}"),
    ("PUT", "devices/{device}"),
    ("DELETE", "devices/{device}"),
    ("POST", "delete_devices"),
    ("PUT", "profile/{user}/displayname"),
    ("PUT", "profile/{user}/avatar_url"),
    ("POST", "createRoom"),
    ("GET", "joined_rooms"),
    ("POST", "join/{room}"),
    ("POST", "knock/{room}"),
    ("POST", "rooms/{room}/join"),
    ("POST", "rooms/{room}/leave"),
    ("POST", "rooms/{room}/forget"),
    ("POST", "rooms/{room}/invite"),
    ("POST", "rooms/{room}/kick"),
    ("POST", "rooms/{room}/ban"),
    ("POST", "rooms/{room}/unban"),
    ("GET", "rooms/{room}/members"),
    ("GET", "rooms/{room}/joined_members"),
    ("GET", "rooms/{room}/aliases"),
    ("GET", "rooms/{room}/state"),
    ("GET", "rooms/{room}/state/m.room.name"),
    ("PUT", "rooms/{room}/state/m.room.name"),
    ("GET", "rooms/{room}/state/m.room.name/key"),
    ("PUT", "rooms/{room}/state/m.room.name/key"),
    ("PUT", "rooms/{room}/send/m.room.message/txn"),
    ("PUT", "rooms/{room}/redact/{event}/txn"),
    ("GET", "rooms/{room}/messages?dir=b"),
    ("GET", "rooms/{room}/event/{event}"),
    ("GET", "rooms/{room}/context/{event}"),
    ("POST", "rooms/{room}/receipt/m.read/{event}"),
    ("POST", "rooms/{room}/read_markers"),
    ("PUT", "rooms/{room}/typing/{user}"),
    ("POST", "rooms/{room}/upgrade"),
    ("GET", "sync"),
    ("POST", "user/{user}/filter"),
    ("GET", "user/{user}/filter/1"),
    ("GET", "user/{user}/account_data/test.note"),
    ("PUT", "user/{user}/account_data/test.note"),
    ("GET", "user/{user}/rooms/{room}/account_data/test.note"),
    ("PUT", "user/{user}/rooms/{room}/account_data/test.note"),
    ("GET", "user/{user}/rooms/{room}/tags"),
    ("PUT", "user/{user}/rooms/{room}/tags/u.work"),
    ("DELETE", "user/{user}/rooms/{room}/tags/u.work"),
    ("POST", "user/{user}/openid/request_token"),
    ("POST", "user_directory/search"),
    ("GET", "presence/{user}/status"),
    ("PUT", "presence/{user}/status"),
    ("GET", "pushrules/"),
    ("GET", "pushrules/global/override/.m.rule.master"),
    ("PUT", "pushrules/global/content/cheese"),
    ("DELETE", "pushrules/global/content/cheese"),
    ("PUT", "pushrules/global/override/.m.rule.master/enabled"),
    ("PUT", "pushrules/global/override/.m.rule.master/actions"),
    ("GET", "pushers"),
    ("POST", "pushers/set"),
    ("PUT", "directory/room/%23tea%3Amyelin.test"),
    ("DELETE", "directory/room/%23tea%3Amyelin.test"),
    ("PUT", "directory/list/room/{room}"),
    ("POST", "publicRooms"),
    ("GET", "/_matrix/client/v1/rooms/{room}/relations/{event}"),
    ("GET", "/_matrix/client/v1/rooms/{room}/threads"),
    ("GET", "/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts=0&dir=f"),
];

/// Endpoints whose body must be an object.
const WITH_BODY: &[(&str, &str)] = &[
    ("POST", "login"),
    ("POST", "register"),
    ("POST", "refresh"),
    ("PUT", "devices/{device}"),
    ("POST", "delete_devices"),
    ("POST", "account/password"),
    ("PUT", "profile/{user}/displayname"),
    ("POST", "createRoom"),
    ("POST", "rooms/{room}/invite"),
    ("POST", "rooms/{room}/kick"),
    ("POST", "rooms/{room}/ban"),
    ("POST", "rooms/{room}/unban"),
    ("PUT", "rooms/{room}/state/m.room.name"),
    ("PUT", "rooms/{room}/send/m.room.message/txn"),
    ("POST", "rooms/{room}/read_markers"),
    ("PUT", "rooms/{room}/typing/{user}"),
    ("POST", "rooms/{room}/upgrade"),
    ("POST", "user/{user}/filter"),
    ("PUT", "user/{user}/account_data/test.note"),
    ("PUT", "user/{user}/rooms/{room}/account_data/test.note"),
    ("PUT", "user/{user}/rooms/{room}/tags/u.work"),
    ("POST", "user_directory/search"),
    ("PUT", "presence/{user}/status"),
    ("PUT", "pushrules/global/content/cheese"),
    ("PUT", "pushrules/global/override/.m.rule.master/enabled"),
    ("POST", "pushers/set"),
    ("PUT", "directory/room/%23tea%3Amyelin.test"),
    ("PUT", "directory/list/room/{room}"),
];

/// Objects with a field of the wrong type, or without one that is needed.
const WRONG: &[(&str, &str, &str)] = &[
    ("POST", "login", r#"{"type": 1}"#),
    ("POST", "login", r"{}"),
    ("POST", "login", r#"{"type": "m.login.password", "identifier": "alice", "password": "x"}"#),
    ("POST", "register", r#"{"username": 1, "auth": {"type": "m.login.dummy"}}"#),
    ("POST", "register", r#"{"username": "x", "password": ["x"], "auth": {"type": "m.login.dummy"}}"#),
    ("POST", "register", r#"{"auth": "dummy"}"#),
    ("POST", "refresh", r#"{"refresh_token": 1}"#),
    ("PUT", "devices/{device}", r#"{"display_name": 1}"#),
    ("POST", "delete_devices", r#"{"devices": "all"}"#),
    ("PUT", "profile/{user}/displayname", r#"{"displayname": {}}"#),
    ("POST", "createRoom", r#"{"invite": "@bob:myelin.test"}"#),
    ("POST", "createRoom", r#"{"invite": ["bob"]}"#),
    ("POST", "createRoom", r#"{"name": 1}"#),
    ("POST", "createRoom", r#"{"preset": "cosy"}"#),
    ("POST", "createRoom", r#"{"visibility": "hidden"}"#),
    ("POST", "createRoom", r#"{"initial_state": {}}"#),
    ("POST", "createRoom", r#"{"initial_state": [{"content": {}}]}"#),
    (
        "POST",
        "createRoom",
        r#"{"initial_state": [{"type": "m.room.power_levels", "content": {"users": 1}}]}"#,
    ),
    ("POST", "createRoom", r#"{"power_level_content_override": {"users": "everyone"}}"#),
    ("POST", "createRoom", r#"{"creation_content": []}"#),
    ("POST", "createRoom", r#"{"room_alias_name": "a:b#c"}"#),
    ("POST", "rooms/{room}/invite", r#"{"user_id": 1}"#),
    ("POST", "rooms/{room}/invite", r#"{"user_id": "bob"}"#),
    ("POST", "rooms/{room}/invite", r"{}"),
    ("POST", "rooms/{room}/kick", r#"{"user_id": "not a user"}"#),
    ("POST", "rooms/{room}/ban", r#"{"user_id": "@bob:myelin.test", "reason": 1}"#),
    ("PUT", "rooms/{room}/state/m.room.power_levels", r#"{"users": {"bob": 1}}"#),
    ("PUT", "rooms/{room}/state/m.room.power_levels", r#"{"events": 5}"#),
    ("PUT", "rooms/{room}/state/m.room.member/{user}", r#"{"membership": 1}"#),
    ("PUT", "rooms/{room}/state/m.room.member/{user}", r"{}"),
    ("PUT", "rooms/{room}/state/m.room.member/not-a-user", r#"{"membership": "join"}"#),
    ("PUT", "rooms/{room}/state/m.room.canonical_alias", r#"{"alias": 1}"#),
    ("PUT", "rooms/{room}/send/m.room.message/float", r#"{"n": 1.5}"#),
    ("PUT", "rooms/{room}/send/m.room.message/large", r#"{"n": 1e300}"#),
    ("POST", "rooms/{room}/read_markers", r#"{"m.read": 1}"#),
    ("POST", "rooms/{room}/read_markers", r#"{"m.read": "not an event"}"#),
    ("PUT", "rooms/{room}/typing/{user}", r#"{"typing": "yes"}"#),
    ("PUT", "rooms/{room}/typing/{user}", r#"{"typing": true, "timeout": "long"}"#),
    ("POST", "rooms/{room}/upgrade", r#"{"new_version": 11}"#),
    ("POST", "user/{user}/filter", r#"{"room": {"timeline": {"types": "m.room.message"}}}"#),
    ("PUT", "user/{user}/rooms/{room}/tags/u.work", r#"{"order": "first"}"#),
    ("POST", "user_directory/search", r#"{"search_term": 1}"#),
    ("PUT", "presence/{user}/status", r#"{"presence": "asleep"}"#),
    ("PUT", "pushrules/global/content/cheese", r#"{"pattern": 1, "actions": []}"#),
    ("PUT", "pushrules/global/override/mine", r#"{"conditions": "always", "actions": []}"#),
    ("PUT", "pushrules/global/override/.m.rule.master/enabled", r#"{"enabled": "no"}"#),
    ("PUT", "directory/room/%23tea%3Amyelin.test", r#"{"room_id": "not a room"}"#),
    ("PUT", "directory/list/room/{room}", r#"{"visibility": "sometimes"}"#),
    ("POST", "publicRooms", r#"{"limit": "all"}"#),
];

/// Ids and queries that are broken.
const BROKEN_PATHS: &[(&str, &str)] = &[
    ("GET", "rooms/not-a-room/messages?dir=b"),
    ("GET", "rooms/%00/state"),
    ("GET", "rooms/{room}/event/not-an-event"),
    ("GET", "rooms/{room}/messages?dir=b&limit=-1"),
    ("GET", "rooms/{room}/messages?dir=b&limit=99999999999999999999"),
    ("GET", "rooms/{room}/messages?dir=b&from=s-1_-1"),
    ("GET", "rooms/{room}/messages?dir=b&from=%00"),
    ("GET", "rooms/{room}/messages?dir=b&filter=%7B%22types%22%3A1%7D"),
    ("GET", "rooms/{room}/context/{event}?limit=many"),
    ("GET", "sync?since=%F0%9F%92%A9"),
    ("GET", "sync?since=9223372036854775808"),
    ("GET", "sync?timeout=-5"),
    ("GET", "sync?set_presence=asleep"),
    ("GET", "profile/not-a-user"),
    ("GET", "user/not-a-user/account_data/test.note"),
    ("GET", "directory/room/not-an-alias"),
    ("GET", "pushrules/global/nonsense/rule"),
    ("PUT", "rooms/{room}/receipt/m.read/{event}/more"),
    ("GET", "/_matrix/client/v1/rooms/{room}/threads?from=nonsense"),
    ("GET", "/_matrix/client/v1/rooms/{room}/relations/{event}?from=nonsense"),
    ("GET", "/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts=never&dir=f"),
];

struct Scene {
    alice: User,
    room: Room,
    event: EventId,
}

impl Scene {
    async fn set(server: &Server) -> Self {
        let alice = server.user("alice").await;
        let room = alice.create_room().version("10").await;
        let event = alice.send_text(&room, "hello").await;
        Self { alice, room, event }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.alice.request(Method::from_bytes(method.as_bytes()).expect("a method"), &self.fill(path))
    }

    fn fill(&self, path: &str) -> String {
        path.replace("{room}", &self.room.to_string())
            .replace("{event}", &self.event.to_string())
            .replace("{user}", &self.alice.id)
            .replace("{device}", &self.alice.device)
    }
}

/// What was wrong with the answers, gathered so that one run shows all.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn expect(&mut self, what: &str, answer: &Answer, allowed: &[(u16, &str)]) {
        let answered = (answer.status, answer.body["errcode"].as_str().unwrap_or("no errcode"));
        if !allowed.contains(&answered) {
            self.0.push(format!("{what}: {answered:?} {}, not {allowed:?}", answer.body["error"]));
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "{} of the answers were wrong:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn raw(request: RequestBuilder, body: impl Into<reqwest::Body>) -> RequestBuilder {
    request.header("content-type", "application/json").body(body)
}

#[tokio::test]
async fn requests_without_a_good_token_are_turned_away() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mut complaints = Complaints::default();
    for (method, path) in WITH_TOKEN {
        let filled = scene.fill(path);
        for (token, errcode) in [(None, "M_MISSING_TOKEN"), (Some("nonsense"), "M_UNKNOWN_TOKEN")] {
            let mut caller = server.anyone();
            caller.token = token.map(str::to_owned);
            let request = caller.request(Method::from_bytes(method.as_bytes()).expect("a method"), &filled);
            let answer = Answer::to(if *method == "GET" { request } else { raw(request, "{}") }).await;
            complaints.expect(&format!("{method} {path} with token {token:?}"), &answer, &[(401, errcode)]);
        }
    }
    complaints.finish();
}

#[tokio::test]
async fn bodies_that_are_not_json_objects_are_refused() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mut complaints = Complaints::default();
    let not_json: &[&[u8]] =
        &[b"{", b"{'a': 1}", b"\xff\xfe", b"{\"a\": 1} trailing", b"{\"a\": \"\xc3\x28\"}", b"NaN"];
    let bad_json: &[&[u8]] = &[b"[]", b"1", b"\"text\"", b"null", b"true"];
    for (method, path) in WITH_BODY {
        for body in not_json {
            let answer = Answer::to(raw(scene.request(method, path), body.to_vec())).await;
            let what = format!("{method} {path} {:?}", String::from_utf8_lossy(body));
            complaints.expect(&what, &answer, &[(400, "M_NOT_JSON"), (400, "M_BAD_JSON")]);
        }
        for body in bad_json {
            let answer = Answer::to(raw(scene.request(method, path), body.to_vec())).await;
            let what = format!("{method} {path} {:?}", String::from_utf8_lossy(body));
            complaints.expect(&what, &answer, &[(400, "M_BAD_JSON")]);
        }
    }
    complaints.finish();
}

#[tokio::test]
async fn deep_and_large_bodies_are_refused() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mut complaints = Complaints::default();
    let deep_array = format!("{{\"a\": {}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(20 << 20));
    for (method, path) in WITH_BODY {
        for body in [&deep_array, &deep_object] {
            let answer = Answer::to(raw(scene.request(method, path), body.clone())).await;
            let allowed = [(400, "M_BAD_JSON"), (400, "M_NOT_JSON"), (413, "M_TOO_LARGE")];
            complaints.expect(&format!("{method} {path} deep"), &answer, &allowed);
        }
    }
    for (method, path) in [WITH_BODY[0], WITH_BODY[7], WITH_BODY[12], WITH_BODY[13], WITH_BODY[18]] {
        // The server may hang up before it has read everything; then there is no answer to look at.
        if let Ok(answer) = raw(scene.request(method, path), large.clone()).send().await {
            let status = answer.status().as_u16();
            if status != 413 {
                complaints.0.push(format!("{method} {path} with 20 MiB: {status}"));
            }
        }
    }
    complaints.finish();
}

#[tokio::test]
async fn fields_of_the_wrong_type_are_refused() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mut complaints = Complaints::default();
    let allowed = [
        (400, "M_BAD_JSON"),
        (400, "M_INVALID_PARAM"),
        (400, "M_MISSING_PARAM"),
        (400, "M_INVALID_ROOM_STATE"),
        (400, "M_UNKNOWN"),
    ];
    for (method, path, body) in WRONG {
        let answer = Answer::to(raw(scene.request(method, path), *body)).await;
        complaints.expect(&format!("{method} {path} {body}"), &answer, &allowed);
    }
    complaints.finish();
}

#[tokio::test]
async fn broken_ids_and_queries_are_refused() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mut complaints = Complaints::default();
    for (method, path) in BROKEN_PATHS {
        let answer = Answer::to(scene.request(method, path)).await;
        let is_refusal = (400..500).contains(&answer.status) && answer.body["errcode"].is_string();
        if !is_refusal {
            complaints.0.push(format!("{method} {path}: {} {}", answer.status, answer.body));
        }
    }
    complaints.finish();
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    for path in
        ["nothing", "rooms", "/_matrix/client/v99/sync", "/_matrix/nothing", "/_matrix/client/v3//sync"]
    {
        scene.alice.get(path).await.refused(404, "M_UNRECOGNIZED");
    }
    for (method, path) in
        [("DELETE", "createRoom"), ("POST", "account/whoami"), ("PATCH", "rooms/{room}/state")]
    {
        Answer::to(scene.request(method, path)).await.refused(405, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn strangers_get_nothing_from_a_private_room() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mallory = server.user("mallory").await;
    let (room, event) = (&scene.room, &scene.event);
    let mut complaints = Complaints::default();
    let user = &mallory.id;
    let cases: [(&str, String, Value); 20] = [
        ("GET", format!("rooms/{room}/state"), Value::Null),
        ("GET", format!("rooms/{room}/state/m.room.create"), Value::Null),
        ("GET", format!("rooms/{room}/members"), Value::Null),
        ("GET", format!("rooms/{room}/joined_members"), Value::Null),
        ("GET", format!("rooms/{room}/messages?dir=b"), Value::Null),
        ("GET", format!("rooms/{room}/event/{event}"), Value::Null),
        ("GET", format!("rooms/{room}/context/{event}"), Value::Null),
        ("GET", format!("rooms/{room}/aliases"), Value::Null),
        ("POST", format!("rooms/{room}/join"), json!({})),
        ("POST", format!("rooms/{room}/invite"), json!({"user_id": user})),
        ("POST", format!("rooms/{room}/kick"), json!({"user_id": scene.alice.id})),
        ("POST", format!("rooms/{room}/ban"), json!({"user_id": scene.alice.id})),
        ("PUT", format!("rooms/{room}/send/m.room.message/1"), json!({})),
        ("PUT", format!("rooms/{room}/redact/{event}/1"), json!({})),
        ("PUT", format!("rooms/{room}/state/m.room.name"), json!({})),
        ("POST", format!("rooms/{room}/receipt/m.read/{event}"), json!({})),
        ("PUT", format!("rooms/{room}/typing/{user}"), json!({"typing": true})),
        ("POST", format!("rooms/{room}/upgrade"), json!({"new_version": "11"})),
        ("GET", format!("/_matrix/client/v1/rooms/{room}/relations/{event}"), Value::Null),
        ("GET", format!("/_matrix/client/v1/rooms/{room}/threads"), Value::Null),
    ];
    for (method, path, body) in cases {
        let request = mallory.request(Method::from_bytes(method.as_bytes()).expect("a method"), &path);
        let answer = Answer::to(if body.is_null() { request } else { request.json(&body) }).await;
        complaints.expect(
            &format!("{method} {path}"),
            &answer,
            &[(403, "M_FORBIDDEN"), (404, "M_NOT_FOUND")],
        );
    }
    complaints.finish();
}
