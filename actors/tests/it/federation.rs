//! What other servers are sent: everything that they are to have, in order, whenever they were away and whenever this
//! server was killed; and nothing else.

use std::time::Duration;

use myelin_actors::presence::PresenceUpdate;
use myelin_storage::commit::{Change, OutgoingEdu, ReceiptChange};
use ruma::{UserId, presence::PresenceState};
use serde_json::{json, value::to_raw_value};

use crate::support::{
    content, member,
    recorder::{Mood, Recorder},
    sender::{HERE, PATIENCE, Sender, local, numbers, remote},
};

#[actix_rt::test]
async fn messages_reach_each_server_in_the_room_in_order() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test", "b.test"]).await;
    sender.room(&["c.test"]).await;
    sender.count(&room, 0..5).await;
    for server in ["a.test", "b.test"] {
        sender.recorder.until("all have come", |all| all.messages(server).len() >= 5).await;
        assert_eq!(sender.recorder.messages(server), numbers(0..5));
    }
    let others: Vec<_> = sender.recorder.sent().into_iter().map(|sent| sent.server).collect();
    assert!(others.iter().all(|server| *server == "a.test" || *server == "b.test"), "{others:?}");
}

#[actix_rt::test]
async fn what_gathers_behind_a_slow_server_is_sent_in_full_transactions() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::Hangs);
    sender.count(&room, 0..121).await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.recorder.until("all have come", |all| all.messages("a.test").len() >= 121).await;
    assert_eq!(sender.recorder.messages("a.test"), numbers(0..121));
    let sizes: Vec<usize> = sender.recorder.taken("a.test").iter().map(|sent| sent.pdus.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 50) && sizes.len() <= 5, "{sizes:?}");
}

#[actix_rt::test]
async fn failed_transaction_is_repeated_as_it_was_when_its_time_has_come() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.say(&room, "first").await;
    sender.until_failed("a.test", 1).await;
    sender.say(&room, "second").await;
    let status = sender.actors.federation.status("a.test".try_into().unwrap()).unwrap();
    assert_eq!((status.failures, status.last_success_ms, status.rooms_behind), (1, None, 1));
    sender.pass(7);
    sender.until_failed("a.test", 2).await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.pass(13);
    sender.recorder.until("both have come", |all| all.messages("a.test").len() == 2).await;
    let sent = sender.recorder.sent();
    for again in &sent[1..3] {
        assert_eq!((&again.id, &again.pdus), (&sent[0].id, &sent[0].pdus));
        assert_eq!(again.origin_server_ts, sent[0].origin_server_ts);
    }
    assert_eq!(sender.recorder.messages("a.test"), ["first", "second"]);
    assert_ne!(sent[3].id, sent[0].id);
    sender.until_well("a.test").await;
    let status = sender.actors.federation.status("a.test".try_into().unwrap()).unwrap();
    assert_eq!((status.retry_at_ms, status.acknowledged), (None, None));
}

#[actix_rt::test]
async fn server_that_was_away_gets_all_that_it_missed() {
    let sender = Sender::new().await;
    let rooms = [sender.room(&["a.test"]).await, sender.room(&["a.test", "b.test"]).await];
    sender.recorder.set("a.test", Mood::IsAway);
    for round in 0..40 {
        sender.count(&rooms[round % 2], round * 3..round * 3 + 3).await;
    }
    sender.until_failed("a.test", 1).await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.pass(7);
    sender.recorder.until("all have come", |all| all.messages("a.test").len() >= 120).await;
    assert_eq!(sender.recorder.messages("a.test"), numbers(0..120));
    sender.count(&rooms[0], 120..122).await;
    sender.recorder.until("the rest has come", |all| all.messages("a.test").len() >= 122).await;
    assert_eq!(sender.recorder.messages("a.test"), numbers(0..122));
}

