//! The index of what state events are based on.

use myelin_core::{
    nid::EventNid,
    resolve::{AuthNode, Lookup},
};
use serde_json::json;

use super::support::{ALICE, Room, World};
use crate::{auth_chains, commit::Change};

pub(super) async fn run_all(world: &World) {
    chains_go_on_within_a_batch_and_after_it(world).await;
}

/// A state event of the room that is based on these.
async fn based_on(
    world: &World,
    room: &mut Room,
    kind: &str,
    key: &str,
    auth: &[EventNid],
) -> (EventNid, Change) {
    let mut change = room.event(&world.nids, ALICE, kind, Some(key), json!({})).await;
    change.events[0].auth_nids = auth.to_vec();
    (change.events[0].nid, Change::from(change))
}

async fn look(world: &World, lookup: &Lookup) -> Vec<(EventNid, AuthNode)> {
    let db = world.storage.get().await.expect("connected");
    auth_chains::look(&db, lookup).await.expect("looked")
}

fn places(rows: &[(EventNid, AuthNode)], nids: &[EventNid]) -> Vec<(EventNid, i64)> {
    let place = |nid: &EventNid| {
        let (_, node) = rows.iter().find(|(_, node)| node.nid == *nid).expect("in the index");
        (node.chain, node.place)
    };
    nids.iter().map(place).collect()
}

async fn chains_go_on_within_a_batch_and_after_it(world: &World) {
    let mut room = Room::new(&world.nids).await;
    let (create, first) = based_on(world, &mut room, "m.room.create", "", &[]).await;
    let (levels, second) = based_on(world, &mut room, "m.room.power_levels", "", &[create]).await;
    let (levels2, third) = based_on(world, &mut room, "m.room.power_levels", "", &[create, levels]).await;
    let (rules, fourth) = based_on(world, &mut room, "m.room.join_rules", "", &[create, levels2]).await;
    world.commit(vec![first, second, third, fourth]).await.expect("committed");
    let (levels3, fifth) = based_on(world, &mut room, "m.room.power_levels", "", &[create, levels2]).await;
    let (fork, sixth) = based_on(world, &mut room, "m.room.power_levels", "", &[create, levels2]).await;
    let (after, seventh) = based_on(world, &mut room, "m.room.power_levels", "", &[create, fork]).await;
    world.commit(vec![fifth, sixth, seventh]).await.expect("committed");

    let below = Lookup::Below { events: vec![levels3, after, rules], most: 100, floor: 0 };
    let rows = look(world, &below).await;
    assert_eq!(rows.len(), 7);
    let found = places(&rows, &[create, levels, levels2, rules, levels3, fork, after]);
    let expected = [(create, 1), (levels, 1), (levels, 2), (rules, 1), (levels, 3), (fork, 1), (fork, 2)];
    assert_eq!(found, expected);
    let since = |nid| rows.iter().find(|(_, node)| node.nid == nid).expect("in the index").1.since;
    assert!(since(create) < since(levels) && since(levels2) < since(after));

    let nearest = look(world, &Lookup::Below { events: vec![after], most: 2, floor: 0 }).await;
    assert!(nearest.len() == 2 && nearest.iter().any(|(_, node)| node.nid == after));
    let above_floor = Lookup::Below { events: vec![after], most: 100, floor: since(levels2) };
    let above_floor: Vec<EventNid> =
        look(world, &above_floor).await.iter().map(|(_, node)| node.nid).collect();
    assert!(above_floor.contains(&levels2) && !above_floor.contains(&levels));

    let last = EventNid::new(i64::MAX).expect("positive");
    let above = look(world, &Lookup::Above { events: vec![(levels2, last), (create, last)], most: 2 }).await;
    let of = |nid| above.iter().filter(|(of, _)| *of == nid).map(|(_, node)| node.nid).collect::<Vec<_>>();
    assert_eq!(of(create), [levels], "what another auth event implies is left out");
    assert_eq!(of(levels2), [fork, levels3], "the newest first, no more than asked for");
    let more = look(world, &Lookup::Above { events: vec![(levels2, levels3)], most: 2 }).await;
    assert_eq!(more.iter().map(|(_, node)| node.nid).collect::<Vec<_>>(), [rules]);
}
