//! Push rules and pushers.

use serde_json::{Value, json};

use crate::support::{Server, encode};

fn rule_ids(rules: &Value) -> Vec<&str> {
    rules.as_array().expect("rules").iter().map(|rule| rule["rule_id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn new_user_has_the_default_rules() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let body = alice.get("pushrules/").await.ok();
    let overrides = rule_ids(&body["global"]["override"]);
    for rule in
        [".m.rule.master", ".m.rule.suppress_notices", ".m.rule.invite_for_me", ".m.rule.is_user_mention"]
    {
        assert!(overrides.contains(&rule), "{rule}: {overrides:?}");
    }
    assert!(rule_ids(&body["global"]["underride"]).contains(&".m.rule.message"));
    assert!(alice.sync().await.account_data(None, "m.push_rules")["global"].is_object());
}

#[tokio::test]
async fn rule_is_added_read_changed_and_removed() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = "pushrules/global/content/cheese";
    alice.put(path, json!({"pattern": "cheese", "actions": ["notify"]})).await.ok();
    let rule = alice.get(path).await.ok();
    assert_eq!(
        (&rule["pattern"], &rule["enabled"], &rule["default"]),
        (&json!("cheese"), &json!(true), &json!(false))
    );
    alice.put(&format!("{path}/enabled"), json!({"enabled": false})).await.ok();
    assert_eq!(alice.get(&format!("{path}/enabled")).await.ok()["enabled"], false);
    alice.put(&format!("{path}/actions"), json!({"actions": []})).await.ok();
    assert_eq!(alice.get(&format!("{path}/actions")).await.ok()["actions"], json!([]));
    alice.delete(path).await.ok();
    alice.get(path).await.refused(404, "M_NOT_FOUND");
    alice.delete(path).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn rules_are_put_where_they_are_asked_to_be() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let body = json!({"pattern": "x", "actions": ["notify"]});
    alice.put("pushrules/global/content/first", body.clone()).await.ok();
    alice.put("pushrules/global/content/last?after=first", body.clone()).await.ok();
    alice.put("pushrules/global/content/middle?before=last", body.clone()).await.ok();
    alice.put("pushrules/global/content/top", body.clone()).await.ok();
    let all = alice.get("pushrules/").await.ok();
    assert_eq!(&rule_ids(&all["global"]["content"])[..4], ["top", "first", "middle", "last"]);
    let answer = alice.put("pushrules/global/content/lost?before=nothere", body).await;
    assert!([400, 404].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn change_of_the_rules_is_synced() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let before = alice.sync().await;
    alice.put("pushrules/global/content/cheese", json!({"pattern": "cheese", "actions": []})).await.ok();
    let sync = alice.sync_until(&before, |sync| !sync.account_data(None, "m.push_rules").is_null()).await;
    let rules = &sync.account_data(None, "m.push_rules")["global"]["content"];
    assert!(rule_ids(rules).contains(&"cheese"));
}

#[tokio::test]
async fn muted_room_counts_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let rule =
        json!({"conditions": [{"kind": "event_match", "key": "room_id", "pattern": room.0}], "actions": []});
    bob.put(&format!("pushrules/global/override/{}", encode(&room.0)), rule).await.ok();
    alice.send_text(&room, "hello").await;
    assert_eq!(bob.sync().await.unread(&room), (0, 0));
}

#[tokio::test]
async fn keyword_is_a_highlight() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let actions = json!(["notify", {"set_tweak": "highlight"}]);
    bob.put("pushrules/global/content/cheese", json!({"pattern": "cheese", "actions": actions})).await.ok();
    alice.send_text(&room, "I like Cheese.").await;
    alice.send_text(&room, "I like cheesecake").await;
    assert_eq!(bob.sync().await.unread(&room), (2, 1));
}

#[tokio::test]
async fn default_rules_can_be_switched_off_but_not_removed() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let path = "pushrules/global/underride/.m.rule.message";
    alice.put(&format!("{path}/enabled"), json!({"enabled": false})).await.ok();
    assert_eq!(alice.get(path).await.ok()["enabled"], false);
    let answer = alice.delete(path).await;
    assert!([400, 404].contains(&answer.status), "{answer:?}");
    let answer = alice.put("pushrules/global/content/.mine", json!({"pattern": "x", "actions": []})).await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[tokio::test]