#[actix_rt::test]
async fn of_very_much_the_latest_of_each_room_is_sent() {
    let sender = Sender::new().await;
    let rooms = [sender.room(&["a.test"]).await, sender.room(&["a.test"]).await];
    sender.recorder.set("a.test", Mood::IsAway);
    sender.say(&rooms[1], "rare").await;
    sender.until_failed("a.test", 1).await;
    sender.count(&rooms[0], 0..600).await;
    sender.say(&rooms[1], "also rare").await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.pass(7);
    sender
        .recorder
        .until("the last has come", |all| {
            all.messages("a.test").last().is_some_and(|body| body == "also rare")
        })
        .await;
    let messages = sender.recorder.messages("a.test");
    assert_eq!(messages.len(), 502);
    assert_eq!((messages[0].as_str(), messages[1].as_str()), ("rare", "100"));
}

#[actix_rt::test]
async fn nothing_is_lost_when_this_server_is_killed() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test", "b.test"]).await;
    sender.count(&room, 0..2).await;
    sender.recorder.until("all have come", |all| all.messages("b.test").len() == 2).await;
    sender.actors.federation.save(PATIENCE).await;
    sender.recorder.set("b.test", Mood::Hangs);
    sender.count(&room, 2..5).await;

    // Killed while one server had the messages and the other had not, and before anything was written down.
    let again = sender.killed_and_started_again().await;
    again.recorder.until("all have come", |all| all.messages("b.test").contains(&"4".to_owned())).await;
    // What was acknowledged shortly before may come again.
    let messages = again.recorder.messages("b.test");
    assert_eq!(messages[messages.len() - 3..], numbers(2..5));

    // Killed while one server was away, which was written down.
    again.recorder.set("a.test", Mood::IsAway);
    again.count(&room, 5..7).await;
    again.until_failed("a.test", 1).await;
    again.actors.federation.save(PATIENCE).await;
    let third = again.killed_and_started_again().await;
    let status = third.actors.federation.status("a.test".try_into().unwrap());
    third.say(&room, "7").await;
    third.recorder.until("b has it", |all| all.messages("b.test").contains(&"7".to_owned())).await;
    assert!(third.recorder.messages("a.test").is_empty(), "its time has not come: {status:?}");
    third.pass(7);
    third.recorder.until("all have come", |all| all.messages("a.test").len() >= 3).await;
    let messages = third.recorder.messages("a.test");
    assert_eq!(messages[messages.len() - 3..], numbers(5..8));
}

#[actix_rt::test]
async fn server_that_is_heard_of_is_tried_at_once() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.say(&room, "hello").await;
    sender.until_failed("a.test", 1).await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.actors.federation.wake("b.test".try_into().unwrap());
    sender.actors.federation.wake("a.test".try_into().unwrap());
    sender.recorder.until("it has come", |all| all.messages("a.test").len() == 1).await;
}

#[actix_rt::test]
async fn dead_servers_are_tried_seldom_and_keep_nobody_waiting() {
    let sender = Sender::new().await;
    let names: Vec<String> = (0..1000).map(|number| format!("dead{number}.test")).collect();
    let mut servers: Vec<&str> = names.iter().map(String::as_str).collect();
    servers.push("a.test");
    let room = sender.room(&servers).await;
    sender.recorder.all(Mood::IsAway);
    sender.recorder.set("a.test", Mood::Takes);
    sender.say(&room, "first").await;
    let failed =
        |all: &crate::support::recorder::Recorder| all.sent().iter().filter(|sent| !sent.taken).count();
    sender.recorder.until("all were tried", |all| failed(all) == 1000).await;
    sender.count(&room, 0..20).await;
    sender.recorder.until("all have come", |all| all.messages("a.test").len() == 21).await;
    assert_eq!(failed(&sender.recorder), 1000, "nobody is tried before the time");
    let counts = sender.actors.federation.counts();
    assert_eq!((counts.destinations, counts.failing, counts.failures), (1001, 1000, 1000));
    sender.until_failed("dead999.test", 1).await;
    sender.pass(7);
    sender.recorder.until("all were tried again", |all| failed(all) == 2000).await;
    sender.count(&room, 20..22).await;
    sender.recorder.until("all have come", |all| all.messages("a.test").len() == 23).await;
    assert_eq!(failed(&sender.recorder), 2000);
}

