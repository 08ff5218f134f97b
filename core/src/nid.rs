//! NIDs: numbers that stand for string ids inside this server.
//!
//! A NID is never 0, never shown by an API, and means nothing to another server. Each kind is a type of its
//! own, so that a room's number cannot be taken for an event's. Interning (string to number and back) is not
//! here: it needs the database.

use std::num::{NonZeroI32, NonZeroI64};

use serde::{Deserialize, Serialize};

macro_rules! nid {
    ($(#[$doc:meta])* $name:ident($inner:ty, $plain:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The NID with this number; `None` unless it is positive.
            pub const fn new(number: $plain) -> Option<Self> {
                if number <= 0 {
                    return None;
                }
                match <$inner>::new(number) {
                    Some(inner) => Some(Self(inner)),
                    None => None,
                }
            }

            /// The number, as it stands in the database.
            pub const fn get(self) -> $plain {
                self.0.get()
            }
        }

        impl TryFrom<$plain> for $name {
            type Error = NotANid;

            fn try_from(number: $plain) -> Result<Self, NotANid> {
                Self::new(number).ok_or(NotANid(number.into()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// A number that cannot be a NID, because it is not positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a NID")]
pub struct NotANid(pub i64);

nid! {
    /// Stands for a room id.
    RoomNid(NonZeroI64, i64)
}
nid! {
    /// Stands for an event id. Never used again for another event, even when its transaction was rolled back.
    EventNid(NonZeroI64, i64)
}
nid! {
    /// Stands for an event type, such as `m.room.member`.
    TypeNid(NonZeroI32, i32)
}
nid! {
    /// Stands for a state key. User ids are interned as state keys too: see [`UserNid`].
    StateKeyNid(NonZeroI32, i32)
}
nid! {
    /// Stands for a user id, local or remote: the number that the id has as a state key, so that
    /// `(m.room.member, user)` is found in a room's state without another lookup.
    UserNid(NonZeroI32, i32)
}
nid! {
    /// Names a stored state block.
    BlockNid(NonZeroI64, i64)
}
nid! {
    /// Names a stored state snapshot.
    SnapshotNid(NonZeroI64, i64)
}

impl From<UserNid> for StateKeyNid {
    fn from(user: UserNid) -> Self {
        Self(user.0)
    }
}

impl UserNid {
    /// The user whose id this state key is. Right only where the event type says that the key is a user id.
    pub const fn from_state_key(key: StateKeyNid) -> Self {
        Self(key.0)
    }
}

/// The state key `""`, fixed by the first migration.
pub const EMPTY_STATE_KEY: StateKeyNid = match StateKeyNid::new(1) {
    Some(nid) => nid,
    None => unreachable!(),
};

macro_rules! well_known_types {
    ($($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: TypeNid = match TypeNid::new($number) {
            Some(nid) => nid,
            None => unreachable!(),
        };)*

        /// Every event type with a fixed NID and its name. The first migration inserts the same pairs.
        pub const WELL_KNOWN_TYPES: &[(TypeNid, &str)] = &[$(($constant, $name)),*];
    };
}

/// Event types with fixed NIDs. Numbers below 1,000 are reserved for this list.
pub mod types {
    use super::TypeNid;

    well_known_types! {
        /// `m.room.create`
        CREATE = 1, "m.room.create";
        /// `m.room.power_levels`
        POWER_LEVELS = 2, "m.room.power_levels";
        /// `m.room.join_rules`
        JOIN_RULES = 3, "m.room.join_rules";
        /// `m.room.third_party_invite`
        THIRD_PARTY_INVITE = 4, "m.room.third_party_invite";
        /// `m.room.member`
        MEMBER = 5, "m.room.member";
        /// `m.room.redaction`
        REDACTION = 6, "m.room.redaction";
        /// `m.room.history_visibility`
        HISTORY_VISIBILITY = 7, "m.room.history_visibility";
        /// `m.room.guest_access`
        GUEST_ACCESS = 8, "m.room.guest_access";
        /// `m.room.name`
        NAME = 9, "m.room.name";
        /// `m.room.topic`
        TOPIC = 10, "m.room.topic";
        /// `m.room.avatar`
        AVATAR = 11, "m.room.avatar";
        /// `m.room.canonical_alias`
        CANONICAL_ALIAS = 12, "m.room.canonical_alias";
        /// `m.room.aliases`
        ALIASES = 13, "m.room.aliases";
        /// `m.room.encryption`
        ENCRYPTION = 14, "m.room.encryption";
        /// `m.room.server_acl`
        SERVER_ACL = 15, "m.room.server_acl";
        /// `m.room.tombstone`
        TOMBSTONE = 16, "m.room.tombstone";
        /// `m.room.message`
        MESSAGE = 17, "m.room.message";
        /// `m.room.encrypted`
        ENCRYPTED = 18, "m.room.encrypted";
        /// `m.reaction`
        REACTION = 19, "m.reaction";
        /// `m.space.child`
        SPACE_CHILD = 20, "m.space.child";
        /// `m.space.parent`
        SPACE_PARENT = 21, "m.space.parent";
        /// `m.room.pinned_events`
        PINNED_EVENTS = 22, "m.room.pinned_events";
        /// `m.room.policy`
        POLICY = 23, "m.room.policy";
        /// `m.sticker`
        STICKER = 24, "m.sticker";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_negative_numbers_are_no_nids() {
        assert_eq!(RoomNid::new(0), None);
        assert_eq!(TypeNid::try_from(-1), Err(NotANid(-1)));
        assert_eq!(EventNid::new(7).map(EventNid::get), Some(7));
    }

    #[test]
    fn well_known_types_are_numbered_from_one_without_gaps() {
        let numbers: Vec<i32> = types::WELL_KNOWN_TYPES.iter().map(|(nid, _)| nid.get()).collect();
        assert_eq!(numbers, (1..=i32::try_from(numbers.len()).unwrap_or(0)).collect::<Vec<_>>());
    }
}
