//! What happened lately in rooms without being an event of theirs: for those who look into a room that they are not in,
//! whose desks are told nothing of it.
//!
//! Here such changes get their numbers. Only some are kept: who comes later than that looks at how things stand. Of
//! each room and each user the number of the last change is known, so that a desk can begin as if it had been there.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use myelin_core::{
    nid::{RoomNid, UserNid},
    position::Position,
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How many changes are kept.
const KEPT: usize = 1000;

/// Something that happened without being an event of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// Who is typing there has changed.
    Typing(RoomNid),
    /// Somebody has read something there; durable at that position.
    Receipt(RoomNid, Position),
    /// The presence of that user has changed.
    Presence(UserNid),
}

/// What may be new to one who looks into a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Changes up to this one are in it.
    pub upto: u64,
    /// Who is typing.
    pub typing: bool,
    /// Who has read what: receipts from this position on, or from where the reader is if that is earlier.
    pub receipts: Option<Position>,
    /// The presence of these users, whether they are in the room or not.
    pub presence: HashSet<UserNid>,
}

/// When typing changed last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastTyping {
    /// Changes up to this one are in it.
    pub upto: u64,
    /// In which rooms who is typing has changed, and when.
    pub typing: HashMap<RoomNid, u64>,
}

/// The changes of late, each with its number.
pub(super) struct Asides {
    /// This number and those before were given out before this process began.
    start: u64,
    last: watch::Sender<u64>,
    kept: Mutex<Kept>,
}

struct Kept {
    /// Everything after this number is kept.
    after: u64,
    changes: VecDeque<(u64, Aside)>,
    /// The last change in each room where somebody typed.
    typing: HashMap<RoomNid, u64>,
    /// The last change of each user.
    presence: HashMap<UserNid, u64>,
    /// The same in order: whose presence has changed since is found without looking at everybody.
    presence_in_order: BTreeMap<u64, UserNid>,
}

impl Asides {
    /// Numbers come after this one.
    pub fn new(last: u64) -> Self {
        let kept = Kept {
            after: last,
            changes: VecDeque::new(),
            typing: HashMap::new(),
            presence: HashMap::new(),
            presence_in_order: BTreeMap::new(),
        };
        Self { start: last, last: watch::Sender::new(last), kept: Mutex::new(kept) }
    }

    /// What happened before this number happened before this process began, and is not known.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Told with every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The number of this change.
    pub fn add(&self, aside: Aside) -> u64 {
        let mut kept = self.kept.lock();
        let number = self.next();
        if kept.changes.len() >= KEPT
            && let Some((oldest, _)) = kept.changes.pop_front()
        {
            kept.after = oldest;
        }
        kept.changes.push_back((number, aside));
        match aside {
            Aside::Typing(room) => drop(kept.typing.insert(room, number)),
            Aside::Presence(user) => kept.note_presence(user, number),
            Aside::Receipt(..) => {}
        }
        drop(kept);
        number
    }

    /// When who is typing has changed in each of these rooms.
    pub fn last_typing(&self, rooms: impl Iterator<Item = RoomNid>) -> LastTyping {
        let kept = self.kept.lock();
        LastTyping {
            upto: self.last(),
            typing: rooms.filter_map(|room| Some((room, *kept.typing.get(&room)?))).collect(),
        }
    }

    /// Everybody whose presence changed last after the one number and not after the other, and when.
    pub fn presence_between(&self, after: u64, upto: u64) -> Vec<(UserNid, u64)> {
        if after >= upto {
            return Vec::new();
        }
        let kept = self.kept.lock();
        kept.presence_in_order.range(after + 1..=upto).map(|(number, user)| (*user, *number)).collect()
    }

    /// The number of a change that concerns nobody who looks into rooms.
    pub fn next(&self) -> u64 {
        let mut number = 0;
        self.last.send_modify(|last| {
            *last += 1;
            number = *last;
        });
        number
    }

    /// What may be new in the room after that number.
    pub fn news(&self, room: RoomNid, after: u64) -> News {
        let kept = self.kept.lock();
        let is_too_long_ago = after < kept.after;
        let mut news = News {
            upto: self.last(),
            typing: is_too_long_ago,
            receipts: is_too_long_ago.then_some(Position(i64::MAX)),
            presence: HashSet::new(),
        };
        for (_, aside) in kept.changes.iter().rev().take_while(|(number, _)| *number > after) {
            match aside {
                Aside::Typing(there) => news.typing |= *there == room,
                Aside::Receipt(there, position) if *there == room => {
                    news.receipts = news.receipts.min(Some(*position)).or(Some(*position));
                }
                Aside::Receipt(..) => {}
                Aside::Presence(user) => drop(news.presence.insert(*user)),
            }
        }
        news
    }
}

impl Kept {
    fn note_presence(&mut self, user: UserNid, number: u64) {
        if let Some(before) = self.presence.insert(user, number) {
            self.presence_in_order.remove(&before);
        }
        self.presence_in_order.insert(number, user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: i64) -> RoomNid {
        RoomNid::new(number).expect("positive")
    }

    fn user(number: i32) -> UserNid {
        UserNid::new(number).expect("positive")
    }

    #[test]
    fn news_are_those_of_the_room_and_after_the_number() {
        let asides = Asides::new(10);
        let typing = asides.add(Aside::Typing(room(1)));
        asides.add(Aside::Receipt(room(2), Position(5)));
        asides.add(Aside::Receipt(room(2), Position(6)));
        let last = asides.add(Aside::Presence(user(3)));
        let expect = |typing, receipts| News { upto: last, typing, receipts, presence: [user(3)].into() };
        assert_eq!(asides.news(room(1), 10), expect(true, None));
        assert_eq!(asides.news(room(1), typing), expect(false, None));
        assert_eq!(asides.news(room(2), typing), expect(false, Some(Position(5))));
        assert!(asides.news(room(2), last).presence.is_empty());
    }

    #[test]
    fn last_change_of_each_is_known_however_long_ago_it_was() {
        let asides = Asides::new(10);
        asides.add(Aside::Typing(room(1)));
        let typing = asides.add(Aside::Typing(room(1)));
        let presence = asides.add(Aside::Presence(user(3)));
        for _ in 0..KEPT {
            asides.add(Aside::Typing(room(2)));
        }
        let changes = asides.last_typing([room(1), room(4)].into_iter());
        assert_eq!(changes.upto, asides.last());
        assert_eq!(changes.typing, [(room(1), typing)].into());
        assert_eq!(asides.presence_between(0, changes.upto), [(user(3), presence)]);
    }

    #[test]
    fn whose_presence_changed_is_told_for_the_time_asked_for_alone() {
        let asides = Asides::new(10);
        let [first, second, third, again] =
            [1, 2, 3, 1].map(|number| asides.add(Aside::Presence(user(number))));
        assert_eq!(asides.presence_between(10, first), [], "the user has changed again");
        assert_eq!(asides.presence_between(first, second), [(user(2), second)]);
        assert_eq!(asides.presence_between(second, again), [(user(3), third), (user(1), again)]);
        assert_eq!(asides.presence_between(again, again), []);
        assert_eq!(asides.presence_between(0, u64::MAX).len(), 3);
    }

    #[test]
    fn what_is_not_kept_may_have_been_anything() {
        let asides = Asides::new(10);
        let first = asides.add(Aside::Typing(room(1)));
        for _ in 0..KEPT {
            asides.add(Aside::Typing(room(1)));
        }
        assert!(asides.news(room(2), first - 1).receipts.is_some(), "it is too long ago");
        assert!(asides.news(room(2), first).receipts.is_none());
    }
}
