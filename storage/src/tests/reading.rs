//! What readers find in what was committed.

use std::collections::HashMap;

use myelin_core::{
    nid::{EMPTY_STATE_KEY, EventNid, types},
    position::Position,
};
use serde_json::json;

use super::support::{ALICE, World};
use crate::{
    commit::{Change, NewRelation},
    events,
    gaps::{self, StateAt},
    members,
    nids::Nids,
    receipts,
    relations::{self, Children},
    state,
    timeline::{self, Direction},
    unread::{self, UnreadCounts},
};

pub(super) async fn run_all(world: &mut World) {
    pages_meet_and_do_not_overlap(world).await;
    latest_events_of_rooms_come_in_one_query(world).await;
    events_are_found_by_time(world).await;
    state_is_found_by_position(world).await;
    membership_has_a_history(world).await;
    rooms_of_a_user_come_with_the_position(world).await;
    children_are_found_and_summarised(world).await;
    auth_chain_includes_where_it_starts(world).await;
    private_receipts_are_their_owners(world).await;
    counts_only_move_forward(world).await;
    healthy_database_has_no_findings(world).await;
    broken_database_has_findings(world).await;
}

pub(super) async fn numbers_and_names_go_both_ways(world: &World) {
    let names = ["m.room.create", "org.example.\0", "org.example.\0", "m.room.member"];
    let nids = world.nids.intern_types(&names).await.expect("interned");
    assert_eq!((nids[0], nids[3]), (types::CREATE, types::MEMBER));
    assert_eq!(nids[1], nids[2]);
    // Another process knows nothing yet.
    let other = Nids::new(world.storage.clone());
    assert_eq!(other.intern_types(&names).await.expect("interned"), nids);
    assert_eq!(&*other.type_name(nids[1]).await.expect("named"), "org.example.\0");
    assert_eq!(other.find_state_keys(&["never seen"]).await.expect("asked"), [None]);
    let (first, second) = futures::join!(other.take_events(1500), world.nids.take_events(3));
    let (first, second) = (first.expect("numbers"), second.expect("numbers"));
    assert!(first.is_sorted() && first.len() == 1500);
    assert!(second.iter().all(|nid| !first.contains(nid)));
    let user = other.intern_users(&["@bob:there"]).await.expect("interned")[0];
    assert_eq!(world.nids.user_id(user).await.expect("named"), "@bob:there");
    let names: Vec<String> = (0..600).map(|number| format!("key {number}")).collect();
    let (mine, theirs) =
        futures::join!(world.nids.intern_state_keys(&names), other.intern_state_keys(&names));
    assert_eq!(mine.expect("interned"), theirs.expect("interned"));
}

async fn pages_meet_and_do_not_overlap(world: &World) {
    let client = world.storage.get().await.expect("connected");
    let room = world.room.nid;
    let all = timeline::page(&client, room, None, Direction::Forward, None, 1000).await.expect("read");
    assert!(all.is_sorted_by_key(|event| event.place) && all.len() > 5);
    let middle = all[3].place;
    let back = timeline::page(&client, room, middle, Direction::Backward, None, 1000).await.expect("read");
    let forth = timeline::page(&client, room, middle, Direction::Forward, None, 1000).await.expect("read");
    let nids = |events: &[crate::events::StoredEvent]| -> Vec<EventNid> {
        events.iter().map(|event| event.nid).collect()
    };
    let mut joined = nids(&back);
    joined.reverse();
    joined.extend(nids(&forth));
    assert_eq!(joined, nids(&all));
    let between = timeline::page(&client, room, all[1].place, Direction::Forward, middle, 1000).await;
    assert_eq!(nids(&between.expect("read")), nids(&all[2..4]));
    let live =
        timeline::committed_after(&client, Position::START, Position(i64::MAX), 1000).await.expect("read");
    assert_eq!(live.len(), all.len() - 1, "the one that was fetched later is not live");
}

async fn latest_events_of_rooms_come_in_one_query(world: &mut World) {
    let mut other = super::support::Room::new(&world.nids).await;
    let nids = world.nids.clone();
    let create = other.event(&nids, ALICE, "m.room.create", Some(""), json!({})).await;
    let at = world.commit(vec![Change::from(create)]).await.expect("committed")[0][0];
    let client = world.storage.get().await.expect("connected");
    let end = Position(i64::MAX);
    let ranges = [(world.room.nid, Position::START, Position(at.0 - 1)), (other.nid, Position::START, end)];
    let latest = timeline::latest_for_rooms(&client, &ranges, 2).await.expect("read");
    let of_room = &latest[&world.room.nid];
    assert!(of_room.len() == 2 && of_room[0].place < of_room[1].place);
    assert_eq!(latest[&other.nid].len(), 1);
    let none = timeline::latest_for_rooms(&client, &[(other.nid, at, end)], 2).await.expect("read");
    assert!(none.is_empty());
}

