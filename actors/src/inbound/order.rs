//! Events in an order in which each comes after those that it follows from.

use std::collections::{HashMap, HashSet};

use myelin_core::pdu::Pdu;
use ruma::{EventId, OwnedEventId};

/// The events, each after those of its prev and auth events that are among them, otherwise as they came. What other
/// servers claim may go in circles, in room versions in which ids are not hashes: then somewhere in between.
pub(super) fn oldest_first(events: &[Pdu]) -> Vec<Pdu> {
    let by_id: HashMap<OwnedEventId, usize> =
        events.iter().enumerate().map(|(index, pdu)| (pdu.event_id().to_owned(), index)).collect();
    let mut begun: HashSet<usize> = HashSet::with_capacity(events.len());
    let mut order: Vec<usize> = Vec::with_capacity(events.len());
    // What is to be done: go into an event, or put it down after everything before it.
    let mut todo: Vec<(usize, bool)> = (0..events.len()).rev().map(|index| (index, false)).collect();
    while let Some((index, is_done)) = todo.pop() {
        if is_done {
            order.push(index);
            continue;
        }
        if by_id.get(events[index].event_id()) != Some(&index) || !begun.insert(index) {
            continue;
        }
        todo.push((index, true));
        let before = references(&events[index]).filter_map(|id| by_id.get(id)).copied();
        todo.extend(before.filter(|before| !begun.contains(before)).map(|before| (before, false)));
    }
    order.into_iter().map(|index| events[index].clone()).collect()
}

/// The events of `found` that come before the event, as far as one leads to another.
pub(super) fn ancestors(of: &Pdu, found: Vec<Pdu>) -> Vec<Pdu> {
    let mut by_id: HashMap<OwnedEventId, Pdu> =
        found.into_iter().map(|pdu| (pdu.event_id().to_owned(), pdu)).collect();
    by_id.remove(of.event_id());
    let mut ancestors = Vec::new();
    let mut todo: Vec<OwnedEventId> = of.prev_events().to_vec();
    while let Some(id) = todo.pop() {
        if let Some(pdu) = by_id.remove(&id) {
            todo.extend(pdu.prev_events().iter().cloned());
            ancestors.push(pdu);
        }
    }
    ancestors
}

fn references(pdu: &Pdu) -> impl Iterator<Item = &EventId> {
    pdu.prev_events().iter().chain(pdu.auth_events()).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use ruma::event_id;

    use super::*;

    fn pdu(id: &str, prev: &[&str]) -> Pdu {
        let prev: Vec<_> = prev.iter().map(|id| serde_json::json!([id, {}])).collect();
        let json = serde_json::json!({
            "type": "m.test", "room_id": "!r:here", "sender": "@a:here", "content": {}, "prev_events": prev,
            "auth_events": [], "depth": 1, "origin_server_ts": 1,
        });
        let version = myelin_core::version::find_str("1").unwrap();
        Pdu::from_stored(version, id.try_into().unwrap(), json.to_string()).unwrap()
    }

    fn ids(events: &[Pdu]) -> Vec<&str> {
        events.iter().map(|pdu| pdu.event_id().as_str()).collect()
    }

    #[test]
    fn parents_come_first() {
        let events = vec![
            pdu("$d:h", &["$c:h"]),
            pdu("$a:h", &[]),
            pdu("$c:h", &["$b:h", "$x:h"]),
            pdu("$b:h", &["$a:h"]),
        ];
        assert_eq!(ids(&oldest_first(&events)), ["$a:h", "$b:h", "$c:h", "$d:h"]);
    }

    #[test]
    fn circles_and_copies_end() {
        let events =
            vec![pdu("$a:h", &["$b:h"]), pdu("$b:h", &["$a:h"]), pdu("$a:h", &[]), pdu("$c:h", &["$c:h"])];
        assert_eq!(oldest_first(&events).len(), 3);
    }

    #[test]
    fn long_chains_take_no_stack() {
        let events: Vec<Pdu> =
            (0..20_000).rev().map(|at| pdu(&format!("${at}:h"), &[&format!("${}:h", at - 1)])).collect();
        let ordered = oldest_first(&events);
        assert_eq!(ordered[0].event_id(), event_id!("$0:h"));
        assert_eq!(ordered[19_999].event_id(), event_id!("$19999:h"));
    }

    #[test]
    fn only_ancestors_count() {
        let found = vec![
            pdu("$a:h", &[]),
            pdu("$b:h", &["$a:h"]),
            pdu("$stranger:h", &["$a:h"]),
            pdu("$d:h", &["$d:h"]),
        ];
        let mut before = ancestors(&pdu("$c:h", &["$b:h", "$unknown:h"]), found);
        before.sort_by_key(|pdu| pdu.event_id().to_owned());
        assert_eq!(ids(&before), ["$a:h", "$b:h"]);
    }
}
