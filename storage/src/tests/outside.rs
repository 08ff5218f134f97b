//! Rooms that this server is not in, members of other servers, and redactions that wait.

use myelin_core::{
    admit::AdmissionCode,
    membership::Membership,
    nid::{EventNid, UserNid},
    position::TimelinePlace,
};
use serde_json::json;

use super::support::{ALICE, Room, World};
use crate::{
    commit::{
        AppliedRedaction, Change, MemberChange, NewEvent, Placement, RoomChange, StrippedState,
        WaitingRedaction,
    },
    events, members, outside, rooms, timeline,
};

pub(super) async fn run_all(world: &mut World) {
    invited_users_are_told_until_their_membership_changes(world).await;
    members_are_counted_by_server(world).await;
    redaction_waits_until_it_is_applied(world).await;
    what_was_fetched_later_is_no_news(world).await;
}

async fn commit(world: &World, change: RoomChange) {
    world.commit(vec![Change::from(change)]).await.expect("committed");
}

fn member(user: UserNid, membership: Membership, event: EventNid) -> MemberChange {
    MemberChange { user, membership, event, is_local: true, changed: true, display_name: None }
}

async fn invited_users_are_told_until_their_membership_changes(world: &World) {
    let mut room = Room::new(&world.nids).await;
    let content = json!({"membership": "invite"});
    let pdu = room.pdu("@alice:there", "m.room.member", Some("@bob:here"), &content);
    let event = NewEvent {
        admission: AdmissionCode::Outlier,
        placement: Placement::Outside,
        ..room.new_event(&world.nids, pdu).await
    };
    let bob = world.user("@bob:here").await;
    let mut invite = room.change(event.clone());
    invite.members.push(member(bob, Membership::Invite, event.nid));
    invite.stripped.push(StrippedState { user: bob, events: r#"[{"name":"\u0000"}]"#.to_owned() });
    commit(world, invite).await;

    let client = world.storage.get().await.expect("connected");
    let row = rooms::load_rooms(&client, &[room.nid]).await.expect("loaded").remove(0);
    assert_eq!((row.snapshot, row.extremities.len()), (None, 0));
    let told = outside::load_stripped(&client, bob, &[room.nid]).await.expect("loaded");
    assert_eq!(told[&room.nid][0].get(), r#"{"name":"\u0000"}"#);
    assert_eq!(world.storage.fsck().await.expect("checked"), []);

    let mut leave = room.change(event.clone());
    leave.events.clear();
    leave.members.push(member(bob, Membership::Leave, event.nid));
    commit(world, leave).await;
    assert!(outside::load_stripped(&client, bob, &[room.nid]).await.expect("loaded").is_empty());
    let row = members::find(&client, room.nid, bob).await.expect("loaded").expect("a member");
    assert_eq!(
        (row.membership, row.event, row.position),
        (Membership::Leave, event.nid, world.position().await)
    );
    assert_eq!(world.storage.fsck().await.expect("checked"), []);
}

async fn members_are_counted_by_server(world: &World) {
    let mut room = Room::new(&world.nids).await;
    let create =
        room.event(&world.nids, ALICE, "m.room.create", Some(""), json!({"room_version": "11"})).await;
    commit(world, create).await;
    for (user, membership) in [
        (ALICE, "join"),
        ("@a:there", "join"),
        ("@b:there", "join"),
        ("@c:there", "invite"),
        ("@d:[::1]:8448", "join"),
        ("@e:not a server", "join"),
        ("no user at all", "join"),
    ] {
        let content = json!({"membership": membership});
        let change = room.event(&world.nids, ALICE, "m.room.member", Some(user), content).await;
        commit(world, change).await;
    }
    let client = world.storage.get().await.expect("connected");
    let mut servers =
        members::other_servers(&client, &[room.nid]).await.expect("loaded").remove(&room.nid).expect("some");
    servers.sort();
    let servers: Vec<(&str, usize)> =
        servers.iter().map(|(server, count)| (server.as_str(), *count)).collect();
    assert_eq!(servers, [("[::1]:8448", 1), ("there", 2)]);
}

async fn redaction_waits_until_it_is_applied(world: &mut World) {
    let mut redaction = world.message(json!({"body": "the redaction"})).await;
    let by = redaction.events[0].clone();
    let target = world.message(json!({"body": "secret"})).await;
    let target_id = target.events[0].pdu.event_id().to_owned();
    redaction.events[0].placement = Placement::Outside;
    redaction.waiting.push(WaitingRedaction { target: target_id.clone(), redaction: by.nid });
    commit(world, redaction).await;
    let client = world.storage.get().await.expect("connected");
    let found = events::find_waiting_redactions(&client, &[&target_id]).await.expect("loaded");
    assert_eq!(found.iter().map(|event| event.nid).collect::<Vec<_>>(), [by.nid]);
    let mut target = target;
    let pdu_json = target.events[0].pdu.json().replace("secret", "");
    target.redactions.push(AppliedRedaction { target: target.events[0].nid, by: by.nid, pdu_json });
    let nid = target.events[0].nid;
    // It is shown now.
    target.events.push(by.clone());
    target.ended_waiting.push(by.nid);
    commit(world, target).await;
    assert!(events::find_waiting_redactions(&client, &[&target_id]).await.expect("loaded").is_empty());
    let stored = events::load_events(&client, &[nid]).await.expect("loaded").remove(0);
    assert!(stored.redacted_by == Some(by.nid) && !stored.pdu.json().contains("secret"));
    let shown = events::load_events(&client, &[by.nid]).await.expect("loaded").remove(0);
    assert!(shown.place > stored.place, "{shown:?}");
}

async fn what_was_fetched_later_is_no_news(world: &mut World) {
    let live = world.message(json!({"body": "live"})).await;
    let nid = live.events[0].nid;
    commit(world, live).await;
    let client = world.storage.get().await.expect("connected");
    let room = world.room.nid;
    let position = async || {
        let rows = rooms::load_rooms(&client, &[room]).await.expect("loaded");
        rows[0].position
    };
    let (before, anchor) = (position().await, world.position().await);
    let kept = (world.room.last.clone(), world.room.depth);
    for offset in [-1, -2] {
        let mut past = world.message(json!({"body": "past"})).await;
        past.events[0].placement = Placement::Before(TimelinePlace { anchor, offset });
        past.head.extremities = vec![nid];
        past.head.depth = kept.1;
        commit(world, past).await;
        (world.room.last, world.room.depth) = kept.clone();
    }
    assert_eq!(position().await, before);
    let first = timeline::first_at(&client, room, anchor).await.expect("loaded").expect("an event");
    assert_eq!(first.place, Some(TimelinePlace { anchor, offset: -2 }));
}