#[actix_rt::test]
async fn hanging_servers_keep_nobody_waiting() {
    let sender = Sender::new().await;
    let names: Vec<String> = (0..100).map(|number| format!("slow{number}.test")).collect();
    let mut servers: Vec<&str> = names.iter().map(String::as_str).collect();
    servers.push("a.test");
    let room = sender.room(&servers).await;
    sender.recorder.all(Mood::Hangs);
    sender.recorder.set("a.test", Mood::Takes);
    sender.count(&room, 0..600).await;
    sender.recorder.until("all have come", |all| all.messages("a.test").len() == 600).await;
    sender.recorder.all(Mood::Takes);
    sender.recorder.until("all have come", |all| all.messages("slow7.test").len() == 600).await;
    assert_eq!(sender.recorder.messages("slow7.test"), numbers(0..600));
}

#[actix_rt::test]
async fn events_of_others_are_passed_on_only_when_that_is_asked() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test", "b.test"]).await;
    let event = |body| json!({ "msgtype": "m.text", "body": body });
    let from_a = remote("a.test");
    let pdu = sender.remote_event(&room, &from_a, "m.room.message", false, event("received")).await;
    sender.handle(&room).await.receive(pdu).await.unwrap();
    let pdu = sender.remote_event(&room, &from_a, "m.room.message", false, event("relayed")).await;
    sender.handle(&room).await.relay(pdu).await.unwrap();
    sender.say(&room, "said").await;
    sender.recorder.until("b has it", |all| all.messages("b.test").len() == 2).await;
    assert_eq!(sender.recorder.messages("b.test"), ["relayed", "said"]);
    sender.recorder.until("a has it", |all| !all.messages("a.test").is_empty()).await;
    assert_eq!(sender.recorder.messages("a.test"), ["said"], "a sent the other one itself");
}

#[actix_rt::test]
async fn refused_transaction_does_not_block_what_comes_after() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::Refuses);
    sender.say(&room, "bad").await;
    for round in 1..=2 {
        sender.until_failed("a.test", round).await;
        sender.pass(60);
    }
    sender.recorder.until("it was refused for the last time", |all| all.sent().len() == 3).await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.say(&room, "good").await;
    sender.recorder.until("it has come", |all| all.messages("a.test") == ["good"]).await;
}

#[actix_rt::test]
async fn servers_that_come_into_a_room_learn_who_is_there() {
    let sender = Sender::new().await;
    let room = sender.room(&[]).await;
    let view = sender.actors.rooms.view(&room).await.unwrap();
    let user = sender.actors.nids.find_users(&[&local()]).await.unwrap()[0].unwrap();
    let online = PresenceUpdate { presence: PresenceState::Online, status_msg: None };
    sender.actors.presences.set(user, &[view.nid], online);
    let told = |server: &'static str| move |all: &Recorder| !all.edus(server, "m.presence").is_empty();
    for server in ["a.test", "b.test"] {
        sender.join(&room, server).await;
        sender.recorder.until("it is told when it comes", told(server)).await;
    }
    assert_eq!(sender.recorder.edus("b.test", "m.presence")[0]["push"][0]["user_id"], json!(local()));
}

#[actix_rt::test]
async fn of_a_refused_transaction_only_what_is_refused_alone_is_dropped() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.say(&room, "one").await;
    sender.until_failed("a.test", 1).await;
    for word in ["two", "poison", "three", "four"] {
        sender.say(&room, word).await;
    }
    sender.actors.journal.write(edu("a.test", 1)).await.unwrap();
    sender.recorder.set("a.test", Mood::RefusesWord("poison"));
    for round in 1..=2 {
        sender.pass(60);
        let attempts = 2 + round;
        sender.recorder.until("it was refused", |all| all.sent().len() == attempts).await;
        sender.until_failed("a.test", u32::try_from(round).unwrap()).await;
    }
    sender.pass(60);
    sender.recorder.until("all but one have come", |all| all.messages("a.test").len() == 4).await;
    assert_eq!(sender.recorder.messages("a.test"), ["one", "two", "three", "four"]);
    sender.until_well("a.test").await;
    sender.say(&room, "five").await;
    sender.recorder.until("it goes on", |all| all.messages("a.test").len() == 5).await;
}