async fn pusher_is_set_listed_and_removed() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let mut pusher = json!({
        "app_id": "test.app", "app_display_name": "Test", "device_display_name": "phone", "kind": "http",
        "lang": "en", "pushkey": "key", "data": {"url": "https://push.example/_matrix/push/v1/notify"},
    });
    alice.post("pushers/set", pusher.clone()).await.ok();
    let body = alice.get("pushers").await.ok();
    assert_eq!(body["pushers"][0]["pushkey"], "key", "{body}");
    pusher["kind"] = Value::Null;
    alice.post("pushers/set", pusher).await.ok();
    assert_eq!(alice.get("pushers").await.ok()["pushers"], json!([]));
}

#[tokio::test]
async fn pusher_needs_a_gateway_and_moves_between_users() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let pusher = |url: &str, append: bool| {
        json!({
            "app_id": "test.app", "app_display_name": "Test", "device_display_name": "phone", "kind": "http",
            "lang": "en", "pushkey": "key", "data": {"url": url}, "append": append,
        })
    };
    let gateway = "https://push.example/_matrix/push/v1/notify";
    let answer = alice.post("pushers/set", pusher("https://push.example/elsewhere", false)).await;
    answer.refused(400, "M_INVALID_PARAM");
    alice.post("pushers/set", pusher(gateway, false)).await.ok();
    bob.post("pushers/set", pusher(gateway, true)).await.ok();
    assert_eq!(alice.get("pushers").await.ok()["pushers"].as_array().map(Vec::len), Some(1));
    bob.post("pushers/set", pusher(gateway, false)).await.ok();
    assert_eq!(alice.get("pushers").await.ok()["pushers"], json!([]));
    assert_eq!(bob.get("pushers").await.ok()["pushers"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn pusher_goes_with_its_device() {
    let server = Server::start().await;
    let phone = server.user("alice").await;
    let laptop = phone.log_in_again().await;
    let pusher = json!({
        "app_id": "test.app", "app_display_name": "Test", "device_display_name": "phone", "kind": "http",
        "lang": "en", "pushkey": "key", "data": {"url": "https://push.example/_matrix/push/v1/notify"},
    });
    phone.post("pushers/set", pusher).await.ok();
    assert_eq!(laptop.get("pushers").await.ok()["pushers"][0]["app_id"], "test.app");
    phone.post("logout", json!({})).await.ok();
    assert_eq!(laptop.get("pushers").await.ok()["pushers"], json!([]));
}

#[tokio::test]
async fn rules_about_rooms_may_have_any_id() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    let body = json!({"actions": ["notify"]});
    let path = |id: &str| format!("pushrules/global/room/{}", encode(id));
    bob.put(&path("#spam:example.com"), body.clone()).await.ok();
    bob.put(&path(&room.0), json!({"actions": []})).await.ok();
    bob.put(&format!("{}?after={}", path("#last:example.com"), encode("#spam:example.com")), body.clone())
        .await
        .ok();
    bob.put(&format!("pushrules/global/sender/{}", encode("bob")), body).await.ok();
    let all = bob.get("pushrules/").await.ok();
    let expected = [&*room.0, "#spam:example.com", "#last:example.com"];
    assert_eq!(rule_ids(&all["global"]["room"]), expected);
    assert_eq!(rule_ids(&bob.get("pushrules/global/room/").await.ok()), expected);
    assert_eq!(rule_ids(&bob.get("pushrules/global/").await.ok()["sender"]), ["bob"]);
    let sync = bob.sync().await;
    assert_eq!(rule_ids(&sync.account_data(None, "m.push_rules")["global"]["room"]), expected);
    bob.put(&format!("{}/enabled", path("#spam:example.com")), json!({"enabled": false})).await.ok();
    assert_eq!(bob.get(&path("#spam:example.com")).await.ok()["enabled"], false);
    bob.delete(&path("#last:example.com")).await.ok();
    bob.get(&path("#last:example.com")).await.refused(404, "M_NOT_FOUND");
    // The rule about the room is among those that match nothing, and holds.
    alice.send_text(&room, "hello").await;
    assert_eq!(bob.sync().await.unread(&room), (0, 0));
}

#[tokio::test]
async fn rules_have_addresses_that_end_with_a_slash() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    alice.get("pushrules").await.refused(404, "M_UNRECOGNIZED");
    alice.get("pushrules/global").await.refused(400, "M_UNRECOGNIZED");
    assert_eq!(alice.get("pushrules/global/room/").await.ok(), json!([]));
}
