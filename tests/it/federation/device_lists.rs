//! Devices of users who share a room with ours: cached, and kept as their server tells of changes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::keys::{device_keys, publish, query},
    support::{Server, Sync, User, encode, federation, letters, unique},
};

/// Alice of one server and Bob of another, in a room.
struct Story {
    a: Server,
    b: Server,
    alice: User,
    bob: User,
}

impl Story {
    async fn begin() -> Self {
        let (a, b) = federation::pair().await;
        let (alice, bob) = (a.user("alice").await, b.user("bob").await);
        publish(&alice, "first").await;
        let room = alice.create_room().public().await;
        bob.post(&format!("join/{room}?via={}", encode(&a.name)), json!({})).await.ok();
        Self { a, b, alice, bob }
    }

    /// Alice's server sends this to Bob's.
    async fn tell(&self, edu_type: &str, content: Value) {
        let signer = federation::signer(&self.a);
        let path = format!("/_matrix/federation/v1/send/{}", unique());
        let body = json!({
            "origin": self.a.name,
            "origin_server_ts": 1,
            "pdus": [],
            "edus": [{"edu_type": edu_type, "content": content}],
        });
        federation::signed(&self.b, &signer, Method::PUT, &path, body).await.ok();
    }

    /// The last update of Alice's devices, as her server tells it to whoever asks.
    async fn stream_id(&self) -> i64 {
        let path = format!("/_matrix/federation/v1/user/devices/{}", encode(&self.alice.id));
        let signer = federation::signer(&self.b);
        let list = federation::signed(&self.a, &signer, Method::GET, &path, Value::Null).await.ok();
        list["stream_id"].as_i64().expect("a number")
    }

    /// The identity key of Alice's device, as Bob sees it.
    async fn key(&self) -> Value {
        let keys = query(&self.bob, &self.alice).await["device_keys"][&self.alice.id].clone();
        keys[&self.alice.device]["keys"][format!("curve25519:{}", self.alice.device)].clone()
    }

    async fn update(&self, stream_id: i64, previous: &[i64], key: &str) {
        let content = json!({
            "user_id": self.alice.id,
            "device_id": self.alice.device,
            "stream_id": stream_id,
            "prev_id": previous,
            "keys": device_keys(&self.alice, key),
        });
        self.tell("m.device_list_update", content).await;
    }

    async fn until_changed(&self, since: &Sync) -> Sync {
        let changed = |sync: &Sync| sync.0["device_lists"]["changed"].to_string().contains(&self.alice.id);
        self.bob.sync_until(since, changed).await
    }
}

#[tokio::test]
async fn updates_that_follow_are_applied_and_a_gap_is_fetched() {
    let story = Story::begin().await;
    assert_eq!(story.key().await, "first");
    let stream_id = story.stream_id().await;
    let sync = story.bob.sync().await;
    // What is told from here on is not what Alice's server would answer: so it comes from the cache.
    story.update(stream_id + 1, &[stream_id], "second").await;
    let sync = story.until_changed(&sync).await;
    assert_eq!(story.key().await, "second");
    story.update(stream_id + 1, &[stream_id], "third").await;
    assert_eq!(story.key().await, "second", "a repeated update changes nothing");
    story.update(stream_id + 9, &[stream_id + 8], "fourth").await;
    story.until_changed(&sync).await;
    assert_eq!(story.key().await, "first", "after a gap the server is asked");
}

#[tokio::test]
async fn device_whose_id_is_too_long_does_not_hold_up_its_server() {
    let story = Story::begin().await;
    assert_eq!(story.key().await, "first");
    let stream_id = story.stream_id().await;
    let sync = story.bob.sync().await;
    let content = json!({
        "user_id": story.alice.id, "device_id": letters(6000), "stream_id": stream_id + 1, "prev_id": [stream_id],
    });
    story.tell("m.device_list_update", content).await;
    story.until_changed(&sync).await;
    assert_eq!(story.key().await, "first");
}

#[tokio::test]
async fn server_that_counts_anew_is_asked_again() {
    let story = Story::begin().await;
    assert_eq!(story.key().await, "first");
    let stream_id = story.stream_id().await;
    let sync = story.bob.sync().await;
    story.update(stream_id + 100, &[stream_id], "second").await;
    let sync = story.until_changed(&sync).await;
    assert_eq!(story.key().await, "second");
    story.update(stream_id + 1, &[stream_id], "third").await;
    story.until_changed(&sync).await;
    assert_eq!(story.key().await, "first", "what was stored is not believed any more");
}

#[tokio::test]
async fn updates_about_others_are_dropped() {
    let story = Story::begin().await;
    assert_eq!(story.key().await, "first");
    let sync = story.bob.sync().await;
    let content =
        json!({"user_id": story.bob.id, "device_id": story.bob.device, "stream_id": 1, "deleted": true});
    story.tell("m.device_list_update", content).await;
    story.tell("m.device_list_update", json!({"user_id": 7})).await;
    let sync = story.bob.sync().since(&sync).await;
    assert!(sync.0["device_lists"].is_null(), "{}", sync.0);
}

#[tokio::test]
async fn messages_for_devices_come_once() {
    let story = Story::begin().await;
    let message = |sender: &str, id: &str| {
        json!({
            "sender": sender,
            "type": "my.type",
            "message_id": id,
            "messages": {story.bob.id.clone(): {"*": {"id": id}}},
        })
    };
    for (sender, id) in
        [(&story.alice.id, "1"), (&story.alice.id, "1"), (&story.bob.id, "2"), (&story.alice.id, "3")]
    {
        story.tell("m.direct_to_device", message(sender, id)).await;
    }
    let sync = story.bob.sync().await;
    let events = sync.0["to_device"]["events"].as_array().expect("a list");
    let ids: Vec<&Value> = events.iter().map(|event| &event["content"]["id"]).collect();
    assert_eq!(ids, ["1", "3"]);
    assert_eq!(events[0]["sender"], story.alice.id);
}

#[tokio::test]
async fn changes_and_messages_reach_the_other_server() {
    let story = Story::begin().await;
    assert_eq!(story.key().await, "first");
    let sync = story.bob.sync().await;
    publish(&story.alice, "second").await;
    let sync = story.until_changed(&sync).await;
    assert_eq!(story.key().await, "second");
    let phone = story.alice.log_in_again().await;
    publish(&phone, "phone").await;
    let has_phone = async || {
        let keys = query(&story.bob, &story.alice).await["device_keys"][&story.alice.id].clone();
        keys[&phone.device].is_object()
    };
    let mut sync = story.until_changed(&sync).await;
    while !has_phone().await {
        sync = story.until_changed(&sync).await;
    }
    phone.post("logout", json!({})).await.ok();
    while has_phone().await {
        sync = story.until_changed(&sync).await;
    }
    let body = json!({"messages": {story.bob.id.clone(): {story.bob.device.clone(): {"hello": "bob"}}}});
    for _ in 0..2 {
        story.alice.put("sendToDevice/my.type/once", body.clone()).await.ok();
    }
    story.alice.put("sendToDevice/my.type/twice", body).await.ok();
    let mut received = 0;
    while received < 2 {
        let has_messages = |sync: &Sync| sync.0["to_device"]["events"] != json!([]);
        sync = story.bob.sync_until(&sync, has_messages).await;
        received += sync.0["to_device"]["events"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(received, 2, "{}", sync.0);
}