#[actix_rt::test]
async fn edus_for_a_server_that_is_dead_are_dropped_one_day() {
    let sender = Sender::new().await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.actors.journal.write(edu("a.test", 1)).await.unwrap();
    sender.until_failed("a.test", 1).await;
    sender.pass(89 * 24 * 60 * 60);
    sender.until_failed("a.test", 2).await;
    sender.actors.federation.save(PATIENCE).await;
    let sender = sender.killed_and_started_again().await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.pass(2 * 24 * 60 * 60);
    sender.until_failed("a.test", 3).await;
    sender.recorder.set("a.test", Mood::Takes);
    sender.pass(24 * 60 * 60);
    sender.actors.journal.write(edu("a.test", 2)).await.unwrap();
    sender.recorder.until("the next one comes", |all| !all.taken("a.test").is_empty()).await;
    assert_eq!(sender.recorder.edus("a.test", "m.direct_to_device"), [json!({ "message_id": 2 })]);
}

fn edu(server: &str, number: usize) -> Change {
    Change::Outgoing(OutgoingEdu {
        servers: vec![server.try_into().unwrap()],
        edu_type: "m.direct_to_device".to_owned(),
        content: to_raw_value(&json!({ "message_id": number })).unwrap(),
    })
}

#[actix_rt::test]
async fn durable_edus_outlive_outages_and_do_not_wait_for_rooms() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.say(&room, "first").await;
    sender.until_failed("a.test", 1).await;
    sender.count(&room, 0..120).await;
    for number in 0..150 {
        sender.actors.journal.write(edu("a.test", number)).await.unwrap();
    }
    sender.actors.federation.save(PATIENCE).await;

    let again = sender.killed_and_started_again().await;
    again.pass(7);
    again.recorder.until("all have come", |all| all.edus("a.test", "m.direct_to_device").len() == 150).await;
    let expected: Vec<_> = (0..150).map(|number| json!({ "message_id": number })).collect();
    assert_eq!(again.recorder.edus("a.test", "m.direct_to_device"), expected);
    let sizes: Vec<usize> = again.recorder.taken("a.test").iter().map(|sent| sent.edus.len()).collect();
    assert_eq!(sizes[..2], [100, 50], "they are in the first transactions, whatever is missing of rooms");
    again.recorder.until("the room has come", |all| all.messages("a.test").len() >= 121).await;

    again.actors.federation.save(PATIENCE).await;
    let third = again.killed_and_started_again().await;
    third.actors.journal.write(edu("a.test", 1000)).await.unwrap();
    third.recorder.until("it has come", |all| !all.edus("a.test", "m.direct_to_device").is_empty()).await;
    assert_eq!(third.recorder.edus("a.test", "m.direct_to_device"), [json!({ "message_id": 1000 })]);
}