async fn events_are_found_by_time(world: &World) {
    let client = world.storage.get().await.expect("connected");
    let find = async |time, direction| {
        let found = timeline::find_by_time(&client, world.room.nid, time, direction).await.expect("read");
        found.map(|event| event.origin_server_ts)
    };
    assert_eq!(find(1001, Direction::Forward).await, Some(2000));
    assert_eq!(find(1999, Direction::Backward).await, Some(1000));
    assert_eq!(find(0, Direction::Backward).await, None);
}

async fn state_is_found_by_position(world: &World) {
    let (nids, mut room) = (&world.nids, super::support::Room::new(&world.nids).await);
    let create = room.event(nids, ALICE, "m.room.create", Some(""), json!({})).await;
    let (created, first) = (create.events[0].nid, room.snapshot);
    let mut positions = Vec::new();
    let text = room.event(nids, ALICE, "m.room.message", None, json!({})).await;
    // It does not count: on another branch it could not have been sent.
    let mut topic = room.event(nids, ALICE, "m.room.topic", Some(""), json!({})).await;
    topic.resolved = first;
    let second = room.snapshot;
    let last = room.event(nids, ALICE, "m.room.message", None, json!({})).await;
    for change in [create, text, topic, last] {
        positions.push(world.commit(vec![Change::from(change)]).await.expect("committed")[0][0]);
    }
    let client = world.storage.get().await.expect("connected");
    let state_at = async |position: Position| {
        gaps::states_at(&client, &[(room.nid, position)]).await.expect("read").remove(&room.nid)
    };
    let state = |snapshot| Some(StateAt { snapshot, added: None });
    let added = Some(((types::CREATE, EMPTY_STATE_KEY), created));
    assert_eq!(state_at(Position(positions[0].0 - 1)).await, None);
    assert_eq!(state_at(positions[0]).await, Some(StateAt { snapshot: None, added }));
    assert_eq!(state_at(positions[1]).await, state(first));
    assert_eq!(state_at(positions[2]).await, state(first));
    assert_eq!(state_at(positions[3]).await, state(second));
    assert_eq!(state_at(Position(i64::MAX)).await, state(second));
}

async fn membership_has_a_history(world: &World) {
    let alice = world.user(ALICE).await;
    let client = world.storage.get().await.expect("connected");
    let history = members::history(&client, world.room.nid, alice, 10).await.expect("read");
    assert_eq!(history.len(), 2);
    assert!(history[0].position > history[1].position);
    let newest = members::history(&client, world.room.nid, alice, 1).await.expect("read");
    assert_eq!(newest, history[..1]);
}

async fn rooms_of_a_user_come_with_the_position(world: &World) {
    let client = world.storage.get().await.expect("connected");
    let alice = members::rooms_of(&client, world.user(ALICE).await).await.expect("read");
    assert_eq!(alice.position, world.position().await);
    assert_eq!(alice.rooms.len(), 1);
    assert!(alice.rooms[0].room_position > alice.rooms[0].member.position);
    let nobody = members::rooms_of(&client, world.user("@nobody:here").await).await.expect("read");
    assert!(nobody.rooms.is_empty() && nobody.position == alice.position);
    assert!(!members::forget(&client, world.room.nid, world.user(ALICE).await).await.expect("asked"));
}

async fn children_are_found_and_summarised(world: &mut World) {
    let parent = world.message(json!({"body": "root"})).await;
    let parent_id = parent.events[0].pdu.event_id().to_owned();
    let mut changes = vec![Change::from(parent.clone())];
    let mut children = Vec::new();
    for rel_type in ["m.thread", "m.thread", "m.replace", "m.reference"] {
        let mut child = world.message(json!({"body": rel_type, "m.new_content": {}})).await;
        let event = &child.events[0];
        child.relations.push(NewRelation {
            parent_id: parent_id.clone(),
            child: event.nid,
            rel_type: rel_type.to_owned(),
            type_nid: event.type_nid,
            sender: event.sender,
            aggregation_key: None,
        });
        children.push(event.nid);
        changes.push(Change::from(child));
    }
    world.commit(changes).await.expect("committed");
    let client = world.storage.get().await.expect("connected");
    let root = parent.events[0].nid;
    let wanted = Children {
        room: world.room.nid,
        parent: &parent_id,
        rel_type: Some("m.thread"),
        type_nid: None,
        depth: 3,
    };
    let found = relations::list(&client, wanted, None, Direction::Backward, None, 10).await.expect("read");
    assert_eq!(found.iter().map(|event| event.nid).collect::<Vec<_>>(), [children[1], children[0]]);
    let edits = relations::find_replacements(&client, &[root]).await.expect("read");
    assert_eq!(edits, HashMap::from([(root, children[2])]));
    let nobody = world.user("@nobody:here").await;
    let thread = relations::summarise_threads(&client, &[root], nobody, &[]).await.expect("read")[&root];
    assert_eq!((thread.replies, thread.latest, thread.participated), (2, children[1], false));
    let threads = relations::list_threads(&client, world.room.nid, None, None, 10).await.expect("read");
    assert_eq!(threads.len(), 1);
    let references = relations::list_references(&client, &[root], &[]).await.expect("read");
    assert_eq!(references[&root].len(), 1);
}

