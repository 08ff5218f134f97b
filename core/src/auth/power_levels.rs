//! Power levels: who has which, and what takes which.
//!
//! Read once from a room's `m.room.power_levels` and `m.room.create` events, with the defaults of the room
//! version, by the same lenient reader that authorisation uses.
//! <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>

use std::collections::{BTreeMap, HashSet};

use ruma::events::TimelineEventType;
use ruma::events::room::power_levels::UserPowerLevel;
use ruma::serde::{JsonObject, deserialize_v1_powerlevel};
use ruma::state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent};
use ruma::{Int, OwnedUserId, UserId};

use serde::Deserialize;

use crate::pdu::Pdu;
use crate::version::RoomVersion;

/// The level of a creator in a room without power levels, before room version 12.
const DEFAULT_CREATOR_LEVEL: i32 = 100;

/// The power levels of a room. Fields that are malformed count as absent.
#[derive(Clone, Debug)]
pub struct PowerLevels {
    version: &'static RoomVersion,
    creators: HashSet<OwnedUserId>,
    users: BTreeMap<OwnedUserId, Int>,
    users_default: Int,
    events: BTreeMap<TimelineEventType, Int>,
    events_default: Int,
    state_default: Int,
    invite: Int,
    kick: Int,
    ban: Int,
    redact: Int,
    notifications: BTreeMap<String, Int>,
}

impl PowerLevels {
    /// The levels that follow from a room's create event and its power levels, if it has any.
    pub fn new(create: &Pdu, power_levels: Option<&Pdu>) -> Self {
        let version = create.version();
        let rules = &version.rules.authorization;
        let creators = RoomCreateEvent::new(create.clone()).creators(rules).unwrap_or_default();
        let fields: JsonObject = power_levels.and_then(Pdu::content_as).unwrap_or_default();
        let field = |name: &str, default: i32| {
            let set = fields.get(name).and_then(|value| level(version, value));
            set.unwrap_or_else(|| default.into())
        };
        let event = power_levels.map(|event| RoomPowerLevelsEvent::new(event.clone()));
        let users = match &event {
            Some(event) => event.users(rules).ok().flatten().cloned().unwrap_or_default(),
            None if rules.explicitly_privilege_room_creators => BTreeMap::new(),
            None => creators.iter().map(|user| (user.clone(), DEFAULT_CREATOR_LEVEL.into())).collect(),
        };
        let events = event.as_ref().and_then(|event| event.events(rules).ok().flatten());
        let notifications = event.as_ref().and_then(|event| event.notifications(rules).ok().flatten());
        Self {
            version,
            creators,
            users,
            users_default: field("users_default", 0),
            events: events.unwrap_or_default(),
            events_default: field("events_default", 0),
            state_default: field("state_default", 50),
            invite: field("invite", 0),
            kick: field("kick", 50),
            ban: field("ban", 50),
            redact: field("redact", 50),
            notifications: notifications.unwrap_or_default(),
        }
    }

    /// The user's level. From room version 12 on, creators stand above every number.
    pub fn level_of(&self, user: &UserId) -> UserPowerLevel {
        if self.is_privileged_creator(user) {
            return UserPowerLevel::Infinite;
        }
        UserPowerLevel::Int(self.users.get(user).copied().unwrap_or(self.users_default))
    }

    /// Whether the user's level is at least this.
    pub fn has(&self, user: &UserId, needed: Int) -> bool {
        self.level_of(user) >= UserPowerLevel::Int(needed)
    }

    /// Whether the user stands above the other, as for a kick or a ban.
    pub fn is_above(&self, user: &UserId, other: &UserId) -> bool {
        self.level_of(user) > self.level_of(other)
    }

    /// The level that sending an event of this type takes.
    pub fn needed_for(&self, event_type: &str, is_state: bool) -> Int {
        let default = if is_state { self.state_default } else { self.events_default };
        self.events.get(&TimelineEventType::from(event_type)).copied().unwrap_or(default)
    }

    /// Whether the user's level suffices to send an event of this type.
    pub fn may_send(&self, user: &UserId, event_type: &str, is_state: bool) -> bool {
        self.has(user, self.needed_for(event_type, is_state))
    }

    /// The level that inviting takes.
    pub fn invite(&self) -> Int {
        self.invite
    }

    /// The level that kicking takes.
    pub fn kick(&self) -> Int {
        self.kick
    }

    /// The level that banning takes.
    pub fn ban(&self) -> Int {
        self.ban
    }

    /// The level that redacting others' events takes.
    pub fn redact(&self) -> Int {
        self.redact
    }

    /// The levels that notifying in some way takes, as far as they are set: `room` is for `@room`.
    pub fn notifications(&self) -> &BTreeMap<String, Int> {
        &self.notifications
    }

    /// The room's creators.
    pub fn creators(&self) -> &HashSet<OwnedUserId> {
        &self.creators
    }

    /// The users who are given a level by name.
    pub fn users(&self) -> &BTreeMap<OwnedUserId, Int> {
        &self.users
    }

    /// The level of users who are not given one.
    pub fn users_default(&self) -> Int {
        self.users_default
    }

    fn is_privileged_creator(&self, user: &UserId) -> bool {
        self.version.rules.authorization.explicitly_privilege_room_creators && self.creators.contains(user)
    }
}

/// A level as the version allows it to be written: before version 10, also as a string or a float.
fn level(version: &RoomVersion, value: &serde_json::Value) -> Option<Int> {
    if version.rules.authorization.integer_power_levels {
        Int::deserialize(value).ok()
    } else {
        deserialize_v1_powerlevel(value).ok()
    }
}
