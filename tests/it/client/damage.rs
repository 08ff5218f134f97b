//! Rows that cannot be read: what has nothing to do with them goes on.

use futures::future::join_all;
use serde_json::json;

use crate::support::Server;

/// Changes the database behind the server's back.
async fn damage(server: &Server, statement: &str, parameter: &str) {
    let storage = server.storage().await;
    let client = storage.get().await.expect("the database is there");
    assert_eq!(client.execute(statement, &[&parameter]).await.expect("executed"), 1);
}

#[tokio::test]
async fn users_read_their_other_rooms() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..5 {
        let room = alice.create_room().invite(&bob).await;
        bob.join(&room).await;
        rooms.push(room);
    }
    let broken = rooms.remove(2);
    alice.send_text(&broken, "secret").await;
    let state = "UPDATE state_snapshots SET blocks = '\\x00'
                 WHERE snapshot_nid = (SELECT snapshot_nid FROM rooms WHERE room_id = $1)";
    damage(&server, state, &broken.0).await;
    server.restart().await;
    let (alice, bob) = (server.moved(&alice), server.moved(&bob));
    let (first, bobs) = (alice.sync().await, bob.sync().await);
    for room in &rooms {
        assert!(!first.joined(room).is_null() && !bobs.joined(room).is_null());
    }
    assert!(first.joined(&broken).is_null() && bobs.joined(&broken).is_null());
    let event = alice.send_text(&rooms[0], "hello").await;
    let next = bob.sync_until(&bobs, |sync| !sync.joined(&rooms[0]).is_null()).await;
    assert_eq!(next.timeline(&rooms[0]), [event]);
    // Whoever asks for the broken room is told that it is the server's fault.
    bob.get(&format!("rooms/{broken}/messages?dir=b")).await.refused(500, "M_UNKNOWN");
    let body = json!({"msgtype": "m.text", "body": "hello"});
    let sent = bob.put(&format!("rooms/{broken}/send/m.room.message/1"), body).await;
    sent.refused(500, "M_UNKNOWN");
    let log = std::fs::read_to_string(server.directory().join("log")).expect("it has a log");
    let line = log.lines().find(|line| line.contains("cannot be read and is left out"));
    assert!(line.is_some_and(|line| line.contains("state_snapshots") && !line.contains("secret")), "{log}");
}

#[tokio::test]
async fn a_room_with_an_event_that_cannot_be_read_is_left_out_alone() {
    let mut server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (room, broken) = (alice.create_room().await, alice.create_room().invite(&bob).await);
    bob.join(&broken).await;
    // So many that the damaged event is not among those that are in memory with the room.
    join_all((0..110).map(|_| alice.send_text(&broken, "more"))).await;
    let member = "UPDATE events SET pdu = '{}' WHERE event_nid = (SELECT MAX(event_nid) FROM events
                  JOIN rooms USING (room_nid) WHERE room_id = $1 AND type_nid = 5)";
    damage(&server, member, &broken.0).await;
    server.restart().await;
    let alice = server.moved(&alice);
    let sync = alice.sync().await;
    assert!(!sync.joined(&room).is_null());
    assert!(sync.joined(&broken).is_null());
}
