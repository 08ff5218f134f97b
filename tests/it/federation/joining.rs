//! Users of other servers who come into rooms, and go.

use serde_json::{Value, json};

use crate::support::{
    encode, federation,
    origin::{Origin, id_of, open_room, shut_out, state_keys, value},
};

fn member(user: &str) -> (String, String) {
    ("m.room.member".to_owned(), user.to_owned())
}

#[tokio::test]
async fn join_is_answered_with_the_room_as_it_was_before() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    for version in ["1", "2", "6", "10", "11", "12"] {
        let room = open_room(&alice, version).await;
        let (join, answer) = origin.join(&room, &bob).await;
        let state = state_keys(&answer["state"]);
        assert!(state.contains(&member(&alice.id)), "{version}: {state:?}");
        assert!(!state.contains(&member(&bob)), "{version}: the state is that before");
        assert!(state.iter().any(|(kind, _)| kind == "m.room.create"), "{version}: {state:?}");
        let chain = state_keys(&answer["auth_chain"]);
        assert!(chain.contains(&member(&alice.id)), "{version}: {chain:?}");
        assert_eq!(alice.event(&room, &id_of(&join)).await.ok()["sender"], *bob);

        let again = origin.hand_over("v1/send_join", &room, &join).await.ok();
        assert_eq!((&again[0], &again[1]["state"]), (&json!(200), &answer["state"]), "{version}");
    }
}

#[tokio::test]
async fn members_are_left_out_where_the_server_can_do_without() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let (named, unnamed) =
        (alice.create_room().public().with("name", "here").await, alice.create_room().public().await);
    for (room, hero) in [(&named, false), (&unnamed, true)] {
        let join = origin.complete(&origin.template("make_join", room, &origin.user("bob")).await.ok());
        let event = encode(join.event_id().as_str());
        let path = format!("v2/send_join/{room}/{event}?omit_members=true");
        let answer = origin.put(&path, value(&join)).await.ok();
        assert_eq!(answer["members_omitted"], true);
        assert_eq!(answer["servers_in_room"], json!([a.name]));
        assert_eq!(state_keys(&answer["state"]).contains(&member(&alice.id)), hero);
        let state = state_keys(&answer["state"]);
        assert!(state_keys(&answer["auth_chain"]).iter().all(|event| !state.contains(event)));
        assert_eq!(state_keys(&answer["auth_chain"]).contains(&member(&alice.id)), !hero);
    }
}

#[tokio::test]
async fn users_who_may_not_join_get_no_template() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    let unknown = crate::support::Room("!nowhere:a.example".to_owned());
    origin.template("make_join", &unknown, &bob).await.refused(404, "M_NOT_FOUND");

    let private = alice.create_room().await;
    origin.template("make_join", &private, &bob).await.refused(403, "M_FORBIDDEN");
    let open = open_room(&alice, "10").await;
    origin.template("make_join", &open, &alice.id).await.refused(403, "M_FORBIDDEN");

    let path = format!("v1/make_join/{open}/{}", encode(&bob));
    for query in ["", "?ver=1&ver=x", "?ver=11"] {
        let error = origin.get(&format!("{path}{query}")).await.refused(400, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(error["room_version"], "10");
    }
    origin.get(&format!("{path}?ver=x&ver=10")).await.ok();

    let left = open_room(&alice, "10").await;
    alice.leave(&left).await;
    origin.template("make_join", &left, &bob).await.refused(404, "M_NOT_FOUND");

    shut_out(&alice, &open, &b.name).await;
    origin.template("make_join", &open, &bob).await.refused(403, "M_FORBIDDEN");
    origin.template("make_leave", &open, &bob).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn bad_joins_are_refused() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    let room = open_room(&alice, "10").await;
    let template = origin.template("make_join", &room, &bob).await.ok();
    let good = origin.complete(&template);
    let path = format!("v2/send_join/{room}/{}", encode(good.event_id().as_str()));
    let changed = |field: &str, value: Value| {
        let mut template = template.clone();
        template["event"][field] = value;
        origin.complete(&template)
    };
    let without = |fields: &[&str]| {
        let mut event = value(&good);
        for field in fields {
            event.as_object_mut().expect("an object").remove(*field);
        }
        event
    };
    let mut forged = value(&good);
    forged["signatures"] = json!({&*b.name: {"ed25519:x": "a".repeat(86)}});
    let mut float = value(&good);
    float["content"]["x"] = json!(1.5);
    for (name, event, status, errcode) in [
        ("unsigned", without(&["signatures"]), 403, "M_FORBIDDEN"),
        ("a template", without(&["signatures", "hashes"]), 403, "M_FORBIDDEN"),
        ("forged", forged, 403, "M_FORBIDDEN"),
        ("another event", value(&changed("depth", json!(77))), 400, "M_INVALID_PARAM"),
        ("no membership", value(&changed("content", json!({}))), 400, "M_INVALID_PARAM"),
        ("a leave", value(&changed("content", json!({"membership": "leave"}))), 400, "M_INVALID_PARAM"),
        ("another type", value(&changed("type", json!("m.room.name"))), 400, "M_INVALID_PARAM"),
        ("another room", value(&changed("room_id", json!("!other:b"))), 400, "M_INVALID_PARAM"),
        ("another user", value(&changed("state_key", json!("@x:b"))), 400, "M_INVALID_PARAM"),
        ("another server's", value(&changed("sender", json!(alice.id))), 403, "M_FORBIDDEN"),
        ("no sender", without(&["sender"]), 400, "M_BAD_JSON"),
        ("a float", float, 400, "M_BAD_JSON"),
        ("no event", json!({}), 400, "M_BAD_JSON"),
        ("no object", json!([]), 400, "M_BAD_JSON"),
    ] {
        let answer = origin.put(&path, event).await;
        assert_eq!((answer.status, &answer.body["errcode"]), (status, &json!(errcode)), "{name}: {answer:?}");
    }
    origin.put(&path, value(&good)).await.ok();
}

