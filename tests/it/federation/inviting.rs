//! Users of this server who are invited into rooms elsewhere, and users of others who knock.

use myelin_core::{
    pdu::{
        Pdu,
        build::{self, Draft},
    },
    version,
};
use ruma::{CanonicalJsonObject, MilliSecondsSinceUnixEpoch, UInt};
use serde_json::{Value, json};

use crate::support::{
    Server, encode, federation,
    origin::{Origin, open_room, shut_out, state_keys, value},
    unique,
};

/// An event of a room that only its server knows.
fn event(
    origin: &Origin<'_>,
    room: Option<&str>,
    version: &str,
    sender: &str,
    kind: (&str, &str),
    content: &Value,
) -> Pdu {
    let content: CanonicalJsonObject = serde_json::from_value(content.clone()).expect("canonical");
    let draft = Draft {
        room_id: room.map(|room| room.try_into().expect("a room id")),
        sender: sender.try_into().expect("a user id"),
        event_type: kind.0.to_owned(),
        state_key: Some(kind.1.to_owned()),
        content,
        redacts: None,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        depth: 9,
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000_u32)),
        event_id_local_part: Some(unique()),
    };
    build::build(version::find_str(version).expect("known"), draft, &origin.signer).expect("an event")
}

fn invite_to(origin: &Origin<'_>, room: &str, version: &str, user: &str) -> Pdu {
    let content = json!({"membership": "invite"});
    event(origin, Some(room), version, &origin.user("bob"), ("m.room.member", user), &content)
}

fn body(invite: &Pdu, state: &[&Pdu]) -> Value {
    let state: Vec<Value> = state.iter().map(|event| value(event)).collect();
    json!({"room_version": invite.version().id, "event": value(invite), "invite_room_state": state})
}

fn path(api: &str, invite: &Pdu) -> String {
    format!("{api}/invite/{}/{}", encode(invite.room_id().as_str()), encode(invite.event_id().as_str()))
}

#[tokio::test]
async fn invites_are_signed_and_reach_their_users() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    for (version, api) in [("1", "v1"), ("1", "v2"), ("10", "v2"), ("12", "v2")] {
        let create = json!({"room_version": version, "creator": origin.user("bob")});
        let made_up = format!("!{}:{}", unique(), b.name);
        let create = event(
            &origin,
            (version != "12").then_some(&*made_up),
            version,
            &origin.user("bob"),
            ("m.room.create", ""),
            &create,
        );
        let room = create.room_id().as_str();
        let name = json!({"name": "elsewhere"});
        let name = event(&origin, Some(room), version, &origin.user("bob"), ("m.room.name", ""), &name);
        let invite = invite_to(&origin, room, version, &alice.id);
        let since = alice.sync().await;
        let answer = if api == "v1" {
            let mut whole = value(&invite);
            whole["unsigned"] = json!({"invite_room_state": [value(&create), value(&name)]});
            let answer = origin.put(&path(api, &invite), whole).await.ok();
            assert_eq!(answer[0], 200);
            answer[1].clone()
        } else {
            origin.put(&path(api, &invite), body(&invite, &[&create, &name])).await.ok()
        };
        let signatures = &answer["event"]["signatures"];
        assert!(signatures[&*a.name].is_object() && signatures[&*b.name].is_object(), "{version}: {answer}");
        let synced = alice.sync_until(&since, |sync| sync.0["rooms"]["invite"][room].is_object()).await;
        let told = &synced.0["rooms"]["invite"][room]["invite_state"]["events"];
        let keys = state_keys(told);
        for (kind, key) in [("m.room.create", ""), ("m.room.name", ""), ("m.room.member", &*alice.id)] {
            assert!(keys.contains(&(kind.to_owned(), key.to_owned())), "{version}: {told}");
        }
        assert!(told.as_array().expect("a list").iter().all(|event| event.get("signatures").is_none()));
    }
}

#[tokio::test]
async fn bad_invites_are_refused() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let room = format!("!made-up:{}", b.name);
    let to = |user: &str| invite_to(&origin, &room, "10", user);
    let nobody = format!("@nobody:{}", a.name);
    let good = to(&alice.id);
    let with = |change: fn(&mut Value)| {
        let mut body = body(&good, &[]);
        change(&mut body);
        body
    };
    let join = json!({"membership": "join"});
    let join = event(&origin, Some(&room), "10", &origin.user("bob"), ("m.room.member", &alice.id), &join);
    for (name, at, body, status, errcode) in [
        ("unsigned", &good, with(|body| body["event"]["signatures"] = json!({})), 403, "M_FORBIDDEN"),
        (
            "unknown version",
            &good,
            with(|body| body["room_version"] = json!("x")),
            400,
            "M_INCOMPATIBLE_ROOM_VERSION",
        ),
        ("a float", &good, with(|body| body["event"]["content"]["x"] = json!(1.5)), 400, "M_BAD_JSON"),
        ("no event", &good, json!({"room_version": "10"}), 400, "M_MISSING_PARAM"),
        ("no object", &good, json!([]), 400, "M_BAD_JSON"),
        ("another event", &to(&alice.id), body(&join, &[]), 400, "M_INVALID_PARAM"),
        ("a join", &join, body(&join, &[]), 400, "M_INVALID_PARAM"),
        ("nobody", &to(&nobody), body(&to(&nobody), &[]), 403, "M_FORBIDDEN"),
        ("one of theirs", &to(&origin.user("x")), body(&to(&origin.user("x")), &[]), 400, "M_INVALID_PARAM"),
    ] {
        let answer = origin.put(&path("v2", at), body).await;
        assert_eq!((answer.status, &answer.body["errcode"]), (status, &json!(errcode)), "{name}: {answer:?}");
    }
    let lone = invite_to(&origin, "!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "12", &alice.id);
    origin.put(&path("v2", &lone), body(&lone, &[])).await.refused(400, "M_INVALID_PARAM");

    let wants_none = format!("user/{}/account_data/m.invite_permission_config", encode(&alice.id));
    alice.put(&wants_none, json!({"default_action": "block"})).await.ok();
    origin.put(&path("v2", &good), body(&good, &[])).await.refused(403, "M_INVITE_BLOCKED");
}

