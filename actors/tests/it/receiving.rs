//! Many events of another server at once.

use myelin_actors::room::messages::Received;
use ruma::RoomVersionId;

use crate::support::{World, member, text};

/// How often events are read, and what is committed, for so many messages: the reads and the commits.
async fn cost(count: usize) -> (usize, usize) {
    let theirs = World::new("b.test");
    let bob = theirs.user("bob");
    let room = theirs.public_room(&bob, RoomVersionId::V11).await;
    theirs.send(&room, member(&bob, "join")).await;
    let ours = World::over("a.test", theirs.store.copy());
    let mut sent = Vec::new();
    for number in 0..count {
        sent.push(theirs.send(&room, text(&bob, &number.to_string())).await);
    }
    let handle = ours.rooms.get(&room).await.unwrap();
    let (reads, commits) = (ours.store.reads(), ours.store.commits());
    let begun = ours.store.reserved_events();
    ours.store.hold_commits();
    let (received, ()) = futures::join!(handle.receive_all(sent.clone()), async {
        // The first commit holds what was decided when it began; what is decided meanwhile goes into the second.
        while ours.store.reserved_events() < begun + count {
            tokio::task::yield_now().await;
        }
        ours.store.release_commits();
    });
    for received in received.unwrap() {
        assert_eq!(received.unwrap(), Received::Accepted);
    }
    let room = ours.store.room(&room).unwrap();
    let last: Vec<_> = sent.iter().map(|pdu| pdu.event_id().to_owned()).collect();
    assert!(ours.store.timeline(room).ends_with(&last), "in their order");
    (ours.store.reads() - reads, ours.store.commits() - commits)
}

#[actix_rt::test]
async fn many_events_are_read_and_committed_as_one_is() {
    let (one, many) = (cost(1).await, cost(100).await);
    assert!(many.0 <= one.0 + 1, "reads: {one:?}, {many:?}");
    assert!(many.1 <= one.1 + 2, "commits: {one:?}, {many:?}");
}

#[actix_rt::test]
async fn events_that_are_here_are_known_and_those_without_parents_miss_them() {
    let theirs = World::new("b.test");
    let bob = theirs.user("bob");
    let room = theirs.public_room(&bob, RoomVersionId::V11).await;
    let ours = World::over("a.test", theirs.store.copy());
    let mut sent = Vec::new();
    for number in 0..4 {
        sent.push(theirs.send(&room, text(&bob, &number.to_string())).await);
    }
    let handle = ours.rooms.get(&room).await.unwrap();
    // The same twice in one go, and one whose parent is not among them.
    let some = vec![sent[0].clone(), sent[1].clone(), sent[0].clone(), sent[3].clone()];
    let received: Vec<Received> =
        handle.receive_all(some).await.unwrap().into_iter().map(Result::unwrap).collect();
    let missing = Received::Missing(vec![sent[2].event_id().to_owned()]);
    assert_eq!(received, [Received::Accepted, Received::Accepted, Received::Known, missing]);
    let received: Vec<Received> =
        handle.receive_all(sent.clone()).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(received, [Received::Known, Received::Known, Received::Accepted, Received::Accepted]);
}
