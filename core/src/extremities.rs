//! Forward extremities: the events of a room that no other event follows yet.
//!
//! Only accepted events move them. A soft-failed or rejected event neither becomes an extremity nor takes
//! another's place, so that nothing new refers to it.

use crate::nid::EventNid;

/// The extremities after `event`, which follows `prevs`, was accepted. The order of the others is kept and
/// the new event is last.
pub fn advance(old: &[EventNid], event: EventNid, prevs: &[EventNid]) -> Vec<EventNid> {
    let kept = old.iter().copied().filter(|nid| *nid != event && !prevs.contains(nid));
    kept.chain([event]).collect()
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
}