#[tokio::test]
async fn version_of_a_room_is_not_settled_by_who_invites_first() {
    let (a, b) = federation::pair().await;
    let (alice, carol) = (a.user("alice").await, a.user("carol").await);
    let origin = Origin::new(&b, &a);
    let room = format!("!made-up:{}", b.name);
    let wrong = invite_to(&origin, &room, "5", &alice.id);
    origin.put(&path("v2", &wrong), body(&wrong, &[])).await.ok();
    let right = invite_to(&origin, &room, "10", &carol.id);
    origin.put(&path("v2", &right), body(&right, &[])).await.ok();
    assert!(carol.sync().await.0["rooms"]["invite"][&room].is_object());
}

#[tokio::test]
async fn invites_to_our_rooms_are_only_signed() {
    let (a, b) = federation::pair().await;
    let (alice, carol) = (a.user("alice").await, a.user("carol").await);
    let origin = Origin::new(&b, &a);
    let room = open_room(&alice, "10").await;
    origin.join(&room, &origin.user("bob")).await;
    let invite = invite_to(&origin, &room.0, "10", &carol.id);
    origin.put(&path("v2", &invite), body(&invite, &[])).await.ok();
    assert!(carol.sync().await.0["rooms"]["invite"][&room.0].is_null());

    shut_out(&alice, &room, &b.name).await;
    origin.put(&path("v2", &invite), body(&invite, &[])).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn users_of_other_servers_knock() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    let rule = json!({"join_rule": "knock"});
    let room = alice.create_room().version("10").state("m.room.join_rules", rule).with("name", "x").await;
    let knock = origin.complete(&origin.template("make_knock", &room, &bob).await.ok());
    let answer = origin.hand_over("v1/send_knock", &room, &knock).await.ok();
    let told = state_keys(&answer["knock_room_state"]);
    assert!(told.contains(&("m.room.create".to_owned(), String::new())), "{answer}");
    assert!(told.contains(&("m.room.name".to_owned(), String::new())), "{answer}");
    assert!(answer["knock_room_state"][0]["signatures"].is_object(), "whole events: {answer}");
    assert_eq!(alice.state(&room, "m.room.member", &bob).await["membership"], "knock");

    let closed = alice.create_room().version("10").await;
    origin.template("make_knock", &closed, &bob).await.refused(403, "M_FORBIDDEN");
    let old = open_room(&alice, "6").await;
    origin.template("make_knock", &old, &bob).await.refused(403, "M_FORBIDDEN");
    let path = format!("v1/make_knock/{room}/{}?ver=1", encode(&bob));
    origin.get(&path).await.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
    assert_eq!(origin.get(&format!("v1/make_knock/{room}/{}", encode(&bob))).await.status, 400);
}

/// What an identity server signs for the owner of an address.
fn third_party(user: &str) -> Value {
    json!({"display_name": "b", "signed": {"mxid": user, "token": "abc", "signatures": {"id.example": {"ed25519:0": "x"}}}})
}

#[tokio::test]
async fn invitations_of_addresses_need_an_invitation_in_the_room() {
    let (a, b): (Server, Server) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    let room = open_room(&alice, "10").await;
    let path = format!("v1/exchange_third_party_invite/{room}");
    let invite = |sender: &str, user: &str| {
        json!({
            "type": "m.room.member", "sender": sender, "state_key": user, "room_id": room.0,
            "content": {"membership": "invite", "third_party_invite": third_party(user)},
        })
    };
    origin.put(&path, invite(&alice.id, &bob)).await.refused(403, "M_FORBIDDEN");
    origin.put(&path, invite(&alice.id, &alice.id)).await.refused(403, "M_FORBIDDEN");
    origin.put(&path, invite(&bob, &bob)).await.refused(403, "M_FORBIDDEN");
    assert_eq!(origin.put(&path, json!({})).await.status, 400);
    let unknown = "v1/exchange_third_party_invite/!nowhere:a.example";
    origin.put(unknown, invite(&alice.id, &bob)).await.refused(404, "M_NOT_FOUND");

    // With an invitation, but without the identity server's signature, the room refuses.
    let invited = json!({"display_name": "b", "key_validity_url": "https://x/", "public_key": "x"});
    alice.set_state(&room, "m.room.third_party_invite", "abc", invited).await;
    let answer = origin.put(&path, invite(&alice.id, &bob)).await;
    assert_eq!(answer.status, 403, "{answer:?}");

    let onbind = |user: &str| {
        json!({
            "medium": "email", "address": "x@y", "mxid": user,
            "invites": [{
                "medium": "email", "address": "x@y", "mxid": user, "room_id": room.0, "sender": alice.id,
                "signed": third_party(user)["signed"],
            }],
        })
    };
    let path = "/_matrix/federation/v1/3pid/onbind";
    a.anyone().put(path, onbind(&alice.id)).await.ok();
    a.anyone().put(path, onbind(&bob)).await.refused(404, "M_NOT_FOUND");
    assert_eq!(a.anyone().put(path, json!({})).await.status, 400);
}
