//! What `/sync` costs the database.

use serde_json::json;

use crate::support::{Server, room::Sync, user::User};

/// How often it is tried to be alone with the server: some of its own work is done by time.
const ROUNDS: usize = 20;
/// How many answers are asked for in a round.
const ANSWERS: usize = 5;

/// Whether in one of the rounds all of these answers together were given without the database, each empty.
async fn some_round_is_free(server: &Server, user: &User, since: &Sync, timeout_ms: u64) -> bool {
    let mut last = since.clone();
    for _ in 0..ROUNDS {
        let before = server.database_uses().await;
        for _ in 0..ANSWERS {
            last = user.sync().since(&last).timeout_ms(timeout_ms).await;
            assert_eq!(last.0["rooms"]["join"], json!({}), "there is no news");
        }
        if server.database_uses().await == before {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn answer_without_news_asks_the_database_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.create_room().invite(&bob).await;
    bob.join(&room).await;
    alice.send_text(&room, "hello").await;
    let first = bob.sync().await;
    // What the others did last may not be in the first answer yet.
    let settled = bob.sync().since(&first).await;
    assert!(some_round_is_free(&server, &bob, &settled, 0).await, "at once");
    assert!(some_round_is_free(&server, &bob, &settled, 20).await, "after waiting");
}

#[tokio::test]
async fn answer_with_news_is_counted() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let before = server.database_uses().await;
    alice.create_room().await;
    alice.sync().await;
    assert!(server.database_uses().await > before);
}
