//! Messages from device to device: each arrives, and once.

use myelin_storage::to_device::{self, Dropped};
use serde_json::{Value, json};

use crate::support::{Server, Sync, User, unique};

fn messages(sync: &Sync) -> &[Value] {
    sync.0["to_device"]["events"].as_array().expect("there is always a list")
}

async fn send(from: &User, to: &User, device: &str, number: u32) {
    send_as(from, &unique(), to, device, number).await;
}

async fn send_as(from: &User, txn_id: &str, to: &User, device: &str, number: u32) {
    let body = json!({"messages": {to.id.clone(): {device: {"number": number}}}});
    from.put(&format!("sendToDevice/my.type/{txn_id}"), body).await.ok();
}

fn numbers(sync: &Sync) -> Vec<u64> {
    messages(sync).iter().map(|message| message["content"]["number"].as_u64().expect("ours")).collect()
}

#[tokio::test]
async fn message_waits_until_it_is_acknowledged() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let before = bob.sync().await;
    send(&alice, &bob, &bob.device, 1).await;
    let expected = json!([{"sender": alice.id, "type": "my.type", "content": {"number": 1}}]);
    let first = bob.sync_until(&before, |sync| !messages(sync).is_empty()).await;
    assert_eq!(first.0["to_device"]["events"], expected);
    assert_eq!(bob.sync().since(&before).await.0["to_device"]["events"], expected, "it may have been lost");
    assert_eq!(bob.sync().await.0["to_device"]["events"], expected, "an initial sync acknowledges nothing");
    assert!(messages(&bob.sync().since(&first).await).is_empty());
    assert!(messages(&bob.sync().since(&before).await).is_empty(), "it is gone");
    assert!(messages(&bob.sync().await).is_empty());
}

#[tokio::test]
async fn message_is_for_its_device() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let phone = bob.log_in_again().await;
    send(&alice, &bob, &phone.device, 1).await;
    send(&alice, &bob, "UNKNOWN", 2).await;
    send(&alice, &bob, "*", 3).await;
    assert_eq!(numbers(&phone.sync().await), [1, 3]);
    assert_eq!(numbers(&bob.sync().await), [3]);
    let late = bob.log_in_again().await;
    assert!(messages(&late.sync().await).is_empty(), "a device that comes later gets nothing");
}

#[tokio::test]
async fn repeated_request_sends_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let txn_id = unique();
    for number in [1, 2] {
        send_as(&alice, &txn_id, &bob, &bob.device, number).await;
    }
    // The id is the device's own.
    send_as(&alice.log_in_again().await, &txn_id, &bob, &bob.device, 3).await;
    assert_eq!(numbers(&bob.sync().await), [1, 3]);
}

#[tokio::test]
async fn many_messages_come_in_order_and_in_parts() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let before = bob.sync().await;
    for number in 0..230 {
        send(&alice, &bob, &bob.device, number).await;
    }
    let mut sync = bob.sync().since(&before).timeout_ms(30_000).await;
    let mut all = numbers(&sync);
    assert_eq!(all.len(), 100);
    // The rest comes at once, although nothing is new.
    for _ in 0..2 {
        sync = bob.sync().since(&sync).timeout_ms(30_000).await;
        all.extend(numbers(&sync));
    }
    assert_eq!(all, (0..230).collect::<Vec<u64>>());
    assert!(messages(&bob.sync().since(&sync).await).is_empty());
}

#[tokio::test]
async fn messages_outlive_a_restart() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    send(&alice, &bob, &bob.device, 1).await;
    let sync = bob.sync().await;
    send(&alice, &bob, &bob.device, 2).await;
    server.restart().await;
    let bob = server.moved(&bob);
    assert_eq!(numbers(&bob.sync().since(&sync).await), [2]);
    assert_eq!(numbers(&bob.sync().await), [2], "the first was acknowledged");
}

#[tokio::test]
async fn the_oldest_are_dropped_when_too_many_wait() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let phone = bob.log_in_again().await;
    for number in 1..=5 {
        send(&alice, &bob, &bob.device, number).await;
    }
    send(&alice, &bob, &phone.device, 6).await;
    let storage = server.storage().await;
    let client = storage.get().await.expect("connected");
    let dropped = to_device::drop_oldest(&client, 3).await.expect("dropped");
    let expected = Dropped { user_id: bob.id.clone(), device_id: bob.device.clone(), messages: 2 };
    assert_eq!(dropped, [expected]);
    assert_eq!(numbers(&bob.sync().await), [3, 4, 5]);
    assert_eq!(numbers(&phone.sync().await), [6]);
    assert_eq!(to_device::drop_oldest(&client, 3).await.expect("dropped"), []);
}
