//! The order in which events can be judged: each after those that it is based on.

use std::collections::{HashMap, HashSet};

use ruma::OwnedEventId;

use crate::{admit::required_events, pdu::Pdu};

/// The events, each once, each after those among them that are its auth events. Where events of the first room
/// versions, whose ids are not hashes, are based on each other in a circle, one of them comes too early.
pub fn by_auth_events(events: Vec<Pdu>) -> Vec<Pdu> {
    let order: Vec<OwnedEventId> = events.iter().map(|event| event.event_id().to_owned()).collect();
    let mut waiting: HashMap<OwnedEventId, Pdu> =
        events.into_iter().map(|event| (event.event_id().to_owned(), event)).collect();
    let mut opened: HashSet<OwnedEventId> = HashSet::with_capacity(waiting.len());
    let mut ordered = Vec::with_capacity(waiting.len());
    // Not recursive: a chain of auth events may be longer than the stack is deep.
    let mut stack: Vec<OwnedEventId> = Vec::new();
    for id in order {
        stack.push(id);
        while let Some(id) = stack.last() {
            let Some(event) = waiting.get(id) else {
                stack.pop();
                continue;
            };
            if opened.insert(id.clone()) {
                let based_on = required_events(event).filter(|id| !opened.contains(id));
                let based_on: Vec<OwnedEventId> = based_on.collect();
                stack.extend(based_on);
            } else {
                ordered.extend(waiting.remove(id));
                stack.pop();
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use ruma::RoomVersionId;
    use serde_json::json;

    use super::*;
    use crate::version;

    fn event(id: &str, auth_events: &[&str]) -> Pdu {
        let version = version::find(&RoomVersionId::V11).expect("version 11 is supported");
        let json = json!({
            "auth_events": auth_events, "prev_events": [], "depth": 1, "origin_server_ts": 1,
            "hashes": {"sha256": ""}, "room_id": "!room:example.org", "sender": "@alice:example.org",
            "type": "m.room.message", "content": {},
        });
        Pdu::from_stored(version, id.try_into().expect("an id"), json.to_string()).expect("a PDU")
    }

    fn check(events: &[(&str, &[&str])], expected: &[&str]) {
        let events = events.iter().map(|(id, auth)| event(id, auth)).collect();
        let ordered = by_auth_events(events);
        let ids: Vec<&str> = ordered.iter().map(|event| event.event_id().as_str()).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn each_event_comes_once_after_what_it_is_based_on() {
        check(&[], &[]);
        check(&[("$c", &["$b", "$a"]), ("$b", &["$a"]), ("$a", &[])], &["$a", "$b", "$c"]);
        check(&[("$b", &["$elsewhere"]), ("$a", &[]), ("$b", &["$elsewhere"])], &["$b", "$a"]);
        check(
            &[("$d", &["$b", "$c"]), ("$c", &["$a"]), ("$b", &["$a"]), ("$a", &[])],
            &["$a", "$c", "$b", "$d"],
        );
    }

    #[test]
    fn circles_and_long_chains_end() {
        check(&[("$a", &["$b"]), ("$b", &["$a"])], &["$b", "$a"]);
        let ids: Vec<String> = (0..50_000).map(|number| format!("${number}")).collect();
        let chain = ids.windows(2).map(|pair| event(&pair[0], &[&pair[1]])).collect();
        assert_eq!(by_auth_events(chain).len(), 49_999);
    }
}