#[actix_rt::test]
async fn typing_receipts_and_presence_of_local_users_are_told() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    let event = sender.say(&room, "read this").await;
    // Else the server is told once more who is online, since it has just come into the room.
    sender.recorder.until("the event has come", |all| !all.taken("a.test").is_empty()).await;
    let users = sender.actors.nids.intern_users(&[local(), remote("a.test")]).await.unwrap();
    let nid = sender.handle(&room).await.nid();
    for user in &users {
        sender.actors.typing.set(nid, *user, Some(u64::MAX));
        let receipt = |receipt_type: &str, thread: Option<&str>| {
            Change::Receipt(ReceiptChange {
                room: nid,
                user: *user,
                receipt_type: receipt_type.to_owned(),
                thread: thread.map(str::to_owned),
                event_id: event.clone(),
                ts: 5,
            })
        };
        for change in [receipt("m.read", Some("main")), receipt("m.read.private", None)] {
            sender.actors.journal.write(change).await.unwrap();
        }
        let online =
            PresenceUpdate { presence: PresenceState::Online, status_msg: Some(Some("here".to_owned())) };
        sender.actors.presences.set(*user, &[nid], online);
    }
    let count = |edu_type: &str| sender.recorder.edus("a.test", edu_type).len();
    sender
        .recorder
        .until("all have come", |_| {
            count("m.typing") == 1 && count("m.receipt") == 1 && count("m.presence") == 1
        })
        .await;
    let typing = json!({ "room_id": room, "user_id": local(), "typing": true });
    assert_eq!(sender.recorder.edus("a.test", "m.typing"), [typing]);
    let data = json!({ "event_ids": [event], "data": { "ts": 5, "thread_id": "main" } });
    let receipt = json!({ room.as_str(): { "m.read": { local().as_str(): data } } });
    assert_eq!(sender.recorder.edus("a.test", "m.receipt"), [receipt]);
    let presence = &sender.recorder.edus("a.test", "m.presence")[0]["push"];
    assert_eq!(presence.as_array().unwrap().len(), 1);
    assert_eq!((&presence[0]["user_id"], &presence[0]["presence"]), (&json!(local()), &json!("online")));
    assert_eq!(presence[0]["status_msg"], "here");

    sender.actors.typing.set(nid, users[0], None);
    sender.recorder.until("it has stopped", |_| count("m.typing") == 2).await;
    assert_eq!(sender.recorder.edus("a.test", "m.typing")[1]["typing"], false);
}

#[actix_rt::test]
async fn this_server_is_not_sent_anything() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    let mut invite = member(&UserId::parse(format!("@other:{HERE}")).unwrap(), "invite");
    invite.sender = local();
    invite.content = content(json!({ "membership": "invite" }));
    sender.handle(&room).await.send(invite).await.unwrap();
    sender.recorder.until("a is told", |all| !all.taken("a.test").is_empty()).await;
    assert!(sender.recorder.sent().iter().all(|sent| sent.server == "a.test"));
}

#[actix_rt::test]
async fn a_room_that_cannot_be_read_keeps_nothing_of_others_back() {
    let sender = Sender::new().await;
    let rooms = [sender.room(&["a.test"]).await, sender.room(&["a.test"]).await];
    sender.recorder.set("a.test", Mood::Hangs);
    sender.count(&rooms[0], 0..3).await;
    sender.count(&rooms[1], 3..6).await;
    sender.damage(&rooms[0]).await;
    let again = sender.killed_and_started_again().await;
    again.recorder.set("a.test", Mood::Takes);
    again.recorder.until("the other room's have come", |all| all.messages("a.test").len() >= 3).await;
    assert_eq!(again.recorder.messages("a.test"), numbers(3..6));
    assert!(again.actors.federation.save(PATIENCE).await);
}

#[actix_rt::test]
async fn a_missed_event_that_cannot_be_read_keeps_no_other_back() {
    let sender = Sender::new().await;
    let room = sender.room(&["a.test"]).await;
    sender.recorder.set("a.test", Mood::IsAway);
    sender.count(&room, 0..1).await;
    sender.until_failed("a.test", 1).await;
    let lost = sender.say(&room, "lost").await;
    sender.count(&room, 1..2).await;
    assert!(sender.actors.federation.save(PATIENCE).await);
    sender.damage_event(&lost).await;
    let again = sender.killed_and_started_again().await;
    again.recorder.set("a.test", Mood::Takes);
    again.pass(7);
    again.recorder.until("the others have come", |all| all.messages("a.test").len() >= 2).await;
    assert_eq!(again.recorder.messages("a.test"), numbers(0..2));
}

#[actix_rt::test]
async fn a_sender_that_cannot_begin_holds_nobody_up() {
    let sender = Sender::new().await;
    sender.damage_destinations().await;
    let again = sender.killed_and_started_again().await;
    assert!(!again.actors.federation.save(Duration::from_millis(10)).await);
}
