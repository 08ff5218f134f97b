//! Forks and what becomes of them: tables for version 1, and for the others that ruma gets what it needs.

use serde_json::json;

use super::*;
use crate::test_room::{ALICE, BOB, CAROL, TestRoom};
use crate::version::all;

/// A public room that Alice opened and Bob joined, who has some power.
fn room(version: &str) -> TestRoom {
    let mut room = TestRoom::new(version);
    room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
    room.join(BOB);
    let users = if version == "12" { json!({BOB: 50}) } else { json!({ALICE: 100, BOB: 50}) };
    room.state(ALICE, "m.room.power_levels", "", json!({"users": users}));
    room
}

fn fork(room: &TestRoom, name: &str) -> TestRoom {
    let mut fork = room.clone();
    name.clone_into(&mut fork.name);
    fork
}

fn merge(forks: &[&TestRoom]) -> Result<StateIds, ResolveError> {
    let events: HashMap<OwnedEventId, Pdu> = forks.iter().flat_map(|fork| fork.events.clone()).collect();
    let states: Vec<StateIds> = forks.iter().map(|fork| fork.state_ids()).collect();
    let chains = forks.iter().map(|fork| fork.auth_chain()).collect();
    resolve(forks[0].version, &states, chains, &events)
}

fn winner(forks: &[&TestRoom], event_type: &str, key: &str) -> Option<OwnedEventId> {
    let resolved = merge(forks).unwrap();
    let reversed: Vec<&TestRoom> = forks.iter().rev().copied().collect();
    assert_eq!(resolved, merge(&reversed).unwrap(), "the order of the forks does not matter");
    resolved.get(&(event_type.to_owned(), key.to_owned())).cloned()
}

fn each_version(check: impl Fn(&str)) {
    for version in all() {
        check(version.id.as_str());
    }
}

fn each_version_after_1(check: impl Fn(&str)) {
    for version in &all()[1..] {
        check(version.id.as_str());
    }
}

#[test]
fn what_does_not_conflict_is_kept() {
    each_version(|version| {
        let (mut left, mut right) = (fork(&room(version), "left"), fork(&room(version), "right"));
        assert_eq!(merge(&[&left, &left.clone()]).unwrap(), left.state_ids());
        let topic = left.state(ALICE, "m.room.topic", "", json!({"topic": "left"}));
        let name = right.state(ALICE, "m.room.name", "", json!({"name": "right"}));
        assert_eq!(winner(&[&left, &right], "m.room.topic", "").as_deref(), Some(topic.event_id()));
        assert_eq!(winner(&[&left, &right], "m.room.name", "").as_deref(), Some(name.event_id()));
    });
}

#[test]
fn a_ban_beats_what_the_banned_did_meanwhile() {
    each_version_after_1(|version| {
        let base = room(version);
        let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
        let ban = left.member(ALICE, BOB, "ban");
        left.state(ALICE, "m.room.name", "", json!({"name": "left"}));
        right.now += 100;
        right.state(BOB, "m.room.topic", "", json!({"topic": "bob's"}));
        right.state(BOB, "m.room.power_levels", "", json!({"users": {BOB: 50}, "users_default": 1}));
        let bobs = winner(&[&left, &right], "m.room.member", BOB);
        assert_eq!(bobs.as_deref(), Some(ban.event_id()), "{version}");
        let levels = winner(&[&left, &right], "m.room.power_levels", "");
        let before = base.get("m.room.power_levels", "").unwrap();
        assert_eq!(levels.as_deref(), Some(before.event_id()), "{version}");
    });
}

#[test]
fn later_of_two_topics_wins_from_version_2_on() {
    each_version_after_1(|version| {
        let base = room(version);
        let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
        left.state(ALICE, "m.room.topic", "", json!({"topic": "earlier"}));
        right.now += 100;
        let later = right.state(BOB, "m.room.topic", "", json!({"topic": "later"}));
        let topic = winner(&[&left, &right], "m.room.topic", "");
        assert_eq!(topic.as_deref(), Some(later.event_id()), "{version}");
    });
}

#[test]
fn a_missing_event_is_named() {
    each_version(|version| {
        let base = room(version);
        let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
        let topic = left.state(ALICE, "m.room.topic", "", json!({"topic": "left"}));
        right.state(ALICE, "m.room.topic", "", json!({"topic": "right"}));
        left.events.remove(topic.event_id());
        let events: HashMap<_, _> =
            [&left, &right].into_iter().flat_map(|fork| fork.events.clone()).collect();
        let states = [left.state_ids(), right.state_ids()];
        let chains = vec![states[0].values().cloned().collect(), right.auth_chain()];
        let error = resolve(base.version, &states, chains, &events).unwrap_err();
        let ResolveError::Missing(ids) = error else { panic!("{error:?}") };
        assert_eq!(ids, [topic.event_id()], "{version}");
    });
}

