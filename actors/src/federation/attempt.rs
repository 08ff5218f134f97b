//! A transaction on its way, and what becomes of one that its receiver will not take.

use myelin_core::{nid::RoomNid, pdu::Pdu, position::Position};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedTransactionId};
use serde_json::value::RawValue;

use crate::remote::OutgoingTransaction;

/// An event that is on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub room: RoomNid,
    pub position: Position,
    /// The server has joined members after it. `None`: it is noted already that the server misses it.
    pub in_room: Option<bool>,
}

/// A transaction on its way, for as many attempts as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub id: OwnedTransactionId,
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    pub pdus: Vec<Pdu>,
    pub edus: Vec<Box<RawValue>>,
    /// What the server lacks no more when it acknowledges the transaction.
    pub events: Vec<Told>,
    pub edus_upto: Option<Position>,
    /// It was part of a larger one, which the server refused.
    pub is_part: bool,
}

impl Attempt {
    /// The transaction: the same, however often it is made.
    pub fn transaction(&self) -> OutgoingTransaction {
        let raw = |pdu: &Pdu| RawValue::from_string(pdu.json().to_owned()).ok();
        OutgoingTransaction {
            id: self.id.clone(),
            origin_server_ts: self.origin_server_ts,
            pdus: self.pdus.iter().filter_map(raw).collect(),
            edus: self.edus.clone(),
        }
    }

    /// How many PDUs and EDUs it has.
    pub fn size(&self) -> (usize, usize) {
        (self.pdus.len(), self.edus.len())
    }

    /// Something in it is kept until it is acknowledged.
    pub fn is_durable(&self) -> bool {
        self.is_part || !self.events.is_empty() || self.edus_upto.is_some()
    }

    /// Two transactions with the same in them: EDUs and PDUs, or one half of either and the other. `None`: there is
    /// only one thing in it. What is noted as acknowledged at the end is noted with the second.
    pub fn halves(&self, mut id: impl FnMut() -> OwnedTransactionId) -> Option<(Self, Self)> {
        let mut part = |pdus: &[Pdu], edus: &[Box<RawValue>]| Self {
            id: id(),
            origin_server_ts: self.origin_server_ts,
            pdus: pdus.to_vec(),
            edus: edus.to_vec(),
            events: Vec::new(),
            edus_upto: None,
            is_part: true,
        };
        let (pdus, edus) = self.size();
        match (pdus, edus) {
            (0, 0 | 1) | (1, 0) => None,
            (0, _) => {
                let (first, second) = self.edus.split_at(edus / 2);
                let second = Self { edus_upto: self.edus_upto, ..part(&[], second) };
                Some((part(&[], first), second))
            }
            (_, 0) => {
                let (first, second) = self.pdus.split_at(pdus / 2);
                // Some of the events may have been gone when it was made.
                let at = if self.events.len() == pdus { pdus / 2 } else { 0 };
                let (first_events, second_events) = self.events.split_at(at);
                let first = Self { events: first_events.to_vec(), ..part(first, &[]) };
                Some((first, Self { events: second_events.to_vec(), ..part(second, &[]) }))
            }
            _ => {
                let first = Self { edus_upto: self.edus_upto, ..part(&[], &self.edus) };
                Some((first, Self { events: self.events.clone(), ..part(&self.pdus, &[]) }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_halved_until_there_is_one_thing_left() {
        let edus = (0..5).map(|number| RawValue::from_string(number.to_string()).expect("JSON")).collect();
        let whole = Attempt {
            id: "whole".into(),
            origin_server_ts: MilliSecondsSinceUnixEpoch(1_u32.into()),
            pdus: Vec::new(),
            edus,
            events: Vec::new(),
            edus_upto: Some(Position(7)),
            is_part: false,
        };
        let mut number = 0;
        let mut next_id = || {
            number += 1;
            number.to_string().into()
        };
        let (mut todo, mut single) = (vec![whole], Vec::new());
        while let Some(attempt) = todo.pop() {
            match attempt.halves(&mut next_id) {
                Some((first, second)) => todo.extend([second, first]),
                None => single.push(attempt),
            }
        }
        let edus: Vec<&str> = single.iter().flat_map(|attempt| &attempt.edus).map(|edu| edu.get()).collect();
        assert_eq!(edus, ["0", "1", "2", "3", "4"]);
        assert!(single.iter().all(|attempt| attempt.is_part && attempt.size() == (0, 1)));
        let upto: Vec<_> = single.iter().map(|attempt| attempt.edus_upto).collect();
        assert_eq!(upto, [None, None, None, None, Some(Position(7))], "only when the last has gone");
    }
}
