//! What other servers ask about aliases, people and the list of rooms.

use serde_json::json;

use crate::support::{encode, federation, origin::Origin};

#[tokio::test]
async fn aliases_and_profiles_are_told() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let room = alice.create_room().public().with("room_alias_name", "pub").await;
    let alias = encode(&format!("#pub:{}", a.name));
    let found = origin.get(&format!("v1/query/directory?room_alias={alias}")).await.ok();
    assert_eq!(found, json!({"room_id": room.0, "servers": [a.name]}));
    let unknown = encode(&format!("#none:{}", a.name));
    origin.get(&format!("v1/query/directory?room_alias={unknown}")).await.refused(404, "M_NOT_FOUND");
    assert_eq!(origin.get("v1/query/directory").await.status, 400);

    let id = encode(&alice.id);
    let profile = origin.get(&format!("v1/query/profile?user_id={id}")).await.ok();
    assert_eq!(profile, json!({"displayname": "alice"}));
    let field = origin.get(&format!("v1/query/profile?user_id={id}&field=avatar_url")).await.ok();
    assert_eq!(field, json!({}));
    let nobody = encode(&format!("@nobody:{}", a.name));
    origin.get(&format!("v1/query/profile?user_id={nobody}")).await.refused(404, "M_NOT_FOUND");
    let theirs = encode(&origin.user("bob"));
    origin.get(&format!("v1/query/profile?user_id={theirs}")).await.refused(400, "M_INVALID_PARAM");
    origin.get("v1/query/weather?in=town").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn list_of_rooms_is_told_where_the_operator_allows() {
    let (a, b) = federation::pair().await;
    let (alice, origin) = (a.user("alice").await, Origin::new(&b, &a));
    let room = alice.create_room().public().with("visibility", "public").with("name", "listed").await;
    let list = origin.get("v1/publicRooms?limit=10").await.ok();
    assert_eq!(
        (&list["chunk"][0]["room_id"], &list["total_room_count_estimate"]),
        (&json!(room.0), &json!(1))
    );
    let filtered = json!({"filter": {"generic_search_term": "nothing like it"}});
    let filtered = origin.post("v1/publicRooms", filtered).await.ok();
    assert_eq!(filtered["chunk"], json!([]));
    origin.get("v1/publicRooms?since=x").await.refused(400, "M_INVALID_PARAM");

    let closed = federation::start("127.0.0.4", "[room_directory]\nallow_over_federation = false").await;
    Origin::new(&b, &closed).get("v1/publicRooms").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn openid_tokens_name_their_users() {
    let (a, _b) = federation::pair().await;
    let alice = a.user("alice").await;
    let asked = format!("user/{}/openid/request_token", encode(&alice.id));
    let token =
        alice.post(&asked, json!({})).await.ok()["access_token"].as_str().expect("a token").to_owned();
    let userinfo = "/_matrix/federation/v1/openid/userinfo";
    let found = a.anyone().get(&format!("{userinfo}?access_token={}", encode(&token))).await.ok();
    assert_eq!(found, json!({"sub": alice.id}));
    a.anyone().get(&format!("{userinfo}?access_token=x")).await.refused(401, "M_UNKNOWN_TOKEN");
    a.anyone().get(userinfo).await.refused(401, "M_MISSING_TOKEN");
}