#[test]
fn the_subgraph_is_what_lies_between_conflicted_events() {
    let mut room = TestRoom::new("12");
    room.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"}));
    let first = room.state(ALICE, "m.room.power_levels", "", json!({"users": {BOB: 50}}));
    let between = room.state(ALICE, "m.room.power_levels", "", json!({"users": {BOB: 51}}));
    let last = room.state(ALICE, "m.room.power_levels", "", json!({"users": {BOB: 52}}));
    room.join(BOB);
    let ends = [first.event_id().to_owned(), last.event_id().to_owned()];
    let subgraph = conflicted_subgraph(ends.iter(), &room.events);
    let mut ids: Vec<_> = subgraph.into_iter().collect();
    ids.sort();
    let mut expected = vec![ends[0].clone(), ends[1].clone(), between.event_id().to_owned()];
    expected.sort();
    assert_eq!(ids, expected);
    let lone = conflicted_subgraph([ends[1].clone()].iter(), &room.events);
    assert_eq!(lone.len(), 1);
}

// Version 1.

#[test]
fn v1_power_levels_follow_depth_as_long_as_each_allows_the_next() {
    let base = room("1");
    let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
    left.state(ALICE, "m.room.power_levels", "", json!({"users": {ALICE: 100, BOB: 60}}));
    right.state(ALICE, "m.room.name", "", json!({}));
    // Deeper, and within what the shallower one allows.
    let deep = right.state(ALICE, "m.room.power_levels", "", json!({"users": {ALICE: 100, BOB: 70}}));
    assert_eq!(winner(&[&left, &right], "m.room.power_levels", "").as_deref(), Some(deep.event_id()));
    // Deeper, but by one from whom the shallower one takes the power to do it.
    let (mut third, mut fourth) = (fork(&base, "third"), fork(&base, "fourth"));
    let shallow = third.state(ALICE, "m.room.power_levels", "", json!({"users": {ALICE: 100}}));
    fourth.state(ALICE, "m.room.name", "", json!({}));
    fourth.state(BOB, "m.room.power_levels", "", json!({"users": {ALICE: 100, BOB: 50}, "users_default": 1}));
    assert_eq!(winner(&[&third, &fourth], "m.room.power_levels", "").as_deref(), Some(shallow.event_id()));
}

#[test]
fn v1_join_rules_and_members_are_judged_by_the_resolved_power_levels() {
    let base = room("1");
    let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
    let shallow = left.state(ALICE, "m.room.join_rules", "", json!({"join_rule": "invite"}));
    let ban = left.member(ALICE, CAROL, "ban");
    right.state(ALICE, "m.room.power_levels", "", json!({"users": {ALICE: 100}}));
    right.state(ALICE, "m.room.name", "", json!({}));
    // Bob has no power any more where the two meet. The fork's own state does not count.
    right.state(BOB, "m.room.join_rules", "", json!({"join_rule": "knock"}));
    right.join(CAROL);
    left.state(ALICE, "m.room.power_levels", "", json!({"users": {ALICE: 100}}));
    assert_eq!(winner(&[&left, &right], "m.room.join_rules", "").as_deref(), Some(shallow.event_id()));
    assert_eq!(winner(&[&left, &right], "m.room.member", CAROL).as_deref(), Some(ban.event_id()));
}

#[test]
fn v1_other_state_goes_to_the_deepest_that_is_allowed() {
    let base = room("1");
    let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
    left.state(ALICE, "m.room.topic", "", json!({"topic": "shallow"}));
    right.state(ALICE, "m.x", "", json!({}));
    let deep = right.state(ALICE, "m.room.topic", "", json!({"topic": "deep"}));
    assert_eq!(winner(&[&left, &right], "m.room.topic", "").as_deref(), Some(deep.event_id()));
    // Deeper still, but not allowed.
    let mut third = fork(&base, "third");
    for _ in 0..5 {
        third.state(ALICE, "m.x", "", json!({}));
    }
    third.state(CAROL, "m.room.topic", "", json!({"topic": "forbidden"}));
    assert_eq!(winner(&[&left, &right, &third], "m.room.topic", "").as_deref(), Some(deep.event_id()));
}

#[test]
fn v1_equal_depths_are_told_apart_by_the_hash_of_the_id() {
    use sha1::{Digest, Sha1};

    let base = room("1");
    for round in 0..8 {
        let forks = ["left", "right"].map(|name| fork(&base, &format!("{name}{round}")));
        let [mut left, mut right] = forks;
        let topics = [
            left.state(ALICE, "m.room.topic", "", json!({"topic": "left"})),
            right.state(ALICE, "m.room.topic", "", json!({"topic": "right"})),
        ];
        let lowest = topics.iter().min_by_key(|event| Sha1::digest(event.event_id().as_str())).unwrap();
        let topic = winner(&[&left, &right], "m.room.topic", "");
        assert_eq!(topic.as_deref(), Some(lowest.event_id()), "{round}");
    }
}

#[test]
fn v1_takes_the_least_deep_when_none_is_allowed() {
    let base = room("1");
    let (mut left, mut right) = (fork(&base, "left"), fork(&base, "right"));
    let shallow = left.state(CAROL, "m.room.topic", "", json!({"topic": "left"}));
    right.state(ALICE, "m.x", "", json!({}));
    right.state(CAROL, "m.room.topic", "", json!({"topic": "right"}));
    assert_eq!(winner(&[&left, &right], "m.room.topic", "").as_deref(), Some(shallow.event_id()));
}
