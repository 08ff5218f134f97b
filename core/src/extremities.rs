//! Forward extremities: the events of a room that no other event follows yet.
//!
//! Only accepted events move them. A soft-failed or rejected event neither becomes an extremity nor takes
//! another's place, so that nothing new refers to it.
//!
//! There are never more of them than one event can follow, so that the next event of this server joins all. Other
//! servers can fork a room as often as they like: a fork too many is part of the room, but not of its head, until
//! an event that follows it comes along.

use crate::nid::EventNid;

/// More than so many are joined by an event of this server that says nothing, if no other event does it.
pub const JOINED_ABOVE: usize = 10;

/// There are never more: as many as the prev events of an event may be.
/// <https://spec.matrix.org/v1.19/server-server-api/#pdus>
pub const MOST: usize = 20;

/// The type of an event that says nothing and only joins forks. Other servers make such events too; clients are not
/// shown them.
pub const DUMMY_EVENT: &str = "org.matrix.dummy_event";

/// The extremities after `event`, which follows `prevs`, was accepted. The order of the others is kept and
/// the new event is last, unless it is a fork too many.
pub fn advance(old: &[EventNid], event: EventNid, prevs: &[EventNid]) -> Vec<EventNid> {
    let kept: Vec<EventNid> =
        old.iter().copied().filter(|nid| *nid != event && !prevs.contains(nid)).collect();
    let is_too_many = kept.len() >= MOST;
    kept.into_iter().chain((!is_too_many).then_some(event)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nids(numbers: &[i64]) -> Vec<EventNid> {
        numbers.iter().map(|number| EventNid::new(*number).unwrap()).collect()
    }

    #[test]
    fn an_event_replaces_what_it_follows_and_only_that() {
        for (old, event, prevs, expected) in [
            (&[][..], 1, &[][..], &[1][..]),
            (&[1], 2, &[1], &[2]),
            (&[1, 2], 3, &[1], &[2, 3]),
            (&[1, 2], 3, &[1, 2], &[3]),
            // A late event, whose parents are long buried, forks the room.
            (&[9], 3, &[1, 2], &[9, 3]),
            // Twice is once.
            (&[9], 9, &[8], &[9]),
        ] {
            let event = EventNid::new(event).unwrap();
            assert_eq!(advance(&nids(old), event, &nids(prevs)), nids(expected));
        }
    }

    #[test]
    fn a_fork_too_many_is_no_extremity() {
        let mut old = Vec::new();
        for number in 1..100 {
            old = advance(&old, EventNid::new(number).unwrap(), &[]);
        }
        assert_eq!(old, nids(&(1..=20).collect::<Vec<_>>()));
        let next = EventNid::new(100).unwrap();
        let expected: Vec<i64> = (1..=20).filter(|number| *number != 7).chain([100]).collect();
        assert_eq!(advance(&old, next, &nids(&[7])), nids(&expected));
    }
}