#[tokio::test]
async fn members_of_one_room_come_into_another_by_our_word() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    let space = open_room(&alice, "10").await;
    let restricted = |rooms: &[&str]| {
        let allow: Vec<_> =
            rooms.iter().map(|room| json!({"type": "m.room_membership", "room_id": room})).collect();
        json!({"join_rule": "restricted", "allow": allow})
    };
    let room = alice.create_room().version("10").state("m.room.join_rules", restricted(&[&space.0])).await;
    origin.template("make_join", &room, &bob).await.refused(403, "M_FORBIDDEN");
    origin.join(&space, &bob).await;
    let template = origin.template("make_join", &room, &bob).await.ok();
    assert_eq!(template["event"]["content"]["join_authorised_via_users_server"], *alice.id);
    let join = origin.complete(&template);
    let answer = origin.hand_over("v2/send_join", &room, &join).await.ok();
    assert!(answer["event"]["signatures"][&*a.name].is_object(), "{answer}");
    assert!(answer["event"]["signatures"][&*b.name].is_object(), "{answer}");

    // One who is in none of the rooms cannot make us vouch for them.
    let carol = origin.user("carol");
    let mut template = template;
    template["event"]["sender"] = json!(carol);
    template["event"]["state_key"] = json!(carol);
    let forged = origin.complete(&template);
    origin.hand_over("v2/send_join", &room, &forged).await.refused(403, "M_FORBIDDEN");

    let far = restricted(&["!far:c.example"]);
    let far = alice.create_room().version("10").state("m.room.join_rules", far).await;
    origin.template("make_join", &far, &bob).await.refused(400, "M_UNABLE_TO_AUTHORISE_JOIN");
}

#[tokio::test]
async fn users_of_other_servers_leave() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let bob = origin.user("bob");
    for version in ["1", "10", "12"] {
        let room = open_room(&alice, version).await;
        origin.template("make_leave", &room, &bob).await.refused(403, "M_FORBIDDEN");
        origin.join(&room, &bob).await;
        origin.template("make_leave", &room, &alice.id).await.refused(403, "M_FORBIDDEN");
        let leave = origin.complete(&origin.template("make_leave", &room, &bob).await.ok());
        let send = if version == "1" { "v1/send_leave" } else { "v2/send_leave" };
        origin.hand_over("v2/send_join", &room, &leave).await.refused(400, "M_INVALID_PARAM");
        // What is wrong with the event is told before what is wrong with its id.
        let misnamed = format!("v2/send_leave/{room}/xxx");
        origin.put(&misnamed, value(&leave)).await.refused(400, "M_INVALID_PARAM");
        if version != "1" {
            let mut broken = value(&leave);
            broken["bad"] = json!(1.5);
            origin.put(&misnamed, broken).await.refused(400, "M_BAD_JSON");
        }
        let answer = origin.hand_over(send, &room, &leave).await.ok();
        assert_eq!(answer, if version == "1" { json!([200, {}]) } else { json!({}) });
        assert_eq!(alice.state(&room, "m.room.member", &bob).await["membership"], "leave");
    }
}
