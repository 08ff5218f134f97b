//! Names that clients choose and the server keeps: too long to be kept, or not fit for it.

use serde_json::{Value, json};

use super::{Complaints, Scene, raw};
use crate::support::{Answer, Server, encode, letters};

/// What is made under a name: method, path, body. `{long}` is the name. Refused when it is too long.
const MADE: &[(&str, &str, &str)] = &[
    ("PUT", "rooms/{room}/send/{long}/1", "{}"),
    ("POST", "rooms/{room}/send/{long}", "{}"),
    ("PUT", "rooms/{room}/send/m.room.message/{long}", "{}"),
    ("PUT", "rooms/{room}/redact/{event}/{long}", "{}"),
    ("PUT", "rooms/{room}/state/{long}/key", "{}"),
    ("PUT", "rooms/{room}/state/test.state/{long}", "{}"),
    ("PUT", "rooms/{room}/state/m.room.member/@{long}:myelin.test", r#"{"membership": "invite"}"#),
    ("POST", "rooms/{room}/invite", r#"{"user_id": "@{long}:myelin.test"}"#),
    ("POST", "rooms/{room}/ban", r#"{"user_id": "@{long}:myelin.test"}"#),
    ("POST", "createRoom", r#"{"initial_state": [{"type": "{long}", "content": {}}]}"#),
    ("POST", "createRoom", r#"{"initial_state": [{"type": "a", "state_key": "{long}", "content": {}}]}"#),
    ("POST", "createRoom", r#"{"room_alias_name": "{long}"}"#),
    ("POST", "createRoom", r#"{"invite": ["@{long}:myelin.test"]}"#),
    ("PUT", "directory/room/%23{long}%3Amyelin.test", r#"{"room_id": "{room_id}"}"#),
    ("PUT", "user/{user}/account_data/{long}", "{}"),
    ("PUT", "user/{user}/rooms/{room}/account_data/{long}", "{}"),
    ("PUT", "user/{user}/rooms/{room}/tags/{long}", "{}"),
    ("PUT", "profile/{user}/{long}", r#"{"{long}": 1}"#),
    ("PUT", "pushrules/global/override/{long}", r#"{"actions": [], "conditions": []}"#),
    ("PUT", "pushrules/global/content/{long}", r#"{"actions": [], "pattern": "a"}"#),
    ("PUT", "pushrules/global/room/{long}", r#"{"actions": []}"#),
    ("POST", "pushers/set", r#"{"app_id": "{long}", "pushkey": "a", {pusher}}"#),
    ("POST", "pushers/set", r#"{"app_id": "a", "pushkey": "{long}", {pusher}}"#),
    ("PUT", "sendToDevice/{long}/1", r#"{"messages": {"{user}": {"*": {}}}}"#),
    ("PUT", "sendToDevice/test.message/{long}", r#"{"messages": {"{user}": {"*": {}}}}"#),
    ("POST", "keys/upload", r#"{"one_time_keys": {"signed_curve25519:{long}": {"key": "a"}}}"#),
    ("POST", "keys/upload", r#"{"one_time_keys": {"{long}:a": {"key": "a"}}}"#),
    (
        "POST",
        "keys/upload",
        r#"{"fallback_keys": {"signed_curve25519:{long}": {"key": "a", "fallback": true}}}"#,
    ),
    ("POST", "keys/upload", r#"{"fallback_keys": {"{long}:a": {"key": "a", "fallback": true}}}"#),
    ("POST", "login", r#"{"device_id": "{long}", "password": "{password}", {login}}"#),
    ("PUT", "room_keys/keys/{long}/session?version=1", "{session}"),
    ("PUT", "room_keys/keys/{room}/{long}?version=1", "{session}"),
    ("PUT", "room_keys/keys?version=1", r#"{"rooms": {"{long}": {"sessions": {"session": {session}}}}}"#),
];

/// What is looked for, or named in passing: there is nothing of that name, or it does not matter.
const NAMED: &[(&str, &str, &str)] = &[
    ("GET", "rooms/!{long}:myelin.test/state", ""),
    ("GET", "rooms/{room}/state/{long}/{long}", ""),
    ("GET", "rooms/{room}/event/%24{long}", ""),
    ("GET", "rooms/{room}/context/%24{long}", ""),
    ("GET", "rooms/{room}/messages?dir=b&from={long}", ""),
    ("GET", "/_matrix/client/v1/rooms/{room}/relations/%24{long}/{long}/{long}", ""),
    ("GET", "/_matrix/client/v1/rooms/{room}/hierarchy?from={long}", ""),
    ("GET", "/_matrix/client/v1/room_summary/%23{long}:myelin.test", ""),
    ("PUT", "rooms/{room}/redact/%24{long}/1", "{}"),
    ("PUT", "rooms/{room}/send/test/2", r#"{"m.relates_to": {"rel_type": "{long}", "event_id": "${long}"}}"#),
    (
        "PUT",
        "rooms/{room}/send/m.reaction/3",
        r#"{"m.relates_to": {"rel_type": "m.annotation", "event_id": "{event_id}", "key": "{long}"}}"#,
    ),
    (
        "PUT",
        "rooms/{room}/state/m.room.member/{user}",
        r#"{"membership": "join", "join_authorised_via_users_server": "@{long}:myelin.test"}"#,
    ),
    (
        "PUT",
        "rooms/{room}/state/m.room.member/@carol:myelin.test",
        r#"{"membership": "invite", "third_party_invite": {"display_name": "a", "signed": {"token": "{long}",
            "mxid": "@carol:myelin.test", "signatures": {}}}}"#,
    ),
    (
        "POST",
        "rooms/{room}/join",
        r#"{"third_party_signed": {"token": "{long}", "mxid": "{user}", "sender": "{user}", "signatures": {}}}"#,
    ),
    (
        "PUT",
        "rooms/{room}/state/m.room.power_levels",
        r#"{"users": {"{user}": 100}, "events": {"{long}": 1}}"#,
    ),
    ("POST", "join/!{long}:myelin.test", "{}"),
    ("POST", "join/%23{long}:myelin.test", "{}"),
    ("POST", "join/!{long}?server_name={long}", "{}"),
    ("POST", "knock/!{long}:myelin.test", "{}"),
    ("POST", "rooms/{room}/kick", r#"{"user_id": "@{long}:myelin.test"}"#),
    ("POST", "rooms/{room}/unban", r#"{"user_id": "@{long}:myelin.test"}"#),
    ("POST", "rooms/{room}/upgrade", r#"{"new_version": "{long}"}"#),
    ("POST", "rooms/{room}/receipt/{long}/{event}", "{}"),
    ("POST", "rooms/{room}/receipt/m.read/{event}", r#"{"thread_id": "${long}"}"#),
    ("POST", "rooms/{room}/receipt/m.read/%24{long}", "{}"),
    ("POST", "rooms/{room}/read_markers", r#"{"m.fully_read": "${long}", "m.read": "${long}"}"#),
    ("GET", "directory/room/%23{long}:myelin.test", ""),
    ("DELETE", "directory/room/%23{long}:myelin.test", ""),
    ("GET", "directory/list/room/!{long}:myelin.test", ""),
    ("POST", "publicRooms", r#"{"since": "{long}", "filter": {"generic_search_term": "{long}"}}"#),
    ("POST", "publicRooms?server={long}", "{}"),
    ("POST", "user_directory/search", r#"{"search_term": "{long}"}"#),
    ("GET", "profile/@{long}:myelin.test", ""),
    ("GET", "profile/{user}/{long}", ""),
    ("DELETE", "profile/{user}/{long}", ""),
    ("GET", "presence/@{long}:myelin.test/status", ""),
    ("GET", "user/{user}/account_data/{long}", ""),
    ("GET", "user/{user}/rooms/{room}/account_data/{long}", ""),
    ("DELETE", "user/{user}/rooms/{room}/tags/{long}", ""),
    ("GET", "user/{user}/filter/{long}", ""),
    ("POST", "user/{user}/filter", r#"{"event_fields": ["{long}"], "room": {"rooms": ["!{long}"]}}"#),
    ("GET", "pushrules/global/override/{long}", ""),
    ("DELETE", "pushrules/global/override/{long}", ""),
    ("PUT", "pushrules/global/override/{long}/enabled", r#"{"enabled": true}"#),
    ("GET", "devices/{long}", ""),
    ("PUT", "devices/{long}", r#"{"display_name": "a"}"#),
    ("POST", "delete_devices", r#"{"devices": ["{long}"]}"#),
    ("PUT", "sendToDevice/test.message/4", r#"{"messages": {"{user}": {"{long}": {}}}}"#),
    ("PUT", "sendToDevice/test.message/5", r#"{"messages": {"@{long}:myelin.test": {"*": {}}}}"#),
    ("POST", "keys/query", r#"{"device_keys": {"@{long}:myelin.test": ["{long}"]}}"#),
    ("POST", "keys/claim", r#"{"one_time_keys": {"{user}": {"{long}": "signed_curve25519"}}}"#),
    ("POST", "keys/claim", r#"{"one_time_keys": {"{user}": {"{device}": "{long}"}}}"#),
    ("POST", "keys/signatures/upload", r#"{"{user}": {"{long}": {"user_id": "{user}", "signatures": {}}}}"#),
    ("POST", "room_keys/version", r#"{"algorithm": "{long}", "auth_data": {}}"#),
    ("GET", "room_keys/version/{long}", ""),
    ("GET", "room_keys/keys/{long}/{long}?version=1", ""),
    ("DELETE", "room_keys/keys/{long}/{long}?version=1", ""),
    ("GET", "sync?since={long}&filter={long}", ""),
    ("POST", "refresh", r#"{"refresh_token": "{long}"}"#),
    ("POST", "login", r#"{"type": "m.login.token", "token": "{long}"}"#),
    ("GET", "register/available?username={long}", ""),
    ("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token={long}", ""),
    ("GET", "/_matrix/client/v1/media/download/myelin.test/{long}", ""),
    ("GET", "/_matrix/client/v1/media/download/{long}/a", ""),
    ("PUT", "/_matrix/media/v3/upload/myelin.test/{long}", ""),
    ("POST", "/_matrix/media/v3/upload?filename={long}", "a"),
];

/// What stands for what in the tables, besides the name and what a scene fills in.
fn fill(scene: &Scene, text: &str) -> String {
    let pusher = r#""kind": "http", "app_display_name": "a", "device_display_name": "a", "lang": "en",
        "data": {"url": "https://push.test/_matrix/push/v1/notify"}"#;
    let login = r#""type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}"#;
    let session = json!({
        "first_message_index": 0, "forwarded_count": 0, "is_verified": false, "session_data": {},
    });
    let text = text
        .replace("{pusher}", pusher)
        .replace("{login}", login)
        .replace("{password}", crate::support::PASSWORD)
        .replace("{session}", &session.to_string())
        .replace("{room_id}", &scene.room.0)
        .replace("{event_id}", &scene.event.0);
    scene.fill(&text)
}

async fn ask(scene: &Scene, (method, path, body): (&str, &str, &str), name: &str) -> Answer {
    let path = path.replace("{long}", &encode(name));
    let in_json = Value::from(name).to_string();
    let body = fill(scene, body).replace("{long}", in_json.trim_matches('"'));
    let request = scene.request(method, &path);
    Answer::to(if body.is_empty() { request } else { raw(request, body) }).await
}

async fn scene_with_backup(server: &Server) -> Scene {
    let scene = Scene::set(server).await;
    let version = json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}});
    let version = scene.alice.post("room_keys/version", version).await.ok();
    assert_eq!(version["version"], "1");
    scene
}

#[tokio::test]
async fn names_that_are_too_long_are_refused() {
    let server = Server::start().await;
    let scene = scene_with_backup(&server).await;
    let mut complaints = Complaints::default();
    for length in [600, 6000] {
        for case in MADE {
            let answer = ask(&scene, *case, &letters(length)).await;
            let is_event = case.1.contains("/state/") || case.1.contains("/send/{long}");
            let allowed: &[_] = if is_event {
                &[(413, "M_TOO_LARGE")]
            } else {
                &[
                    (413, "M_TOO_LARGE"),
                    (400, "M_INVALID_PARAM"),
                    (400, "M_KEY_TOO_LARGE"),
                    (400, "M_BAD_JSON"),
                ]
            };
            complaints.expect(&format!("{case:?} of {length}"), &answer, allowed);
        }
    }
    complaints.finish();
}

#[tokio::test]
async fn no_name_is_a_fault() {
    let server = Server::start().await;
    let scene = scene_with_backup(&server).await;
    let mut complaints = Complaints::default();
    for name in [letters(300), letters(6000), "a\0b".to_owned(), "\u{fffe}".to_owned()] {
        for case in MADE.iter().chain(NAMED) {
            let answer = ask(&scene, *case, &name).await;
            let is_read = answer.body["errcode"] != "M_NOT_JSON";
            if answer.status >= 500 || !is_read {
                let start: String = name.chars().take(4).collect();
                complaints.0.push(format!("{case:?} with {start:?}: {} {}", answer.status, answer.body));
            }
        }
    }
    complaints.finish();
}

#[tokio::test]
async fn refused_events_leave_no_names() {
    let server = Server::start().await;
    let scene = Scene::set(&server).await;
    let mallory = server.user("mallory").await;
    let room = &scene.room;
    mallory.try_send(room, "test.stranger", json!({})).await.refused(403, "M_FORBIDDEN");
    mallory.try_set_state(room, "test.stranger", "stranger", json!({})).await.refused(403, "M_FORBIDDEN");
    let long = format!("stranger{}", letters(300));
    scene.alice.try_set_state(room, "test.stranger", &long, json!({})).await.refused(413, "M_TOO_LARGE");
    let storage = server.storage().await;
    let db = storage.get().await.expect("the database is there");
    let left = "
        SELECT (SELECT COUNT(*) FROM event_types WHERE event_type = 'test.stranger')
             + (SELECT COUNT(*) FROM state_keys WHERE state_key LIKE 'stranger%')
    ";
    assert_eq!(db.query_one(left, &[]).await.expect("counted").get::<_, i64>(0), 0);
}
