//! How long it is believed who is logged in.

use std::sync::Arc;

use myelin::sessions::{Session, Sessions};
use myelin_storage::Storage;

use crate::support::{Server, User};

/// Longer than between two rounds of housekeeping.
const ROUND_MS: u64 = 61_000;
/// After this time nobody is believed any more.
const LONG_MS: u64 = 600_000;

async fn find(sessions: &Sessions, storage: &Storage, user: &User, now_ms: u64) -> Option<Arc<Session>> {
    let token = user.token.as_deref().expect("logged in");
    sessions.find(storage, token, now_ms).await.expect("the database is there")
}

async fn is_known(sessions: &Sessions, storage: &Storage, user: &User, now_ms: u64) -> bool {
    find(sessions, storage, user, now_ms).await.is_some()
}

async fn renew(sessions: &Sessions, storage: &Storage, now_ms: u64) {
    sessions.renew(storage, now_ms).await.expect("the database is there");
}

/// Behind the backs of all who remember.
async fn change(storage: &Storage, what: &str) {
    storage.get().await.expect("the database is there").batch_execute(what).await.expect("executed");
}

/// A user whose session has just been looked for in the database.
async fn begin() -> (Server, User, Storage, Sessions) {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let storage = server.storage().await;
    let sessions = Sessions::default();
    assert!(is_known(&sessions, &storage, &alice, 0).await);
    (server, alice, storage, sessions)
}

#[tokio::test]
async fn session_in_use_is_renewed_without_a_request_that_waits() {
    let (_server, alice, storage, sessions) = begin().await;
    renew(&sessions, &storage, ROUND_MS).await;
    change(&storage, "DELETE FROM access_tokens").await;
    // Whether the database was asked shows in its not being asked now.
    assert!(is_known(&sessions, &storage, &alice, 2 * ROUND_MS).await);
    renew(&sessions, &storage, 2 * ROUND_MS).await;
    assert!(!is_known(&sessions, &storage, &alice, 2 * ROUND_MS).await);
}

#[tokio::test]
async fn session_that_is_not_used_is_not_renewed() {
    let (_server, alice, storage, sessions) = begin().await;
    renew(&sessions, &storage, 1).await;
    renew(&sessions, &storage, 2).await;
    change(&storage, "DELETE FROM access_tokens").await;
    assert!(!is_known(&sessions, &storage, &alice, 3).await);
}

#[tokio::test]
async fn session_is_not_believed_for_long_when_it_is_not_renewed() {
    let (_server, alice, storage, sessions) = begin().await;
    change(&storage, "DELETE FROM access_tokens").await;
    assert!(!is_known(&sessions, &storage, &alice, LONG_MS).await);
}

#[tokio::test]
async fn renewal_sees_what_a_user_may_do() {
    let (server, alice, storage, sessions) = begin().await;
    let bob = server.user("bob").await;
    let session = async |user| find(&sessions, &storage, user, ROUND_MS).await.expect("logged in");
    let before = session(&bob).await;
    assert!(!session(&alice).await.user.is_locked);
    change(&storage, &format!("UPDATE users SET is_locked = TRUE WHERE user_id = '{}'", alice.id)).await;
    renew(&sessions, &storage, ROUND_MS).await;
    assert!(session(&alice).await.user.is_locked);
    assert!(Arc::ptr_eq(&before, &session(&bob).await), "bob's session is what it was");
}
