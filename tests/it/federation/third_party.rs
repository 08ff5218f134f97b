//! Invitations of addresses, with an identity server that the tests play.

use serde_json::{Value, json};

use super::entering::{try_join, wait_for_membership};
use crate::support::{
    Answer, Room, Server, User, encode,
    federation::{self, Authority},
    identity::{Identity, ONBIND, bound},
};

const ADDRESS: &str = "bob@example.org";

/// One server that trusts the identity server, and two users of it.
async fn alone() -> (Server, Identity, User, User) {
    let authority = Authority::new();
    let server = Server::start_with(&authority.settings()).await;
    let identity = Identity::start(&authority, &server);
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    (server, identity, alice, bob)
}

async fn invite_address(identity: &Identity, user: &User, room: &Room) {
    user.post(&format!("rooms/{room}/invite"), identity.invite(ADDRESS)).await.ok();
}

/// Tells the user's server that the address is theirs.
async fn try_bind(identity: &Identity, server: &Server, user: &User, room: &Room, sender: &User) -> Answer {
    server.anyone().post(ONBIND, identity.bound(&user.id, room, &sender.id)).await
}

async fn bind(identity: &Identity, server: &Server, user: &User, room: &Room, sender: &User) {
    try_bind(identity, server, user, room, sender).await.ok();
}

async fn is_invited(user: &User, room: &Room) -> bool {
    !user.sync().await.section("invite", room).is_null()
}

#[tokio::test]
async fn owner_of_an_address_is_invited() {
    let (_server, identity, alice, bob) = alone().await;
    let room = alice.create_room().await;
    identity.known(|known| known.owners.insert(ADDRESS.to_owned(), bob.id.clone()));
    let invite = identity.invite("Bob@Example.ORG");
    alice.post(&format!("rooms/{room}/invite"), invite).await.ok();
    assert!(is_invited(&bob, &room).await);
    let content = alice.state(&room, "m.room.member", &bob.id).await;
    assert_eq!((&content["membership"], &content["third_party_invite"]), (&json!("invite"), &Value::Null));
    let asked = identity.known(|known| json!(known.looked_up));
    assert_eq!(asked[0]["algorithm"], "sha256");
    assert!(!asked.to_string().to_lowercase().contains("bob"), "addresses are hashed: {asked}");
    assert_eq!(identity.scripted.asked("/store-invite"), 0);
}

#[tokio::test]
async fn invitation_becomes_an_invite_when_the_owner_is_known() {
    let (server, identity, alice, bob) = alone().await;
    for version in ["1", "10", "12"] {
        let room = alice.create_room().version(version).with("name", "Tea").await;
        invite_address(&identity, &alice, &room).await;
        let kept = identity.known(|known| known.kept.last().cloned()).expect("an invitation");
        for (field, value) in [
            ("address", ADDRESS),
            ("medium", "email"),
            ("room_id", &room.0),
            ("sender", &alice.id),
            ("room_name", "Tea"),
            ("room_join_rules", "invite"),
        ] {
            assert_eq!(kept[field], value, "{kept}");
        }
        let invitation = alice.state(&room, "m.room.third_party_invite", &identity.token()).await;
        assert_eq!(invitation["display_name"], "b...", "{invitation}");
        assert_eq!(invitation["public_keys"][0]["public_key"], invitation["public_key"], "{invitation}");
        assert!(invitation["key_validity_url"].is_string(), "{invitation}");
        assert!(!invitation.to_string().contains(ADDRESS), "{invitation}");
        assert!(!is_invited(&bob, &room).await);

        bind(&identity, &server, &bob, &room, &alice).await;
        assert!(is_invited(&bob, &room).await, "version {version}");
        let content = alice.state(&room, "m.room.member", &bob.id).await;
        let invite = &content["third_party_invite"];
        assert_eq!((&invite["display_name"], &content["displayname"]), (&json!("b..."), &json!("bob")));
        assert_eq!(invite["signed"]["token"], identity.token(), "{invite}");
        bob.join(&room).await;
        // Told once more, which takes nobody out of the room.
        bind(&identity, &server, &bob, &room, &alice).await;
        assert_eq!(alice.membership_of(&room, &bob).await, "join", "version {version}");
    }
}

