//! Servers that know joins, leaves and invites in their first version only.

use ruma::OwnedUserId;
use serde_json::{Value, json};

use crate::support::{
    Room, Server, encode,
    federation::Authority,
    scripted::{Place, Scripted, Wanted, arrived, value},
    server::SERVER_NAME,
};

const UNKNOWN: &str = "M_UNRECOGNIZED";

async fn begin() -> (Server, Scripted) {
    let authority = Authority::new();
    let server = Server::start_with(&authority.settings()).await;
    let scripted = Scripted::start(&authority, &server);
    for part in ["v2/send_join/", "v2/send_leave/", "v2/invite/"] {
        let answer = json!({ "errcode": UNKNOWN, "error": "Unrecognized request" });
        scripted.script.lock().instead.push((part, 404, answer));
    }
    (server, scripted)
}

/// A room of the scripted server, of version 6.
pub fn room_of(scripted: &Scripted, creator: &OwnedUserId) -> Place {
    let mut place = Place::empty(&format!("!old:{}", scripted.name), "6");
    let states = [
        ("m.room.create", "", json!({ "creator": creator, "room_version": "6" })),
        ("m.room.member", creator.as_str(), json!({ "membership": "join" })),
        ("m.room.power_levels", "", json!({ "users": { creator.as_str(): 100 } })),
        ("m.room.join_rules", "", json!({ "join_rule": "public" })),
    ];
    for (event_type, key, content) in states {
        scripted.make(&mut place, Wanted::state(creator, event_type, key, content));
    }
    place
}

/// What `make_join` and `make_leave` answer.
pub fn template(place: &Place, user: &str, membership: &str, version: &str) -> Value {
    let auth = ["m.room.create", "m.room.power_levels", "m.room.join_rules"];
    let auth: Vec<_> = auth.iter().filter_map(|kind| place.state_of(kind, "")).collect();
    json!({ "room_version": version, "event": {
        "type": "m.room.member", "room_id": place.room_id, "sender": user, "state_key": user,
        "content": { "membership": membership }, "auth_events": auth, "prev_events": place.heads,
        "depth": place.depth + 1, "origin": "x", "origin_server_ts": 1,
    } })
}

#[tokio::test]
async fn rooms_of_old_servers_are_joined() {
    let (server, scripted) = begin().await;
    let (bob, creator) = (server.user("bob").await, scripted.user("creator"));
    let mut place = room_of(&scripted, &creator);
    let events: Vec<Value> = scripted.script.lock().events.values().cloned().collect();
    let answer = json!([200, { "origin": scripted.name, "state": events, "auth_chain": events }]);
    let made = template(&place, &bob.id, "join", "6");
    let refusal = json!({ "errcode": "M_FORBIDDEN" });
    scripted.script.lock().instead.extend([
        ("/make_join/", 200, made),
        ("v1/send_join/", 200, answer),
        ("/backfill/", 403, refusal),
    ]);
    let room = Room(place.room_id.to_string());
    bob.post(&format!("join/{room}?via={}", encode(scripted.name.as_str())), json!({})).await.ok();
    assert_eq!(scripted.asked("v1/send_join/"), 1);
    // Whoever reads back to where nobody gives more is told where to ask on, and then that this is all.
    let page = bob.messages(&room, "dir=b&limit=100").await;
    assert_eq!(page["chunk"].as_array().map(Vec::len), Some(1), "{page}");
    let end = page["end"].as_str().unwrap_or_else(|| panic!("there is more: {page}"));
    let last = bob.messages(&room, &format!("dir=b&limit=100&from={}", encode(end))).await;
    assert_eq!((&last["chunk"], &last["end"]), (&json!([]), &Value::Null), "{last}");

    let hello = scripted.make(&mut place, Wanted::text(&creator, "welcome"));
    scripted.send(&[&hello]).await;
    arrived(&bob, &room, hello.event_id()).await;
}

#[tokio::test]
async fn old_servers_are_told_of_rejected_invites() {
    let (server, scripted) = begin().await;
    let (bob, creator) = (server.user("bob").await, scripted.user("creator"));
    let mut place = room_of(&scripted, &creator);
    let member = json!({ "membership": "invite" });
    let invite = scripted.make(&mut place, Wanted::state(&creator, "m.room.member", &bob.id, member));
    let room = Room(place.room_id.to_string());
    let path = format!("/_matrix/federation/v2/invite/{room}/{}", encode(invite.event_id().as_str()));
    let body = json!({ "room_version": "6", "event": value(&invite), "invite_room_state": [] });
    scripted.put(SERVER_NAME.try_into().expect("a name"), &path, &body).await.ok();
    let made = template(&place, &bob.id, "leave", "6");
    scripted
        .script
        .lock()
        .instead
        .extend([("/make_leave/", 200, made), ("v1/send_leave/", 200, json!([200, {}]))]);
    bob.leave(&room).await;
    assert_eq!(scripted.asked("v1/send_leave/"), 1);
    assert!(!bob.sync().await.mentions(&room) || bob.sync().await.section("invite", &room).is_null());
}

#[tokio::test]
async fn users_of_old_servers_are_invited_to_old_rooms_only() {
    let (server, scripted) = begin().await;
    let alice = server.user("alice").await;
    let carol = scripted.user("carol");
    let body = json!({ "user_id": carol });
    let old = alice.create_room().version("1").await;
    alice.post(&format!("rooms/{old}/invite"), body.clone()).await.ok();
    assert_eq!(alice.state(&old, "m.room.member", carol.as_str()).await["membership"], "invite");
    let new = alice.create_room().version("11").await;
    alice.post(&format!("rooms/{new}/invite"), body).await.refused(502, "M_UNKNOWN");
    assert_eq!(scripted.asked("v1/invite/"), 1);
}
