//! Who entered which room lately: for changes that are told in all rooms of a user, when those were read before.

use std::collections::VecDeque;

use myelin_core::{
    membership::Membership,
    nid::{RoomNid, UserNid, types},
    position::Position,
};

use super::messages::Output;

/// How many are kept: more than join between a question to the database and the commit that follows from it.
const KEPT: usize = 4096;

/// The last joins, of users of any server, in position order.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Those up to here may not be kept.
    after: Position,
    kept: VecDeque<(Position, UserNid, RoomNid)>,
}

impl Arrivals {
    /// Notes it if it is a join, also of one who was there already.
    pub fn note(&mut self, output: &Output) {
        let arrival = match output {
            Output::Event(output) if output.event.type_nid == types::MEMBER => {
                let joined = Membership::of_event(&output.event.pdu) == Some(Membership::Join);
                let key = output.event.state_key.filter(|_| joined);
                key.map(|key| (output.event.position, UserNid::from_state_key(key), output.event.room))
            }
            Output::Member(output) if output.membership == Membership::Join => {
                Some((output.position, output.user, output.view.nid))
            }
            _ => None,
        };
        let Some(arrival) = arrival else { return };
        if self.kept.len() >= KEPT
            && let Some((oldest, ..)) = self.kept.pop_front()
        {
            self.after = oldest;
        }
        self.kept.push_back(arrival);
    }

    /// The rooms that the user entered after that; `None`: it is too long ago to say.
    pub fn of(&self, user: UserNid, after: Position) -> Option<Vec<RoomNid>> {
        let recent = self.kept.iter().rev().take_while(|(position, ..)| *position > after);
        let rooms = recent.filter(|(_, who, _)| *who == user).map(|(.., room)| *room);
        (after >= self.after).then(|| rooms.collect())
    }
}