#[tokio::test]
async fn inviter_may_have_left() {
    let (server, identity, alice, bob) = alone().await;
    let carol = server.user("carol").await;
    let room = alice.create_room().invite(&carol).await;
    carol.join(&room).await;
    invite_address(&identity, &alice, &room).await;
    alice.leave(&room).await;
    bind(&identity, &server, &bob, &room, &alice).await;
    bob.join(&room).await;
    assert_eq!(carol.membership_of(&room, &bob).await, "join");
}

#[tokio::test]
async fn nobody_is_invited_by_what_proves_nothing() {
    let (server, identity, alice, bob) = alone().await;
    let mallory = server.user("mallory").await;
    let room = alice.create_room().await;
    invite_address(&identity, &alice, &room).await;
    let statement = json!({ "mxid": bob.id });
    let unsigned = json!({ "mxid": bob.id, "token": identity.token(), "signatures": {} });
    for (what, signed, sender) in [
        ("forged", identity.forge(statement.clone()), &alice),
        ("not signed", unsigned, &alice),
        ("about somebody else", identity.sign(json!({ "mxid": alice.id })), &alice),
        ("in another's name", identity.sign(statement.clone()), &mallory),
    ] {
        let told = server.anyone().put(ONBIND, bound(&bob.id, &room, &sender.id, &signed)).await;
        assert_eq!((told.status, &told.body["errcode"]), (403, &json!("M_FORBIDDEN")), "{what}: {told:?}");
        assert!(!is_invited(&bob, &room).await, "{what}");
    }

    // The identity server has given up its key, or cannot be asked whether it has.
    identity.known(|known| known.is_valid = false);
    try_bind(&identity, &server, &bob, &room, &alice).await.refused(403, "M_FORBIDDEN");
    assert!(!is_invited(&bob, &room).await, "a key that was revoked");
    identity.known(|known| known.is_valid = true);
    identity.scripted.script.lock().instead.push(("/pubkey/isvalid", 500, json!({})));
    try_bind(&identity, &server, &bob, &room, &alice).await.refused(403, "M_FORBIDDEN");
    assert!(!is_invited(&bob, &room).await, "a key that nobody knows of");
    identity.scripted.script.lock().instead.clear();

    // The invitation was taken back.
    alice.set_state(&room, "m.room.third_party_invite", &identity.token(), json!({})).await;
    try_bind(&identity, &server, &bob, &room, &alice).await.refused(403, "M_FORBIDDEN");
    assert!(!is_invited(&bob, &room).await, "an invitation that was revoked");
    bob.post(&format!("join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn who_wants_no_invites_gets_none() {
    let (server, identity, alice, bob) = alone().await;
    let room = alice.create_room().await;
    invite_address(&identity, &alice, &room).await;
    let path = format!("user/{}/account_data/m.invite_permission_config", encode(&bob.id));
    bob.put(&path, json!({ "default_action": "block" })).await.ok();
    let told = identity.bound(&bob.id, &room, &alice.id);
    server.anyone().post(ONBIND, told).await.refused(403, "M_INVITE_BLOCKED");
    assert!(!is_invited(&bob, &room).await);
}

#[tokio::test]
async fn address_is_only_told_for_those_who_may_invite() {
    let (_server, identity, alice, bob) = alone().await;
    let levels = json!({ "invite": 50 });
    let room = alice.create_room().public().with("power_level_content_override", levels).await;
    let path = format!("rooms/{room}/invite");
    bob.post(&path, identity.invite(ADDRESS)).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await;
    bob.post(&path, identity.invite(ADDRESS)).await.refused(403, "M_FORBIDDEN");
    assert_eq!(identity.scripted.asked("/_matrix/identity/"), 0);
}

#[tokio::test]
async fn bad_addresses_and_identity_servers_are_told_of() {
    let (_server, identity, alice, _) = alone().await;
    let room = alice.create_room().await;
    let path = format!("rooms/{room}/invite");
    let with = |field: &str, value: Value| {
        let mut body = identity.invite(ADDRESS);
        body[field] = value;
        body
    };
    for field in ["id_access_token", "id_server", "medium", "address"] {
        let mut body = identity.invite(ADDRESS);
        body.as_object_mut().expect("an object").remove(field);
        alice.post(&path, body.clone()).await.refused(400, "M_MISSING_PARAM");
        let body = json!({ "invite_3pid": [body] });
        alice.post("createRoom", body).await.refused(400, "M_MISSING_PARAM");
    }
    let gone = format!("127.0.0.1:{}", federation::free_port("127.0.0.1"));
    for (what, body, status, errcode) in [
        ("no host", with("id_server", json!("https://x/y")), 400, "M_INVALID_PARAM"),
        ("nobody there", with("id_server", json!(gone)), 502, "M_UNKNOWN"),
        ("another token", with("id_access_token", json!("x")), 403, "M_FORBIDDEN"),
        ("no token", with("id_access_token", json!("a\nb")), 400, "M_INVALID_PARAM"),
    ] {
        let answer = alice.post(&path, body.clone()).await;
        let answered = (answer.status, answer.body["errcode"].as_str().unwrap_or_default());
        assert_eq!(answered, (status, errcode), "{what}: {answer:?}");
        let answer = alice.post("createRoom", json!({ "invite_3pid": [body] })).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
    }
    let terms = json!({ "errcode": "M_TERMS_NOT_SIGNED", "error": "read this" });
    identity.scripted.script.lock().instead.push(("/store-invite", 403, terms));
    alice.post(&path, identity.invite(ADDRESS)).await.refused(403, "M_TERMS_NOT_SIGNED");
    let token = json!({ "token": "a/b", "display_name": "b", "public_keys": [
        { "public_key": "x", "key_validity_url": "y" }, { "public_key": "x", "key_validity_url": "y" },
    ]});
    identity.scripted.script.lock().instead = vec![("/store-invite", 200, token)];
    alice.post(&path, identity.invite(ADDRESS)).await.refused(502, "M_UNKNOWN");
    let rooms = alice.get("joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"], json!([room.0]), "a room that could not be made is not there");
}

#[tokio::test]
async fn identity_servers_in_private_networks_are_not_asked() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = alice.create_room().await;
    let body =
        json!({ "id_server": "127.0.0.1:1", "id_access_token": "x", "medium": "email", "address": ADDRESS });
    alice.post(&format!("rooms/{room}/invite"), body).await.refused(400, "M_SERVER_NOT_TRUSTED");
}

