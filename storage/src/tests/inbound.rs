//! The inbound queue against a real database.

use ruma::{event_id, room_id, server_name};

use super::support::World;
use crate::inbound::{self, Answer, NewPdu, Parking};

pub(super) async fn run_all(world: &World) {
    queued_events_wait_are_parked_and_leave(world).await;
    quarantined_events_get_another_chance_and_are_forgotten(world).await;
    transactions_are_answered_alike(world).await;
}

async fn queued_events_wait_are_parked_and_leave(world: &World) {
    let db = world.storage.get().await.expect("connected");
    let (room, one, two) = (room_id!("!queue:there"), event_id!("$one"), event_id!("$two"));
    let (there, elsewhere) = (server_name!("there"), server_name!("elsewhere"));
    let pdu = |event_id| NewPdu { room_id: room, event_id, json: "{}" };
    inbound::add_pdus(&db, there, 1, &[pdu(two), pdu(one), pdu(two)]).await.expect("queued");
    inbound::add_pdus(&db, there, 2, &[pdu(one)]).await.expect("queued once");
    inbound::add_pdus(&db, elsewhere, 3, &[pdu(one)]).await.expect("queued from elsewhere too");
    assert!(inbound::list_rooms(&db).await.expect("listed").contains(&room.to_owned()));
    let waiting = inbound::list_waiting(&db, room, 10).await.expect("listed");
    let ids: Vec<_> =
        waiting.iter().map(|queued| (queued.event_id.as_str(), queued.origin.as_str())).collect();
    assert_eq!(ids, [("$two", "there"), ("$one", "there"), ("$one", "elsewhere")]);
    let count =
        inbound::count_by_room(&db, there, &[room, room_id!("!other:there")], 10).await.expect("counted");
    assert_eq!(count.get(room), Some(&2));
    assert_eq!(count.len(), 1);

    let parking =
        Parking { nid: waiting[0].nid, reason: "a\0b".into(), attempts: 3, failures: 2, retry_ms: 50 };
    inbound::park(&db, &[parking]).await.expect("parked");
    assert_eq!(inbound::next_parked(&db, room).await.expect("found").get(there), Some(&50));
    assert!(inbound::list_parked(&db, room, there, 49, 10).await.expect("listed").is_empty());
    let parked = inbound::list_parked(&db, room, there, 50, 10).await.expect("listed");
    assert_eq!((parked[0].attempts, parked[0].failures), (3, 2));
    let all: Vec<i64> = waiting.iter().map(|queued| queued.nid).collect();
    inbound::remove(&db, &all).await.expect("removed");
    assert!(inbound::next_parked(&db, room).await.expect("found").is_empty());
    assert!(!inbound::list_rooms(&db).await.expect("listed").contains(&room.to_owned()));
}

async fn quarantined_events_get_another_chance_and_are_forgotten(world: &World) {
    let db = world.storage.get().await.expect("connected");
    let (room, server) = (room_id!("!poison:there"), server_name!("poisoner"));
    let pdus = [
        NewPdu { room_id: room, event_id: event_id!("$a"), json: "{}" },
        NewPdu { room_id: room, event_id: event_id!("$b"), json: "{}" },
    ];
    inbound::add_pdus(&db, server, 10, &pdus).await.expect("queued");
    let nids: Vec<i64> =
        inbound::list_waiting(&db, room, 10).await.expect("listed").iter().map(|queued| queued.nid).collect();
    let poison: Vec<(i64, String)> = nids.iter().map(|nid| (*nid, "poison".to_owned())).collect();
    inbound::quarantine(&db, &poison).await.expect("quarantined");
    assert!(inbound::list_waiting(&db, room, 10).await.expect("listed").is_empty());
    inbound::forget(&db, 0, 1).await.expect("forgotten");
    inbound::add_pdus(&db, server, 20, &pdus).await.expect("queued again");
    let again = inbound::list_waiting(&db, room, 10).await.expect("listed");
    assert_eq!(again.len(), 2);
    assert!(again.iter().any(|queued| queued.nid == nids[1]), "the last one was kept");
    assert!(again.iter().all(|queued| queued.nid != nids[0]), "the one before it was not");
    inbound::quarantine(&db, &[(nids[1], "poison".to_owned())]).await.expect("quarantined");
    inbound::forget(&db, 21, 10).await.expect("forgotten");
    let nids: Vec<i64> = again.iter().map(|queued| queued.nid).collect();
    inbound::remove(&db, &nids).await.expect("removed");
}

async fn transactions_are_answered_alike(world: &World) {
    let db = world.storage.get().await.expect("connected");
    let server = server_name!("there");
    assert_eq!(inbound::find_transaction(&db, server, "t\0").await.expect("asked"), None);
    let answer: Answer =
        [(event_id!("$a").to_owned(), None), (event_id!("$b").to_owned(), Some("no\0".to_owned()))].into();
    inbound::add_transaction(&db, server, "t\0", 5, &answer).await.expect("stored");
    inbound::add_transaction(&db, server, "t\0", 6, &Answer::new()).await.expect("nothing");
    assert_eq!(inbound::find_transaction(&db, server, "t\0").await.expect("asked"), Some(answer));
    inbound::forget(&db, 6, 10).await.expect("forgotten");
    assert_eq!(inbound::find_transaction(&db, server, "t\0").await.expect("asked"), None);
}
