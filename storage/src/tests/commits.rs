//! What a commit makes of its batch.

use myelin_core::{admit::AdmissionCode, membership::Membership, position::TimelinePlace};
use serde_json::{json, value::RawValue};

use super::support::{ALICE, World, unique};
use crate::{
    commit::{
        self, AccountDataChange, AppliedRedaction, Change, CommitError, EVENT_IDS, NewRelation,
        NewTransaction, Placement, ReceiptChange,
    },
    events, members, rooms, state, timeline, transactions,
};

pub(super) async fn run_all(world: &mut World) {
    room_is_created_and_grows_in_one_batch(world).await;
    stale_decision_changes_nothing(world).await;
    decision_on_a_lost_one_changes_nothing(world).await;
    broken_chain_is_refused_without_the_database(world).await;
    event_id_is_stored_once(world).await;
    outlier_is_given_its_place_later(world).await;
    redacted_event_is_stored_redacted(world).await;
    display_name_does_not_count_as_a_change_of_membership(world).await;
    batch_is_found_after_its_commit(world).await;
    other_changes_get_positions_among_the_rooms(world).await;
}

/// Grows the world's room by what follows; on failure the room is as it was.
async fn commit_room(
    world: &World,
    changes: Vec<commit::RoomChange>,
) -> Vec<Vec<myelin_core::position::Position>> {
    world.commit(changes.into_iter().map(Change::from).collect()).await.expect("committed")
}