async fn auth_chain_includes_where_it_starts(world: &World) {
    let client = world.storage.get().await.expect("connected");
    let (last, id) = &world.room.last[0];
    let chain = state::auth_chain(&client, &[*last]).await.expect("read");
    assert!(chain.contains(last) && chain.len() == 2, "{chain:?}");
    assert_eq!(events::find_nids(&client, &[id]).await.expect("read")[id], *last);
    assert_eq!(events::find_events_by_id(&client, &[id]).await.expect("read").len(), 1);
}

async fn private_receipts_are_their_owners(world: &World) {
    let alice = world.user(ALICE).await;
    let nobody = world.user("@nobody:here").await;
    let receipt = crate::commit::ReceiptChange {
        room: world.room.nid,
        user: alice,
        receipt_type: "m.read.private".to_owned(),
        thread: Some("main".to_owned()),
        event_id: world.room.last[0].1.clone(),
        ts: 3,
    };
    world.commit(vec![Change::Receipt(receipt)]).await.expect("committed");
    let client = world.storage.get().await.expect("connected");
    let rooms = [(world.room.nid, Position::START)];
    let end = Position(i64::MAX);
    assert_eq!(receipts::list(&client, &rooms, end, alice).await.expect("read").len(), 2);
    assert_eq!(receipts::list(&client, &rooms, end, nobody).await.expect("read").len(), 1);
}

async fn counts_only_move_forward(world: &World) {
    let alice = world.user(ALICE).await;
    let client = world.storage.get().await.expect("connected");
    let counts = |position, notifications| UnreadCounts {
        room: world.room.nid,
        position: Position(position),
        notifications,
        highlights: 0,
        threads: None,
    };
    for (position, notifications) in [(5, 2), (4, 1), (6, 3)] {
        unread::store(&client, alice, &[counts(position, notifications)]).await.expect("stored");
    }
    assert_eq!(unread::load(&client, alice, &[world.room.nid]).await.expect("read"), [counts(6, 3)]);
}

async fn healthy_database_has_no_findings(world: &World) {
    assert_eq!(world.storage.fsck().await.expect("checked"), []);
}

async fn broken_database_has_findings(world: &World) {
    let client = world.storage.get().await.expect("connected");
    let broken = [
        ("UPDATE memberships SET membership = 5", "the index of members has another membership"),
        ("UPDATE memberships SET event_nid = event_nid - 1", "the index of members does not have"),
        ("DELETE FROM state_blocks WHERE block_nid = 1", "has the block 1, which is not its room's"),
        ("UPDATE resolved_states SET snapshot_nid = 999999", "is the snapshot 999999, which is not its own"),
        ("UPDATE rooms SET extremities = '{999999}'", "999999 is no accepted event"),
        ("UPDATE rooms SET snapshot_nid = 1", "the current state is not the state after the last event"),
        ("UPDATE events SET prev_nids = '{999999}'", "refers to the event 999999"),
        ("UPDATE journal SET position = 2", "is after the journal's"),
        ("DELETE FROM journal", "the journal has 0 rows"),
        ("UPDATE events SET pdu = '{'", "cannot be read"),
        ("UPDATE events SET event_id = '$x' || event_nid", "does not have the id"),
        ("UPDATE events SET sender_nid = 1", "has another type, state key or sender"),
        ("UPDATE events SET pdu = REPLACE(pdu, '\"depth\":', '\"depth\":1')", "does not have the id"),
    ];
    client.batch_execute("CREATE TABLE kept_rooms AS SELECT * FROM rooms").await.expect("kept");
    for (damage, finding) in broken {
        // Damage cannot be rolled back by the connection that does it: `fsck` uses another.
        let tables = ["memberships", "state_blocks", "resolved_states", "rooms", "events", "journal"];
        for table in tables {
            let keep =
                format!("DROP TABLE IF EXISTS kept_{table}; CREATE TABLE kept_{table} AS TABLE {table}");
            client.batch_execute(&keep).await.expect("kept");
        }
        client.batch_execute(damage).await.expect("damaged");
        let findings = world.storage.fsck().await.expect("checked");
        assert!(
            findings.iter().any(|found| found.to_string().contains(finding)),
            "{damage} should give {finding:?}, not {findings:#?}"
        );
        for table in tables {
            let restore = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}");
            client.batch_execute(&restore).await.expect("restored");
        }
    }
    healthy_database_has_no_findings(world).await;
}