#[tokio::test]
async fn addresses_are_invited_to_new_rooms() {
    let (server, identity, alice, bob) = alone().await;
    let carol = server.user("carol").await;
    identity.known(|known| known.owners.insert("carol@example.org".to_owned(), carol.id.clone()));
    let addresses = json!([identity.invite("carol@example.org"), identity.invite(ADDRESS)]);
    let room = alice.create_room().with("preset", "trusted_private_chat");
    let room = room.version("10").with("invite_3pid", addresses).await;
    assert!(is_invited(&carol, &room).await);
    let levels = alice.state(&room, "m.room.power_levels", "").await;
    assert_eq!(levels["users"][&carol.id], 100, "{levels}");
    bind(&identity, &server, &bob, &room, &alice).await;
    assert!(is_invited(&bob, &room).await);

    let many = vec![identity.invite(ADDRESS); 21];
    alice.post("createRoom", json!({ "invite_3pid": many })).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn join_with_the_identity_servers_word() {
    let (server, identity, alice, bob) = alone().await;
    let mallory = server.user("mallory").await;
    let room = alice.create_room().await;
    invite_address(&identity, &alice, &room).await;
    let statement = json!({ "mxid": bob.id, "sender": alice.id });
    let signed = identity.sign(statement.clone());
    let path = format!("rooms/{room}/join");
    let join = |signed: &Value| json!({ "third_party_signed": signed });
    mallory.post(&path, join(&signed)).await.refused(403, "M_FORBIDDEN");
    bob.post(&path, join(&identity.forge(statement))).await.refused(403, "M_FORBIDDEN");
    bob.post(&path, join(&signed)).await.ok();
    let content = alice.state(&room, "m.room.member", &bob.id).await;
    assert_eq!((&content["membership"], &content["third_party_signed"]), (&json!("join"), &Value::Null));
    bob.post(&path, join(&signed)).await.ok();
}

/// Two servers that trust the identity server, and a user of each.
async fn pair() -> (Server, Server, Identity, User, User) {
    let (a, b) = federation::pair().await;
    let identity = Identity::start(Authority::shared(), &a);
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    (a, b, identity, alice, bob)
}

#[tokio::test]
async fn owner_elsewhere_is_invited_by_the_server_of_whoever_invited() {
    let (_a, b, identity, alice, bob) = pair().await;
    for version in ["1", "6", "10", "12"] {
        let room = alice.create_room().version(version).with("name", "Tea").await;
        invite_address(&identity, &alice, &room).await;
        bind(&identity, &b, &bob, &room, &alice).await;
        let sync = bob.sync().await;
        let told = &sync.section("invite", &room)["invite_state"]["events"];
        let told = told.as_array().unwrap_or_else(|| panic!("version {version}: {}", sync.0));
        let invite = told.iter().find(|event| event["state_key"] == bob.id).expect("the invite");
        assert_eq!(invite["content"]["third_party_invite"]["display_name"], "b...", "{invite}");
        bob.join(&room).await;
        assert_eq!(alice.membership_of(&room, &bob).await, "join", "version {version}");
    }
}

#[tokio::test]
async fn key_is_asked_for_by_the_server_that_makes_the_invite() {
    let (_a, b, identity, alice, bob) = pair().await;
    let room = alice.create_room().await;
    invite_address(&identity, &alice, &room).await;
    identity.known(|known| known.is_valid = false);
    try_bind(&identity, &b, &bob, &room, &alice).await.refused(403, "M_FORBIDDEN");
    assert!(!is_invited(&bob, &room).await);
    assert_eq!(identity.scripted.asked("/pubkey/isvalid"), 1);
    identity.known(|known| known.is_valid = true);
    bind(&identity, &b, &bob, &room, &alice).await;
    assert!(is_invited(&bob, &room).await);
    assert_eq!(identity.scripted.asked("/pubkey/isvalid"), 2);
}

/// Invites the address to a room of alice's that carol of the other server is in, which knows of it then.
async fn shared_room(identity: &Identity, a: &Server, alice: &User, carol: &User, version: &str) -> Room {
    let room = alice.create_room().version(version).invite(carol).await;
    try_join(carol, &room, a).await.ok();
    let since = carol.sync().await;
    invite_address(identity, alice, &room).await;
    let token = identity.token();
    let arrived = |event: &Value| event["state_key"] == token;
    carol.sync_until(&since, |sync| sync.events(&room).iter().any(arrived)).await;
    room
}

#[tokio::test]
async fn server_in_the_room_invites_its_users_itself() {
    let (mut a, b, identity, alice, bob) = pair().await;
    let carol = b.user("carol").await;
    for version in ["1", "10", "12"] {
        let room = shared_room(&identity, &a, &alice, &carol, version).await;
        bind(&identity, &b, &bob, &room, &alice).await;
        assert!(is_invited(&bob, &room).await, "version {version}");
        wait_for_membership(&alice, &room, &bob, "invite").await;
        bob.join(&room).await;
        wait_for_membership(&alice, &room, &bob, "join").await;
    }
    let room = shared_room(&identity, &a, &alice, &carol, "10").await;
    a.stop();
    bind(&identity, &b, &bob, &room, &alice).await;
    bob.join(&room).await;
    a.resume().await;
}

#[tokio::test]
async fn join_elsewhere_with_the_identity_servers_word() {
    let (a, _b, identity, alice, bob) = pair().await;
    let room = alice.create_room().await;
    invite_address(&identity, &alice, &room).await;
    let signed = identity.sign(json!({ "mxid": bob.id, "sender": alice.id }));
    let path = format!("join/{room}?via={}", encode(&a.name));
    bob.post(&path, json!({ "third_party_signed": signed })).await.ok();
    assert_eq!(alice.membership_of(&room, &bob).await, "join");
}