async fn room_is_created_and_grows_in_one_batch(world: &mut World) {
    let create = world.state(ALICE, "m.room.create", "", json!({"room_version": "11"})).await;
    let join = world.state(ALICE, "m.room.member", ALICE, json!({"membership": "join"})).await;
    let mut hello = world.message(json!({"body": "hello \u{0}"})).await;
    let alice = world.user(ALICE).await;
    let event = hello.events[0].nid;
    hello.transactions.push(NewTransaction {
        user: alice,
        device_id: "DEVICE".into(),
        scope: "m.room.message".to_owned(),
        txn_id: "with a \0 in it".to_owned(),
        event,
        created_ms: 1_000,
    });
    hello.relations.push(NewRelation {
        parent_id: create.events[0].pdu.event_id().to_owned(),
        child: event,
        rel_type: "m.reference".to_owned(),
        type_nid: hello.events[0].type_nid,
        sender: alice,
        aggregation_key: None,
    });
    let before = world.position().await;
    let positions = commit_room(world, vec![create, join, hello]).await;
    assert_eq!(positions.concat().iter().map(|at| at.0 - before.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(world.position().await.0, before.0 + 3);

    let client = world.storage.get().await.expect("connected");
    let found = rooms::find_nids(&client, &[&world.room.id]).await.expect("found");
    let row = rooms::load_rooms(&client, &[found[&world.room.id]]).await.expect("loaded").remove(0);
    assert_eq!((row.nid, row.fence, row.depth), (world.room.nid, world.room.fence, 3));
    assert_eq!((row.extremities, row.position), (vec![event], positions[2][0]));
    let layers =
        state::load_snapshots(&client, &[row.snapshot.expect("it has state")]).await.expect("loaded");
    assert_eq!(layers[&row.snapshot.expect("it has state")], world.room.layers);
    let sent = transactions::recent(&client, &[row.nid], 1_000).await.expect("loaded");
    assert_eq!(sent[0].1.txn_id, "with a \u{FFFD} in it");
    assert_eq!(transactions::recent(&client, &[row.nid], 1_001).await.expect("loaded"), []);
    let mine = transactions::of_device(&client, &[event], alice, "DEVICE").await.expect("loaded");
    assert!(mine.contains_key(&event));
}

async fn stale_decision_changes_nothing(world: &mut World) {
    let before = world.position().await;
    let kept = world.room.clone();
    let mut change = world.message(json!({"body": "from another actor"})).await;
    change.fence -= 1;
    let result = world.commit(vec![Change::from(change.clone())]).await;
    assert!(matches!(&result, Err(CommitError::Fence(rooms)) if rooms[..] == [world.room.nid]), "{result:?}");
    assert_eq!(world.position().await, before);
    let client = world.storage.get().await.expect("connected");
    assert!(events::load_events(&client, &[change.events[0].nid]).await.expect("loaded").is_empty());
    world.room = kept;
}

async fn decision_on_a_lost_one_changes_nothing(world: &mut World) {
    let kept = world.room.clone();
    let _lost = world.message(json!({"body": "never committed"})).await;
    let on_lost = world.message(json!({"body": "built on it"})).await;
    world.room = kept;
    let other = world.message(json!({"body": "committed in its place"})).await;
    commit_room(world, vec![other]).await;
    let result = world.commit(vec![Change::from(on_lost.clone())]).await;
    assert!(matches!(&result, Err(CommitError::Fence(rooms)) if rooms[..] == [world.room.nid]), "{result:?}");
    let client = world.storage.get().await.expect("connected");
    assert!(events::load_events(&client, &[on_lost.events[0].nid]).await.expect("loaded").is_empty());
}

async fn broken_chain_is_refused_without_the_database(world: &mut World) {
    let kept = world.room.clone();
    let first = world.message(json!({"body": "one"})).await;
    let mut second = world.message(json!({"body": "two"})).await;
    second.fence = first.fence;
    let result = world.commit(vec![Change::from(first), Change::from(second)]).await;
    assert!(matches!(result, Err(CommitError::Fence(_))), "{result:?}");
    world.room = kept;
}

async fn event_id_is_stored_once(world: &mut World) {
    let first = world.message(json!({"body": "once"})).await;
    let pdu = first.events[0].pdu.clone();
    commit_room(world, vec![first]).await;
    let kept = world.room.clone();
    let mut again = world.message(json!({"body": "twice"})).await;
    again.events[0].pdu = pdu;
    let result = world.commit(vec![Change::from(again.clone())]).await;
    assert!(
        matches!(&result, Err(CommitError::Storage(error)) if error.is_conflict_on(EVENT_IDS)),
        "{result:?}"
    );
    let client = world.storage.get().await.expect("connected");
    let stored = timeline::page(&client, kept.nid, None, timeline::Direction::Backward, None, 1).await;
    again.events[0].nid = stored.expect("loaded")[0].nid;
    let result = world.commit(vec![Change::from(again)]).await;
    assert!(
        matches!(&result, Err(CommitError::Storage(error)) if error.is_conflict_on(EVENT_IDS)),
        "an event in the timeline is not moved: {result:?}"
    );
    world.room = kept;
}

async fn outlier_is_given_its_place_later(world: &mut World) {
    let kept = (world.room.last.clone(), world.room.depth);
    let mut outlier = world.message(json!({"body": "from afar"})).await;
    outlier.events[0].admission = AdmissionCode::Outlier;
    outlier.events[0].placement = Placement::Outside;
    let event = outlier.events[0].clone();
    let nid = event.nid;
    outlier.head.extremities = kept.0.iter().map(|(nid, _)| *nid).collect();
    (world.room.last, world.room.depth) = kept;
    commit_room(world, vec![outlier]).await;
    let client = world.storage.get().await.expect("connected");
    assert_eq!(events::load_events(&client, &[nid]).await.expect("loaded")[0].place, None);

    let mut placed = world.room.change(event);
    let place = TimelinePlace { anchor: myelin_core::position::Position(3), offset: -1 };
    placed.events[0].admission = AdmissionCode::Accepted;
    placed.events[0].placement = Placement::Before(place);
    commit_room(world, vec![placed]).await;
    let stored = events::load_events(&client, &[nid]).await.expect("loaded").remove(0);
    assert_eq!((stored.place, stored.admission), (Some(place), AdmissionCode::Accepted));
}

async fn redacted_event_is_stored_redacted(world: &mut World) {
    let message = world.message(json!({"body": "regretted"})).await;
    let (target, json) = (message.events[0].nid, message.events[0].pdu.json().replace("regretted", ""));
    let mut redaction = world.message(json!({"redacts": message.events[0].pdu.event_id()})).await;
    let by = redaction.events[0].nid;
    redaction.redactions.push(AppliedRedaction { target, by, pdu_json: json });
    commit_room(world, vec![message, redaction]).await;
    let client = world.storage.get().await.expect("connected");
    let stored = events::load_events(&client, &[target]).await.expect("loaded").remove(0);
    assert_eq!(stored.redacted_by, Some(by));
    assert!(!stored.pdu.json().contains("regretted"));
    let ids = events::event_ids(&client, &[by]).await.expect("loaded");
    assert_eq!(stored.redacted_because.map(|pdu| pdu.event_id().to_owned()), ids.get(&by).cloned());
}

async fn display_name_does_not_count_as_a_change_of_membership(world: &mut World) {
    let alice = world.user(ALICE).await;
    let client = world.storage.get().await.expect("connected");
    let before = members::find(&client, world.room.nid, alice).await.expect("loaded").expect("a member");
    let content = json!({"membership": "join", "displayname": "Alice"});
    let change = world.state(ALICE, "m.room.member", ALICE, content).await;
    let event = change.events[0].nid;
    commit_room(world, vec![change]).await;
    let after = members::find(&client, world.room.nid, alice).await.expect("loaded").expect("a member");
    assert_eq!(after, members::MemberRow { event, ..before });
    assert_eq!((after.membership, after.joined_at), (Membership::Join, Some(after.position)));
    let stored = events::load_events(&client, &[event]).await.expect("loaded").remove(0);
    let replaced = stored.prev_content.expect("it replaced an event");
    assert_eq!((stored.replaces, replaced.sender.as_str()), (Some(before.event), ALICE));
    assert_eq!(replaced.content.get(), r#"{"membership":"join"}"#);
}

async fn batch_is_found_after_its_commit(world: &mut World) {
    let id = u128::MAX - u128::from(unique());
    let change = world.message(json!({"body": "durable"})).await;
    let client = world.storage.get().await.expect("connected");
    assert_eq!(commit::find_batch(&client, id).await.expect("asked"), None);
    let positions = world.commit_as(id, vec![Change::from(change)]).await.expect("committed");
    assert_eq!(commit::find_batch(&client, id).await.expect("asked"), Some(positions[0][0]));
}

async fn other_changes_get_positions_among_the_rooms(world: &mut World) {
    let user = world.user(ALICE).await;
    let room = world.room.nid;
    let change = world.message(json!({"body": "read this"})).await;
    let event_id = change.events[0].pdu.event_id().to_owned();
    let receipt = |receipt_type: &str, ts| {
        Change::Receipt(ReceiptChange {
            room,
            user,
            receipt_type: receipt_type.to_owned(),
            thread: None,
            event_id: event_id.clone(),
            ts,
        })
    };
    let data = |content: Option<&str>| {
        let content = content.map(|json| RawValue::from_string(json.to_owned()).expect("JSON"));
        Change::AccountData(AccountDataChange {
            user,
            room: None,
            event_type: "m.direct".to_owned(),
            content,
        })
    };
    let changes = vec![
        receipt("m.read", 1),
        Change::from(change),
        receipt("m.read", 2),
        data(Some("{}")),
        data(Some(r#"{"last":"wins"}"#)),
    ];
    let positions = world.commit(changes).await.expect("committed");
    assert_eq!(positions.iter().map(Vec::len).collect::<Vec<_>>(), [1; 5]);
    let client = world.storage.get().await.expect("connected");
    let row = rooms::load_rooms(&client, &[room]).await.expect("loaded").remove(0);
    assert_eq!((row.position, row.receipt_position), (positions[1][0], positions[2][0]));
    let stored = crate::receipts::list_own(&client, &[room], user).await.expect("loaded");
    assert_eq!((stored.len(), stored[0].ts, stored[0].position), (1, 2, positions[2][0]));
    let found = crate::account_data::find(&client, user, None, "m.direct").await.expect("loaded");
    assert_eq!(found.expect("it was set").get(), r#"{"last":"wins"}"#);
    let deleted = world.commit(vec![data(None)]).await.expect("committed")[0][0];
    assert!(crate::account_data::find(&client, user, None, "m.direct").await.expect("loaded").is_none());
    let since = crate::account_data::list(&client, user, positions[4][0], deleted).await.expect("loaded");
    assert!(since.len() == 1 && since[0].content.is_none());
}
